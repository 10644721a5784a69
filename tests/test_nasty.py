"""Hostile and odd inputs through the command line: each behaves as its written rule says."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import SHARED, needs_shared
from PIL import Image

NASTY = SHARED / "nasty"
CASES = json.loads((NASTY / "index.json").read_text())["cases"] if (NASTY / "index.json").exists() else []

NASTY2 = SHARED / "nasty2"
ODD = json.loads((NASTY2 / "index.json").read_text())["cases"] if (NASTY2 / "index.json").exists() else []

#: What an option makes of a case that needs one (rule "option"), with the Dice it then has.
OPTIONS = {
    "logits.npy": (["--from-logits"], 0.751916),
    "prob_0_255_uint8.npy": (["--prob-scale", "255"], None),
    "ignore_minus1.npy": (["--ignore-label", "255"], None),
    "channels4d.nii.gz": (["--normalize"], None),
    "onehot_hwc.npy": (["--channel-axis", "-1"], 0.834483),
    "pred_1hw.npy": (["--squeeze"], 0.834483),
    "affine_flipped.nii.gz": (["--on-geometry", "reorient"], 0.907426),
    "same_grid_stored_PIL.nii.gz": (["--on-geometry", "reorient"], 0.818922),
}
#: Address space of a call, in bytes: numba and numpy map some 3 GB; a header that claims 50 GB does not fit.
LIMIT = 12 << 30


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run segcli within bounded time and memory."""
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),
    )  # fmt: skip


@needs_shared("nasty", "index.json")
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['pred']}-{c['gt']}")
def test_a_hostile_file_behaves_as_its_rule_says(case: dict[str, object]) -> None:
    """An unusable file is one error line and exit 3; a usable one has its Dice, with a warning where one is due."""
    expect = str(case["expect"]).split("-or-") if case["expect"] != "ok-policy" else ["ok"]
    done = call("score", NASTY / str(case["pred"]), NASTY / str(case["gt"]), "-f", "json", "--no-progress")
    assert "Traceback" not in done.stderr
    outcomes = {
        word for e in expect for word in ([e] if e in ("reorient", "option") else e.replace("ok-with-", "").split("-"))
    }
    if done.returncode:
        assert outcomes & {"error", "option", "reorient"}, done.stderr
        assert done.returncode == 3
        assert done.stdout == ""
        assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    else:
        # Where an option is due, scoring is right only with the assumption stated.
        stated = "option" in outcomes and ("note: label" in done.stderr or "channels on axis" in done.stderr)
        assert stated or outcomes & {"ok", "warn", "note", "threshold"}, f"scored, though the rule is {case['expect']}"
        document = json.loads(done.stdout, parse_constant=pytest.fail)
        dice = document["cases"][0]["values"][1]["value"]
        if case["dice"] is not None:
            assert dice == pytest.approx(case["dice"], abs=1e-6)
        if "ok" not in outcomes and outcomes & {"warn", "note"}:
            assert "warning: " in done.stderr or "note: " in done.stderr
        if case["expect"] in ("warn", "ok-with-warn", "warn-or-error"):
            assert "warning: " in done.stderr
            strict = call("score", NASTY / str(case["pred"]), NASTY / str(case["gt"]), "--strict")
            assert strict.returncode == 3


@needs_shared("nasty2", "index.json")
@pytest.mark.parametrize("case", ODD, ids=lambda c: f"{c['pred']}-{c['gt']}")
def test_an_odd_file_behaves_as_its_rule_says(case: dict[str, object]) -> None:
    """As above for headers, channels and archives that contradict themselves: nothing is guessed in silence."""
    expect = set(str(case["expect"]).split("-or-"))
    files = [NASTY2 / str(case[side]) for side in ("pred", "gt")]
    options = ["-m", "dice,hd95", "-f", "json", *case.get("args", [])]
    done = call("score", *files, *options, "--no-progress")
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 3
        assert "error" in expect, done.stderr
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert [sum(line.startswith(word) for line in lines) for word in ("error: ", "hint: ")] == [1, 1]
        return
    assert expect & {"ok", "warn"}, f"scored, though the rule is {case['expect']}"
    values = json.loads(done.stdout, parse_constant=pytest.fail)["cases"][0]["values"]
    for measure in ("dice", "hd95"):
        if case.get(measure) is not None:  # of one label
            found = [v["value"] for v in values if v["measure"].split(":")[0] == measure]
            assert pytest.approx(case[measure], abs=1e-6) in found
    if "ok" not in expect:
        assert "warning: " in done.stderr


@needs_shared("nasty", "index.json")
@pytest.mark.parametrize("name", OPTIONS)
def test_the_option_that_an_input_needs_makes_it_usable(name: str) -> None:
    """What is refused as it lies is scored once the caller says what it is."""
    options, dice = OPTIONS[name]
    gt = next(str(c["gt"]) for c in CASES if c["pred"] == name)
    done = call("score", NASTY / name, NASTY / gt, "-m", "dice", "-f", "json", *options)
    assert done.returncode == 0, done.stderr
    if dice is not None:
        assert json.loads(done.stdout)["cases"][0]["values"][0]["value"] == pytest.approx(dice, abs=1e-6)


@needs_shared("nasty", "index.json")
def test_the_same_grid_in_another_orientation_scores_the_same() -> None:
    """After reorienting, every metric equals that of the file stored the usual way, spacing included."""
    values = []
    for name in ("pred.nii.gz", "same_grid_stored_PIL.nii.gz"):
        done = call("score", NASTY / name, NASTY / "gt.nii.gz", "-m", "all", "-f", "csv", "--on-geometry", "reorient")
        values.append([line.split(",", 1)[1] for line in done.stdout.splitlines()[1:]])
    assert values[0] == values[1]


@needs_shared("nasty", "index.json")
@pytest.mark.parametrize(
    "name", ["dims_27TB.nii.gz", "hugeshape_50GB.npy", "trailing_1GB.nii.gz", "text_bomb.png", "overflowshape.npy"]
)
def test_a_bomb_costs_little(name: str) -> None:
    """A header that claims more than there is, or a stream that swells, is told in seconds and in 300 MB."""
    gt = next(str(c["gt"]) for c in CASES if c["pred"] == name)
    done, peak = measured("score", NASTY / name, NASTY / gt, "-m", "dice")
    assert done.returncode in (0, 3)
    assert peak < 300 * 1024


def measured(*arguments: object) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run segcli; return what it did and its peak of memory in kB (0 where the system does not tell)."""
    # VmHWM, not ru_maxrss: the latter starts at what the forking parent had.
    code = (
        "import pathlib, sys; from segcli.cli.main import run; code = run(sys.argv[1:]); "
        "status = pathlib.Path('/proc/self/status'); text = status.read_text() if status.exists() else ''; "
        "print(*[line.split()[1] for line in text.splitlines() if line.startswith('VmHWM')], file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    return done, int(done.stderr.splitlines()[-1] or 0)


@pytest.fixture(scope="module")
def swelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of sound files of some MB whose voxels take 2 GB, 400 MB and 512 MB, and of small ones."""
    folder = tmp_path_factory.mktemp("swelling")
    zeros = bytes(1 << 26)
    header = nibabel.Nifti1Header()
    header.set_data_shape((1024, 1024, 2048))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    members = [gzip.compress(header.binaryblock + bytes(4)), *[gzip.compress(zeros, 6)] * 32]
    (folder / "big.nii.gz").write_bytes(b"".join(members))
    side, deflate = 20_000, zlib.compressobj(1)
    rows = [deflate.compress(bytes(100 * (side + 1))) for _ in range(side // 100)]
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", b"".join([*rows, deflate.flush()])),
        (b"IEND", b""),
    )  # fmt: skip
    packed = [struct.pack(">I", len(d)) + w + d + struct.pack(">I", zlib.crc32(w + d)) for w, d in chunks]
    (folder / "big.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    lead = io.BytesIO()
    np.lib.format.write_array_header_1_0(lead, {"descr": "|u1", "fortran_order": False, "shape": (512, 1024, 1024)})
    with zipfile.ZipFile(folder / "big.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("mask.npy", lead.getvalue() + zeros * 8)
    volume = np.pad(np.ones((3, 3, 3), np.uint8), 3)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "small.nii.gz")
    np.savez(folder / "small.npz", mask=volume)
    Image.fromarray(volume[4]).save(folder / "small.png")
    (folder / "broken.nii.gz").write_bytes(b"no header at all")
    return folder


@pytest.mark.parametrize("ending", ["nii.gz", "png", "npz"])
@pytest.mark.parametrize("where", ["pred", "gt", "roi", "missing", "broken"])
def test_headers_decide_before_a_voxel_is_unpacked(swelling: Path, ending: str, where: str) -> None:
    """What the header of any file of a pair tells is told before 2 GB of another are unpacked."""
    big, small = (swelling / f"{size}.{ending}" for size in ("big", "small"))
    arguments: dict[str, list[object]] = {
        "pred": [big, small], "gt": [small, big], "roi": [small, small, "--roi", big],
        "missing": [big, swelling / "nothing.png"], "broken": [big, swelling / "broken.nii.gz"],
    }  # fmt: skip
    done, peak = measured("score", *arguments[where], "-m", "dice")
    assert done.returncode == 3
    assert peak < 150 * 1024
    said = {"missing": "no such file", "broken": "not a NIfTI file"}.get(where, "shape ")
    assert said in done.stderr.splitlines()[0]


def test_headers_decide_in_a_cohort(swelling: Path, tmp_path: Path) -> None:
    """A case of a cohort that does not fit is an error row and costs no more than its headers."""
    for side, other in (("pred", "gt"), ("gt", "pred")):
        (tmp_path / side).mkdir()
        for ending in ("nii.gz", "png", "npz"):
            (tmp_path / side / f"{side}_less_{ending[:3]}.{ending}").symlink_to(swelling / f"small.{ending}")
            (tmp_path / side / f"{other}_less_{ending[:3]}.{ending}").symlink_to(swelling / f"big.{ending}")
    (tmp_path / "pred" / "fits.png").symlink_to(swelling / "small.png")
    (tmp_path / "gt" / "fits.png").symlink_to(swelling / "small.png")
    done, peak = measured("evaluate", tmp_path / "pred", tmp_path / "gt", "-m", "dice", "-j", 1)
    assert done.returncode == 4
    assert "1 scored, 6 errors" in done.stderr + done.stdout
    assert peak < 150 * 1024


def test_a_label_map_is_described_in_its_own_size(swelling: Path) -> None:
    """Counting the values of a label map takes no copy of it."""
    done, peak = measured("describe", swelling / "big.npz", "-f", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["files"][0]["labels"] == [
        {"label": 0, "voxels": 1 << 29, "share": 1.0, "volume": None}
    ]
    assert peak < 700 * 1024


def test_a_hole_after_a_gzip_stream_is_refused(tmp_path: Path) -> None:
    """Zeros after the last member are padding; a terabyte of them is refused before it is read."""
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    done, _ = measured("score", path, path, "-m", "dice")
    assert done.returncode == 3
    assert "1.1 TB follow the declared voxels" in done.stderr
