"""Which prediction belongs to which ground truth, and what has no partner."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cohorts import segcli

from segcli.cohort.pairing import Pairing, pair_folders, read_manifest
from segcli.errors import InputError, UsageError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def cases(pairing: Pairing) -> list[str]:
    return [pair.case for pair in pairing.pairs]


def test_stems_pair_whatever_the_ending_and_the_subfolder(tmp_path: Path) -> None:
    """`a.nii.gz` belongs to `x/a.npy`; case, side and path of what has no partner are kept."""
    pred = touch(tmp_path / "p", "a.nii.gz", "x/b.npy", "only_pred.png")
    gt = touch(tmp_path / "g", "x/a.npy", "b.nii", "only_gt.hdr")
    found = pair_folders(pred, gt)
    assert [(p.case, p.pred, p.gt) for p in found.pairs] == [
        ("a", pred / "a.nii.gz", gt / "x/a.npy"),
        ("b", pred / "x/b.npy", gt / "b.nii"),
    ]
    assert [(m.case, m.side, m.path) for m in found.missing] == [
        ("only_gt", "pred", gt / "only_gt.hdr"),
        ("only_pred", "gt", pred / "only_pred.png"),
    ]


def test_hidden_files_and_what_is_no_mask_are_not_looked_at(tmp_path: Path) -> None:
    """Dot files, dot folders and other files that stand beside masks are no cases."""
    pred = touch(tmp_path / "p", "a.npy", ".a.npy", "._b.nii.gz", ".cache/c.npy", "dataset.json", "plans.txt")
    gt = touch(tmp_path / "g", "a.npy", ".snapshot/a.npy", "c.npy")
    found = pair_folders(pred, gt)
    assert cases(found) == ["a"]
    assert [(m.case, m.side) for m in found.missing] == [("c", "pred")]


def test_a_hidden_root_is_fine(tmp_path: Path) -> None:
    """Only what lies below the folder that was named is judged by its name."""
    pred, gt = touch(tmp_path / ".p", "a.npy"), touch(tmp_path / ".g", "a.npy")
    assert cases(pair_folders(pred, gt)) == ["a"]


@pytest.mark.parametrize("names", [("a.hdr", "a.img"), ("a.HDR", "a.IMG"), ("a.hdr.gz", "a.img.gz")])
def test_a_header_and_its_image_are_one_mask(tmp_path: Path, names: tuple[str, str]) -> None:
    """The header stands for the pair."""
    pred, gt = touch(tmp_path / "p", *names), touch(tmp_path / "g", "a.npy")
    assert [pair.pred.name for pair in pair_folders(pred, gt).pairs] == [names[0]]


def test_an_image_without_its_header_is_a_case_of_its_own(tmp_path: Path) -> None:
    """It will fail as one: it is not dropped."""
    pred, gt = touch(tmp_path / "p", "a.img"), touch(tmp_path / "g", "a.npy")
    assert cases(pair_folders(pred, gt)) == ["a"]


@pytest.mark.parametrize("name", ["a b", "[x]", "ä_日本", "a{1}", "100%", "it's", "-q", "a.b.c", "x[1]"])
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    """Blanks, brackets, dots and letters of any script."""
    pred, gt = touch(tmp_path / "p [1]", f"{name}.nii.gz"), touch(tmp_path / "g *", f"{name}.npy")
    assert cases(pair_folders(pred, gt)) == [name]


def test_links_are_followed_and_keep_their_name(tmp_path: Path) -> None:
    """A linked file and a linked folder are what they point at, under the name of the link."""
    store = touch(tmp_path / "store", "blob1.npy")
    pred = tmp_path / "p"
    pred.mkdir()
    (pred / "a.npy").symlink_to(store / "blob1.npy")
    (pred / "dangling.npy").symlink_to(store / "nothing.npy")
    gt = touch(tmp_path / "g", "a.npy")
    (tmp_path / "link").symlink_to(gt)
    found = pair_folders(pred, tmp_path / "link")
    assert [(p.case, p.pred.name) for p in found.pairs] == [("a", "a.npy")]
    assert [m.case for m in found.missing] == ["dangling"]  # never dropped


def test_two_files_of_one_case_are_refused(tmp_path: Path) -> None:
    """The message names both, and what tells them apart does."""
    pred, gt = touch(tmp_path / "p", "s1/a.npy", "s2/a.npy"), touch(tmp_path / "g", "s1/a.npy", "s2/a.npy")
    with pytest.raises(InputError, match=r"case a by --match stem: s1/a\.npy and s2/a\.npy") as problem:
        pair_folders(pred, gt)
    assert problem.value.code == "pairing.twice"
    assert cases(pair_folders(pred, gt, "relpath")) == ["s1/a", "s2/a"]
    assert cases(pair_folders(pred, gt, "stem", "s1/*")) == ["a"]


def test_bids_entities_decide_and_not_what_made_the_mask(tmp_path: Path) -> None:
    """desc, label and the suffix may differ; session and run may not."""
    pred = touch(tmp_path / "p", "sub-01/ses-1/sub-01_ses-1_desc-unet_label-lesion_probseg.nii.gz", "README.npy")
    gt = touch(tmp_path / "g", "sub-01_ses-1_label-lesion_dseg.nii.gz", "sub-01_ses-2_dseg.nii.gz")
    found = pair_folders(pred, gt, "bids")
    assert cases(found) == ["sub-01_ses-1"]
    assert [(m.case, m.side) for m in found.missing] == [("sub-01_ses-2", "pred")]


def test_a_pattern_finds_the_case_and_columns(tmp_path: Path) -> None:
    """The group `case` is the case, other named groups are columns; without names the first group is it."""
    pred = touch(tmp_path / "p", "A1/pat07_pred.npy", "B2/pat08_pred.npy")
    gt = touch(tmp_path / "g", "pat07_gt.npy", "pat08_gt.npy", "notes.npy")
    found = pair_folders(pred, gt, r"regex:(?:(?P<site>\w\d)/)?(?P<case>pat\d+)")
    assert [(p.case, p.group) for p in found.pairs] == [("pat07", {"site": "A1"}), ("pat08", {"site": "B2"})]
    assert pair_folders(gt, pred, r"regex:(?:(?P<site>\w\d)/)?(?P<case>pat\d+)").pairs[0].group == {"site": "A1"}
    assert found.columns == ["site"]
    assert cases(pair_folders(pred, gt, r"regex:pat(\d+)")) == ["07", "08"]
    assert cases(pair_folders(pred, gt, r"regex:pat\d+")) == ["pat07", "pat08"]


@pytest.mark.parametrize(("match", "code"), [("regex:(", "pairing.match"), ("name", "pairing.match")])
def test_a_match_that_cannot_be_is_a_usage_error(tmp_path: Path, match: str, code: str) -> None:
    """A broken pattern and an unknown word."""
    pred, gt = touch(tmp_path / "p", "a.npy"), touch(tmp_path / "g", "a.npy")
    with pytest.raises(UsageError) as problem:
        pair_folders(pred, gt, match)
    assert problem.value.code == code


@pytest.mark.parametrize("glob", ["", "/abs/*"])
def test_a_glob_that_cannot_be_is_a_usage_error(tmp_path: Path, glob: str) -> None:
    """One line, no traceback."""
    pred, gt = touch(tmp_path / "p", "a.npy"), touch(tmp_path / "g", "a.npy")
    with pytest.raises(UsageError, match="--glob"):
        pair_folders(pred, gt, "stem", glob)


def test_no_match_says_what_would(tmp_path: Path) -> None:
    """The hint counts what another way of matching would pair."""
    pred, gt = touch(tmp_path / "p", "sub-1_desc-x_seg.npy"), touch(tmp_path / "g", "sub-1_dseg.npy")
    with pytest.raises(InputError, match="sub-1_desc-x_seg against sub-1_dseg") as problem:
        pair_folders(pred, gt)
    assert problem.value.hint == "--match bids would pair 1"
    with pytest.raises(InputError, match="holds no mask"):
        pair_folders(touch(tmp_path / "e", "x.txt"), gt)
    with pytest.raises(InputError, match="does not exist"):
        pair_folders(pred, tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        pair_folders(pred, gt / "sub-1_dseg.npy")


# --- manifests --------------------------------------------------------------------------------------


def manifest(folder: Path, text: str, name: str = "m.csv") -> Path:
    touch(folder, "p/a.npy", "p/b, c.npy", "g/a.npy", "g/b.npy")
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_names_pairs_and_groups(tmp_path: Path) -> None:
    """Paths are relative to it; quotes, a byte order mark and blanks are no trouble; no file is missing."""
    text = (
        '\ufeffcase, pred ,gt,site\nA,p/a.npy,g/a.npy,x\nB,"p/b, c.npy",g/b.npy,"y\nz"\nC,,g/b.npy,x\nD,p/no.npy,,x\n'
    )
    found = read_manifest(manifest(tmp_path, text))
    assert [(p.case, p.pred, p.gt, p.group) for p in found.pairs] == [
        ("A", tmp_path / "p/a.npy", tmp_path / "g/a.npy", {"site": "x"}),
        ("B", tmp_path / "p/b, c.npy", tmp_path / "g/b.npy", {"site": "y\nz"}),
    ]
    assert [(m.case, m.side, m.path) for m in found.missing] == [
        ("C", "pred", tmp_path / "g/b.npy"),
        ("D", "gt", None),
        ("D", "pred", None),
    ]
    assert found.columns == ["site"]


def test_a_manifest_may_name_arrays_of_npz_files(tmp_path: Path) -> None:
    """`file.npz:key`, as everywhere."""
    np.savez(tmp_path / "masks.npz", a=np.eye(3, dtype=np.uint8), b=np.eye(3, dtype=np.uint8))
    path = tmp_path / "m.tsv"
    path.write_text("case\tpred\tgt\nA\tmasks.npz:a\tmasks.npz:b\n")
    assert cases(read_manifest(path)) == ["A"]
    done = segcli("evaluate", "--manifest", path, "-m", "dice", "-o", tmp_path / "r.json", "-j1")
    assert done.returncode == 0, done.stderr
    again = segcli("evaluate", "--manifest", path, "-m", "dice", "-o", tmp_path / "r.json", "-j1", "--resume")
    assert "1 case taken from the journal" in again.stderr


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("case,pred\nA,p/a.npy\n", "manifest.columns"),
        ("", "manifest.columns"),
        ("case,pred,gt,case\nA,p/a.npy,g/a.npy,B\n", "manifest.columns"),
        ("case,pred,gt\nA,p/a.npy,g/a.npy\nA,p/a.npy,g/b.npy\n", "manifest.case"),
        ("case,pred,gt\n,p/a.npy,g/a.npy\n", "manifest.case"),
        ("case,pred,gt\nB,p/b, c.npy,g/b.npy\n", "manifest.cells"),
        ("case,pred,gt\nA,p/no.npy,g/a.npy\n", "pairing.none"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, text: str, code: str) -> None:
    """Each with its code."""
    with pytest.raises(InputError) as problem:
        read_manifest(manifest(tmp_path, text))
    assert problem.value.code == code


# --- --dry-run ----------------------------------------------------------------------------------------


@pytest.fixture
def two_of_three(tmp_path: Path) -> tuple[Path, Path]:
    touch(tmp_path, "p/a.npy", "p/b.npy", "p/x.npy", "g/a.npy", "g/b.npy", "g/c.npy")
    return tmp_path / "p", tmp_path / "g"


def test_a_dry_run_prints_pairs_and_reads_nothing(two_of_three: tuple[Path, Path]) -> None:
    """The files are empty: whoever read them would fail."""
    done = segcli("evaluate", *two_of_three, "--dry-run")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["a", *(str(folder / "a.npy") for folder in two_of_three)]
    assert lines[-3:] == [
        f"c: no prediction for {two_of_three[1] / 'c.npy'}",
        f"x: no ground truth for {two_of_three[0] / 'x.npy'}",
        "2 pairs, 1 missing prediction, 1 prediction without ground truth",
    ]
    assert done.stderr == ""


def test_a_dry_run_as_csv_is_a_manifest(two_of_three: tuple[Path, Path], tmp_path: Path) -> None:
    """What it prints pairs the same files when it is given back; JSON and Markdown have them too."""
    done = segcli("evaluate", *two_of_three, "--dry-run", "-f", "csv")
    assert [row["case"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["a", "b", "c", "x"]
    path = tmp_path / "m.csv"
    path.write_text(done.stdout)
    assert read_manifest(path) == pair_folders(*two_of_three)
    told = json.loads(segcli("evaluate", *two_of_three, "--dry-run", "-f", "json").stdout)
    assert [pair["case"] for pair in told["pairs"]] == ["a", "b"]
    assert [(m["case"], m["side"]) for m in told["missing"]] == [("c", "pred"), ("x", "gt")]
    assert segcli("evaluate", *two_of_three, "--dry-run", "-f", "md").stdout.startswith("| case | pred | gt |")
