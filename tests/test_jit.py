"""Where compiled kernels are kept: filled once, shared by processes, never in the way."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest

from segcli import trust
from segcli.kernels import _cache, _jit

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
    elsewhere = {"XDG_CACHE_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}  # all places are read
    places = {"SEGCLI_CACHE_DIR": str(tmp_path / "cache"), **elsewhere}
    assert run_python(code, **places).stdout.split() == ["True", "False", "0"]
    assert run_python(code, **places).stdout.split() == ["False", "False", "2"]
    fresh = {
        **elsewhere,
        "SEGCLI_CACHE_DIR": str(tmp_path / "crowd"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(KERNELS.parent.parent),
    }
    crowd = [subprocess.Popen([sys.executable, "-c", WARM], env=fresh) for _ in range(3)]
    assert [process.wait() for process in crowd] == [0, 0, 0]
    crowded = elsewhere | {"SEGCLI_CACHE_DIR": str(tmp_path / "crowd")}
    assert run_python(code, **crowded).stdout.split()[:2] == ["False", "False"]


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


# What lies in a cache is run: it is verified first. --------------------------------------------------------------


def plus_one(x):
    return x + 1


def double(x):
    return x * 2


def dispatcher(function, folder, told):
    """Return a kernel that is kept in a folder, compiled or loaded at its first call."""
    compiled = numba.njit(function)
    compiled._cache = _cache.KernelCache(function, (folder,), folder, lambda: told.append(function.__name__))
    return compiled


def loads(function, folder):
    """Tell whether a kernel came out of the cache; what it returns is right in any case."""
    told = []
    assert dispatcher(function, folder, told)(20) == function(20)
    return not told


@pytest.fixture
def kept(tmp_path):
    """Return the file of a kernel that is in the cache."""
    assert not loads(plus_one, tmp_path)
    assert loads(plus_one, tmp_path)
    (path,) = tmp_path.glob("*.nbk")
    return path


DAMAGE = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "no mark": lambda data: b"x" + data[1:],
    "hash": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "first byte": lambda data: data[:48] + bytes([data[48] ^ 128]) + data[49:],
    "last byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a pickle": lambda _: pickle.dumps(print),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_set_aside_and_the_kernel_compiled(kept, kind, monkeypatch):
    """Not one byte of it is unpickled."""
    kept.write_bytes(DAMAGE[kind](kept.read_bytes()))
    with monkeypatch.context() as patched:
        patched.setattr(_cache.pickle, "loads", pytest.fail)
        assert not loads(plus_one, kept.parent)
    assert kept.with_suffix(".bad").exists()
    assert loads(plus_one, kept.parent)


def test_a_file_in_the_place_of_another_is_set_aside(kept):
    """Another kernel's code, whole and of ours, is still not this kernel's."""
    assert not loads(double, kept.parent)
    (other,) = (path for path in kept.parent.glob("*.nbk") if path != kept)
    shutil.copy(other, kept)
    assert not loads(plus_one, kept.parent)
    assert loads(plus_one, kept.parent)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_is_not_read(kept, kind):
    """A link could lead anywhere, and a pipe waits for ever."""
    elsewhere = kept.with_name("elsewhere")
    kept.replace(elsewhere)
    if kind == "link":
        kept.symlink_to(elsewhere)
    else:
        kept.mkdir() if kind == "folder" else os.mkfifo(kept)
    assert not loads(plus_one, kept.parent)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes say nothing there")
def test_a_file_that_others_could_write_is_not_read(kept):
    """Whatever its content says."""
    kept.chmod(0o666)
    assert not loads(plus_one, kept.parent)
    (fresh,) = kept.parent.glob("*.nbk")
    old = os.umask(0)
    try:
        fresh.unlink()
        assert not loads(plus_one, kept.parent)  # and what is written is not such a file
    finally:
        os.umask(old)
    assert loads(plus_one, kept.parent)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes say nothing there")
def test_folders_that_others_could_write_are_not_used(tmp_path, monkeypatch):
    """The folder and all above it count; one that is sticky is fine on the way."""
    top = tmp_path / "top"
    folder = top / "cache" / "segcli"
    folder.mkdir(parents=True)
    assert trust.distrust(folder) == ""
    assert trust.distrust(folder / "not" / "there") == ""
    top.chmod(0o777)
    assert "can be written by other users" in trust.distrust(folder)
    top.chmod(0o1777)
    assert trust.distrust(folder) == ""
    folder.chmod(0o1777)
    assert str(folder) in trust.distrust(folder)
    folder.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(top)
    top.chmod(0o777)
    assert "can be written by other users" in trust.distrust(link / "cache")
    monkeypatch.setenv("SEGCLI_CACHE_DIR", str(top))
    for function in (_jit.cache_directory, _jit.cache_directories):
        function.cache_clear()
    try:
        assert _jit.cache_directory() is None or top not in _jit.cache_directory().parents
        assert any(str(top) in why for why in _jit.distrusted())
    finally:
        monkeypatch.undo()
        for function in (_jit.cache_directory, _jit.cache_directories):
            function.cache_clear()


def test_a_group_of_one_member_is_fine(tmp_path):
    """Debian gives every user a group, and makes folders that it can write to."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o775)
    own = trust._is_private(os.getgid())
    assert (trust.distrust(tmp_path / "a") == "") == own


needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to act as another user",
)


@pytest.fixture
def public():
    """Return a folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_user(command, **environment):
    """Run a command as user 1000, who has no home."""
    known = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(KERNELS.parent.parent)}
    return subprocess.run(
        ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", *command],
        env={**known, "PYTHONDONTWRITEBYTECODE": "1", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def reachable_by_user():
    with contextlib.suppress(OSError):
        return as_user([sys.executable, "-c", "import segcli.kernels._jit, numba"]).returncode == 0
    return False


@needs_root
def test_a_cache_of_another_user_is_not_read(public):
    """Not by root either, who would run it."""
    assert not loads(plus_one, public)
    (path,) = public.glob("*.nbk")
    os.chown(path, 1000, 1000)
    assert not loads(plus_one, public)
    os.chown(public, 1000, 1000)
    assert "belongs to another user" in trust.distrust(public / "segcli")


@needs_root
def test_a_cache_that_root_has_warmed_is_used_by_others(public):
    """As in a container's image: read-only, of root, and nothing is compiled by user 1000."""
    if not reachable_by_user():
        pytest.skip("this Python cannot be reached by another user")
    np.save(public / "a.npy", np.eye(9, dtype=np.uint8))
    np.save(public / "b.npy", np.roll(np.eye(9, dtype=np.uint8), 1, axis=0))
    call = [
        sys.executable,
        "-m",
        "segcli",
        "--isolated",
        "score",
        str(public / "a.npy"),
        str(public / "b.npy"),
        "-m",
        "hd",
    ]
    warmed = {"SEGCLI_CACHE_DIR": str(public / "cache")}
    known = {**os.environ, "XDG_CACHE_HOME": str(public / "home"), "TMPDIR": str(public)}
    done = subprocess.run(call, env={**known, **warmed}, capture_output=True, text=True, check=True)
    assert "compiling kernels" in done.stderr
    for path in (public / "cache").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    own = public / "own"
    own.mkdir(mode=0o700)
    os.chown(own, 1000, 1000)
    done = as_user(call, TMPDIR=str(own), **warmed)
    assert done.returncode == 0, done.stderr
    assert "compiling" not in done.stderr
    done = as_user(call, TMPDIR=str(own))
    assert done.returncode == 0, done.stderr
    assert "compiling kernels" in done.stderr
