"""What the numbers of a file mean where it does not say: scaled labels, noise, soft masks, sizes that contradict."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_readers import labels, nifti_bytes, put, texts

import segcli
from segcli.cli.main import run as command_line
from segcli.errors import InputError, UsageError
from segcli.masks.readers import from_array, read

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def scaled(path: Path, array: np.ndarray, dtype: str) -> Path:
    """Write floats under an integer header, as nibabel does for `get_fdata()` of a label map."""
    image = nib.Nifti1Image(array.astype(np.float64), AFFINE)
    image.set_data_dtype(dtype)
    nib.save(image, path)
    return path


# --- labels behind scl_slope -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32"])
@pytest.mark.parametrize("largest", [1, 3, 7, 50, 2035])
def test_labels_that_nibabel_scaled_are_labels(tmp_path: Path, dtype: str, largest: int) -> None:
    """Every storage type brings the integers back where its step is at most 0.25, whatever the inter."""
    rng = np.random.default_rng(largest)
    array = np.minimum(rng.integers(0, 8, (9, 8, 7)), largest)
    array[array == array.max()] = largest
    path = scaled(tmp_path / "a.nii.gz", array, dtype)
    slope = float(nib.load(path).dataobj.slope)
    assert slope != 1
    if slope > 0.25:
        with pytest.raises(InputError, match="neither labels nor probabilities"):
            read(path)
        return
    for kind in (None, "labels"):
        mask = read(path, kind=kind)
        assert mask.kind == "labels"
        np.testing.assert_array_equal(mask.array, array)
        assert [n.code for n in mask.notes] == ["kind.scaled"]
        assert "scl_slope" in mask.notes[0].text


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_scaled_labels_score_on_both_sides_in_every_command(
    tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair is what it is before scaling, in metrics and losses; all commands read it."""
    gt = labels((9, 8, 7)) * 3
    pred = np.roll(gt, 1, 0)
    plain = segcli.score(pred, gt, metrics="dice,hd", losses="dice,bce", spacing=(1, 2, 3))
    files = [scaled(tmp_path / f"{n}.nii.gz", a, dtype) for n, a in (("pred", pred), ("gt", gt))]
    found = segcli.score(*files, metrics="dice,hd", losses="dice,bce")
    assert [v.value for v in found.values] == [v.value for v in plain.values]
    for command in ("compare -l dice", "inspect -l dice", "conventions -m dice", "describe"):
        word, *options = command.split()
        assert command_line(["--isolated", word, *map(str, files), *options]) == 0
    capsys.readouterr()
    for name, file in zip("pg", files, strict=True):
        (tmp_path / name).mkdir()
        file.rename(tmp_path / name / "a.nii.gz")
    run = segcli.evaluate(tmp_path / "p", tmp_path / "g", metrics="dice,hd", jobs=1).to_dict()
    own = [v.value for v in plain.values if v.kind == "metric"]
    assert [v["value"] for v in run["cases"][0]["values"]] == own


def test_a_binary_mask_scaled_from_255(tmp_path: Path) -> None:
    """0 and 1.00000006 are a mask, also as ground truth."""
    mask = labels((9, 8, 7)) > 0
    file = scaled(tmp_path / "a.nii.gz", mask, "uint8")
    assert float(nib.load(file).get_fdata().max()) > 1
    assert segcli.score(mask, file, metrics="dice").value("dice") == 1


def test_a_binary_mask_of_floats_off_by_rounding() -> None:
    """A float32 of 1.0000001 beside 0 alone is a mask; beside a fraction it is a probability."""
    mask = labels((9, 8)) > 0
    off = mask * np.nextafter(np.float32(1), np.float32(2))
    assert segcli.score(mask, off, metrics="dice").value("dice") == 1
    assert from_array(off, name="a", kind="probability").kind == "probability"
    off[0, 0] = 0.5
    assert from_array(off, name="a").kind == "probability"


def test_probabilities_that_nibabel_scaled_stay_probabilities(tmp_path: Path) -> None:
    """A value that is not within half a step of a whole number makes the map what it was; so does `kind`."""
    p = np.random.default_rng(0).random((9, 8, 7))
    for dtype in ("uint8", "int16"):
        assert read(scaled(tmp_path / "p.nii.gz", p, dtype)).kind == "probability"
    p = (p > 0.5).astype(float)
    file = scaled(tmp_path / "p.nii.gz", p, "int16")
    assert read(file).kind == "labels"
    assert read(file, kind="probability").kind == "probability"
    p[0, 0, 0] = 0.5
    assert read(scaled(tmp_path / "p.nii.gz", p, "int16")).kind == "probability"


@pytest.mark.parametrize(("slope", "expected"), [(0.25, "labels"), (0.2501, None)])
def test_the_coarsest_step(tmp_path: Path, slope: float, expected: str | None) -> None:
    """Up to a quarter a step cannot hide a value between two labels; above it nothing is guessed."""
    stored = (np.arange(60).reshape(5, 4, 3) % 3 * 4).astype("uint8")
    path = put(tmp_path / "a.nii", nifti_bytes(stored, scl_slope=slope, scl_inter=0.1))
    if expected:
        assert read(path).kind == expected
        assert set(np.unique(read(path).array)) == {0, 1, 2}
    else:
        with pytest.raises(InputError):
            read(path)


# --- --round ------------------------------------------------------------------------------------------


def noisy(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and the same off by up to `noise`."""
    array = labels((9, 8, 7))
    return array, array + noise * np.random.default_rng(0).uniform(-1, 1, array.shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_takes_labels_that_are_off_to_whole_numbers(tmp_path: Path, dtype: type) -> None:
    """On either side, from NPY and NIfTI; never without being asked; the note says how far."""
    array, off = noisy(0.2)
    off = off.astype(dtype)
    np.save(tmp_path / "a.npy", off)
    nib.save(nib.Nifti1Image(off, AFFINE), tmp_path / "a.nii.gz")
    for file in (off, tmp_path / "a.npy", tmp_path / "a.nii.gz"):
        for pair in ((file, array), (array, file)):
            case = segcli.score(*pair, metrics="dice", round=True)
            assert [v.value for v in case.values] == [1, 1]
            (note,) = [n for n in case.notes if n.code == "kind.rounded"]
            assert "by at most 0.2 (--round)" in note.text
            with pytest.raises(InputError) as caught:
                segcli.score(*pair, metrics="dice")
            assert "--round" in caught.value.hint
    with pytest.raises(InputError) as caught:
        from_array(off, name="a", kind="labels")
    assert "--round" in caught.value.hint


def test_round_refuses_what_lies_between_labels() -> None:
    """A linear resampling is no noise, a probability map no label map; both are refused with the next step."""
    array, _ = noisy(0)
    with pytest.raises(InputError, match=r"farther than 0\.25") as caught:
        from_array(ndimage.zoom(array.astype(float), 1.5, order=1), name="a", rounded=True)
    assert "nearest neighbour" in caught.value.hint
    with pytest.raises(InputError, match=r"farther than 0\.25") as caught:
        from_array(np.linspace(0, 1, 12).reshape(3, 4), name="a", rounded=True)
    assert "leave --round out" in caught.value.hint
    with pytest.raises(InputError, match="do not fit 64 bits"):
        from_array(np.array([[0.9, 1e30]]), name="a", rounded=True)


@pytest.mark.parametrize(
    "option",
    [{"kind": "probability"}, {"kind": "logits"}, {"from_logits": True}, {"prob_scale": 255.0}, {"soft_gt": True}],
)
def test_round_contradicts_what_says_that_it_is_no_label_map(option: dict) -> None:
    """Bad usage, told before anything is read."""
    with pytest.raises(UsageError, match="contradict"):
        segcli.score("no such file", "nor this", round=True, **option)


def test_round_leaves_integers_alone_and_is_in_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole numbers are not touched or mentioned; the spec says that rounding was allowed."""
    np.save(tmp_path / "a.npy", labels())
    files = [str(tmp_path / "a.npy")] * 2
    assert command_line(["--isolated", "score", *files, "--round", "-m", "dice", "-f", "json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["spec"]["round"] is True
    assert not any("rounded to" in note["text"] for note in run["cases"][0]["notes"])
    assert command_line(["--isolated", "describe", files[0], "--round"]) == 0


# --- soft masks in 8 bits -------------------------------------------------------------------------------


def blurred(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Return a white box with soft edges in 8 bits."""
    box = np.zeros(shape)
    box[tuple(slice(n // 4, n - n // 4) for n in shape)] = 255
    return np.rint(ndimage.gaussian_filter(box, sigma)).astype(np.uint8)


@pytest.mark.parametrize(("shape", "sigma"), [((64, 64), 2.5), ((64, 64), 4), ((40, 40, 30), 2), ((30, 30), 3)])
def test_soft_edges_in_8_bits_are_warned_of(tmp_path: Path, shape: tuple[int, ...], sigma: float) -> None:
    """From 50 values on, NPY, NIfTI and PNG, on both sides; what is suggested reads the prediction rightly."""
    soft = blurred(shape, sigma)
    assert 50 <= len(np.unique(soft)) <= 150
    np.save(tmp_path / "a.npy", soft)
    nib.save(nib.Nifti1Image(soft, AFFINE), tmp_path / "a.nii")
    files = [tmp_path / "a.npy", tmp_path / "a.nii"]
    if soft.ndim == 2:
        Image.fromarray(soft).save(tmp_path / "a.png")
        files.append(tmp_path / "a.png")
    for file in files:
        assert "--prob-scale 255" in texts(read(file))
        assert not texts(read(file, prob_scale=255))
        assert not texts(read(file, kind="labels"))
    gt = (soft > 127).astype(np.uint8)
    assert segcli.score(soft, gt, prob_scale=255, metrics="dice").value("dice") == 1
    with pytest.raises(InputError, match="--prob-scale 255"):
        segcli.score(gt, soft, labels="fg=any", strict=True)


def test_a_soft_map_that_is_not_white_anywhere_is_warned_of_too() -> None:
    """Percent, and the blurred image of something small."""
    for most in (100, 200):
        soft = (blurred((64, 64), 4).astype(float) * most / 255).round().astype(np.uint8)
        assert 50 <= len(np.unique(soft)) <= 150
        said = texts(from_array(soft, name="a"))
        assert "--prob-scale 255" in said
        assert ("100 for percent" in said) is (most == 100)


def test_label_maps_of_many_values_are_not_warned_of() -> None:
    """Instances that touch, an atlas, small objects and single dots: a label has neighbours of its own, or none."""
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 128, (100, 2))
    y, x = np.mgrid[:128, :128]
    nearest = np.argmin((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2, axis=-1)
    atlas = np.sort(rng.choice(256, 100, replace=False))[nearest].astype(np.uint8)
    grid = np.zeros((128, 128), np.uint8)
    ids = np.resize(np.arange(120, 240, dtype=np.uint8), (32, 32))
    small, dots = grid.copy(), grid.copy()
    dots[::4, ::4] = ids
    for row in range(3):
        for column in range(3):
            small[row::4, column::4] = ids
    for array in (atlas, small, dots):
        assert 50 <= len(np.unique(array)) <= 150
        assert not from_array(array, name="a").notes


# --- pixdim ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
def test_pixdim_against_the_sform_is_warned_of(tmp_path: Path, cls: type) -> None:
    """SimpleITK takes the one, nibabel the other: both sizes are named, the sform is used."""
    lies = {"pixdim": [1, 2, 2, 2, 0, 0, 0, 0], "qform_code": 0, "sform_code": 1}
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels(), cls=cls, affine=AFFINE, **lies)))
    assert "pixdim (2 x 2 x 2 mm) and sform (1 x 2 x 3 mm)" in texts(mask)
    assert mask.spacing == (1, 2, 3)
    with pytest.raises(InputError, match="pixdim"):
        segcli.score(tmp_path / "a.nii", tmp_path / "a.nii", strict=True)
    for near in (1e-4, -1e-4):
        lies["pixdim"] = [1, 1 + near, 2, 3, 0, 0, 0, 0]
        assert not read(put(tmp_path / "a.nii", nifti_bytes(labels(), cls=cls, affine=AFFINE, **lies))).notes


@pytest.mark.parametrize(("bad", "word"), [(0.0, "0"), (np.nan, "NaN")])
@pytest.mark.parametrize("code", [0, 1])
def test_pixdim_that_is_no_length_is_warned_of(tmp_path: Path, bad: float, word: str, code: int) -> None:
    """With an sform its spacing holds; without any form there is none, and the warning says how to give it."""
    fields = {"pixdim": [1, 1, bad, 3, 0, 0, 0, 0], "qform_code": 0, "sform_code": code}
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels(), affine=AFFINE, **fields)))
    assert f"pixdim holds {word}" in texts(mask)
    assert mask.spacing == ((1, 2, 3) if code else None)
    assert ("--spacing" in texts(mask)) is not code


# --- probabilities that are cut ----------------------------------------------------------------------------


def test_a_probability_that_is_cut_says_so_in_table_and_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The table, Markdown and the JSON name the threshold; a mask says nothing of the kind."""
    gt = labels((9, 8)) > 0
    np.save(tmp_path / "p.npy", np.where(gt, 0.9, 0.2))
    np.save(tmp_path / "gt.npy", gt)
    files = [str(tmp_path / "p.npy"), str(tmp_path / "gt.npy")]
    for form in ("table", "md", "json"):
        for more, said in (([], "p > 0.5"), (["--threshold", "0.3"], "p > 0.3")):
            assert command_line(["--isolated", "score", *files, "-m", "dice", "-f", form, *more]) == 0
            out = capsys.readouterr().out.replace("\\", "")
            assert f"read as a probability; foreground is {said}" in out
    for more in (["compare", "-l", "dice", "-m", "dice"], ["conventions", "-m", "dice"]):
        assert command_line(["--isolated", more[0], *files, *more[1:]]) == 0
        assert "foreground is p > 0.5" in capsys.readouterr().out
    assert command_line(["--isolated", "score", files[1], files[1], "-m", "dice"]) == 0
    assert "read as a probability" not in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"from_logits": True}])
def test_nothing_above_the_threshold_is_a_warning(options: dict[str, bool]) -> None:
    """Of one map, of logits, and of a stack only where no image has anything."""
    gt = labels((4, 9, 8)) > 0
    p = np.where(gt, 0.4, 0.1)
    p = np.log(p / (1 - p)) if options else p
    case = segcli.score(p, gt, metrics="dice", **options)
    assert [n.text for n in case.notes if n.code == "threshold.empty"] == ["pred: no voxel exceeds the threshold 0.5"]
    with pytest.raises(InputError, match="exceeds the threshold"):
        segcli.score(p, gt, strict=True, **options)
    case = segcli.score(p, gt, metrics="dice", threshold=0.3, **options)
    assert not any(n.code == "threshold.empty" for n in case.notes)
    p[1] = 5 if options else 0.7
    cases = segcli.score(p, gt, metrics="dice", stack=True, **options)
    assert not any(n.code == "threshold.empty" for c in cases for n in c.notes)
