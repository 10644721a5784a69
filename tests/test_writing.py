"""Files that are written: whole or not at all, links alike in every command, and nothing that is no file replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cohorts import segcli

from segcli.errors import UsageError
from segcli.writing import write_whole

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:5, 2:5] = 1
PROB = (0.1 + 0.8 * SQUARE).astype(np.float32)
#: Calls that write a file of some kind at OUT.
CALLS = {
    "result": (("score", "p.npy", "g.npy", "-o", "OUT"), ".json"),
    "run": (("evaluate", "pred", "gt", "-m", "dice", "-j1", "-o", "OUT"), ".json"),
    "entropy": (("score", "p.npy", "g.npy", "--entropy-map", "OUT"), ".npy"),
    "map": (("inspect", "p.npy", "g.npy", "-l", "dice", "--map", "OUT"), ".npy"),
    "gradient": (("inspect", "p.npy", "g.npy", "-l", "dice", "--gradient", "OUT"), ".npy"),
    "picture": (("inspect", "p.npy", "g.npy", "-l", "dice", "--png", "OUT"), ".png"),
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name, array in (("p", PROB), ("g", SQUARE)):
        np.save(tmp_path / f"{name}.npy", array)
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "a.npy", SQUARE)
    return tmp_path


def call(here: Path, kind: str, name: str) -> tuple[int, str]:
    words, suffix = CALLS[kind]
    done = segcli("--isolated", *(f"{name}{suffix}" if word == "OUT" else word for word in words), cwd=here)
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", CALLS)
def test_a_link_is_followed_by_every_writer(here: Path, kind: str) -> None:
    """The link stays, the file that it points to is replaced; one to a new name makes that file."""
    suffix = CALLS[kind][1]
    (here / "kept").mkdir()
    old = here / "kept" / f"old{suffix}"
    old.write_bytes(b"old")
    for name in ("old", "new"):
        (here / f"to_{name}{suffix}").symlink_to(here / "kept" / f"{name}{suffix}")
        assert call(here, kind, f"to_{name}")[0] == 0
        assert (here / f"to_{name}{suffix}").is_symlink()
    assert old.read_bytes() != b"old"
    assert {p.name for p in (here / "kept").iterdir()} - {f"old{suffix}", f"new{suffix}"} == set()


@pytest.mark.parametrize("kind", CALLS)
def test_what_is_no_file_is_refused_before_anything_is_read(here: Path, kind: str) -> None:
    """A link in a circle, into a folder that is not there, to a device or a pipe; a folder."""
    suffix = CALLS[kind][1]
    (here / f"circle{suffix}").symlink_to(here / f"circle{suffix}")
    (here / f"nowhere{suffix}").symlink_to(here / "none" / f"x{suffix}")
    (here / f"folder{suffix}").mkdir()
    names = ["circle", "nowhere", "folder"]
    if os.name == "posix":
        os.mkfifo(here / f"pipe{suffix}")
        (here / f"device{suffix}").symlink_to("/dev/null")
        names += ["pipe", "device"]
    (here / "p.npy").write_bytes(b"is not read")
    for name in names:
        code, said = call(here, kind, name)
        assert code == 2, name
        assert f"{name}{suffix}" in said


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    """Half a text is never there, and the file from before stays."""
    target = tmp_path / "a.txt"
    target.write_text("before\n")

    def broken() -> object:
        yield "half"
        raise KeyError

    with pytest.raises(KeyError):
        write_whole(target, broken())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--map .*cannot be written"):
        write_whole(tmp_path / "none" / "b.npy", b"x", "--map")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "before\n"
