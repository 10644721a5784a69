"""What is said of cases reaches every output: warnings by kind, cases without numbers, headers that were overruled."""

from __future__ import annotations

import csv
import io
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from cohorts import segcli

import segcli as library
from segcli.errors import InputError
from segcli.masks.mask import Note
from segcli.masks.occurring import one_foreground, resolve
from segcli.run.noted import kind_text, said_of
from segcli.run.records import Case

SQUARE = np.zeros((12, 12), np.uint8)
SQUARE[2:8, 2:8] = 1
MOVED = np.roll(SQUARE, 1, axis=0)
RUN = json.loads(files("segcli").joinpath("schemas", "run.json").read_text())
DISJOINT = "the prediction holds label 2 alone, the ground truth label 1 alone"


def write(folder: Path, **pairs: tuple[Any, Any]) -> tuple[Path, Path]:
    """Write arrays as pairs of NPY files; `None` is no file."""
    sides = folder / "pred", folder / "gt"
    for at, side in enumerate(sides):
        side.mkdir(parents=True, exist_ok=True)
        for name, arrays in pairs.items():
            if arrays[at] is not None:
                np.save(side / f"{name}.npy", arrays[at])
    return sides


def nifti(path: Path, array: np.ndarray, *, shift: float = 0.0, qform_shift: float | None = None) -> None:
    """Write a volume of 1 mm voxels, `shift` mm along the first axis; a qform of its own where that is asked for."""
    affine = np.eye(4)
    affine[0, 3] = shift
    image = nib.Nifti1Image(array, affine)
    if qform_shift is not None:
        other = np.eye(4)
        other[0, 3] = qform_shift
        image.set_qform(other, code=1)
        image.set_sform(affine, code=1)
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)


def dice(run: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    return {(c["case"], v["label"]): v["value"] for c in run["cases"] for v in c["values"] if v["measure"] == "dice"}


# --- one different value in each file ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pred", "gt", "same"),
    [
        (1, 1, True), (2, 2, True), (255, 1, True), (1, 65535, True), (255, 65535, True),
        (2, 1, False), (1, 2, False), (128, 1, False), (255, 2, False), (254, 1, False),
    ],
)  # fmt: skip
def test_only_full_scale_is_the_same_foreground(pred: int, gt: int, same: bool) -> None:
    """0/1 against 0/255 or 0/65535 is one foreground with a note; any other two values are two labels, Dice 0 each."""
    found = resolve(None, [0, pred], [0, gt])
    assert found.binary == same == one_foreground([pred, gt])
    kinds = [(n.level, n.code) for n in found.notes]
    assert kinds == (
        [] if pred == gt else [("note", "labels.full-scale")] if same else [("warning", "labels.disjoint")]
    )
    case = library.score(SQUARE.astype(np.uint16) * pred, SQUARE.astype(np.uint16) * gt, metrics="dice")
    expected = [("foreground", 1.0)] + ([] if same else [(str(v), 0.0) for v in sorted((pred, gt))])
    assert [(v.label, v.value) for v in case.values] == expected
    assert [m.value for m in case.means] == [float(same)]  # the union of two labels is no part of their mean


def test_booleans_and_two_channels_have_the_value_1() -> None:
    """True is 1; the second of two channels is label 1, so 2 in the ground truth is another label."""
    assert library.score(SQUARE.astype(bool), SQUARE * 255, metrics="dice").value("dice") == 1
    channels = np.stack([1.0 - SQUARE, SQUARE]).astype(np.float32)
    assert library.score(channels, SQUARE * 255, metrics="dice").value("dice") == 1
    case = library.score(channels, SQUARE * 2, metrics="dice")
    assert [(v.label, v.value) for v in case.values] == [("1", 0.0), ("2", 0.0)]
    one = library.score(SQUARE * np.float32(0.9), SQUARE * 2, metrics="dice")  # a single map is that of the one label
    assert one.value("dice") == 1


@pytest.mark.parametrize("convention", [None, "nnunet"])
def test_a_wrong_class_is_dice_0_alone_and_in_a_cohort(tmp_path: Path, convention: str | None) -> None:
    """Prediction 2, ground truth 1: 0 for both labels in score, evaluate, compare, also as nnU-Net scores."""
    two = write(tmp_path, a=(MOVED * 2, SQUARE), b=(MOVED * 2, SQUARE))
    run = library.evaluate(*two, metrics="dice", convention=convention, jobs=1).to_dict()
    assert dice(run) == {(c, label): 0.0 for c in "ab" for label in "12"}
    case = library.score(two[0] / "a.npy", two[1] / "a.npy", metrics="dice", convention=convention)
    assert [case.value("dice", label) for label in (1, 2, "mean")] == [0.0] * 3
    assert [x.name for x in case.labels] == ["foreground"] * (convention is None) + ["1", "2"]
    with pytest.raises(InputError, match="label 2 alone"):
        library.score(two[0] / "a.npy", two[1] / "a.npy", strict=True)
    (row, other) = [
        r for r in library.compare(two[0] / "a.npy", two[1] / "a.npy", losses="dice").rows if r.label in "12"
    ]
    assert row.value == pytest.approx(1, abs=1e-6) == other.value


@pytest.mark.parametrize("order", [1, -1])
def test_the_values_of_all_cases_decide(tmp_path: Path, order: int) -> None:
    """One case has only a prediction of 2, another only a ground truth of 1: two labels, though each pair has one."""
    pairs = {"a": (SQUARE * 2, SQUARE * 0), "b": (SQUARE * 0, SQUARE), "c": (SQUARE, SQUARE)}
    run = library.evaluate(*write(tmp_path, **dict(list(pairs.items())[::order][:2])), metrics="dice", jobs=1).to_dict()
    found = {label for case in run["cases"] for label in case["labels"]}
    assert found == ({"1", "2"} if order == 1 else {"foreground"})
    whole = library.evaluate(*write(tmp_path, **pairs), metrics="dice", jobs=1).to_dict()
    assert dice(whole) == {
        ("a", "1"): None, ("a", "2"): 0, ("b", "1"): 0, ("b", "2"): None, ("c", "1"): 1, ("c", "2"): None,
    }  # fmt: skip


def test_a_cohort_takes_back_that_two_values_are_one(tmp_path: Path) -> None:
    """Where values are labels, a pair of 255 and 1 is not said to be read as one foreground."""
    folders = write(tmp_path, a=(SQUARE * 255, SQUARE), b=(SQUARE + 2 * MOVED.T, SQUARE))
    run = library.evaluate(*folders, metrics="dice", jobs=1).to_dict()
    notes = {n["code"] for n in run["cases"][0]["notes"]}
    assert "labels.disjoint" in notes
    assert "labels.full-scale" not in notes


# --- warnings of a cohort --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a run of three cases: two of a wrong class, one that is right."""
    folder = tmp_path_factory.mktemp("warned")
    write(folder, a=(MOVED * 2, SQUARE), b=(MOVED * 2, SQUARE), c=(MOVED, SQUARE))
    done = segcli("--isolated", "evaluate", "pred", "gt", "-m", "dice", "-j1", "-o", "run.json", cwd=folder)
    assert done.returncode == 0
    return folder


@pytest.mark.parametrize("form", ["table", "json", "csv", "md", "latex"])
@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_evaluate_says_each_warning_once_in_every_format(warned: Path, form: str, quiet: tuple[str, ...]) -> None:
    """On stderr, also with -q, and in what is printed: how many cases, which, and what."""
    done = segcli("--isolated", *quiet, "evaluate", "pred", "gt", "-m", "dice", "-j1", "-f", form, cwd=warned)
    assert done.stderr.count(DISJOINT) == 1
    assert f"warning: 2 cases: {DISJOINT}" in done.stderr
    assert done.stderr.rstrip().endswith("(a, b)")
    if form == "json":
        run = json.loads(done.stdout)
        jsonschema.validate(run, RUN)
        (kind,) = [k for k in run["notes"] if k["level"] == "warning"]
        assert (kind["code"], kind["n"], kind["cases"], kind["texts"]) == ("labels.disjoint", 2, ["a", "b"], 1)
    elif form == "csv":
        rows = [r for r in csv.DictReader(io.StringIO(done.stdout)) if r["kind"] == "note"]
        assert [(r["case"], r["measure"], r["status"]) for r in rows] == [
            ("a", "labels.disjoint", "warning"), ("b", "labels.disjoint", "warning"),
        ]  # fmt: skip
    else:
        assert DISJOINT in done.stdout
        assert "2 cases" in done.stdout


@pytest.mark.parametrize("form", ["table", "json", "csv", "md", "latex"])
def test_evaluate_says_each_note_once_in_every_format(tmp_path: Path, form: str) -> None:
    """As it does warnings: of how many cases, which, and what."""
    roi = np.ones_like(SQUARE)
    roi[:, :2] = 0
    folders = write(tmp_path, a=(MOVED, SQUARE), b=(MOVED, SQUARE), c=(SQUARE, SQUARE))
    (tmp_path / "roi").mkdir()
    for name in "abc":
        np.save(tmp_path / "roi" / f"{name}.npy", roi)
    done = segcli("--isolated", "evaluate", *folders, "--roi", tmp_path / "roi", "-m", "dice", "-j1", "-f", form)
    said = "24 of 144 voxels outside the ROI"
    if form == "json":
        (kind,) = [k for k in json.loads(done.stdout)["notes"] if k["code"] == "void.roi"]
        assert (kind["level"], kind["text"], kind["cases"]) == ("note", said, ["a", "b", "c"])
        return
    assert done.stdout.count(f"3 cases: {said} (a, b, c)") == 1
    if form == "csv":
        (row,) = [r for r in csv.DictReader(io.StringIO(done.stdout)) if r["status"] == "note"]
        assert (row["case"], row["kind"], row["measure"]) == ("", "note", "void.roi")


@pytest.mark.parametrize("form", ["table", "json", "junit", "github", "md"])
def test_gate_says_how_to_mend_a_case_that_failed(tmp_path: Path, form: str) -> None:
    """The hint of an error is in the run file, and goes where its message goes; notes have their text and names."""
    folders = write(tmp_path, a=(MOVED, SQUARE), b=(MOVED, SQUARE))
    (tmp_path / "pred" / "b.npy").write_bytes(b"junk")
    segcli("--isolated", "evaluate", *folders, "-m", "dice", "-j1", "-o", tmp_path / "run.json")
    run = json.loads((tmp_path / "run.json").read_text())
    run["cases"][0]["notes"] = [{"level": "note", "text": "turned", "code": "geometry.turned"}]
    (tmp_path / "run.json").write_text(json.dumps(run))
    (error,) = run["errors"]
    assert error["hint"]
    done = segcli("--isolated", "gate", tmp_path / "run.json", "-f", form)
    assert done.returncode == 1
    if form == "json":
        (verdict,) = [v for v in json.loads(done.stdout)["verdicts"] if v["rule"] == "no-errors"]
        assert verdict["cases"][0]["why"] == f"{error['message']} ({error['hint']})"
    elif form != "junit":
        assert "note: 1 case: turned (a)" in done.stdout


@pytest.mark.parametrize("form", ["table", "json", "junit", "github", "md"])
def test_gate_shows_the_warnings_of_a_run(warned: Path, form: str) -> None:
    """In every format; none is a failure, but with --strict, or where the rule no-warnings is an error."""
    call = ("--isolated", "gate", "run.json", "--min", "1/dice=0", "-f", form)
    done = segcli(*call, cwd=warned)
    assert done.returncode == 0
    assert DISJOINT in done.stdout
    assert ("::warning" in done.stdout) == (form == "github")
    strict = segcli(*call, "--strict", cwd=warned)
    assert strict.returncode == 1
    (warned / "rules.toml").write_text('[[gate]]\nid = "no-warnings"\nlevel = "error"\n')
    assert segcli(*call, "--rules", "rules.toml", cwd=warned).returncode == 1
    if form == "json":
        told = json.loads(done.stdout)
        assert [(v["rule"], v["status"], v["value"]) for v in told["verdicts"] if v["rule"] == "no-warnings"] == [
            ("no-warnings", "warned", 2)
        ]
        assert told["notes"][0]["cases"] == ["a", "b"]


def test_a_run_without_warnings_has_no_rule_of_them(tmp_path: Path) -> None:
    """What is always on says nothing where there is nothing, and passes --strict."""
    folders = write(tmp_path, a=(MOVED, SQUARE))
    segcli("--isolated", "evaluate", *folders, "-m", "dice", "-j1", "-o", tmp_path / "run.json")
    assert "no-warnings" not in segcli("--isolated", "gate", tmp_path / "run.json").stdout
    strict = segcli("--isolated", "gate", tmp_path / "run.json", "--strict")
    assert strict.returncode == 0
    assert "0 warnings" in strict.stdout
    assert "note: no rule but those always on: give --min" in strict.stderr


def test_runs_without_codes_are_read(warned: Path, tmp_path: Path) -> None:
    """An older run file has notes of level and text: the same text is one kind."""
    run = json.loads((warned / "run.json").read_text())
    del run["notes"]
    for case in run["cases"]:
        case.pop("geometry")
        case["notes"] = [{"level": n["level"], "text": n["text"]} for n in case["notes"]]
    (tmp_path / "old.json").write_text(json.dumps(run))
    jsonschema.validate(run, RUN)
    done = segcli("--isolated", "gate", tmp_path / "old.json")
    assert f"2 cases: {DISJOINT}" in done.stdout
    run["cases"][0]["notes"] = [{"level": "warning"}]
    (tmp_path / "odd.json").write_text(json.dumps(run))
    assert segcli("--isolated", "gate", tmp_path / "odd.json").returncode == 3


@pytest.mark.parametrize("form", ["table", "json", "md", "latex"])
def test_diff_and_rank_say_once_that_a_run_has_warnings(warned: Path, form: str) -> None:
    """One sentence for each run, on stderr and in the result."""
    for call in (("diff", "run.json", "run.json"), ("rank", "x=run.json", "y=run.json")):
        done = segcli("--isolated", *call, "-f", form, cwd=warned)
        assert done.stderr.count(DISJOINT) == 2
        assert done.stdout.count(DISJOINT) == 2


def test_many_cases_are_named_by_the_first_and_a_number() -> None:
    """Five names and how many more; the first text, and that others differ from it."""
    notes = [Note(f"text {i % 2}", "warning", "a.b") for i in range(102)]
    (kind,) = said_of([Case(name=f"c{i}", notes=(note, note), values=[]) for i, note in enumerate(notes)])
    assert kind.n == 102
    assert kind_text(kind) == "102 cases: in the first, text 0 (c0, c1, c2, c3, c4 and 97 more)"


def test_verbose_prints_each_note_of_each_case(warned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-v, SEGCLI_VERBOSE and `verbose = true` alike."""
    call = ("evaluate", "pred", "gt", "-m", "dice", "-j1")
    line = f"warning: a: {DISJOINT}"
    assert line not in segcli("--isolated", *call, cwd=warned).stderr
    assert line in segcli("--isolated", "-v", *call, cwd=warned).stderr
    (warned / "verbose.toml").write_text("verbose = true\n")
    assert line in segcli("--config", "verbose.toml", *call, cwd=warned).stderr
    monkeypatch.setenv("SEGCLI_VERBOSE", "1")
    assert line in segcli("--isolated", *call, cwd=warned).stderr


@pytest.mark.parametrize("way", ["flag", "file", "variable"])
def test_verbose_prints_the_traceback_of_an_internal_error(
    warned: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Whichever way it is asked for."""
    monkeypatch.setattr("segcli.scoring.score.score_cases", lambda *_, **__: 1 / 0)
    (warned / "verbose.toml").write_text("verbose = true\n")
    front = {"flag": ("--isolated", "-v"), "file": ("--config", "verbose.toml"), "variable": ("--isolated",)}[way]
    if way == "variable":
        monkeypatch.setenv("SEGCLI_VERBOSE", "1")
    done = segcli(*front, "score", "pred/a.npy", "gt/a.npy", cwd=warned)
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    monkeypatch.delenv("SEGCLI_VERBOSE", raising=False)
    assert "Traceback" not in segcli("--isolated", "score", "pred/a.npy", "gt/a.npy", cwd=warned).stderr


def test_every_note_has_a_kind() -> None:
    """No `Note(...)` of the package is without a code, in the form of an error's."""
    source = Path(library.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text()
        for call in re.finditer(r"\bNote\((?!text\b)", text):
            depth, end = 1, call.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            said = text[call.start() : end]
            assert re.search(r'"[a-z]+(-[a-z]+)*\.[a-z-]+"|code=(BOTH_READ|CHARGED)', said), (path, said)


# --- cases without numbers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give folders with two good cases, one that fails, one without a prediction, one without a ground truth."""
    folder = tmp_path_factory.mktemp("gaps")
    write(
        folder,
        a=(MOVED, SQUARE), b=(SQUARE, SQUARE), bad=(SQUARE[:5], SQUARE), lost=(None, SQUARE), stray=(SQUARE, None),
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("form", ["table", "csv", "md", "latex"])
def test_a_case_without_numbers_is_a_row(gaps: Path, form: str) -> None:
    """It fails, or lacks a file: its name, what it is, and why."""
    done = segcli("--isolated", "evaluate", "pred", "gt", "-m", "dice", "-j1", "-f", form, cwd=gaps)
    assert done.returncode == 4
    rows = {name: next(line for line in done.stdout.splitlines() if name in line) for name in ("bad", "lost", "stray")}
    assert "error" in rows["bad"]
    assert "5x12 vs 12x12" in rows["bad"]
    assert "missing" in rows["lost"]
    assert "no prediction" in rows["lost"]
    assert "no ground truth" in rows["stray"]
    if form == "csv":
        assert rows["lost"] == "lost,,,,,missing,no prediction"
        assert list(csv.DictReader(io.StringIO(done.stdout)))[-1]["case"] == "stray"
    if form == "latex":
        assert "Of 5 cases: 1 without a prediction, 1 without a ground truth, 1 failed." in done.stdout


def test_a_prediction_that_is_counted_as_empty_is_marked(gaps: Path) -> None:
    """`--missing worst`: its values have the status `missing`, and it has its row too."""
    call = ("--isolated", "evaluate", "pred", "gt", "-m", "dice", "-j1", "--missing", "worst")
    done = segcli(*call, "-f", "csv", cwd=gaps)
    rows = [r for r in csv.DictReader(io.StringIO(done.stdout)) if r["case"] == "lost"]
    assert [(r["measure"], r["value"], r["status"]) for r in rows] == [("dice", "0.0", "missing"), ("", "", "missing")]
    assert "scored as an empty mask" in rows[1]["why"]
    caption = segcli(*call, "-f", "latex", cwd=gaps).stdout
    assert "A missing prediction counts as an empty mask with the worst values." in caption


def test_one_probability_map_among_several_labels_is_a_row(tmp_path: Path) -> None:
    """Whose the map is nobody says: that case is an error (exit 4), and the run of the others is written."""
    two = SQUARE.copy()
    two[9:11, 9:11] = 2
    prob = (0.1 + 0.8 * SQUARE).astype(np.float32)
    folders = write(tmp_path, a=(two, two), b=(two, two), c=(prob, SQUARE))
    done = segcli("--isolated", "evaluate", *folders, "-m", "dice", "-j1", "-o", tmp_path / "run.json")
    assert done.returncode == 4
    run = json.loads((tmp_path / "run.json").read_text())
    jsonschema.validate(run, RUN)
    assert dice(run) == {(c, label): 1.0 for c in "ab" for label in "12"}
    (error,) = run["errors"]
    assert (error["case"], error["code"], error["pred"]) == ("c", "kind.mixed", {"path": "pred/c.npy"})
    shards = [tmp_path / f"s{i}.json" for i in (1, 2)]
    for i, shard in enumerate(shards, start=1):
        done = segcli("--isolated", "evaluate", *folders, "-m", "dice", "-j1", "--shard", f"{i}/2", "-o", shard)
        assert done.returncode == 0
    done = segcli("--isolated", "evaluate", "--merge", *shards, "-o", tmp_path / "merged.json")
    assert done.returncode == 4
    assert json.loads((tmp_path / "merged.json").read_text())["errors"] == run["errors"]


# --- headers that are overruled ------------------------------------------------------------------------------


def test_an_ignored_geometry_is_never_ok(tmp_path: Path) -> None:
    """Origins 5 mm apart: the heading, the table and JSON of every command say what was ignored."""
    box = np.zeros((8, 8, 8), np.uint8)
    box[2:6, 2:6, 2:6] = 1
    nifti(tmp_path / "pred.nii.gz", box, shift=5)
    nifti(tmp_path / "gt.nii.gz", box)
    pair = (tmp_path / "pred.nii.gz", tmp_path / "gt.nii.gz", "--on-geometry", "ignore")
    for call in (("score", "-m", "dice"), ("compare", "-l", "dice"), ("inspect", "-l", "bce"), ("conventions",)):
        done = segcli("--isolated", call[0], *pair, *call[1:])
        assert "geometry ok" not in done.stdout
        assert re.search("geometry ignored: origin .*5 mm apart", done.stdout), call
        told = json.loads(segcli("--isolated", call[0], *pair, *call[1:], "-f", "json").stdout)
        found = told["cases"][0]["geometry"] if call[0] == "score" else told["geometry"]
        found = next(iter(found.values())) if isinstance(found, dict) else found
        assert found.startswith("ignored: origin")
    (row,) = [r for r in csv.DictReader(io.StringIO(segcli("--isolated", "score", *pair, "-f", "csv").stdout))
              if r["kind"] == "note"]  # fmt: skip
    assert (row["measure"], row["status"]) == ("geometry.ignored", "warning")


def test_how_the_grids_lie_is_told(tmp_path: Path) -> None:
    """With both affines ok, without one the shapes only, turned where it was turned."""
    box = np.zeros((6, 7, 8), np.uint8)
    box[2:4, 2:6, 2:6] = 1
    for name, array in (("gt", box), ("pred", box)):
        nifti(tmp_path / f"{name}.nii.gz", array)
    flipped = nib.Nifti1Image(box[::-1], np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    nib.save(flipped, tmp_path / "turned.nii.gz")
    np.save(tmp_path / "plain.npy", box)
    gt = tmp_path / "gt.nii.gz"
    assert library.score(tmp_path / "pred.nii.gz", gt).geometry == "ok"
    assert library.score(tmp_path / "plain.npy", gt).geometry == "shapes only"
    assert library.score(tmp_path / "turned.nii.gz", gt, on_geometry="reorient").geometry == "reoriented"
    assert library.score(tmp_path / "pred.nii.gz", gt, stack=True)[0].geometry == "ok"  # images have affines too
