"""The lines of a journal: JSON objects that end with a hash of what stands before it.

A digit that flips in a value leaves a line that is JSON still, with another number in it. So nothing of a
line is believed, or parsed, whose hash does not fit. The first line of a journal says what it is of, and so
does every other in short (`run`): where the first is damaged the others stand for themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from segcli.cohort.states import is_state
from segcli.cohort.work import REPEATED
from segcli.run.bulk import Sharing

SCHEMA = "segcli.journal/2"
_NAME = "segcli.journal/"
#: How the journals of all versions begin.
MARK = b'{"journal":"' + _NAME.encode()
#: The line of a run whose file is written.
FINISHED = b'{"finished":true}\n'
#: Longer lines, in bytes, are no lines of a journal: a file of something else may have no line end at all.
LONGEST = 256 << 20
_SUM = b',"sum":"%s"}'
_SUM_LENGTH = len(_SUM % (b"0" * 16))


def sealed(entry: Mapping[str, Any]) -> bytes:
    """Return the line of an entry, with its hash and its end."""
    body = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + _SUM % _hash(body) + b"\n"


def unsealed(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; `None` where its hash does not fit."""
    text = line.removesuffix(b"\n")
    body, end = text[:-_SUM_LENGTH], text[-_SUM_LENGTH:]
    return _parsed(body + b"}") if end == _SUM % _hash(body) else None


def run_hash(plan: str, version: str) -> str:
    """Return what each line has of the plan and the version that it was computed with."""
    return hashlib.sha256(f"{SCHEMA} {plan} {version}".encode()).hexdigest()[:16]


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@dataclass
class Found:
    """What a file at the place of a journal holds."""

    #: Whether it is a journal, of this version of segcli or another one, damaged or not.
    ours: bool = False
    #: The first line as far as it can be read, and whether its hash fits.
    header: dict[str, Any] = field(default_factory=dict)
    has_header: bool = False
    #: The first line is one of those that follow it.
    headless: bool = False
    #: For each case what is done of it: its records and the state of its files.
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The cases, by the number of their line, of a run with other options or of another version.
    others: dict[int, str] = field(default_factory=dict)
    finished: bool = False
    lines: int = 0
    #: The numbers of the lines that are damaged and of which nobody was told yet.
    damaged: list[int] = field(default_factory=list)
    #: The last line has no end.
    torn: bool = False
    #: Where what is torn begins.
    end: int = 0


def is_marked(descriptor: int) -> bool:
    """Return whether an open file begins as journals do."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, len(MARK)) == MARK


def read(descriptor: int, run: str) -> Found:
    """Return what an open file has of the `run`; nothing in it is changed.

    A file that does not turn out to be a journal is not read to its end, which may be far.
    """
    found = Found()
    shared = Sharing(*REPEATED)
    failed: dict[str, int] = {}
    last = 0
    for line, length, ended in _lines(descriptor, found):
        number = found.lines = found.lines + 1
        if number == 1:
            _begin(found, line)
        if not ended:
            found.torn, found.finished, last = True, False, number
            break
        if not _take(found, line, run, shared, failed):
            found.damaged.append(number)
            last = number
        found.end += length
        if not found.ours and found.end > LONGEST:
            break
    # A case that failed may have been scored again with success, in a line that is damaged now.
    for case in [case for case, number in failed.items() if number < last]:
        del found.done[case]
    return found


def _begin(found: Found, line: bytes) -> None:
    """Take over what the first line says: what it is of may be read in a damaged one too."""
    entry = unsealed(line)
    stated = entry or _parsed(line[: 1 << 16]) or {}
    name = stated.get("journal")
    named = isinstance(name, str) and name.startswith(_NAME)
    if named or line.startswith(MARK) or (line and MARK.startswith(line)):
        found.ours, found.header, found.has_header = True, stated, entry is not None


def _take(found: Found, line: bytes, run: str, shared: Sharing, failed: dict[str, int]) -> bool:
    """Take over what a line says; return whether it is whole."""
    number = found.lines
    found.finished = line == FINISHED
    if found.finished:
        found.ours |= number == 1  # of a journal that was deleted before its run ended
        return True
    if number == 1 and found.ours:
        return found.has_header
    entry = unsealed(line)
    if entry is None or not isinstance(entry.get("run"), str):
        return False
    if "said" in entry:
        found.ours = True
        if entry["run"] == run:
            found.damaged.clear()
            found.others.clear()
    elif not _is_entry(entry):
        return False
    elif entry["run"] != run:
        found.others[number] = entry["case"]
    elif "records" not in entry:
        _renew(found.done.get(entry["case"]), entry["files"])
    else:
        for record in entry["records"]:
            shared(record)
        found.done[entry["case"]] = entry
        failed.pop(entry["case"], None)
        if any("error" in record for record in entry["records"]):
            failed[entry["case"]] = number
    found.ours = True
    found.headless |= number == 1
    return True


def _renew(entry: dict[str, Any] | None, files: dict[str, Any]) -> None:
    """Give an entry the state that its files were found in later: of the same content."""
    if entry is not None and {side: s.get("sha256") for side, s in files.items()} == {
        side: s.get("sha256") for side, s in entry["files"].items()
    }:
        entry["files"] = files


def _is_entry(entry: Mapping[str, Any]) -> bool:
    """Return whether a line is a case with its files, and its records where it has any."""
    files, records = entry.get("files"), entry.get("records", ())
    if not isinstance(entry.get("case"), str) or not isinstance(files, dict) or not {"pred", "gt"} <= files.keys():
        return False
    if "records" in entry and not (isinstance(records, list) and records):
        return False
    return all(is_state(state) for state in files.values()) and all(
        isinstance(r, dict)
        and {"case", "of", *files} <= r.keys()
        and all(isinstance(r[side], dict) for side in files)
        and ("values" in r or "error" in r)
        for r in records
    )


def _lines(descriptor: int, found: Found) -> Iterator[tuple[bytes, int, bool]]:
    """Yield each line, its length and whether it has an end; one that is too long has no text.

    In a file that was not `found` to be ours such a line is the last: it may be a hole of a terabyte.
    """
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        while line := file.readline(LONGEST):
            length = len(line)
            if length < LONGEST or line.endswith(b"\n"):
                yield line, length, line.endswith(b"\n")
                continue
            if not found.ours:
                return
            while line and not line.endswith(b"\n"):
                line = file.readline(1 << 20)
                length += len(line)
            yield b"", length, bool(line)
