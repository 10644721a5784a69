"""The readers: every file a stranger may hand in is a mask or one clear line, never anything else."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import SHARED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segcli.errors import InputError, SegcliError, UsageError
from segcli.masks import readers, source
from segcli.masks.mask import Mask
from segcli.masks.readers import from_array, read
from segcli.masks.source import Room

AFFINE = np.array([[1.0, 0, 0, -10], [0, 1.5, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]])
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def labels(shape: tuple[int, ...] = (6, 5, 4), dtype: str = "uint8") -> np.ndarray:
    """Return a small label map with the values 0, 1 and 2, different along every axis."""
    return (np.arange(np.prod(shape)).reshape(shape) % 7 % 3).astype(dtype)


def nifti_bytes(
    array: np.ndarray, *, cls: type = nib.Nifti1Image, affine: np.ndarray | None = AFFINE, **fields
) -> bytes:
    """Return a NIfTI file with header fields set afterwards, so that they may lie."""
    image = cls(array, affine, dtype=array.dtype)
    raw = bytearray(image.to_bytes())
    size = 540 if cls is nib.Nifti2Image else 348
    header = cls.header_class(bytes(raw[:size]), check=False)
    for name, value in fields.items():
        header[name] = value
    raw[:size] = header.binaryblock
    return bytes(raw)


def put(path: Path, data: bytes) -> Path:
    """Write bytes and return the path."""
    path.write_bytes(data)
    return path


def refusal(path: object, **options) -> InputError:
    """Read a file that must be refused; check that the refusal is one line that names it."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    error = caught.value
    assert "\n" not in error.message
    assert "\n" not in error.hint
    assert error.message.startswith(source.shown(str(path)) + ": ")
    assert error.code
    assert error.hint
    return error


def texts(mask: Mask, level: str = "warning") -> str:
    """Return all notes of one level as one text."""
    return " ".join(note.text for note in mask.notes if note.level == level)


# NIfTI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
def test_integers_keep_type_order_and_values(tmp_path, dtype, cls):
    """Every integer type comes back as stored, as a Fortran-ordered array, like nibabel's."""
    data = labels(dtype=dtype)
    mask = read(put(tmp_path / "a.nii.gz", gzip.compress(nifti_bytes(data, cls=cls))))
    assert mask.kind == "labels"
    assert mask.array.dtype == np.dtype(dtype)
    assert mask.array.flags.f_contiguous
    np.testing.assert_array_equal(mask.array, data)
    assert mask.spacing == (1.0, 1.5, 3.0)
    np.testing.assert_array_equal(mask.affine, AFFINE)
    assert mask.format == ("NIfTI-1" if cls is nib.Nifti1Image else "NIfTI-2")
    assert not mask.notes


@pytest.mark.parametrize("name", ["a.nii", "b.nii.gz", "C.NII.GZ", "none", ".hidden.nii.gz", "odd.v2", "[red]x[b].nii"])
def test_content_decides(tmp_path, name):
    """Names without a suffix, in capitals or with markup are read by content, packed or not."""
    raw = nifti_bytes(labels())
    for data in (raw, gzip.compress(raw)):
        np.testing.assert_array_equal(read(put(tmp_path / name, data)).array, labels())


def test_big_endian(tmp_path):
    """A big-endian file gives native numbers."""
    data = labels(dtype=">i4")
    image = nib.Nifti1Image(data, AFFINE, header=nib.Nifti1Header(endianness=">"))
    image.set_data_dtype(">i4")
    image.to_filename(tmp_path / "a.nii")
    mask = read(tmp_path / "a.nii")
    assert mask.header["byte_order"] == "big"
    assert mask.array.dtype.isnative
    np.testing.assert_array_equal(mask.array, data)
    np.testing.assert_allclose(mask.spacing, (1, 1.5, 3))


@pytest.mark.parametrize("cls", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("ends", [(".hdr", ".img"), (".HDR", ".IMG"), (".hdr.gz", ".img.gz"), (".hdr", ".img.gz")])
def test_pairs_by_either_name(tmp_path, cls, ends):
    """A pair is found from its header or its image, and has one checksum."""
    image = cls(labels(), AFFINE)
    files = cls.make_file_map({k: io.BytesIO() for k in ("header", "image")})
    image.to_file_map(files)
    raw = [files[k].fileobj.getvalue() for k in ("header", "image")]
    stored = [gzip.compress(r) if e.lower().endswith("gz") else r for r, e in zip(raw, ends, strict=True)]
    paths = [put(tmp_path / f"a{e}", r) for e, r in zip(ends, stored, strict=True)]
    want = hashlib.sha256(b"".join(stored)).hexdigest()
    for path in paths:
        mask = read(path, sha256=True)
        np.testing.assert_array_equal(mask.array, labels())
        assert mask.sha256 == want
    paths[1].unlink()
    assert refusal(paths[0]).code == "read.pair"


def test_image_without_header(tmp_path):
    """The voxels of a pair alone are refused as such."""
    assert refusal(put(tmp_path / "a.img", bytes(120))).code == "read.pair"


def test_analyze(tmp_path):
    """Analyze 7.5 is read with its spacing, without orientation, and with a warning."""
    image = nib.AnalyzeImage(labels(dtype="int16"), np.diag([2.0, 3, 4, 1]))
    image.to_filename(tmp_path / "a.img")
    mask = read(tmp_path / "a.img")
    assert (mask.format, mask.affine, mask.spacing) == ("Analyze 7.5", None, (2.0, 3.0, 4.0))
    assert "which side is left" in texts(mask)
    np.testing.assert_array_equal(mask.array, labels())


def test_scaling(tmp_path):
    """Slope 0, NaN or 1 is none; whole slopes stay exact integers; fractions give nibabel's float64."""
    data = labels()
    for slope, inter in ((0, 5), (np.nan, 0), (1, 0)):
        mask = read(put(tmp_path / "a.nii", nifti_bytes(data, scl_slope=slope, scl_inter=inter)))
        assert mask.array.dtype == np.uint8
        np.testing.assert_array_equal(mask.array, data)
    mask = read(put(tmp_path / "a.nii", nifti_bytes(data, scl_slope=300, scl_inter=-1)))
    assert (mask.kind, mask.array.dtype) == ("labels", np.int16)
    np.testing.assert_array_equal(mask.array, data.astype(int) * 300 - 1)
    assert "make -1..599 of the stored 0..2" in texts(mask)
    grey = np.arange(256, dtype=np.uint8).reshape(8, 8, 4)
    path = put(tmp_path / "p.nii", nifti_bytes(grey, scl_slope=1 / 255, scl_inter=0))
    mask = read(path)
    assert (mask.kind, mask.array.dtype) == ("probability", np.float64)
    np.testing.assert_array_equal(mask.array, np.clip(nib.load(path).get_fdata(), 0, 1))
    assert "by rounding" in texts(mask, "note")
    assert refusal(put(tmp_path / "i.nii", nifti_bytes(data, scl_slope=np.inf))).code == "read.header"
    assert refusal(put(tmp_path / "i.nii", nifti_bytes(data, scl_slope=2, scl_inter=np.nan))).code == "read.header"


def test_forms(tmp_path):
    """The sform wins over the qform, both over pixdim; a conflict and a shear are said."""
    base = nib.Nifti1Image(labels(), None)
    base.set_qform(np.diag([-1.0, 1.5, 3, 1]), code=1)
    base.set_sform(AFFINE, code=1)
    path = tmp_path / "a.nii"
    base.to_filename(path)
    mask = read(path)
    np.testing.assert_array_equal(mask.affine, AFFINE)
    assert "qform and sform disagree" in texts(mask)
    base.set_sform(None, code=0)
    base.to_filename(path)
    np.testing.assert_allclose(read(path).affine, np.diag([-1.0, 1.5, 3, 1]), atol=1e-6)
    base.set_sform(base.get_qform(), code=1)
    base.to_filename(path)
    assert not read(path).notes
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.4
    mask = read(put(path, nifti_bytes(labels(), affine=sheared)))
    assert "sheared" in texts(mask)
    assert mask.spacing[1] == pytest.approx(np.hypot(0.4, 1.5))


def test_no_forms(tmp_path):
    """Without qform and sform the spacing is that of pixdim, its sign dropped, and no orientation is made up."""
    plain = {"sform_code": 0, "qform_code": 0}
    pixdim = np.array([1, -1, 1.5, 3, 0, 0, 0, 0])
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels(), pixdim=pixdim, **plain)))
    assert (mask.spacing, mask.affine) == ((1.0, 1.5, 3.0), None)
    assert "negative" in texts(mask, "note")
    pixdim[2] = 0
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels(), pixdim=pixdim, **plain)))
    assert mask.spacing is None
    assert "--spacing" in texts(mask)
    pixdim[2] = np.nan
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels(), pixdim=pixdim, **plain)))
    assert mask.spacing is None
    assert "pixdim holds NaN" in texts(mask)
    pixdim[2] = np.inf
    assert refusal(put(tmp_path / "a.nii", nifti_bytes(labels(), pixdim=pixdim, **plain))).code == "read.affine"


@pytest.mark.parametrize("row", [[np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])
def test_impossible_affines(tmp_path, row):
    """NaN, infinity and singular affines are refused."""
    assert refusal(put(tmp_path / "a.nii", nifti_bytes(labels(), srow_x=row))).code == "read.affine"


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (2, 1), (10, 1), (1, 1000), (3, 0.001)])
def test_units(tmp_path, code, factor):
    """Metres and micrometres become mm, with a warning."""
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels(), xyzt_units=code)))
    np.testing.assert_allclose(mask.spacing, np.array([1, 1.5, 3]) * factor)
    np.testing.assert_allclose(mask.affine[:3], AFFINE[:3] * factor)
    assert ("converted to mm" in texts(mask)) == (factor != 1)


def test_axes(tmp_path):
    """Two axes stay two; length-1 axes after the third go with a note; real fourth axes stay."""
    flat = read(put(tmp_path / "a.nii", nifti_bytes(labels((5, 4)))))
    assert (flat.shape, flat.spacing) == ((5, 4), (1.0, 1.5))
    thin = read(put(tmp_path / "a.nii", nifti_bytes(labels((5, 4, 1)))))
    assert thin.shape == (5, 4, 1)
    one = read(put(tmp_path / "a.nii", nifti_bytes(labels((5, 4, 3, 1, 1)))))
    assert one.shape == (5, 4, 3)
    assert "5x4x3x1x1 read as 5x4x3" in texts(one, "note")
    vector = read(put(tmp_path / "a.nii", nifti_bytes(labels((5, 4, 3, 1, 2)))))
    assert vector.shape == (5, 4, 3, 2)
    np.testing.assert_array_equal(vector.array, labels((5, 4, 3, 1, 2))[:, :, :, 0])
    assert vector.spacing == (1.0, 1.5, 3.0)


@pytest.mark.parametrize("code", [0, 1, 32, 128, 1536, 1792, 2048, 2304, 77, -3])
def test_impossible_voxel_types(tmp_path, code):
    """Complex, colour, bit and unknown voxel types are refused by name."""
    assert refusal(put(tmp_path / "a.nii", nifti_bytes(labels(), datatype=code))).code == "read.dtype"


def test_lying_headers_cost_nothing(tmp_path):
    """A header that claims terabytes is refused before anything is allocated."""
    dim = np.array([3, 30000, 30000, 30000, 1, 1, 1, 1])
    raw = nifti_bytes(labels(), dim=dim)
    tracemalloc.start()
    assert refusal(put(tmp_path / "a.nii", raw)).code == "read.truncated"
    error = refusal(put(tmp_path / "a.nii.gz", gzip.compress(raw)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.code == "read.size"
    assert "30000x30000x30000" in error.message
    assert "27 TB" in error.message
    assert peak < 20e6


@pytest.mark.parametrize(
    "dim", [[0] * 8, [8] + [1] * 7, [-1] + [1] * 7, [3, 0, 5, 4, 1, 1, 1, 1], [3, -6, 5, 4, 1, 1, 1, 1]]
)
def test_impossible_dims(tmp_path, dim):
    """No axes, too many, empty or negative ones are refused."""
    assert refusal(put(tmp_path / "a.nii", nifti_bytes(labels(), dim=dim))).code in {"read.header", "read.shape"}


@pytest.mark.parametrize("start", [-352, 100, 352.5, 1e30, np.nan, np.inf, 353e6])
def test_impossible_offsets(tmp_path, start):
    """Voxels cannot start before, inside or far behind the header."""
    for pack in (bytes, gzip.compress):
        refusal(put(tmp_path / "a.nii", pack(nifti_bytes(labels(), vox_offset=start))))


def test_offset_zero_and_extension(tmp_path):
    """vox_offset 0 means right after the header; what lies between header and voxels is passed over."""
    raw = nifti_bytes(labels(), vox_offset=0)
    np.testing.assert_array_equal(read(put(tmp_path / "a.nii", raw)).array, labels())
    long = nifti_bytes(labels(), vox_offset=352 + 5000)
    long = long[:352] + bytes(5000) + long[352:]
    for pack in (bytes, gzip.compress):
        path = put(tmp_path / "a.nii", pack(long))
        np.testing.assert_array_equal(read(path, sha256=True).array, labels())
        assert read(path, sha256=True).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["a.npy", "a.nii", "a.png", "a.npz"])
def test_a_hole_after_the_voxels_is_refused(tmp_path, name):
    """A hole of a terabyte behind a small mask is refused at once, also where a checksum is wanted."""
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, labels())
    elif name == "a.npz":
        np.savez(path, m=labels())
    else:
        put(path, nifti_bytes(labels()) if name == "a.nii" else png(MAP))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    for sha256 in (False, True):
        assert refusal(path, sha256=sha256).code in ("read.trailing", "read.corrupt")
    if name != "a.npz":  # a little is said, and hashed
        with path.open("r+b") as file:
            file.truncate(1 << 20)
        mask = read(path, sha256=True)
        assert "ignored" in texts(mask)
        assert mask.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_follows_the_voxels_in_gzip_is_bounded(tmp_path):
    """Up to 64 MiB are unpacked, so that the checksum at the end counts; more is no longer this file."""
    data = nifti_bytes(labels())
    packed = gzip.compress(data + bytes(1 << 24))
    assert "16.8 MB" in texts(read(put(tmp_path / "a.nii.gz", packed)))
    damaged = bytearray(packed)
    damaged[-6] ^= 1  # the CRC, 16 MiB after the voxels
    assert refusal(put(tmp_path / "a.nii.gz", bytes(damaged))).code == "read.corrupt"
    assert refusal(put(tmp_path / "a.nii.gz", gzip.compress(data + bytes(80 << 20)))).code == "read.trailing"


@pytest.mark.parametrize(
    ("data", "word", "hint"),
    [
        (bz2.compress(b"x" * 99), "bzip2", "bunzip2"),
        (lzma.compress(b"x" * 99), "xz", "unxz"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "Zstandard", "unzstd"),
        (b"RIFF\x40\0\0\0WEBPVP8L" + bytes(60), "WebP", "convert"),
        (b"BM\x40\0\0\0\0\0\0\0" + bytes(60), "BMP", "convert"),
        (b"%PDF-1.7" + bytes(60), "PDF", "convert"),
        (b"\n  <!DOCTYPE HTML><html>", "HTML or XML", "login"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "HTML or XML", "login"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".png", ".npy", ".npz"])
def test_a_false_name_is_told_with_what_the_file_is(tmp_path, data, word, hint, suffix):
    """The first bytes say what it is, whatever it is called."""
    error = refusal(put(tmp_path / f"a{suffix}", data))
    assert f"named {suffix}, but it holds {word} data" in error.message
    assert hint in error.hint


def test_a_header_is_looked_at_without_its_voxels(tmp_path):
    """Shape, type and grid as of the whole file, in no memory, also where the voxels are not there."""
    np.save(tmp_path / "a.npy", labels())
    np.savez_compressed(tmp_path / "a.npz", m=labels())
    put(tmp_path / "a.nii", nifti_bytes(labels()))
    put(tmp_path / "a.nii.gz", gzip.compress(nifti_bytes(labels())))
    put(tmp_path / "a.png", png(MAP))
    for path in sorted(tmp_path.iterdir()):
        seen, whole = readers.look(path), read(path)
        assert (seen.shape, seen.format, seen.spacing) == (whole.shape, whole.format, whole.spacing)
        assert (seen.affine is None) == (whole.affine is None)
        assert seen.array.strides == (0,) * seen.array.ndim
    put(tmp_path / "b.nii.gz", gzip.compress(nifti_bytes(labels())[:352]))
    assert readers.look(tmp_path / "b.nii.gz").shape == labels().shape


def test_bfloat16_is_named(tmp_path):
    """NumPy saves it as two bytes without a type."""
    np.save(tmp_path / "a.npy", np.zeros((3, 4), "V2"))
    assert "bfloat16" in refusal(tmp_path / "a.npy").message


@pytest.mark.parametrize("offset", [348, 349, 351])
def test_voxels_cannot_begin_before_the_extensions_are_announced(tmp_path, offset):
    """As nibabel has it: four bytes after the header say whether extensions follow."""
    assert refusal(put(tmp_path / "a.nii", nifti_bytes(labels(), vox_offset=offset))).code == "read.header"


def test_a_nifti2_file_that_was_sent_as_text_is_refused(tmp_path):
    """The end of its magic is there to show that."""
    nib.save(nib.Nifti2Image(labels(), np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    assert read(tmp_path / "a.nii").shape == labels().shape
    assert data[8:12] == b"\r\n\x1a\n"
    data[8:12] = b"\n\n\x1a\n"
    assert "sent as text" in refusal(put(tmp_path / "a.nii", bytes(data))).message


def test_a_pixdim_of_nearly_nothing_is_no_length(tmp_path):
    """Without forms it would be the voxel size: squares of it are 0."""
    image = nib.Nifti1Image(labels(), None)
    image.header["pixdim"][1:4] = (1, 1e-30, 1)
    nib.save(image, tmp_path / "a.nii")
    mask = read(tmp_path / "a.nii")
    assert mask.spacing is None
    assert "pixdim holds 1e-30" in texts(mask)


def test_a_vox_offset_beyond_any_file_is_named(tmp_path):
    """Not the voxels are too many: they would start nowhere."""
    for offset in (1e30, 3e9):
        error = refusal(put(tmp_path / "a.nii", nifti_bytes(labels(), vox_offset=offset)))
        assert "vox_offset" in error.message


def test_every_cut_is_noticed(tmp_path):
    """A file cut anywhere is refused, packed or not."""
    for name, data in (("a.nii", nifti_bytes(labels())), ("a.nii.gz", gzip.compress(nifti_bytes(labels())))):
        for end in [*range(1, len(data), 7), len(data) - 1]:
            assert refusal(put(tmp_path / name, data[:end])).code in {"read.truncated", "read.magic", "read.size"}


def test_every_flip_of_the_checksum_is_noticed(tmp_path):
    """A wrong CRC or length at the end of a gzip stream is refused."""
    data = bytearray(gzip.compress(nifti_bytes(labels())))
    for place in range(len(data) - 8, len(data)):
        bad = bytearray(data)
        bad[place] ^= 1
        assert refusal(put(tmp_path / "a.nii.gz", bytes(bad))).code == "read.corrupt"


def test_gzip_in_members_and_with_padding(tmp_path):
    """A stream in several members (pigz, bgzip) is one content; zero padding is none; other bytes are said."""
    raw = nifti_bytes(labels((40, 40, 40)))
    cuts = [0, 100, 348, 5000, len(raw)]
    parts = b"".join(gzip.compress(raw[a:b]) for a, b in itertools.pairwise(cuts)) + gzip.compress(b"")
    for tail, said in ((b"", False), (bytes(513), False), (b"garbage", True), (gzip.compress(b"more"), True)):
        mask = read(put(tmp_path / "a.nii.gz", parts + tail))
        np.testing.assert_array_equal(mask.array, labels((40, 40, 40)))
        assert ("after the declared voxels" in texts(mask)) == said


def test_what_follows_the_voxels_is_bounded(tmp_path):
    """A gigabyte of zeros after the voxels is not unpacked."""
    squeeze = zlib.compressobj(9, wbits=31)
    blocks = [squeeze.compress(nifti_bytes(labels()))] + [squeeze.compress(bytes(1 << 20)) for _ in range(64)]
    path = put(tmp_path / "a.nii.gz", b"".join(blocks) + squeeze.flush())
    tracemalloc.start()
    mask = read(path, sha256=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "after the declared voxels ignored" in texts(mask)
    assert mask.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert peak < 10e6
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels()) + b"tail"))
    assert "4 bytes after" in texts(mask)


def test_without_isal(tmp_path, monkeypatch):
    """Zlib takes over where isal is missing."""
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    data = gzip.compress(nifti_bytes(labels((40, 40, 40))))
    np.testing.assert_array_equal(read(put(tmp_path / "a.nii.gz", data)).array, labels((40, 40, 40)))
    assert refusal(put(tmp_path / "a.nii.gz", data[:-5])).code == "read.truncated"
    assert refusal(put(tmp_path / "a.nii.gz", data[:-5] + b"\xff" + data[-4:])).code == "read.corrupt"


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, 539), st.integers(0, 255)), min_size=1, max_size=12),
    which=st.integers(0, 5),
)
def test_any_nifti_header(tmp_path, changes, which):
    """Whatever the bytes of a header: a mask or a refusal, no warning, nothing on stderr."""
    cls = (nib.Nifti1Image, nib.Nifti2Image)[which % 2]
    raw = bytearray(nifti_bytes(labels(), cls=cls))
    for place, value in changes:
        raw[place % len(raw)] = value
    data = gzip.compress(bytes(raw), 1) if which >= 4 else bytes(raw)
    check_survival(put(tmp_path / ("a.hdr" if which in {2, 3} else "a.nii"), data))


@FUZZ
@given(changes=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_gzip(tmp_path, changes):
    """Whatever the bytes of a gzip stream: a mask or a refusal."""
    data = bytearray(gzip.compress(nifti_bytes(labels()), mtime=0))
    for place, value in changes:
        data[place % len(data)] = value
    check_survival(put(tmp_path / "a.nii.gz", bytes(data)))


def test_nothing_leaks_to_stderr(tmp_path, capfd):
    """Neither nibabel's log nor a warning of Pillow or numpy reaches the terminal."""
    for fields in (
        {"pixdim": [7, -1, 0, 3, 0, 0, 0, 0], "sform_code": 0},
        {"qform_code": 9, "quatern_b": 5},
        {"bitpix": 3},
    ):
        read(put(tmp_path / "a.nii", nifti_bytes(labels(), **fields)))
    nib.AnalyzeImage(labels(dtype="int16"), np.diag([-2.0, 3, 4, 1])).to_filename(tmp_path / "b.img")
    read(tmp_path / "b.hdr")
    read(put(tmp_path / "a.png", raw_png(2, 1, 8, 0, [b"\1\2"], chunk(b"tIME", b"x"), chunk(b"gAMA", b""))))
    assert capfd.readouterr() == ("", "")


def check_survival(path: Path) -> None:
    """Read a file that may be anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(SegcliError):
            assert isinstance(read(path, max_voxels=10**6), Mask)


# PNG ---------------------------------------------------------------------------------------------------------------


def png(array: np.ndarray, mode: str | None = None, **options) -> bytes:
    """Return a PNG made by Pillow."""
    file = io.BytesIO()
    image = Image.fromarray(array)
    if mode == "P":
        image = Image.frombytes("P", array.shape[::-1], array.tobytes())
        image.putpalette([255 - i // 3 for i in range(768)])
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(word: bytes, data: bytes) -> bytes:
    """Return one PNG chunk with its checksum."""
    return len(data).to_bytes(4, "big") + word + data + struct.pack(">I", zlib.crc32(word + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *extra: bytes) -> bytes:
    """Return a PNG made by hand: unfiltered rows, extra chunks before the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + pixels + chunk(b"IEND", b"")


MAP = labels((6, 5))


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (png(MAP * 127), MAP * 127),
        (png(MAP.astype(np.uint16) * 30000), MAP.astype(np.uint16) * 30000),
        (png(MAP > 0), (MAP > 0).astype(np.uint8)),
        (png(MAP, "P"), MAP),
        (png(MAP, "P", bits=2), MAP),
        (png(MAP, "P", transparency=0), MAP),
        (png(np.dstack([MAP, np.full_like(MAP, 255)])), MAP),
        (png(np.dstack([MAP] * 3)), MAP),
        (png(np.dstack([MAP] * 3 + [np.full_like(MAP, 255)])), MAP),
        (raw_png(4, 1, 2, 0, [b"\x1b"]), np.array([[0, 1, 2, 3]])),
        (raw_png(2, 1, 4, 0, [b"\x3f"]), np.array([[3, 15]])),
        (raw_png(2, 1, 16, 4, [b"\x01\x02\xff\xff\x00\x05\xff\xff"]), np.array([[258, 5]])),
    ],
    ids=["grey8", "grey16", "1bit", "palette", "palette2", "tRNS", "LA", "RGB", "RGBA", "grey2", "grey4", "LA16"],
)
def test_png_modes(tmp_path, data, want):
    """Every mode gives the stored numbers: grey levels unscaled, palette indices, equal channels as one."""
    mask = read(put(tmp_path / "a.png", data))
    assert (mask.kind, mask.format, mask.spacing) == ("labels", "PNG", None)
    np.testing.assert_array_equal(mask.array, want)
    assert mask.array.dtype == (np.uint16 if want.max() > 255 else np.uint8)


def test_interlaced_png(tmp_path):
    """Adam7 images are read: the fixture is the 3x3 image 0..8, its passes written by hand."""
    passes = [[[0]], [], [], [[2]], [[6, 8]], [[1], [7]], [[3, 4, 5]]]
    pixels = b"".join(b"\0" + bytes(row) for rows in passes for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(read(put(tmp_path / "a.png", data)).array, np.arange(9).reshape(3, 3))


def test_png_refusals(tmp_path):
    """Colours, transparency, 16-bit colour, JPEG, animation, corruption: each refused for its own reason."""
    rgb = np.dstack([MAP, MAP * 2, MAP])
    clear = np.dstack([MAP, np.full_like(MAP, 255)])
    clear[2, 3, 1] = 254
    still = png(MAP)
    animation = io.BytesIO()
    Image.fromarray(MAP).save(animation, "PNG", save_all=True, append_images=[Image.fromarray(MAP + 1)])
    jpeg = io.BytesIO()
    Image.fromarray(MAP * 127).save(jpeg, "JPEG")
    flipped = bytearray(still)
    flipped[still.index(b"IDAT") + 6] ^= 1
    cases = {
        "read.color": [png(rgb), raw_png(1, 1, 16, 2, [bytes(6)])],
        "read.alpha": [png(clear)],
        "read.lossy": [jpeg.getvalue()],
        "read.animated": [animation.getvalue()],
        "read.corrupt": [
            bytes(flipped), raw_png(0, 1, 8, 0, []), raw_png(1, 1, 3, 0, [b"0"]), raw_png(9, 9, 8, 0, [bytes(9)] * 10),
            raw_png(1, 1, 8, 0, [b"0"], chunk(b"CgBI", b"")), still[:8] + still[33:],
            raw_png(1, 1, 8, 0, [os.urandom(3 << 20)]),
        ],
        "read.truncated": [raw_png(9, 9, 8, 0, [bytes(9)] * 5), raw_png(9, 9, 8, 0, [bytes(9)] * 9)[:-25],
            still[:-12], still[:40], still[:20], still[:8]],
        "read.size": [raw_png(100000, 100000, 8, 0, [bytes(9)])],
    }  # fmt: skip
    for code, files in cases.items():
        for data in files:
            assert refusal(put(tmp_path / "a.png", data)).code == code
    assert "rgb(1, 2, 1)" in refusal(put(tmp_path / "a.png", png(rgb))).message
    assert "--colors" in refusal(tmp_path / "a.png").hint


def test_png_chunks_beside_the_pixels(tmp_path):
    """Text bombs cost nothing; EXIF orientation is said and not applied; what follows the end is said."""
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80 << 20), 9)) + chunk(
        b"iCCP", b"k\0\0" + zlib.compress(bytes(9 << 20))
    )
    exif = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    broken = chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")
    tracemalloc.start()
    mask = read(put(tmp_path / "a.png", raw_png(2, 1, 8, 0, [b"\1\2"], bomb, exif) + b"tail"))
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    np.testing.assert_array_equal(mask.array, [[1, 2]])
    assert "EXIF orientation 6" in texts(mask)
    assert "4 bytes after" in texts(mask)
    assert not read(put(tmp_path / "a.png", raw_png(2, 1, 8, 0, [b"\1\2"], broken))).notes


def test_large_png_needs_no_pillow_limit(tmp_path):
    """An image above Pillow's own limit is a matter of --max-voxels only."""
    path = put(tmp_path / "a.png", raw_png(10000, 9600, 1, 0, [bytes(1250)] * 9600))
    assert refusal(path, max_voxels=10**6).code == "read.size"
    assert read(path).shape == (9600, 10000)


def test_colours(tmp_path):
    """packed, voc and a table turn colours into labels; an unknown colour is named with its count."""
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0, 0] = (128, 0, 0)
    rgb[1, 2] = (192, 128, 128)
    path = put(tmp_path / "a.png", png(rgb))
    np.testing.assert_array_equal(read(path, colors="voc").array, [[1, 0, 0], [0, 0, 15]])
    np.testing.assert_array_equal(read(path, colors="packed").array, [[128, 0, 0], [0, 0, 192 + 128 * 257 * 256]])
    table = put(tmp_path / "t.csv", b"label,r,g,b,name\n# comment\n0,0,0,0,background\n7,128,0,0,\n300,192,128,128,x\n")
    mask = read(path, colors=str(table))
    assert mask.array.dtype == np.uint16
    np.testing.assert_array_equal(mask.array, [[7, 0, 0], [0, 0, 300]])
    error = refusal(path, colors=str(put(tmp_path / "t.csv", b"0,128,0,0\n1,192,128,128")))
    assert "rgb(0, 0, 0) (4 pixels)" in error.message
    grey = put(tmp_path / "g.png", png(MAP))
    np.testing.assert_array_equal(read(grey, colors="packed").array, MAP)
    mask = read(grey, colors="voc")  # its values are labels already
    np.testing.assert_array_equal(mask.array, MAP)
    assert "not used" in mask.notes[0].text
    error = refusal(put(tmp_path / "p.png", png(MAP, "P")), colors="voc")  # its colours are none of VOC's
    assert "not in --colors voc" in error.message
    mask = read(put(tmp_path / "a.nii", nifti_bytes(labels())), colors="voc")
    assert "--colors is for images" in texts(mask, "note")


@pytest.mark.parametrize(
    "table",
    [b"", b"label,r,g,b\n", b"1,2,3\n", b"0,0,0,256\n", b"0,0,0,0\nx,1,1,1\n", b"0,1,1,1\n1,1,1,1\n", b"\xff\xfe",
              b"9" * 20 + b",1,1,1", b"\0" * 9, b'"' + b"1" * 200000]
)  # fmt: skip
def test_colour_tables_that_cannot_be(tmp_path, table):
    """A colour table with a wrong line is refused with the line, whatever it holds."""
    path = put(tmp_path / "a.png", png(np.dstack([MAP] * 3)))
    for file in (put(tmp_path / "t.csv", table), tmp_path / "absent.csv"):
        with pytest.raises(InputError, match="--colors") as caught:
            read(path, colors=str(file))
        assert caught.value.code.startswith("colors.")
        assert "\n" not in caught.value.message


@FUZZ
@given(changes=st.lists(st.tuples(st.integers(8, 400), st.integers(0, 255)), min_size=1, max_size=6), fix=st.booleans())
def test_any_png(tmp_path, changes, fix):
    """Whatever the bytes of an image, its checksums right or wrong: a mask or a refusal."""
    data = bytearray(png(np.dstack([labels((9, 9))] * 3)))
    for place, value in changes:
        data[place % len(data)] = value
    if fix:
        start = 8
        while start + 12 <= len(data):
            length = int.from_bytes(data[start : start + 4], "big")
            if start + 12 + length > len(data):
                break
            crc = zlib.crc32(data[start + 4 : start + 8 + length])
            data[start + 8 + length : start + 12 + length] = crc.to_bytes(4, "big")
            start += 12 + length
    check_survival(put(tmp_path / "a.png", bytes(data)))


# NPY and NPZ -------------------------------------------------------------------------------------------------------


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    """Return an NPY file in memory."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def npy_head(text: str, data: bytes = bytes(64), major: int = 1) -> bytes:
    """Return an NPY file with any header text."""
    raw = text.encode("latin-1")
    return b"\x93NUMPY" + bytes((major, 0)) + len(raw).to_bytes(2 if major == 1 else 4, "little") + raw + data


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "<i8", "<f2", ">f8", "<f4"])
def test_npy(tmp_path, version, order, dtype):
    """Every version, order and type is read; numbers come out native."""
    data = np.asarray(labels() > 0, dtype, order=order)
    path = put(tmp_path / "a.npy", npy(data, version))
    mask = read(path, sha256=True)
    assert (mask.kind, mask.format, mask.affine, mask.spacing) == ("labels", "NPY", None, None)
    assert mask.array.dtype.isnative
    assert mask.array.dtype.kind in "iu"
    np.testing.assert_array_equal(mask.array, data)
    assert mask.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (npy(labels().astype("c8")), "read.dtype"),
        (npy(np.array(["a", "b"])), "read.dtype"),
        (npy(np.zeros(3, [("a", "u1"), ("b", "f4")])), "read.dtype"),
        (npy(np.array(["2020-01-01"], "M8[D]")), "read.dtype"),
        (npy(np.array([None, {}], object)), "read.dtype"),
        (npy(np.zeros((0, 20), "u1")), "read.shape"),
        (npy(np.zeros((), "u1")), "read.shape"),
        (npy(labels())[:-1], "read.truncated"),
        (npy(labels())[:9], "read.truncated"),
        (npy(labels())[:40], "read.truncated"),
        (npy_head("{'descr': '<f8', 'fortran_order': False, 'shape': (6250, 1000, 1000)}"), "read.truncated"),
        (npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"), "read.truncated"),
        (npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 20)}"), "read.shape"),
        (npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 2.0)}"), "read.shape"),
        (npy_head("{'descr': '|u1', 'fortran_order': 1, 'shape': (2,)}"), "read.header"),
        (npy_head("{'descr': '|u1', 'shape': (2,)}"), "read.header"),
        (npy_head("{'descr': 'nonsense', 'fortran_order': False, 'shape': (2,)}"), "read.header"),
        (npy_head("{'descr': '|S0', 'fortran_order': False, 'shape': (2,)}"), "read.dtype"),
        (npy_head("__import__('os').getcwd()"), "read.header"),
        (npy_head("(" * 5000), "read.header"),
        (npy_head("\\d" * 9), "read.header"),
        (npy_head(" " * 30000), "read.header"),
        (npy_head("x", major=9), "read.header"),
        (npy_head("\xff", major=3), "read.header"),
        (npy_head("x" * 9, major=2)[:8] + b"\xff" * 4, "read.header"),
    ],
)
def test_npy_refusals(tmp_path, data, code):
    """Types, shapes, headers and lengths that cannot be are refused from the header; nothing is executed."""
    assert refusal(put(tmp_path / "a.npy", data)).code == code


def test_npy_tail_and_python_2(tmp_path):
    """Bytes after the data are said; a header from Python 2 is understood."""
    assert "3 bytes after" in texts(read(put(tmp_path / "a.npy", npy(labels()) + b"abc")))
    old = npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (8L, 8L), }", bytes(64))
    assert read(put(tmp_path / "a.npy", old)).shape == (8, 8)


def test_npz(tmp_path):
    """One array is read by itself, one of several by its key; a file with a colon in its name wins."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mask=labels())
    mask = read(path, sha256=True)
    assert (mask.format, mask.header["key"]) == ("NPZ", "mask")
    np.testing.assert_array_equal(mask.array, labels())
    assert mask.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    np.savez(path, a=labels(), b=labels() + 1)
    error = refusal(path)
    assert "(a, b)" in error.message
    assert error.hint == f"name one: {path}:a"
    np.testing.assert_array_equal(read(f"{path}:b").array, labels() + 1)
    np.testing.assert_array_equal(read(f"{path}:b.npy").array, labels() + 1)
    assert refusal(f"{path}:c").code == "read.npz"
    assert refusal(f"{put(tmp_path / 'x.npz', npy(labels()))}:c").code == "read.npz"
    assert "content is NPY" in texts(read(tmp_path / "x.npz"))
    if os.name == "posix":
        np.testing.assert_array_equal(read(put(tmp_path / "b.npz:k", npy(labels()))).array, labels())


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP file in memory."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as zipped:
        warnings.simplefilter("ignore")
        for name, data in members:
            zipped.writestr(name, data)
    return file.getvalue()


def test_npz_refusals(tmp_path):
    """Archives that are empty, doubled, encrypted, cut, corrupt, oddly packed or bombs are refused."""
    good = archive(("a.npy", npy(labels((30, 30)))))
    locked = bytearray(good)
    locked[6] |= 1
    locked[good.index(b"PK\x01\x02") + 8] |= 1
    corrupt = bytearray(archive(("a.npy", npy(labels((30, 30)))), method=zipfile.ZIP_STORED))
    corrupt[500] ^= 1
    lying = bytearray(good)
    at = good.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = (2**31).to_bytes(4, "little")
    short = archive(("a.npy", npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (99999, 99999)}")))
    cases = {
        "read.npz": [archive(("readme.txt", b"x")), archive(), archive(("a.npy", npy(MAP)), ("a.npy", npy(MAP))),
                     bytes(locked), archive(("a.npy", npy(MAP)), method=zipfile.ZIP_BZIP2)],
        "read.corrupt": [bytes(corrupt), good[:-30], good[:60]],
        "read.size": [bytes(lying)],
        "read.truncated": [short],
        "read.dtype": [archive(("a.npy", npy(np.array([None], object))))],
        "read.magic": [archive(("a.npy", b"not an array"))],
    }  # fmt: skip
    for code, files in cases.items():
        for data in files:
            assert refusal(put(tmp_path / "a.npz", data)).code == code
    bomb = archive(("a.npy", npy(np.zeros((3000, 3000), np.uint8))))
    assert refusal(put(tmp_path / "a.npz", bomb), max_voxels=10**6).code == "read.size"


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6), zipped=st.booleans()
)
def test_any_npy_or_npz(tmp_path, changes, zipped):
    """Whatever the bytes of an array file: a mask or a refusal."""
    data = bytearray(archive(("a.npy", npy(labels()))) if zipped else npy(labels()))
    for place, value in changes:
        data[place % len(data)] = value
    check_survival(put(tmp_path / "a.npy", bytes(data)))


# What the numbers are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "options", "kind", "dtype"),
    [
        (np.array([0, 1, 2**40]), {}, "labels", "int64"),
        (np.array([True, False]), {}, "labels", "uint8"),
        (np.array([-1, 0], "i2"), {}, "labels", "int16"),
        (np.array([0.0, 1, 200]), {}, "labels", "uint8"),
        (np.array([-1.0, 0, 127]), {}, "labels", "int8"),
        (np.array([0.0, 256], "f4"), {}, "labels", "uint16"),
        (np.array([0.0, 2**40]), {}, "labels", "int64"),
        (np.array([0, 0.5, 1], "f2"), {}, "probability", "float32"),
        (np.array([0, 0.5, 1], "f8"), {}, "probability", "float64"),
        (np.array([0, 0.5, 1], "longdouble"), {}, "probability", "float64"),
        (np.array([0.0, 1], "f4"), {"kind": "probability"}, "probability", "float32"),
        (np.array([0, 1], "u1"), {"kind": "probability"}, "probability", "float32"),
        (np.array([0, 1], "i8"), {"kind": "probability"}, "probability", "float64"),
        (np.array([-9.5, 7.25], "f4"), {"kind": "logits"}, "logits", "float32"),
        (np.array([-9, 7], "i2"), {"kind": "logits"}, "logits", "float32"),
        (np.arange(256, dtype="u1"), {"kind": "labels"}, "labels", "uint8"),
        (np.arange(256, dtype="u1"), {"prob_scale": 255}, "probability", "float64"),
        (np.array([0, 50.5, 100]), {"prob_scale": 100}, "probability", "float64"),
        (np.arange(300, dtype="u2"), {}, "labels", "uint16"),
        (np.arange(150, dtype="u1"), {}, "labels", "uint8"),
    ],
)
def test_kinds(values, options, kind, dtype):
    """Integers and whole floats are labels, fractions in [0, 1] probabilities, the rest as told."""
    mask = from_array(values, name="x", **options)
    assert (mask.kind, mask.array.dtype) == (kind, np.dtype(dtype))
    scale = options.get("prob_scale", 1)
    np.testing.assert_allclose(mask.array, values.astype(float) / scale, rtol=1e-15 if scale == 1 else 1e-12)


@pytest.mark.parametrize(
    ("values", "options", "code", "says"),
    [
        ([0, np.nan, np.inf, np.nan], {}, "kind.nan", "2 NaN and 1 infinite of 4 voxels, first at index (1)"),
        ([0, np.nan], {"kind": "logits"}, "kind.nan", "1 NaN of 2"),
        ([0, -np.inf], {"kind": "labels"}, "kind.nan", "1 infinite of 2"),
        ([0.5, 1.3], {}, "kind.range", "1 of 2 values outside [0, 1] (smallest 0.5, largest 1.3)"),
        ([0.5, -3], {}, "kind.range", "smallest -3"),
        ([0.5, 2], {"kind": "probability"}, "kind.range", "kind is probability"),
        ([0, 2], {"kind": "probability"}, "kind.range", "1 of 2 values"),
        ([0.0, 2.0], {"kind": "probability"}, "kind.range", "1 of 2 values"),
        ([0.0, 0.25], {"kind": "labels"}, "kind.fraction", "first 0.25 at index (1)"),
        ([0, 256], {"prob_scale": 255}, "kind.scale", "after dividing by 255"),
        ([-1, 255], {"prob_scale": 255}, "kind.scale", "after dividing by 255"),
        ([0.0, 1e300], {}, "kind.range", "do not fit 64 bits"),
        (np.arange(151, dtype=np.uint8), {}, "kind.levels", "151 distinct values"),
        (np.ma.masked_array([1, 2], [True, False]), {}, "read.dtype", "masked array"),
        ([[1, 2], [3]], {}, "read.dtype", "not an array"),
        (None, {}, "read.dtype", "NoneType"),
        ("text", {}, "read.dtype", "text"),
        ([], {}, "read.shape", "no voxels"),
        (np.zeros(9), {"max_voxels": 8}, "read.size", "9 voxels"),
    ],
)
def test_kinds_that_cannot_be(values, options, code, says):
    """What is neither is refused with its number, its place and the next step."""
    with pytest.raises(InputError) as caught:
        from_array(values, name="x", **options)
    assert caught.value.code == code
    assert says in caught.value.message
    assert caught.value.hint


def test_logits_hint():
    """Numbers that look like logits name the option for them."""
    with pytest.raises(InputError) as caught:
        from_array(np.array([-3.5, 4.0]), name="x")
    assert "--from-logits" in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [{"kind": "mask"}, {"prob_scale": 0}, {"prob_scale": np.nan}, {"prob_scale": 255, "kind": "labels"},
     {"max_voxels": 0}, {"spacing": (1, 1, 1)}, {"spacing": (0,)}, {"spacing": (np.nan,)}],
)  # fmt: skip
def test_options_that_cannot_be(options):
    """Impossible options are usage errors."""
    with pytest.raises(UsageError):
        from_array(np.arange(3), name="x", **options)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(1, 9))
def test_distinct_values_are_counted(values, times):
    """The quick count of 8-bit values is numpy's, wherever it decides."""
    from segcli.masks.arrays import MOST_GREYS, distinct_bytes

    array = np.repeat(np.array(values, np.uint8), times)
    want = len(np.unique(array))
    assert distinct_bytes(array) == want if array.max() >= MOST_GREYS else distinct_bytes(array) >= want


def test_arrays_are_not_copied():
    """Integer labels in memory are taken as they are, in any order."""
    data = np.asfortranarray(labels())
    assert np.shares_memory(from_array(data, name="x").array, data)
    assert from_array(data, name="x", spacing=(1, 2, 3)).spacing == (1.0, 2.0, 3.0)


# Files of any sort -------------------------------------------------------------------------------------------------


def test_what_is_not_a_mask_file(tmp_path, monkeypatch):
    """Missing, empty, foreign and special files are each refused with the next step."""
    monkeypatch.chdir(tmp_path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    assert "git lfs pull" in refusal(put(Path("a.nii.gz"), pointer)).hint
    assert refusal("absent.nii").code == "read.missing"
    assert refusal("").code == "read.missing"
    assert refusal("a\0b").code == "read.missing"
    assert refusal("x" * 5000).code == "read.io"
    assert refusal(put(Path("z.nii"), b"")).code == "read.empty"
    assert refusal(".").code == "read.directory"
    assert "a folder" in refusal(".").message
    assert refusal(put(Path("t.nii.gz"), b"this is not an image")).code == "read.magic"
    assert refusal(put(Path("t.nii.gz"), gzip.compress(b"hello"))).code == "read.magic"
    assert refusal(put(Path("t.png"), b"\0" * 60)).code == "read.magic"
    assert refusal(put(Path("t.xyz"), b"\0" * 60)).code == "read.suffix"
    for suffix, tool in (
        (".mha", "SimpleITK"),
        (".nrrd", "SimpleITK"),
        (".tiff", "PIL"),
        (".dcm", "dcmqi"),
        (".mgz", "mri"),
    ):
        error = refusal(put(Path("t" + suffix), b"\0" * 60))
        assert tool in error.hint
        assert ".nii.gz" in error.message
    error = refusal(put(Path("t.tiff"), gzip.compress(nifti_bytes(labels()))))
    assert "suffix of what it is" in error.hint
    assert refusal(put(Path("t.bin"), b"NRRD0004\n")).code == "read.magic"
    assert "content is PNG" in texts(read(put(Path("t.nii"), png(MAP))))


@pytest.mark.skipif(os.name != "posix", reason="pipes, links and permissions are POSIX here")
def test_special_files(tmp_path):
    """A pipe is refused without waiting on it; so are devices, dead links and odd names."""
    os.mkfifo(tmp_path / "pipe.nii")
    assert refusal(tmp_path / "pipe.nii").code == "read.special"
    assert refusal("/dev/zero").code == "read.special"
    (tmp_path / "dead.nii").symlink_to("nowhere")
    assert "link" in refusal(tmp_path / "dead.nii").hint
    (tmp_path / "loop.nii").symlink_to("loop.nii")
    refusal(tmp_path / "loop.nii")
    assert "\\n" in refusal(tmp_path / "two\nlines\x1b[31m.nii").message
    np.testing.assert_array_equal(read(os.fsencode(put(tmp_path / "ü.nii", nifti_bytes(labels())))).array, labels())


def test_permission_is_reported(tmp_path, monkeypatch):
    """A refusal of the system is passed on as one line, also where the tests run as root."""

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "denied")

    path = put(tmp_path / "a.nii", nifti_bytes(labels()))
    monkeypatch.setattr(Path, "open", deny)
    assert refusal(path).code == "read.permission"


def test_room(monkeypatch):
    """Half of the memory that is left, or a fixed number of voxels where the system does not tell."""
    monkeypatch.setattr(source, "memory_available", lambda: 1000)
    assert Room().check("x", (5, 5, 5), 4) == 500
    with pytest.raises(InputError, match="501 bytes"):
        Room().check("x", (501,), 1)
    monkeypatch.setattr(source, "memory_available", lambda: None)
    assert Room().check("x", (2**31,), 8) == 2**34
    with pytest.raises(InputError, match="2147483648 voxels"):
        Room().check("x", (2**31 + 1,), 1)
    with pytest.raises(InputError, match="--max-voxels 4"):
        Room(4).check("x", (5,), 1)


def test_memory_is_known():
    """On this system the available memory is a sensible number."""
    found = source.memory_available()
    assert found is None or found > 1 << 20


def test_out_of_memory_is_one_line(tmp_path, monkeypatch):
    """An allocation that fails all the same is a refusal."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    path = put(tmp_path / "a.npy", npy(labels()))
    monkeypatch.setattr(np, "empty", fail)
    assert refusal(path).code == "read.size"


def test_import_is_cheap():
    """Importing the readers loads none of the heavy packages."""
    code = "import sys, segcli.masks.readers; print({'numpy', 'nibabel', 'PIL', 'isal'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def cases() -> list[dict]:
    """Return the shared hostile files, when they are here."""
    index = SHARED / "nasty" / "index.json"
    return json.loads(index.read_text("utf-8"))["cases"] if index.is_file() else []


#: Files that are sound by themselves; the index speaks of the pair.
PAIR_LEVEL = {
    "transposed.npy", "affine_flipped.nii.gz", "same_grid_stored_PIL.nii.gz", "origin_shift.nii.gz",
    "spacing_differs.nii.gz", "channels4d.nii.gz", "pred_1hw.npy", "onehot_hwc.npy", "ignore_minus1.npy",
}  # fmt: skip
#: "... or error": what segcli does with each.
DECIDED_ERRORS = {
    "prob_gt1.nii.gz", "logits.npy", "prob_0_255_uint8.npy", "pred_jpeg_named.png", "pred.jpg", "pred_apng.png",
    "longheader.npy", "trailing_1GB.nii.gz",
}  # fmt: skip


@pytest.mark.skipif(not cases(), reason=f"no shared hostile files at {SHARED / 'nasty'} (set SEGCLI_SHARED)")
@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case['pred']}-{case['gt']}")
def test_shared_hostile_files(case):
    """Every hostile file is read or refused as the index says, warnings included."""
    path = SHARED / "nasty" / case["pred"]
    expect, name = case["expect"], case["pred"]
    if name in DECIDED_ERRORS or (expect == "error" and name not in PAIR_LEVEL):
        refusal(path)
        return
    mask = read(path, sha256=True)
    assert mask.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() or path.suffix in {".hdr", ".img"}
    if name in {
        "qform_sform_conflict.nii.gz",
        "units_micron.nii.gz",
        "pred_exif_rot.png",
        "analyze.img",
        "scl_slope2.nii.gz",
    }:
        assert texts(mask)
    if case["dice"] is not None and mask.kind == "labels" and not name.startswith("prob"):
        truth = read(SHARED / "nasty" / case["gt"]).array > 0
        if truth.shape == mask.shape:
            dice = 2 * np.sum(truth & (mask.array > 0)) / max(np.sum(truth) + np.sum(mask.array > 0), 1)
            assert dice == pytest.approx(case["dice"], abs=1e-6)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no shared data at {SHARED / 'data'} (set SEGCLI_SHARED)")
def test_shared_real_files_like_nibabel():
    """Every real NIfTI file gives nibabel's numbers, spacing and affine."""
    for path in sorted((SHARED / "data").glob("*/*.nii.gz")):
        image = nib.load(path)
        mask = read(path, kind="labels" if "prob_map" in path.name else None)
        np.testing.assert_allclose(mask.array, np.squeeze(np.asarray(image.dataobj)), atol=1e-7, err_msg=path.name)
        np.testing.assert_allclose(mask.affine, image.affine, rtol=1e-6)
        np.testing.assert_allclose(mask.spacing, image.header.get_zooms()[:3], rtol=1e-5)
