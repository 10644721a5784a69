"""Axes of masks: length 1, stacks along any axis, arrays stored in another order than their partner."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.cli.main import run as command_line
from segcli.errors import InputError, UsageError

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = (-10, 5, 7)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file; of fewer than three axes `dim[0]` is their number."""
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def volumes() -> tuple[np.ndarray, np.ndarray]:
    """Return a ground truth of 7x6x5 with two labels and a prediction that differs from it."""
    gt = np.zeros((7, 6, 5), np.uint8)
    gt[2:5, 1:4, 1:4] = 1
    gt[5, 4, 2] = 2
    pred = gt.copy()
    pred[2, 1, 1] = 0
    pred[2, 4, 2] = 1
    return pred, gt


def soft(labels: np.ndarray, count: int = 3) -> np.ndarray:
    """Return a softmax whose largest channel is the label."""
    return np.stack([np.where(labels == c, 0.8, 0.2 / (count - 1)) for c in range(count)]).astype(np.float32)


def numbers(case: segcli.Scored) -> list[float | None]:
    """Return every value of a case, those of metrics first."""
    return [v.value for v in case.values]


METRICS = "dice,hd,assd,volume_gt,volume_pred"


# --- axes of length 1 ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 1, 2], ids=["1xHxW", "Hx1xW", "HxWx1"])
@pytest.mark.parametrize("which", ["pred", "gt", "both"])
def test_an_image_scores_the_same_with_an_axis_of_length_one(tmp_path: Path, where: int, which: str) -> None:
    """`--squeeze` keeps the spacing and the direction of the two axes that stay, on either side."""
    image, truth = (array[:, :, 2] for array in volumes())
    order = [*[i for i in range(3) if i != where], where]  # the image's axes are these of the volume
    affine = AFFINE[:, [*order, 3]]
    flat = [nifti(tmp_path / f"{n}.nii.gz", a, affine) for n, a in (("p2", image), ("g2", truth))]
    thick = [
        nifti(tmp_path / f"{n}.nii.gz", np.expand_dims(a, where), AFFINE) for n, a in (("p3", image), ("g3", truth))
    ]
    expected = segcli.score(*flat, metrics=METRICS)
    assert expected.spacing == tuple(AFFINE[i, i] for i in order[:2])
    found = segcli.score(
        thick[0] if which != "gt" else flat[0], thick[1] if which != "pred" else flat[1], metrics=METRICS, squeeze=True
    )
    assert numbers(found) == numbers(expected)
    assert found.spacing == expected.spacing
    assert found.unit == "mm"


@pytest.mark.parametrize(
    "command", ["score", "compare", "inspect -l dice", "conventions", "describe"], ids=lambda c: c.split()[0]
)
def test_a_nifti_of_two_axes_in_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A NIfTI whose `dim[0]` is 2 with `--squeeze`: there is nothing to drop, and nothing to crash."""
    image, truth = (array[:, :, 2] for array in volumes())
    files = [nifti(tmp_path / f"{n}.nii", a) for n, a in (("pred", image), ("gt", truth))]
    word, *options = command.split()
    squeeze = [] if word == "describe" else ["--squeeze"]
    assert command_line(["--isolated", word, *map(str, files), *options, *squeeze]) == 0
    assert capsys.readouterr().out


def test_a_folder_of_niftis_of_two_axes(tmp_path: Path) -> None:
    """`evaluate --squeeze` has the numbers of the images, whichever side has an axis more."""
    image, truth = (array[:, :, 2] for array in volumes())
    for name in ("preds", "labels"):
        (tmp_path / name).mkdir()
    nifti(tmp_path / "preds" / "a.nii.gz", image)
    nifti(tmp_path / "labels" / "a.nii.gz", truth[..., None])
    run = segcli.evaluate(tmp_path / "preds", tmp_path / "labels", metrics="dice,hd", squeeze=True, jobs=1).to_dict()
    expected = segcli.score(image, truth, metrics="dice,hd", spacing=(1, 2))
    assert [v["value"] for v in run["cases"][0]["values"]] == numbers(expected)


def test_two_and_three_axes_without_the_option_name_it(tmp_path: Path) -> None:
    """An image against the same image with an axis of length 1 is refused with the option that works."""
    image, truth = (array[:, :, 2] for array in volumes())
    flat, thick = nifti(tmp_path / "a.nii", image), nifti(tmp_path / "b.nii", truth[..., None])
    for pair in (
        (flat, thick),
        (thick, flat),
        (image, truth[..., None]),
        (image[None], truth),
        (image[..., None], truth),
    ):
        with pytest.raises(InputError) as caught:
            segcli.score(*pair, metrics="dice")
        assert "--squeeze" in caught.value.hint
        assert "--channel-axis" not in caught.value.hint
        segcli.score(*pair, metrics="dice", squeeze=True)


def test_a_map_of_a_squeezed_image_lies_where_the_image_lies(tmp_path: Path) -> None:
    """The file that `inspect --map --squeeze` writes has the affine of the axes that stay."""
    image, truth = (array[:, :, 2] for array in volumes())
    files = [nifti(tmp_path / f"{n}.nii", a[None]) for n, a in (("pred", image), ("gt", truth))]
    out = tmp_path / "map.nii"
    assert command_line(["--isolated", "inspect", *map(str, files), "-l", "dice", "--squeeze", "--map", str(out)]) == 0
    written = nib.load(out)
    assert written.shape == image.shape
    assert written.header.get_zooms()[:2] == (2.0, 3.0)
    assert np.allclose(written.affine @ [1, 1, 0, 1], AFFINE @ [0, 1, 1, 1])


def test_the_channel_axis_is_that_of_the_file_after_squeezing() -> None:
    """`--channel-axis` counts the axes of the file, those that `--squeeze` drops among them."""
    pred, gt = (array[:, :, 2] for array in volumes())
    p = np.moveaxis(soft(pred), 0, -1)[:, None]  # (7, 1, 6, 3)
    for axis in (3, -1):
        case = segcli.score(p, gt, metrics="dice", squeeze=True, channel_axis=axis)
        assert numbers(case) == numbers(segcli.score(pred, gt, metrics="dice"))
    with pytest.raises(UsageError, match="that axis of pred has length 1"):
        segcli.score(p, gt, squeeze=True, channel_axis=1)


@pytest.mark.parametrize("options", [{}, {"squeeze": True}, {"stack": True}])
def test_a_single_axis_is_no_image(tmp_path: Path, options: dict[str, bool]) -> None:
    """A row of numbers is refused on either side, from a file, an array or a NIfTI with `dim[0]` 1."""
    row, image = np.array([1, 0, 1, 1], np.uint8), np.ones((1, 4), np.uint8)
    np.save(tmp_path / "row.npy", row)
    for one in (row, tmp_path / "row.npy", nifti(tmp_path / "row.nii", row)):
        for pair in ((one, image), (image, one), (one, one)):
            with pytest.raises(InputError, match="one axis of 4 values") as caught:
                segcli.score(*pair, metrics="dice", **options)
            assert "reshape" in caught.value.hint


# --- stacks ---------------------------------------------------------------------------------------


def frames() -> tuple[np.ndarray, np.ndarray]:
    """Return three volumes along the last axis: one that differs, one that does not, one that is empty."""
    pred, gt = volumes()
    pred, gt = (pred == 1).astype(np.uint8), (gt == 1).astype(np.uint8)
    return np.stack([pred, gt, 0 * gt], axis=-1), np.stack([gt, gt, 0 * gt], axis=-1)


def test_the_last_axis_of_a_nifti_as_cases(tmp_path: Path) -> None:
    """Each frame is scored as a volume with the spacing of x, y and z, as the frame alone is."""
    pred, gt = frames()
    files = [nifti(tmp_path / f"{n}.nii.gz", a) for n, a in (("pred", pred), ("gt", gt))]
    for axis in ("last", 3, "3", -1):
        cases = segcli.score(*files, metrics="dice,hd,volume_gt", stack_axis=axis)
        assert [case.case for case in cases] == ["pred[0]", "pred[1]", "pred[2]"]
        for index, case in enumerate(cases):
            alone = segcli.score(pred[..., index], gt[..., index], metrics="dice,hd,volume_gt", spacing=(1, 2, 3))
            assert numbers(case) == numbers(alone)
            assert (case.spacing, case.unit, case.shape) == ((1, 2, 3), "mm", (7, 6, 5))
    with pytest.raises(InputError) as caught:
        segcli.score(*files)
    assert "--stack-axis last" in caught.value.hint


def test_frames_by_hand(tmp_path: Path) -> None:
    """Six voxels against six, five of them shared, then the same, then nothing; a step along z is 3 mm."""
    gt = np.zeros((4, 5, 9, 3), np.uint8)
    gt[1, 2, 1:7, :2] = 1
    pred = gt.copy()
    pred[..., 0] = np.roll(gt[..., 0], 1, axis=2)
    files = [nifti(tmp_path / f"{n}.nii.gz", a) for n, a in (("pred", pred), ("gt", gt))]
    cases = segcli.score(*files, metrics="dice,hd", stack_axis="last")
    assert [numbers(case) for case in cases] == [[pytest.approx(5 / 6), 3], [1, 0], [None, None]]


def test_a_time_axis_of_length_one_is_still_the_axis_of_the_cases(tmp_path: Path) -> None:
    """A file with one frame, of which a reader leaves the axis out, is one case and no stack of slices."""
    pred, gt = (frame[..., :1] for frame in frames())
    files = [nifti(tmp_path / f"{n}.nii.gz", a) for n, a in (("pred", pred), ("gt", gt))]
    for axis in ("last", 3):
        (case,) = segcli.score(*files, metrics="dice,hd", stack_axis=axis)
        assert numbers(case) == numbers(segcli.score(*files, metrics="dice,hd"))
        assert not any("dropped" in note.text for note in case.notes)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_as_a_stack_along_any_axis_keeps_the_spacing_of_the_others(tmp_path: Path, axis: int) -> None:
    """Slices of a NIfTI are images with the spacing of their own two axes, and are held against their place."""
    pred, gt = volumes()
    files = [nifti(tmp_path / f"{n}.nii.gz", a) for n, a in (("pred", pred), ("gt", gt))]
    rest = tuple(s for i, s in enumerate((1.0, 2.0, 3.0)) if i != axis)
    cases = segcli.score(*files, metrics="dice,hd", stack_axis=axis, labels="a=1")
    assert {case.spacing for case in cases} == {rest}
    for index, case in enumerate(cases):
        images = (np.take(array, index, axis) for array in (pred, gt))
        assert numbers(case) == numbers(segcli.score(*images, metrics="dice,hd", spacing=rest, labels="a=1"))
    affine = AFFINE.copy()
    affine[:3, 3] += 9
    moved = nifti(tmp_path / "moved.nii.gz", pred, affine)
    with pytest.raises(InputError, match="origin"):
        segcli.score(moved, files[1], stack_axis=axis)


def test_a_stack_with_channels_and_axes_of_length_one() -> None:
    """Channels count along the file's axes whichever holds the images; a batch of one image is a batch."""
    pred, gt = volumes()
    images, truths = np.moveaxis(pred, 2, 0), np.moveaxis(gt, 2, 0)
    expected = [numbers(c) for c in segcli.score(images, truths, stack=True, metrics="dice")]
    p = soft(pred)  # (3, 7, 6, 5): channels, then the images last
    found = segcli.score(p, gt, stack_axis="last", metrics="dice", channel_axis=0)
    assert [numbers(c) for c in found] == expected
    found = segcli.score(np.moveaxis(p, 0, -1), gt, stack_axis=2, channel_axis=-1, metrics="dice")
    assert [numbers(c) for c in found] == expected
    (one,) = segcli.score(images[:1, None], truths[:1, None], stack=True, squeeze=True, metrics="dice", labels=[1, 2])
    assert one.shape == (7, 6)


def test_the_first_axis_of_a_nifti_with_four_is_told(tmp_path: Path) -> None:
    """`--stack` cuts along x as it always has; of a file with a time axis it says so, a warning."""
    pred, gt = frames()
    files = [nifti(tmp_path / f"{n}.nii.gz", a) for n, a in (("pred", pred), ("gt", gt))]
    cases = segcli.score(*files, stack=True, metrics="dice")
    assert len(cases) == 7
    assert any(n.level == "warning" and "--stack-axis last" in n.text for n in cases[0].notes)
    with pytest.raises(InputError, match="along its first axis"):
        segcli.score(*files, stack=True, metrics="dice", strict=True)


@pytest.mark.parametrize("given", ["middle", "-2", "1.5", "", "x"])
def test_an_axis_that_cannot_be_is_bad_usage(given: str) -> None:
    """Anything but first, last and a number from 0."""
    with pytest.raises(UsageError, match="not first, last"):
        segcli.score(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), stack_axis=given)


def test_sides_with_other_numbers_of_images_are_refused() -> None:
    """Both shapes and the axis are named."""
    with pytest.raises(InputError, match=r"--stack-axis last: pred is 2x3x4 and gt is 2x3x5"):
        segcli.score(np.zeros((2, 3, 4), int), np.zeros((2, 3, 5), int), stack_axis="last")
    with pytest.raises(InputError, match=r"along axis 7"):
        segcli.score(np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int), stack_axis=7)
    with pytest.raises(UsageError, match="holds the images"):
        segcli.score(np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4), int), stack_axis=0, channel_axis=-4)


def test_evaluate_cuts_along_the_axis_and_records_it(tmp_path: Path) -> None:
    """A run has a case for each frame and says along which axis."""
    pred, gt = frames()
    for name, array in (("preds", pred), ("labels", gt)):
        (tmp_path / name).mkdir()
        nifti(tmp_path / name / "a.nii.gz", array)
    run = segcli.evaluate(tmp_path / "preds", tmp_path / "labels", metrics="dice", stack_axis="last", jobs=1).to_dict()
    assert [case["case"] for case in run["cases"]] == ["a[0]", "a[1]", "a[2]"]
    assert (run["spec"]["stack"], run["spec"]["stack_axis"]) == (True, -1)
    assert run["cases"][0]["spacing"] == [1, 2, 3]


# --- the order of axes ------------------------------------------------------------------------------


def test_softmax_of_nnunet_is_recognised_by_its_key_and_shape(tmp_path: Path) -> None:
    """`probabilities` of an `.npz` are C,Z,Y,X; against a NIfTI they are turned, and a note says so."""
    pred, gt = volumes()
    truth = nifti(tmp_path / "gt.nii.gz", gt)
    expected = segcli.score(soft(pred), truth, metrics=METRICS, losses="dice,categorical_ce")
    for key in ("probabilities", "softmax"):
        np.savez(tmp_path / "p.npz", **{key: soft(pred).transpose(0, 3, 2, 1)})
        found = segcli.score(tmp_path / "p.npz", truth, metrics=METRICS, losses="dice,categorical_ce")
        assert numbers(found) == pytest.approx(numbers(expected), rel=1e-12)
        assert any("channels,z,y,x" in n.text and n.code == "geometry.axes" for n in found.notes)
    np.savez(tmp_path / "q.npz", other=soft(pred).transpose(0, 3, 2, 1))
    with pytest.raises(InputError) as caught:
        segcli.score(tmp_path / "q.npz", truth)
    assert "--axes czyx" in caught.value.hint


@pytest.mark.parametrize("shape", [(6, 6, 6), (6, 4, 6)])
def test_where_both_orders_fit_the_caller_must_say(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A cube, and any volume as long in x as in z, fits both ways round: refused with both options."""
    gt = np.zeros(shape, np.uint8)
    gt[1:3, 2:4, 1] = 1
    truth = nifti(tmp_path / "gt.nii.gz", gt)
    np.savez(tmp_path / "p.npz", probabilities=soft(gt, 2).transpose(0, 3, 2, 1))
    with pytest.raises(InputError, match="along z,y,x") as caught:
        segcli.score(tmp_path / "p.npz", truth)
    assert "--axes czyx or --axes cxyz" in caught.value.hint
    assert segcli.score(tmp_path / "p.npz", truth, axes="czyx", metrics="dice").value("dice") == 1
    assert segcli.score(tmp_path / "p.npz", truth, axes="cxyz", metrics="dice").value("dice") < 1
    # A plain array of the same shape says nothing of SimpleITK: it is read as it lies.
    np.save(tmp_path / "p.npy", gt)
    assert segcli.score(tmp_path / "p.npy", truth, metrics="dice").value("dice") == 1


def test_softmax_of_a_plane(tmp_path: Path) -> None:
    """nnU-Net's C,1,Y,X against an image (rows, columns), a NIfTI of two axes, and one of three."""
    pred, gt = (array[:, :, 2] for array in volumes())
    expected = numbers(segcli.score(pred, gt, metrics="dice"))
    Image.fromarray(gt).save(tmp_path / "gt.png")
    np.savez(tmp_path / "image.npz", probabilities=soft(pred)[:, None])
    assert numbers(segcli.score(tmp_path / "image.npz", tmp_path / "gt.png", metrics="dice")) == expected
    np.savez(tmp_path / "nifti.npz", probabilities=soft(pred).transpose(0, 2, 1)[:, None])
    flat, thick = nifti(tmp_path / "g2.nii", gt), nifti(tmp_path / "g3.nii", gt[..., None])
    assert numbers(segcli.score(tmp_path / "nifti.npz", flat, metrics="dice")) == expected
    assert numbers(segcli.score(tmp_path / "nifti.npz", thick, metrics="dice")) == expected
    assert numbers(segcli.score(tmp_path / "nifti.npz", thick, metrics="dice", squeeze=True)) == expected
    square = nifti(tmp_path / "square.nii", gt[:6, :6])
    np.savez(tmp_path / "square.npz", probabilities=soft(pred[:6, :6]).transpose(0, 2, 1)[:, None])
    with pytest.raises(InputError) as caught:
        segcli.score(tmp_path / "square.npz", square)
    assert "--axes czyx --squeeze" in caught.value.hint
    segcli.score(tmp_path / "square.npz", square, axes="czyx", squeeze=True)


@pytest.mark.parametrize("order", ["".join(o) for o in itertools.permutations("xyz")])
def test_any_order_of_an_array_file(tmp_path: Path, order: str) -> None:
    """`--axes` says how an NPY is stored; either side may be the array; labels and channels, `c` anywhere."""
    pred, gt = volumes()
    truth, masks = nifti(tmp_path / "gt.nii.gz", gt), nifti(tmp_path / "pred.nii.gz", pred)
    expected = segcli.score(masks, truth, metrics=METRICS)
    turn = ["xyz".index(letter) for letter in order]
    np.save(tmp_path / "pred.npy", pred.transpose(turn))
    np.save(tmp_path / "gt.npy", gt.transpose(turn))
    assert numbers(segcli.score(tmp_path / "pred.npy", truth, metrics=METRICS, axes=order)) == numbers(expected)
    assert numbers(segcli.score(masks, tmp_path / "gt.npy", metrics=METRICS, axes=order)) == numbers(expected)
    for at in range(4):
        letters = order[:at] + "c" + order[at:]
        p = soft(pred).transpose(["cxyz".index(letter) for letter in letters])
        assert numbers(segcli.score(p, truth, metrics=METRICS, axes=letters)) == numbers(expected)
        assert numbers(segcli.score(p, truth, metrics=METRICS, axes=order, channel_axis=at)) == numbers(expected)
    if order != "xyz":
        for pair in ((tmp_path / "pred.npy", truth), (masks, tmp_path / "gt.npy")):
            with pytest.raises(InputError) as caught:
                segcli.score(*pair)
            assert f"--axes {order}" in caught.value.hint
        with pytest.raises(InputError) as caught:
            segcli.score(soft(pred).transpose(0, *(1 + t for t in turn)), truth)
        assert f"--axes c{order}" in caught.value.hint


def test_two_array_files_stay_as_they_are() -> None:
    """Neither says what the order is: `--axes` names it for both, and where the channels are."""
    pred, gt = volumes()
    expected = segcli.score(pred, gt, metrics=METRICS, spacing=(1, 2, 3))
    found = segcli.score(np.moveaxis(soft(pred), 0, -1), gt, metrics=METRICS, spacing=(1, 2, 3), axes="zyxc")
    assert numbers(found) == numbers(expected)


@pytest.mark.parametrize("letters", ["zy", "", "abc", "zyxx", "czyxc", "zzz", "zyx,c", "c", "xz", "cz", "x y z"])
def test_axes_that_cannot_be_are_bad_usage(letters: str) -> None:
    """Each of x, y, z once, or x and y, and at most one c."""
    with pytest.raises(UsageError, match="each once"):
        segcli.score(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), axes=letters)


def test_axes_that_fit_no_file_are_refused(tmp_path: Path) -> None:
    """Two NIfTI files have their own order; an array of another number of axes is not what was named."""
    pred, gt = volumes()
    truth = nifti(tmp_path / "gt.nii.gz", gt)
    with pytest.raises(UsageError, match="for array files"):
        segcli.score(truth, truth, axes="zyx")
    with pytest.raises(UsageError, match=r"--axes czyx names 4 axes; pred has 2 \(7x6\)"):
        segcli.score(pred[..., 0], truth, axes="czyx")
    with pytest.raises(UsageError, match="says where the channels are"):
        segcli.score(soft(pred), truth, axes="cxyz", channel_axis=0)


def test_axes_on_the_command_line_and_in_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The option is read by every command that reads pairs, and the run file has it."""
    pred, gt = volumes()
    truth = nifti(tmp_path / "gt.nii.gz", gt)
    np.save(tmp_path / "pred.npy", pred.T)
    files = [str(tmp_path / "pred.npy"), str(truth), "--axes", "ZYX"]
    assert command_line(["--isolated", "score", *files, "-m", "dice", "-f", "json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["spec"]["axes"] == "zyx"
    for words in (["compare", "-l", "dice"], ["inspect", "-l", "dice"], ["conventions", "-m", "dice"]):
        assert command_line(["--isolated", words[0], *files, *words[1:]]) == 0


def test_hints_of_stacks_can_be_followed() -> None:
    """A hint never names the option that was given, and names an axis where another one fits."""
    frames_first, frames_last = np.zeros((3, 6, 7, 8), np.uint8), np.zeros((6, 7, 8, 3), np.uint8)
    for pred, gt, axis, hint in (
        (frames_first, frames_last, "last", "store the images of both files along the same axis"),
        (
            frames_first,
            frames_first[:, :, :, 1:],
            "last",
            "--stack-axis 0 or --stack-axis 1 or --stack-axis 2 would fit",
        ),
        (frames_first, frames_first, "4", "--stack-axis first makes cases of the first axis"),
        (frames_first[0, 0], frames_first[0, 0], "last", "leave it out for a pair of single images"),
        (frames_first[..., None], frames_first[..., None], "0", "a ground truth holds labels, no channels"),
    ):
        with pytest.raises(InputError) as told:
            segcli.score(pred, gt, stack_axis=axis)
        assert (told.value.hint or "").removeprefix("--squeeze drops axes of length 1; ") == hint
    with pytest.raises(InputError, match="--stack-axis last: roi is 6x7x8, and there are 3 images"):
        segcli.score(frames_last, frames_last, stack_axis="last", roi=frames_first[0])
