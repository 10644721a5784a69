"""The journal of a run: a line of JSON for each case that is done, so that a kill at any moment loses nothing.

The first line says what is computed; a journal of another plan is never continued. A line is written at
once and whole; a torn one (a crash in the middle, a full disk) is cut off when the journal is opened again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from segcli.cohort.work import Record, Task
from segcli.errors import InputError, UsageError

SCHEMA = "segcli.journal/1"


def journal_path(run: Path) -> Path:
    """Return where the journal of a run file lies: beside it."""
    return run.with_name(run.name + ".journal")


class Journal:
    """The journal at `path` of a run whose plan has the hash `plan`; use it in a `with`.

    `done` holds, for each case of an earlier journal, its records and the state of its two files then.
    """

    def __init__(self, path: Path, plan: str, *, resume: bool = False) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}
        if resume and path.exists():
            self._read(plan)
        elif path.exists() and not self._finished():
            raise UsageError(
                f"{path}: an interrupted run of {sum(1 for _ in _lines(path)) - 1} cases is there.",
                hint="--resume goes on with it; delete the journal to begin anew",
                code="journal.there",
            )
        fresh = not self.done and not (resume and path.exists())
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if fresh else 0)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as problem:
            raise UsageError(f"{path}: cannot be written ({problem.strerror}).", code="journal.write") from None
        if fresh or not path.stat().st_size:
            self._append({"journal": SCHEMA, "plan": plan})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def known(self, task: Task) -> list[Record] | None:
        """Return the records of a case that is done and whose files are what they were then; `None` to score it."""
        entry = self.done.get(task.case)
        if entry is None or any(not _unchanged(entry["files"][side], path) for side, path in _files(task)):
            return None
        records: list[Record] = entry["records"]
        return records

    def add(self, task: Task, records: Sequence[Record]) -> None:
        """Write down what a case gave."""
        files = {side: _state(path) for side, path in _files(task)}
        hashes = next(({s: r[s]["sha256"] for s in files} for r in records if "pred" in r), {})
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

    def _finished(self) -> bool:
        count, finished = 0, False
        for entry in _lines(self.path):
            count, finished = count + 1, bool(entry.get("finished"))
        return finished or count < 2

    def _read(self, plan: str) -> None:
        end = 0
        for number, (entry, stop) in enumerate(_entries(self.path)):
            end = stop
            if number == 0:
                if entry.get("journal") != SCHEMA:
                    raise InputError(f"{self.path}: no journal of this version of segcli.", code="journal.schema")
                if entry["plan"] != plan:
                    raise InputError(
                        f"{self.path}: was begun with other measures, labels or options.",
                        hint="resume with the same call, or delete the journal to begin anew",
                        code="journal.plan",
                    )
            elif "case" in entry:
                self.done[entry["case"]] = entry
        if end < self.path.stat().st_size:  # a torn line: what comes next would be glued to it
            os.truncate(self.path, end)


def finish(path: Path) -> None:
    """Write down that the run file is there: the next run may begin anew."""
    with path.open("ab") as file:
        file.write(b'{"finished":true}\n')


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (entry for entry, _ in _entries(path))


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each whole line with the offset of its end; the first that is torn ends it."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except ValueError:
                return
            end += len(line)
            yield entry, end


# --- files that change ----------------------------------------------------------------------------


def _files(task: Task) -> list[tuple[str, str]]:
    return [("pred", task.pred), ("gt", task.gt)]


def _state(path: str) -> dict[str, Any]:
    """Return the size and the time of a file, both null where it is gone."""
    try:
        found = Path(path).stat()
    except OSError:
        return {"size": None, "mtime": None}
    return {"size": found.st_size, "mtime": found.st_mtime_ns}


def _unchanged(then: Mapping[str, Any], path: str) -> bool:
    """Return whether a file has the content that it had: by size and time, and where only the time moved by hash."""
    now = _state(path)
    if now["size"] != then["size"] or now["size"] is None:
        return False
    if now["mtime"] == then["mtime"]:
        return True
    return then.get("sha256") is not None and sha256_of(path) == then["sha256"]


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file's bytes as text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
