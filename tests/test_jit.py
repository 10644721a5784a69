"""Where compiled kernels are kept: filled once, shared by processes, never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segcli.kernels import _jit

KERNELS = Path(_jit.__file__).parent


def run_python(code, **environment):
    """Run code in a fresh interpreter with these environment variables."""
    path = str(KERNELS.parent.parent)
    known = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**known, "PYTHONPATH": path, **environment},
        capture_output=True,
        check=False,
        text=True,
    )


WARM = "from segcli.kernels import _jit, contingency; cold = _jit.is_cold(); contingency.warm(); "


def test_cache_is_filled_once_and_shared(tmp_path):
    """The first process compiles, the second finds the kernels; many at once do not disturb each other."""
    code = WARM + "print(cold, _jit.is_cold(), sum(contingency._count.stats.cache_hits.values()))"
    assert run_python(code, SEGCLI_CACHE_DIR=str(tmp_path)).stdout.split() == ["True", "False", "0"]
    assert run_python(code, SEGCLI_CACHE_DIR=str(tmp_path)).stdout.split() == ["False", "False", "2"]
    fresh = {
        "SEGCLI_CACHE_DIR": str(tmp_path / "crowd"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(KERNELS.parent.parent),
    }
    crowd = [subprocess.Popen([sys.executable, "-c", WARM], env=fresh) for _ in range(3)]
    assert [process.wait() for process in crowd] == [0, 0, 0]
    assert run_python(code, SEGCLI_CACHE_DIR=str(tmp_path / "crowd")).stdout.split()[:2] == ["False", "False"]


def test_no_writable_place_costs_only_the_cache(tmp_path):
    """With no folder to write to, the temporary one included, kernels still import and run."""
    blocked = tmp_path / "file"
    blocked.touch()
    code = f"import tempfile; tempfile.tempdir = {str(blocked)!r}; " + WARM + "print(_jit.cache_directory())"
    places = {name: str(blocked) for name in ("SEGCLI_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA")}
    done = run_python(code, **places)
    assert done.stdout.strip() == "None", done.stderr


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="one temporary directory per user there")
def test_private_temporary_folder_must_be_ours_alone(tmp_path, monkeypatch):
    """A folder others may write to, or a link, is not used: what is loaded from the cache is run."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"segcli-{os.getuid()}"
    assert list(_jit._private_temporary()) == [folder]
    folder.chmod(0o777)
    assert list(_jit._private_temporary()) == []
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert list(_jit._private_temporary()) == []


def test_kernels_run_without_the_compiler():
    """NUMBA_DISABLE_JIT leaves plain Python with the same results, so that coverage sees the kernels."""
    code = (
        "import numpy as np\n"
        "from segcli.kernels import _jit, contingency, surface, nearest, distance_transform\n"
        "assert not _jit.is_cold()\n"
        "for module in (contingency, surface, nearest, distance_transform): module.warm()\n"
        "m = np.zeros((3, 4, 5), np.uint8); m[1, 1:3, 1:4] = 1\n"
        "o, p, w = surface.surface_elements(m, np.array([0, 1], np.int32), 1, (1, 1, 1), 'surfel')\n"
        "print(len(p), round(w.sum(), 6), nearest.nearest_distances(p, p, (1, 1, 1))[0].max())\n"
    )
    plain = run_python(code, NUMBA_DISABLE_JIT="1")
    assert plain.returncode == 0, plain.stderr
    compiled = run_python(code.replace("assert not _jit.is_cold()", ""))
    assert plain.stdout == compiled.stdout != ""


def test_compile_all_reaches_every_module():
    """Every module that defines kernels can be warmed."""
    with_kernels = [path for path in KERNELS.glob("[a-z]*.py") if "@kernel()" in path.read_text()]
    assert _jit.compile_all() == len(with_kernels)
