"""Images and tensors of other libraries are read like the files that they would be written to."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.errors import InputError, UsageError
from segcli.masks.readers import from_array, read

AFFINE = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, -7], [0, 0, 3.0, 9], [0, 0, 0, 1]])
GT = np.zeros((12, 10, 8), np.uint8)
GT[3:9, 2:8, 2:6] = 1
PRED = np.roll(GT, 1, axis=1)


@pytest.fixture
def files(tmp_path):
    """Write the pair as NIfTI, on a grid whose axes are not those of the world."""
    for name, array in (("p", PRED), ("g", GT)):
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / f"{name}.nii.gz")
    return tmp_path / "p.nii.gz", tmp_path / "g.nii.gz"


def same_grid(mask, path):
    """Assert that a mask has the voxels and the grid of a file."""
    file = read(path)
    np.testing.assert_array_equal(mask.array, file.array)
    np.testing.assert_allclose(mask.affine, file.affine, atol=1e-6)
    np.testing.assert_allclose(mask.spacing, file.spacing, rtol=1e-6)


def hd(pred, gt, **options):
    """Return the Hausdorff distance, which a flattened or turned array gets wrong, and its unit."""
    case = segcli.score(pred, gt, metrics="hd", **options)
    return case.value("hd"), case.unit


def test_nibabel(files):
    """Axes, affine and spacing of an image in memory and of one that lies in a file."""
    for image in (nib.load(files[0]), nib.Nifti1Image(PRED, AFFINE)):
        same_grid(from_array(image, name="pred"), files[0])
        assert hd(image, files[1]) == hd(*files) == (pytest.approx(2.0), "mm")
    micron = nib.Nifti1Image(PRED, np.diag([1000.0, 2000, 3000, 1]))
    micron.header.set_xyzt_units("micron")
    mask = from_array(micron, name="pred")
    assert mask.spacing == pytest.approx((1, 2, 3))
    assert [n.code for n in mask.notes] == ["spacing.unit"]


def test_nibabel_scaling(tmp_path):
    """Stored integers that a slope maps to integers stay exact, as in the file."""
    image = nib.Nifti1Image(GT.astype(np.int16), AFFINE)
    image.header.set_slope_inter(2, 1)
    nib.save(image, tmp_path / "s.nii")
    file = read(tmp_path / "s.nii")
    mask = from_array(nib.load(tmp_path / "s.nii"), name="pred")
    np.testing.assert_array_equal(mask.array, file.array)
    assert mask.kind == file.kind == "labels"


def test_simpleitk(files):
    """z, y, x and LPS become x, y, z and RAS; channels of a vector image are channels."""
    sitk = pytest.importorskip("SimpleITK")
    pred, gt = (sitk.ReadImage(str(path)) for path in files)
    same_grid(from_array(pred, name="pred"), files[0])
    for pair in ((pred, gt), (pred, files[1]), (files[0], gt), (nib.load(files[0]), gt)):
        assert hd(*pair) == hd(*files)
    p = sitk.Cast(pred, sitk.sitkFloat32) * 0.8 + 0.1
    assert hd(sitk.Compose(1 - p, p), gt) == hd(*files)
    flat = sitk.GetImageFromArray(GT[:, :, 3])
    flat.SetSpacing((2.0, 1.0))  # x, y: the columns and the rows of the array
    mask = from_array(flat, name="gt")
    np.testing.assert_array_equal(mask.array, GT[:, :, 3].T)
    assert mask.spacing == (2.0, 1.0)
    with pytest.raises(InputError, match="label map"):
        from_array(sitk.Cast(pred, sitk.sitkLabelUInt8), name="pred")


def test_torch(files):
    """A tensor that requires a gradient, of a type that NumPy lacks, sparse, or with MONAI's grid."""
    torch = pytest.importorskip("torch")
    p = torch.tensor(PRED, dtype=torch.float32, requires_grad=True) * 0.75
    for tensor in (p, p.to(torch.bfloat16), p.half(), p.to_sparse()):
        mask = from_array(tensor, name="pred")
        assert mask.kind == "probability"
        np.testing.assert_array_equal(mask.array, PRED * 0.75)
        assert hd(tensor, files[1]) == hd(*files)
    with pytest.raises(InputError, match="gives no array"):
        from_array(torch.zeros(2, 2, device="meta"), name="pred")
    with pytest.raises(InputError, match="complex"):
        from_array(torch.zeros(2, 2, dtype=torch.complex64), name="pred")
    data = pytest.importorskip("monai.data")
    tensors = [data.MetaTensor(torch.tensor(a)[None], affine=torch.tensor(AFFINE)) for a in (PRED, GT)]
    same_grid(from_array(tensors[0], name="pred"), files[0])
    assert hd(*tensors) == hd(*files)


def test_pillow(tmp_path):
    """Grey levels, palette indices and colours are read as of the file."""
    grey = Image.fromarray(GT[:, :, 3])
    palette = Image.fromarray(GT[:, :, 3])
    palette.putpalette([0, 0, 0, 128, 0, 0])
    rgb = palette.convert("RGB")
    for image, colors in ((grey, None), (palette, None), (palette, "voc"), (rgb, "voc"), (rgb.convert("RGBA"), "voc")):
        image.save(tmp_path / "i.png")
        file, mask = read(tmp_path / "i.png", colors=colors), from_array(image, name="pred", colors=colors)
        np.testing.assert_array_equal(mask.array, file.array)
        np.testing.assert_array_equal(mask.array, GT[:, :, 3])
    with pytest.raises(InputError, match="mode CMYK"):
        from_array(Image.new("CMYK", (4, 4)), name="pred")
    with pytest.raises(InputError, match="transparent"):
        from_array(Image.new("RGBA", (4, 4)), name="pred")


@pytest.mark.parametrize(
    ("function", "given", "near"),
    [
        ("score", {"lables": "a=1"}, "labels"),
        ("score", {"metric": "dice"}, "metrics"),
        ("compare", {"loss": "dice"}, "losses"),
        ("inspect", {"los": "dice"}, "loss"),
        ("evaluate", {"ouput": "run.json"}, "output"),
        ("evaluate", {"treshold": 0.3}, "threshold"),
        ("read", {"colour": "voc"}, "colors"),
    ],
)
def test_a_mistyped_keyword_is_named_with_the_nearest(function, given, near):
    """A UsageError, not a TypeError, and nothing is read."""
    with pytest.raises(UsageError, match=f"segcli.{function} has no keyword") as caught:
        getattr(segcli, function)("a.nii", "b.nii", **given)
    assert caught.value.hint == f"did you mean {near}?"


def test_results_have_a_short_repr():
    """A notebook shows a line, not every voxel."""
    found = [
        segcli.score(PRED, GT, metrics="dice,hd"),
        segcli.compare(PRED, GT),
        segcli.inspect(PRED, GT, "dice"),
        from_array(PRED, name="pred"),
    ]
    for result in found:
        assert len(repr(result)) < 160, repr(result)
    dice = 2 * 120 / (144 + 144)  # by hand: 5 of 6 columns of 24 voxels are shared
    assert f"dice {dice:.4g}" in repr(found[0])


def test_importing_the_package_imports_none_of_these_libraries():
    """An array is recognised by what it can do."""
    code = "import segcli, sys, numpy; segcli.score(numpy.ones((3, 3), int), numpy.ones((3, 3), int), metrics='dice'); "
    code += "print({'SimpleITK', 'torch', 'monai', 'itk'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("form", ["pixdim", "nan", "forms", "none", "sheared", "flipped", "metres", "two axes"])
def test_an_image_of_nibabel_is_warned_of_like_its_file(tmp_path, form):
    """What the header of a file contradicts is told of the image that holds this header, too."""
    image = nib.Nifti1Image(GT, np.diag([1.0, 2, 3, 1]))
    if form in ("pixdim", "nan"):
        image.header["pixdim"][2] = 5 if form == "pixdim" else np.nan
    elif form == "forms":
        image.set_qform(np.diag([1.0, 2, 4, 1]), 1)
        image.set_sform(np.diag([1.0, 2, 3, 1]), 1)
    elif form == "none":
        image = nib.Nifti1Image(GT, None)
        image.header.set_zooms((1.0, 2.0, 3.0))
        image = nib.Nifti1Image(GT, None, image.header)
    elif form == "sheared":
        image = nib.Nifti1Image(GT, np.array([[1.0, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]))
    elif form == "flipped":
        image = nib.Nifti1Image(GT, np.diag([-1.0, 2, 3, 1]))
    elif form == "metres":
        image.header.set_xyzt_units("meter")
    else:
        image = nib.Nifti1Image(GT[:, :, 3], np.diag([1.0, 2, 3, 1]))
    nib.save(image, tmp_path / "a.nii.gz")
    stored, ours = read(tmp_path / "a.nii.gz"), from_array(nib.load(tmp_path / "a.nii.gz"), name="pred")
    assert ours.spacing == stored.spacing
    assert (ours.affine is None) == (stored.affine is None)
    if stored.affine is not None:
        np.testing.assert_array_equal(ours.affine, stored.affine)
    assert [(n.code, n.level) for n in ours.notes] == [(n.code, n.level) for n in stored.notes]
    assert bool(ours.notes) == (form not in ("flipped", "two axes"))


def test_an_edited_affine_counts_and_the_header_does_not():
    """The affine of an image is what nibabel would write, whatever its header still says."""
    image = nib.Nifti1Image(GT, np.diag([1.0, 2, 3, 1]))
    image.affine[0, 0] = 4
    assert from_array(image, name="pred").spacing == (4, 2, 3)


@pytest.mark.parametrize("given", [None, {"a": 1}, 3, 2.5, object(), [None, None], [[1, 2], [3]]])
def test_what_is_no_mask_is_named(given):
    """A value that is no array is refused by its type, with what is taken."""
    with pytest.raises(InputError) as refused:
        segcli.score(given, GT)
    assert "pickle" not in str(refused.value)
    assert refused.value.hint
