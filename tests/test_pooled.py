"""Pooled values of measures of objects: by hand, as one case, whatever way the run is made, and in the gate."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from cohorts import cohort, same_runs
from cohorts import segcli as cli
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_runs import judge_run, read_run
from numpy.typing import NDArray

import segcli
from segcli.errors import InputError, UsageError
from segcli.evidence.case import Case
from segcli.evidence.counts import Counts
from segcli.evidence.parts import NoPartsError, PooledSums, wrong
from segcli.evidence.pooled import PooledCounts
from segcli.gates.rules import parse_rules
from segcli.masks.labels import Label
from segcli.measure.notation import bind, parse
from segcli.measure.record import BoundMeasure, Measure, measures
from segcli.report.catalog import facts
from segcli.run.reading import load_run

Array = NDArray[Any]
SCHEMA = json.loads(files("segcli").joinpath("schemas", "run.json").read_text())
METRICS = measures("metric")
OBJECTS = [m for m in METRICS if m.parts and m.reads != "all-classes"]
CLASSES = [m for m in METRICS if m.parts and m.reads == "all-classes"]
few = settings(max_examples=25)
NOTHING = [Counts(0, 0, 0, 0)]


def variants(measure: Measure) -> list[BoundMeasure]:
    """Return the measure with its defaults and with each word of each parameter that a volume has too."""
    words = [f"{measure.name}:{p.name}={w}" for p in measure.params.values() for w in p.words if w not in ("8", "4")]
    return parse("metric", [measure.name, *words])


@st.composite
def maps(draw: st.DrawFn) -> tuple[Array, Array]:
    """Draw a probability map, a mask of 0 and 1 among them, and instances."""
    form = draw(st.sampled_from([(1, 10), (5, 6), (3, 4, 4)]))
    p = draw(arrays(np.int64, form, elements=st.integers(0, 4))) / 4
    y = draw(arrays(np.uint8, form, elements=st.integers(0, 3)))
    return p, y


# --- one mechanism ------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", OBJECTS, ids=[m.name for m in OBJECTS])
@given(drawn=st.lists(maps(), min_size=1, max_size=3))
@few
def test_pooled_of_one_case_is_the_value_of_the_case(measure: Measure, drawn: list[tuple[Array, Array]]) -> None:
    """What a case keeps, read back from JSON, gives its value; of several in any order the same number."""
    for bound in variants(measure):
        parts = []
        for p, y in drawn:
            found = segcli.score(p, y, metrics=[bound.id], labels="fg=any", kind="probability")
            assert list(found.parts) == ["fg"]
            parts.append(json.loads(json.dumps(found.parts["fg"], allow_nan=False)))
            assert bound(PooledCounts(NOTHING, parts=[parts[-1]])) == found.value(bound.id)
        assert bound(PooledCounts(NOTHING, parts=parts)) == bound(PooledCounts(NOTHING, parts=parts[::-1]))


@pytest.mark.parametrize("measure", METRICS, ids=[m.name for m in METRICS])
def test_what_declares_no_parts_has_none(measure: Measure) -> None:
    """Any other measure asks objects for nothing; without the parts of every case one of objects has no value."""
    mask = np.array([[1, 1, 0, 0, 1]], np.uint8)
    found = segcli.score(mask, np.roll(mask, 1), metrics=[measure.id], labels="fg=any")
    assert bool(found.parts) == (measure.parts and measure.reads != "probability")
    if not measure.parts and measure.reads == "labels":
        pair = Case.of(mask, np.roll(mask, 1), [Label("fg", None)]).pair(0)
        bind(measure.id)(pair)
        assert not pair.objects.answers
        return
    if measure.parts:
        assert measure.pooled
        own = found.parts.get("all" if measure in CLASSES else "fg")
        for parts in ([], [None], [own, None], [own, {}]):
            with pytest.raises(NoPartsError):
                bind(measure.id)(PooledSums(parts) if measure in CLASSES else PooledCounts(NOTHING, parts=parts))


@pytest.mark.parametrize("measure", measures(), ids=[m.id for m in measures()])
def test_the_catalogue_says_what_pools_objects(measure: Measure) -> None:
    """A card names the pooled value of a measure of objects, and that of froc why a mean is none."""
    told = dict(facts(measure))
    assert ("pooled" in told) == measure.parts
    assert measure.name != "froc" or "never the mean of cases" in told["caution"]


def test_parts_are_shared_and_small() -> None:
    """Measures of the same matches keep them once, by name; nothing is kept that was not asked for."""
    mask = np.array([[1, 1, 0, 0, 1]], np.uint8)
    found = segcli.score(mask, mask, metrics="pq,sq,rq,matched_dice,dice,objects", labels="fg=any")
    matched = {"pred": 2, "gt": 2, "tp": 2, "iou": 2.0, "dice": 2.0}
    key = "matched:above=0.5:matching=optimal:connectivity=26:instances=components"
    assert found.parts == {"fg": {key: matched}}
    assert segcli.score(mask, mask, metrics="dice,objects,hd").parts == {}


# --- all classes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", CLASSES, ids=[m.name for m in CLASSES])
@given(
    drawn=st.lists(
        st.sampled_from([(2, 3, 4), (2, 5, 1)]).flatmap(lambda s: arrays(np.uint8, s, elements=st.integers(0, 4))),
        min_size=1,
        max_size=4,
    )
)
@few
def test_classes_of_all_cases_are_those_of_one_image(measure: Measure, drawn: list[Array]) -> None:
    """The pooled value is that of the cases side by side in one image, whichever classes each has."""
    for bound in variants(measure):
        parts = []
        for pred, gt in drawn:
            found = segcli.score(pred, gt, metrics=[bound.id], labels="1,2,3,4")
            parts.append(json.loads(json.dumps(found.parts["all"])))
            for sums in parts[-1].values():  # a case that does not know of a class has no voxel of it
                absent = [x for x in ("2", "3", "4") if not sums["gt"][x] + sums["pred"][x]]
                for column, name in product(sums.values(), absent):
                    del column[name]
        whole = np.concatenate([both.reshape(2, 1, -1) for both in drawn], axis=2)
        expected = segcli.score(*whole, metrics=[bound.id], labels="1,2,3,4").value(bound.id, label="all")
        value = bound(PooledSums(parts))
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-12))
        assert bound(PooledSums(parts[::-1])) == (None if value is None else pytest.approx(value, rel=1e-12))


def test_mean_iou_of_a_cohort(tmp_path: Path) -> None:
    """VOC's mIoU of a run without named labels, in one or by shards, and as a rule."""
    cases = {"a": ([0, 0, 1, 1], [0, 1, 1, 1]), "b": ([0, 2, 2, 0], [0, 2, 0, 0]), "c": ([0, 0, 0, 0], [0, 0, 0, 0])}
    for side, index in (("pred", 0), ("gt", 1)):
        (tmp_path / side).mkdir()
        for name, pair in cases.items():
            np.save(tmp_path / side / f"{name}.npy", np.array([pair[index]], np.uint8))
    measures_ = ("-m", "mean_iou,mean_iou:background=out,iou,vi")
    one, *shards = (tmp_path / f"{n}.json" for n in ("one", "s1", "s2"))
    assert cli("evaluate", tmp_path / "pred", tmp_path / "gt", *measures_, "-o", one).returncode == 0
    for number, shard in enumerate(shards, start=1):
        given_ = ("--shard", f"{number}/2", "-o", shard)
        assert cli("evaluate", tmp_path / "pred", tmp_path / "gt", *measures_, *given_).returncode == 0
    merged = tmp_path / "merged.json"
    assert cli("evaluate", "--merge", *shards, "-o", merged).returncode == 0
    assert same_runs(one, merged)
    run = read_run(one)
    jsonschema.validate(json.loads(one.read_text()), SCHEMA)
    pooled = {(s["label"], s["measure"]): s["pooled"] for s in run["summary"]}
    # Of all twelve pixels: background 8 in gt, 8 in pred, 7 in both: 7/9; 1: 3, 2 and 2: 2/3; 2: 1, 2 and 1: 1/2.
    assert pooled["all", "mean_iou"] == pytest.approx((7 / 9 + 2 / 3 + 1 / 2) / 3)
    assert pooled["all", "mean_iou:background=out"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert pooled["mean", "iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert pooled["all", "vi"] is None
    rules = parse_rules([{"id": "voc", "measure": "mean_iou", "label": "all", "stat": "pooled", "min": 0.6}], "test")
    (found,) = [v for v in judge_run(rules, run).verdicts if v.measure is not None]
    assert found.value == pooled["all", "mean_iou"]


@pytest.mark.parametrize(
    "part",
    [
        {"both": {}, "pred": {}},
        {"both": {"a": 1}, "pred": {"a": -1}, "gt": {"a": 1}},
        {"both": [], "pred": [], "gt": []},
        {"both": {"a": 1}, "pred": {"b": 1}, "gt": {"a": 1}},
        {"both": {"a": "1"}, "pred": {"a": 1}, "gt": {"a": 1}},
    ],
)
def test_sums_that_are_none(part: dict[str, Any]) -> None:
    """What is wrong with the sums of a run file is told."""
    assert wrong("classsums", part)


# --- by hand ------------------------------------------------------------------------------------------

#: a: gt 4 and 2 pixels, pred 3 of the 4 (IoU 3/4, Dice 6/7) and a false one; b: a pair of 2; c: a false one alone.
ROWS = {
    "a": ([1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 1, 1, 0]),
    "b": ([1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]),
    "c": ([0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]),
}
#: Over the three: tp 2, fp 2, fn 1; 4 predicted and 3 true objects; IoU 3/4 + 1; Dice 6/7 + 1.
BY_HAND = {
    "pq": 1.75 / (2 + 2 / 2 + 1 / 2),
    "sq": 1.75 / 2,
    "rq": 2 / 3.5,
    "matched_dice": (6 / 7 + 1) / 2,
    "object_f1": 4 / 7,
    "object_sensitivity": 2 / 3,
    "object_precision": 2 / 4,
    "true_positives": 2,
    "false_positives": 2,
    "false_negatives": 1,
    "ap": 2 / 5,
    # Up to IoU 0.75 two matches, 2/5 at six thresholds; above it one, 1/6 at four.
    "ap50_95": (6 * 2 / 5 + 4 / 6) / 10,
    # a: 3 shared of 4, 2 missed, 1 unused; b: 2 of 2; c: 0 of 1.
    "aji": 5 / 10,
    "aji_plus": 5 / 10,
    # Lesions: 6/7, missed, false; 1; false.
    "lesion_dice:dilation=0": (6 / 7 + 1) / 5,
    # Three of the five at 374 mm; of the first one of four pixels is 1 away: the 95th percentile is 0.85.
    "lesion_hd95:dilation=0:surface=border": (0.85 + 3 * 374) / 5,
}


def write(folder: Path, rows: dict[str, tuple[Any, Any]]) -> list[Path]:
    for side in ("pred", "gt"):
        (folder / side).mkdir(parents=True)
    for name, pair in rows.items():
        for side, row in zip(("pred", "gt"), pair, strict=True):
            np.save(folder / side / f"{name}.npy", np.array([row], np.uint8))
    return [folder / "pred", folder / "gt"]


def pooled(run: dict[str, Any], label: str = "foreground", **group: str) -> dict[str, Any]:
    own = [s for s in run["summary"] if s["label"] == label and s.get("group", {}) == group]
    return {s["measure"]: s["pooled"] for s in own}


def test_pooled_values_by_hand(tmp_path: Path) -> None:
    """Matches, misses and false objects are summed over cases, then the formula is applied; PQ as Kirillov has it."""
    assert {bind(text).measure.name for text in BY_HAND} == {m.name for m in OBJECTS if m.reads == "labels"}
    run = segcli.evaluate(*write(tmp_path, ROWS), metrics=list(BY_HAND), jobs=1).to_dict()
    jsonschema.validate(run, SCHEMA)
    found = pooled(run)
    assert found == pytest.approx({bind(text).name: value for text, value in BY_HAND.items()}, rel=1e-12)
    # Not the mean: pq is 3/8, 1 and 0.
    pq = next(s for s in run["summary"] if s["measure"] == "pq")
    assert pq["mean"] == pytest.approx((3 / 8 + 1 + 0) / 3)


def test_pooled_values_of_groups_and_of_the_mean_row(tmp_path: Path) -> None:
    """A group pools its own cases; the mean row is the mean over labels of what each pools."""
    folders = write(tmp_path, {name: tuple(np.stack([r, 2 * np.array(r)]).ravel() for r in rows)
                               for name, rows in ROWS.items()})  # fmt: skip
    lines = ["case,pred,gt,site", *(f"{n},pred/{n}.npy,gt/{n}.npy,{'x' if n == 'b' else 'y'}" for n in ROWS)]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    run = segcli.evaluate(manifest=tmp_path / "m.csv", metrics="pq", labels="1,2", group_by="site", jobs=1).to_dict()
    assert folders
    assert pooled(run, "1")["pq"] == pooled(run, "2")["pq"] == pooled(run, "mean")["pq"] == pytest.approx(0.5)
    assert pooled(run, "1", site="x")["pq"] == 1
    assert pooled(run, "1", site="y")["pq"] == pytest.approx(0.75 / (1 + 2 / 2 + 1 / 2))


# --- every way is the same run --------------------------------------------------------------------------

ASKED = "pq,object_f1:matching=overlap,aji,lesion_hd95:dilation=1"


@pytest.mark.parametrize("labels", [None, "1,2,both=1+2"])
def test_the_way_a_run_is_made_changes_no_part(tmp_path: Path, labels: str | None) -> None:
    """Two processes, shards and a resumed journal give the text of one process; a missing case has its parts too."""
    folders = cohort(tmp_path, 5)
    (folders[0] / "case_001.npy").unlink()
    np.save(folders[0] / "case_004.npy", np.zeros((20, 18, 16), np.uint8))
    how = [*folders, "-m", ASKED, "--missing", "worst", *([] if labels is None else ["--labels", labels])]
    one, two, merged, again = (tmp_path / f"{name}.json" for name in ("one", "two", "merged", "again"))
    assert cli("evaluate", *how, "-o", one, "-j1").returncode == cli("evaluate", *how, "-o", two, "-j2").returncode == 0
    shards = [tmp_path / f"s{i}.json" for i in (1, 2)]
    for i, shard in enumerate(shards, start=1):
        assert cli("evaluate", *how, "--shard", f"{i}/2", "-o", shard, "-j1").returncode == 0
    assert cli("evaluate", "--merge", *shards, "-o", merged).returncode == 0
    cli("evaluate", *how, "-o", again, "-j1")
    journal = again.with_name("again.json.journal")
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))
    assert cli("evaluate", *how, "-o", again, "-j1", "--resume").returncode == 0
    assert same_runs(one, two, merged, again)
    run = json.loads(one.read_text())
    jsonschema.validate(run, SCHEMA)
    names = {"1", "2"} | ({"both"} if labels else set())
    assert all(set(case["parts"]) == names for case in run["cases"])
    for name in names:
        assert all(value is not None for value in pooled(run, name).values())


def test_labels_of_the_union_have_the_parts_of_named_ones(tmp_path: Path) -> None:
    """A case that lacks a label keeps two empty masks of it, as where the label is named; 0/255 pairs among them."""
    folders = write(tmp_path, {**ROWS, "d": ([2, 2, 0, 0, 0, 0, 0, 0], [2, 2, 2, 0, 1, 0, 0, 0]),
                               "e": ([0] * 8, [0] * 8), "f": ([2, 0] * 4, [2] * 8)})  # fmt: skip
    found, named = (
        segcli.evaluate(*folders, metrics="pq,lesion_dice", labels=labels, jobs=1).to_dict() for labels in (None, "1,2")
    )
    assert [c["parts"] for c in found["cases"]] == [c["parts"] for c in named["cases"]]
    assert found["summary"] == named["summary"]
    # Label 2: d, IoU 2/3; f has four objects against one, none of an IoU above 1/2.
    assert pooled(found, "2")["pq"] == pytest.approx(2 * (2 / 3) / (5 + 2))


def test_literal_labels_keep_parts_of_their_own(tmp_path: Path) -> None:
    """A pair with one value a side is binary alone; beside a case of two labels each value is a label."""
    rows = {"a": ([1, 1, 0, 0], [2, 2, 0, 0]), "b": ([1, 2, 0, 0], [1, 2, 0, 0])}
    found, named = (
        segcli.evaluate(*write(tmp_path / str(labels), rows), metrics="pq", labels=labels, jobs=1).to_dict()
        for labels in (None, "1,2")
    )
    assert [c["parts"] for c in found["cases"]] == [c["parts"] for c in named["cases"]]
    # Each label: one match, and one object that only one side has.
    assert pooled(found, "1") == pooled(found, "2") == {"pq": 2 * 1 / 3}


# --- the gate -------------------------------------------------------------------------------------------


def judged(run: dict[str, Any], baseline: dict[str, Any] | None = None, **rule: Any) -> Any:
    (found,) = [v for v in judge_run(parse_rules([rule], "test"), run, baseline).verdicts if v.measure is not None]
    return found


def test_the_gate_pools_objects(tmp_path: Path) -> None:
    """All cases, those that a rule selects, and a drop against a baseline."""
    run = segcli.evaluate(*write(tmp_path, ROWS), metrics="pq,dice", jobs=1).to_dict()
    assert judged(run, measure="pq", stat="pooled", min=0.5).status == "passed"
    assert judged(run, measure="pq", stat="pooled", min=0.51).status == "failed"
    assert judged(run, measure="pq", stat="pooled", min=0, where={"case": "b"}).value == 1
    worse = {**run, "cases": [run["cases"][0] | {"case": name} for name in ROWS]}
    assert judged(worse, run, measure="pq", stat="pooled", max_drop=0.12).status == "failed"
    assert judged(worse, run, measure="pq", stat="pooled", max_drop=0.13).status == "passed"


def test_a_run_without_parts_has_no_pooled_value_of_objects(tmp_path: Path) -> None:
    """A run of an earlier version is read, and says so when it is asked: exit 3. What never has one is exit 2."""
    path = tmp_path / "run.json"
    segcli.evaluate(*write(tmp_path, ROWS), metrics="pq,dice,hd", jobs=1, output=path).to_dict()
    run = read_run(path)
    for case in run["cases"][1:]:
        del case["parts"]
    path.write_text(json.dumps(run))
    assert judged(load_run(path), measure="dice", stat="pooled", min=0).value is not None
    with pytest.raises(InputError, match=r"foreground: .* of every case .* pq"):
        judged(load_run(path), measure="pq", stat="pooled", min=0)
    with pytest.raises(UsageError, match="no pooled value"):
        judged(load_run(path), measure="hd", stat="pooled", max=1)
    for measure, code, word in (("pq", 3, "earlier version"), ("hd", 2, "no pooled value")):
        (tmp_path / "rules.toml").write_text(f'[[gate]]\nid="r"\nmeasure="{measure}"\nstat="pooled"\nmin=0\nmax=9\n')
        done = cli("gate", path, "--rules", tmp_path / "rules.toml")
        assert (done.returncode, word in done.stderr, "Traceback" in done.stderr) == (code, True, False)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ([], "'parts' that is an object"),
        ({"foreground": 1}, "'foreground' that is an object"),
        ({"foreground": {"matched:above=0.5": {"tp": 1}}}, "is not pred, gt, tp, iou, dice"),
        ({"foreground": {"detected:x=1": {"found": -1, "true": 0, "gt": 0, "pred": 0}}}, "no found that is a number"),
        (
            {"foreground": {"candidates:x=1": {"hit": 1, "false": [], "lesions": 1, "cases": 1}}},
            "no hit that is a list",
        ),
        ({"foreground": {"candidates:x=1": {"hit": ["1"], "false": [], "lesions": 1, "cases": 1}}}, "no hit that is a"),
        ({"foreground": {"aggregated:x=1": {"shared": True, "united": 0}}}, "no shared that is a number"),
    ],
)
def test_spoilt_parts_are_refused(tmp_path: Path, spoilt: Any, words: str) -> None:
    """A part is what it is named, with numbers of at least 0; one of a later version does no harm."""
    path = tmp_path / "run.json"
    segcli.evaluate(*write(tmp_path, ROWS), metrics="pq", jobs=1, output=path).to_dict()
    run = json.loads(path.read_text())
    run["cases"][1]["parts"]["foreground"]["later:x=1"] = {"anything": "goes"}
    path.write_text(json.dumps(run))
    assert judged(load_run(path), measure="pq", stat="pooled", min=0.5).status == "passed"
    run["cases"][1]["parts"] = spoilt
    path.write_text(json.dumps(run))
    with pytest.raises(InputError, match=words) as caught:
        load_run(path)
    assert "case b" in caught.value.message
