"""The journal of a run: a line of JSON for each case that is done, so that a kill at any moment loses nothing.

The first line says what is computed, and by which version; a journal of another plan is never continued. A
line is written at once and whole; a torn one (a crash in the middle, a full disk) is cut off when the
journal is opened again. While a run writes it, no other can.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from segcli.cohort.work import REPEATED, Record, Task
from segcli.errors import InputError, UsageError
from segcli.masks.readers import files_of
from segcli.run.bulk import Sharing
from segcli.wording import counted

SCHEMA = "segcli.journal/1"


def journal_path(run: Path) -> Path:
    """Return where the journal of a run file lies: beside it."""
    return run.with_name(run.name + ".journal")


class Journal:
    """The journal at `path` of a run whose plan has the hash `plan`; use it in a `with`.

    `done` holds, for each case of an earlier journal, its records and the state of its files then.
    """

    def __init__(self, path: Path, plan: str, *, resume: bool = False) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}
        self._states: dict[str, dict[str, dict[str, Any]]] = {}
        header = {"journal": SCHEMA, "plan": plan, "segcli": _version()}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as problem:
            raise UsageError(f"{path}: cannot be written ({problem.strerror}).", code="journal.write") from None
        try:
            self._lock()
            end = self._read(header) if resume else self._begin()
            # What is torn goes: the next line would be glued to it.
            os.ftruncate(self._file, end)
            if not end:
                self._append(header)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def known(self, task: Task) -> list[Record] | None:
        """Return the records of a case that is done and whose files are what they were then; `None` to score it.

        What the files are now is kept: should one change while it is read, its line will not fit it later.
        """
        now = {side: _state(path) for side, path in task.files.items()}
        entry = self.done.get(task.case)
        # A region of interest that is new, or gone, is a change too.
        if (
            entry is None
            or entry["files"].keys() != now.keys()
            or any(not _unchanged(entry["files"][side], now[side]) for side in now)
        ):
            self._states[task.case] = now
            return None
        records: list[Record] = entry["records"]
        return [_at(record, task) for record in records]

    def add(self, task: Task, records: Sequence[Record]) -> None:
        """Write down what a case gave."""
        files = self._states.pop(task.case, None) or {side: _state(path) for side, path in task.files.items()}
        hashes = next(({s: r[s]["sha256"] for s in files} for r in records if "error" not in r), {})
        for side, digest in hashes.items():
            files[side]["sha256"] = digest
        self._append({"case": task.case, "files": files, "records": list(records)})

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        start = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as problem:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
            raise UsageError(
                f"{self.path}: cannot be written ({problem.strerror}).",
                hint="what is scored so far is safe in it: make room and --resume",
                code="journal.write",
            ) from None

    def _lock(self) -> None:
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            return
        except OSError as problem:
            if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    f"{self.path}: another run is writing it.", hint="give -o another name", code="journal.busy"
                ) from None
            # A file system without locks: nothing is lost by trying.

    def _begin(self) -> int:
        """Refuse to overwrite what an interrupted run has done; return 0, the end of an empty journal."""
        entries = [entry for entry, _ in _entries(self.path)]
        done = sum("case" in entry for entry in entries)
        if done and not entries[-1].get("finished"):
            raise UsageError(
                f"{self.path}: an interrupted run is there, with {counted(done, 'case')} done.",
                hint="--resume goes on with it; delete the journal to begin anew",
                code="journal.there",
            )
        return 0

    def _read(self, header: Mapping[str, Any]) -> int:
        """Take over what is done and return the end of the last whole line."""
        end = 0
        shared = Sharing(*REPEATED)
        for number, (entry, stop) in enumerate(_entries(self.path)):
            if number == 0:
                self._check(entry, header)
            elif _is_entry(entry):  # any other line says of no case that it is done
                for record in entry["records"]:
                    shared(record)
                self.done[entry["case"]] = entry
            end = stop
        return end

    def _check(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        if found.get("journal") != SCHEMA:
            raise InputError(f"{self.path}: no journal of this version of segcli.", code="journal.schema")
        if found.get("segcli") != header["segcli"]:
            raise InputError(
                f"{self.path}: was begun by segcli {found.get('segcli')}; this is {header['segcli']}.",
                hint="resume with that version, or delete the journal to begin anew",
                code="journal.version",
            )
        if found.get("plan") != header["plan"]:
            raise InputError(
                f"{self.path}: was begun with other measures, labels or options.",
                hint="resume with the same call, or delete the journal to begin anew",
                code="journal.plan",
            )


def _is_entry(entry: Mapping[str, Any]) -> bool:
    """Return whether a line is a case with its files and records."""
    files, records = entry.get("files"), entry.get("records")
    if not (isinstance(entry.get("case"), str) and isinstance(files, dict) and isinstance(records, list) and records):
        return False
    states = [files.get("pred"), files.get("gt"), *files.values()]
    return all(isinstance(s, dict) and {"path", "size", "mtime"} <= s.keys() for s in states) and all(
        isinstance(r, dict) and {"case", "of", *files} <= r.keys() and ("values" in r or "error" in r) for r in records
    )


def finish(path: Path) -> None:
    """Write down that the run file is there: the next run may begin anew."""
    with path.open("ab") as file:
        file.write(b'{"finished":true}\n')


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each whole line with the offset of its end; the first that is torn ends it."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(entry, dict):
                return
            end += len(line)
            yield entry, end


def _version() -> str:
    import segcli

    return str(segcli.__version__)


# --- files that change ----------------------------------------------------------------------------


def _at(record: Record, task: Task) -> Record:
    """Return a record with the paths that the files have now."""
    for side, path in task.files.items():
        record[side]["path"] = path
    return record


def _state(path: str) -> dict[str, Any]:
    """Return the path, the sizes and the times of a mask's files; both null where there is none."""
    found: dict[str, Any] = {"path": path, "size": None, "mtime": None}
    if path:
        with contextlib.suppress(OSError):
            stats = [part.stat() for part in files_of(path)]
            found |= {"size": [s.st_size for s in stats], "mtime": [s.st_mtime_ns for s in stats]}
    return found


def _unchanged(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether a file has the content that it had.

    By size and time, and by hash where it was touched or another file of the same name has its place.
    """
    if now["size"] != then["size"]:
        return False
    if (now["path"], now["mtime"]) == (then["path"], then["mtime"]):
        return True
    if now["size"] is None or then.get("sha256") is None:
        return bool(now["path"] == then["path"] == "")
    return sha256_of(now["path"]) == str(then["sha256"])


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a mask's bytes as it is read: of a pair, of the header followed by the image."""
    digest = hashlib.sha256()
    for part in files_of(path):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
