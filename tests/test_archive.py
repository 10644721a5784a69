"""A half-damaged NPZ: what is wrong with the array that is read is refused, all else in the archive is a warning."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cohorts import process, segcli

from segcli.errors import InputError
from segcli.masks.readers import look, read

MASK = np.eye(6, dtype=np.uint8)
OTHER = np.arange(30, dtype=np.uint8)


def npz(save: Callable[..., None] = np.savez) -> bytearray:
    """Return an archive of `a`, which is read, and `b`."""
    file = io.BytesIO()
    save(file, a=MASK, b=OTHER)
    return bytearray(file.getvalue())


def places(raw: bytes) -> tuple[int, int, int, int, int]:
    """Return where a's and b's local headers, their entries of the directory and the end record begin."""
    archive = zipfile.ZipFile(io.BytesIO(raw))
    a, b = (m.header_offset for m in archive.infolist())
    start = archive.start_dir
    return a, b, start, raw.index(b"PK\x01\x02", start + 4), len(raw) - 22


def of_members(*members: tuple[str, np.ndarray], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, array in members:
            own = io.BytesIO()
            np.save(own, array)
            archive.writestr(name, own.getvalue())
    return file.getvalue()


def changed(raw: bytearray, at: int, form: str, *values: int) -> bytes:
    struct.pack_into("<" + form, raw, at, *values)
    return bytes(raw)


def damaged() -> dict[str, tuple[bytes, str]]:
    """Return archives whose `a` is whole, with what is to be said of each."""
    _, b, _, entry, end = places(npz())
    data = b + 30 + 5 + 20 + 128 + 3
    return {
        "data": (changed(npz(), data, "B", 77), "b.npy has damaged data"),
        "signature": (changed(npz(), b, "B", 0), "b.npy has no local header"),
        "name": (changed(npz(), b + 30, "B", 99), "b.npy has another name in its local header"),
        "method": (changed(npz(), b + 8, "H", 8), "b.npy has another compression in its local header"),
        "checksum": (changed(npz(), b + 14, "I", 1), "b.npy has another checksum in its local header"),
        "size": (changed(npz(), b + 22, "I", 5), "b.npy has another size in its local header"),
        "extra": (changed(npz(), b + 37, "H", 999), "b.npy has another size in its local header"),
        "flags": (changed(npz(), entry + 8, "H", 1), "b.npy has other flags in its local header"),
        "checksum listed": (changed(npz(), entry + 16, "I", 1), "b.npy has another checksum in its local header"),
        "size listed": (changed(npz(), entry + 24, "I", 5), "b.npy has another size in its local header"),
        "encrypted": (
            changed(bytearray(changed(npz(), entry + 8, "H", 1)), b + 6, "H", 1),
            "b.npy is encrypted, its checksum cannot be compared",
        ),
        "bzip2": (
            changed(bytearray(changed(npz(), entry + 10, "H", 12)), b + 8, "H", 12),
            "b.npy has compression type 12, which is not read",
        ),
        "count": (changed(npz(), end + 8, "HH", 1, 1), "its end record speaks of 1 member, its directory of 2"),
        "disk": (changed(npz(), end + 4, "H", 1), "its end record speaks of several disks"),
        "appended": (bytes(npz()) + b"x" * 10, "10 bytes follow its end"),
        "comment": (changed(npz(), end + 20, "H", 9), "its comment is cut"),
        "twice": (of_members(("a.npy", MASK), ("b.npy", OTHER), ("b.npy", MASK)), "b.npy is there 2 times"),
    }


@pytest.mark.parametrize("name", damaged())
def test_damage_elsewhere_is_a_warning(tmp_path: Path, name: str) -> None:
    raw, text = damaged()[name]
    path = tmp_path / "m.npz"
    path.write_bytes(raw)
    found = read(f"{path}:a")
    np.testing.assert_array_equal(found.array, MASK)
    (note,) = found.notes
    assert (note.level, note.code) == ("warning", "read.archive")
    assert note.text == f"{path}:a: the archive is damaged beside this array: {text}"


def wanted() -> dict[str, bytes]:
    """Return archives whose `a` is damaged, or cannot be told."""
    a, _, entry, _, _ = places(npz())
    return {
        "data": changed(npz(), a + 30 + 5 + 20 + 128 + 3, "B", 77),
        "method": changed(npz(), a + 8, "H", 8),
        "checksum": changed(npz(), a + 14, "I", 1),
        "size": changed(npz(), a + 22, "I", 5),
        "flags": changed(npz(), entry + 8, "H", 2048),
        "end": bytes(npz()[:-22]),
        "twice": of_members(("a.npy", MASK), ("a.npy", OTHER)),
        "both names": of_members(("a.npy", MASK), ("a", OTHER)),
    }


@pytest.mark.parametrize("name", wanted())
def test_damage_of_the_array_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(wanted()[name])
    for ask in (read,) if name == "data" else (read, look):  # a look reads no data
        with pytest.raises(InputError) as refused:
            ask(f"{path}:a")
        assert refused.value.code in {"read.corrupt", "read.npz"}
        assert ".." not in refused.value.message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_byte_is_passed_over(tmp_path: Path, save: Callable[..., None]) -> None:
    """Every byte of the archive that says anything: never another array, never silence."""
    raw = npz(save)
    a, b, first, second, _ = places(raw)
    # What wrote it and when, on which disk, attributes; bits of the flags that no reader asks.
    silent = {at + i for at in (a, b) for i in (4, 5, 6, 7, 10, 11, 12, 13)}
    silent |= {at + i for at in (first, second) for i in (*range(4, 10), *range(12, 16), *range(34, 42))}
    # The block header of a deflate stream, and padding: the same bytes come out, with the same checksum.
    if save is np.savez_compressed:
        ends = (b, first)
        silent |= {start + 55 for start in (a, b)} | {end - i for end in ends for i in (1, 2)}
    path = tmp_path / "m.npz"
    for at in range(len(raw)):
        for flip in (0x01, 0xFF):
            twin = bytearray(raw)
            twin[at] ^= flip
            path.write_bytes(twin)
            try:
                found = read(f"{path}:a")
            except InputError:
                continue
            np.testing.assert_array_equal(found.array, MASK)
            assert at in silent or any(n.code == "read.archive" for n in found.notes), at
    for end in range(1, len(raw)):
        path.write_bytes(raw[:end])
        with pytest.raises(InputError):
            read(f"{path}:a")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_whole_has_no_warning(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "m.npz"

    class Pipe(io.RawIOBase):
        """A stream that cannot go back: sizes and checksums stand behind the data then."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    streamed = Pipe()
    save(streamed, a=MASK, b=OTHER)
    commented = io.BytesIO(bytes(npz(save)))
    with zipfile.ZipFile(commented, "a") as archive:
        archive.comment = b"of the second reader"
        archive.writestr("readme \u00fc.txt", "what this is")
    for raw in (bytes(npz(save)), streamed.data, commented.getvalue()):
        path.write_bytes(raw)
        assert not read(f"{path}:a").notes
        assert not look(f"{path}:a").notes
    at = streamed.data.rindex(b"PK\x07\x08")
    path.write_bytes(changed(bytearray(streamed.data), at + 4, "I", 1))
    (note,) = read(f"{path}:a").notes
    assert note.text.endswith("b.npy has another checksum or size behind its data")


def test_large_neighbours_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez_compressed(path, a=MASK, b=np.zeros(65 << 20, np.uint8))
    (note,) = read(f"{path}:a").notes
    assert (note.level, note.code) == ("note", "read.unverified")
    assert note.text.endswith("only this array of the archive was verified: the others are large")


@pytest.mark.parametrize("form", ["table", "csv", "json", "md"])
def test_every_output_says_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "m.npz").write_bytes(damaged()["checksum"][0])
    np.save(tmp_path / "gt.npy", MASK)
    done = process("score", "m.npz:a", "gt.npy", "-m", "dice", "-f", form, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout if form != "table" else done.stderr
    assert "damaged beside this array" in said.replace("\n", " ")


def test_a_cohort_counts_it(tmp_path: Path) -> None:
    lines = ["case,pred,gt"]
    for name in ("data", "size"):
        (tmp_path / f"{name}.npz").write_bytes(damaged()[name][0])
        lines.append(f"{name},{name}.npz:a,{name}.npz:a")
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    done = segcli("evaluate", "--manifest", tmp_path / "cases.csv", "-m", "dice", "-f", "json", "-j", 1)
    assert done.returncode == 0, done.stderr
    (kind,) = json.loads(done.stdout)["notes"]
    assert (kind["level"], kind["code"], kind["n"], kind["cases"]) == ("warning", "read.archive", 2, ["data", "size"])
    for form in ("csv", "md", "latex", "table"):
        done = segcli("evaluate", "--manifest", tmp_path / "cases.csv", "-m", "dice", "-f", form, "-j", 1)
        assert "damaged beside this array" in (done.stderr if form == "table" else done.stdout).replace("\n", " ")
