"""The journal of a run: a line of JSON for each case that is done, so that a kill at any moment loses nothing.

The first line says what is computed, and by which version; a journal of another plan is never continued, and
a file that is no journal never touched. A line is written at once and whole; a torn one (a crash in the
middle, a full disk) is cut off when the journal is opened again, and one that is damaged stays, costs what it
held and is told. While a run writes it, no other can.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from segcli.cohort.lines import FINISHED, SCHEMA, Found, is_marked, read, run_hash, sealed
from segcli.cohort.states import State, is_unchanged, is_untouched, state_of
from segcli.cohort.work import Record, Task
from segcli.errors import InputError, UsageError
from segcli.wording import counted

#: How many damaged lines are named.
_MOST = 5
_EMPTY = ["is empty: all cases are scored"]


def journal_path(run: Path) -> Path:
    """Return where the journal of a run file lies: beside it."""
    return run.with_name(run.name + ".journal")


class Journal:
    """The journal at `path` of a run whose plan has the hash `plan`; use it in a `with`.

    `done` holds, for each case of an earlier journal, its records and the state of its files then. `warn` is
    called with a sentence on what is damaged. Raises `UsageError` for a file that is no journal and for an
    interrupted run that is not resumed, `InputError` for a journal of another plan or version.
    """

    def __init__(
        self, path: Path, plan: str, *, resume: bool = False, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        self.path = path
        self._states: dict[str, dict[str, State]] = {}
        header = {"journal": SCHEMA, "plan": plan, "segcli": _version()}
        self._run = run_hash(plan, header["segcli"])
        there = os.path.lexists(path)
        self._file = _opened(path)
        try:
            _lock(self._file, path)
            found = read(self._file, self._run)
            begun = os.fstat(self._file).st_size > 0
            if begun and not found.ours:
                raise _not_ours(path, "is no journal of segcli")
            self.done = found.done if resume else {}
            if resume:
                self._check(found, header)
                for sentence in _damage(found) if begun else _EMPTY * there:
                    warn(f"{path}: {sentence}")
                self._go_on(found, header)
            else:
                self._begin(found, header)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def known(self, task: Task, *, retry_errors: bool = False) -> list[Record] | None:
        """Return the records of a case that is done and whose files are what they were then; `None` to score it.

        With `retry_errors` one that failed is scored again.
        What the files are now is kept: should one change while it is read, its line will not fit it later.
        """
        now = {side: state_of(path) for side, path in task.files.items()}
        entry = self.done.get(task.case)
        if entry is not None and retry_errors and any("error" in record for record in entry["records"]):
            entry = None
        then = {} if entry is None else entry["files"]
        # A region of interest that is new, or gone, is a change too.
        if entry is None or then.keys() != now.keys() or not all(is_unchanged(then[side], now[side]) for side in now):
            self._states[task.case] = now
            return None
        if not all(is_untouched(then[side], now[side]) for side in now):
            # Of the same content: so that the next time need not read it to know.
            files = {side: {**then[side], **now[side]} for side in now}
            self._append({"case": task.case, "files": files, "run": self._run})
        records: list[Record] = entry["records"]
        return [_at(record, task) for record in records]

    def add(self, task: Task, records: Sequence[Record]) -> None:
        """Write down what a case gave."""
        files = self._states.pop(task.case, None) or {side: state_of(path) for side, path in task.files.items()}
        hashes = next(({s: r[s]["sha256"] for s in files} for r in records if "error" not in r), {})
        for side, digest in hashes.items():
            files[side]["sha256"] = digest
        self._append({"case": task.case, "files": files, "records": list(records), "run": self._run})

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = sealed(entry)
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

    def _begin(self, found: Found, header: Mapping[str, Any]) -> None:
        """Begin anew over a finished run; refuse to overwrite what an interrupted one has done."""
        other = found.header.get("journal", SCHEMA) != SCHEMA and not found.done
        damaged = len(found.damaged) - (1 in found.damaged)
        done = len({*found.done, *found.others.values()})
        if not found.finished and (done or damaged):
            held = f"with {counted(done, 'case')} done" + f" and {counted(damaged, 'damaged line')}" * bool(damaged)
            raise UsageError(
                f"{self.path}: an interrupted run is there, {'of another version of segcli' if other else held}.",
                hint="--resume goes on with it; " * (not other) + "delete the journal to begin anew",
                code="journal.there",
            )
        os.ftruncate(self._file, 0)
        self._append(header)

    def _go_on(self, found: Found, header: Mapping[str, Any]) -> None:
        """Make the file one that lines can be added to."""
        # What is torn goes: the next line would be glued to it.
        os.ftruncate(self._file, found.end)
        if not found.end:
            self._append(header)
        if found.damaged:  # they stay: what is scored again stands below, and they are not told twice
            self._append({"said": len(found.damaged), "run": self._run})

    def _check(self, found: Found, header: Mapping[str, Any]) -> None:
        """Refuse a journal of another plan or version, and count what single lines are of one to the damage."""
        stated = found.header
        if stated.get("journal", SCHEMA) != SCHEMA and not found.done:
            raise InputError(
                f"{self.path}: no journal of this version of segcli.",
                hint="resume with the version that began it, or delete the journal to begin anew",
                code="journal.schema",
            )
        # A version that can be read is believed also in a damaged line: to take no numbers of it is safe.
        if isinstance(stated.get("segcli"), str) and stated["segcli"] != header["segcli"]:
            raise InputError(
                f"{self.path}: was begun by segcli {stated['segcli']}; this is {header['segcli']}.",
                hint="resume with that version, or delete the journal to begin anew",
                code="journal.version",
            )
        if stated.get("plan") != header["plan"] if found.has_header else found.others and not found.done:
            raise InputError(
                f"{self.path}: was begun with other measures, labels or options"
                + ("." if found.has_header else ", or by another version of segcli."),
                hint="resume with the same call, or delete the journal to begin anew",
                code="journal.plan",
            )
        found.damaged = sorted({*found.damaged, *found.others})


def _damage(found: Found) -> list[str]:
    """Return what is to be said of lines that are damaged."""
    told = []
    n = len(found.damaged)
    if found.headless or found.damaged == [1]:
        what = "missing" if found.headless else "damaged"
        told.append(f"its first line is {what}" + ("; the cases are whole" if found.done else ": all cases are scored"))
    if n and found.damaged != [1]:
        names = ", ".join(map(str, found.damaged[:_MOST])) + f" and {n - _MOST} more" * (n > _MOST)
        are, they = ("is", "it") if n == 1 else ("are", "they")
        told.append(f"{n} of {counted(found.lines, 'line')} {are} damaged ({names}): what {they} held is scored again")
    if found.torn:
        told.append("its last line is torn: what it held is scored again")
    return told


def finish(path: Path) -> None:
    """Write down that the run file is there: the next run may begin anew.

    Where the journal is gone, is another file by now or another run's, there is nothing to write: without that
    line the next run asks.
    """
    with contextlib.suppress(OSError, UsageError):
        file = _opened(path, create=False)
        try:
            _lock(file, path)
            if is_marked(file) or read(file, "").ours:
                os.write(file, FINISHED)
        finally:
            os.close(file)


def _version() -> str:
    import segcli

    return str(segcli.__version__)


# --- the file -------------------------------------------------------------------------------------


def _opened(path: Path, *, create: bool = True) -> int:
    """Return the descriptor of a regular file to read and append to: one that is there, or a new one.

    Nothing is made where a link points, and no device or pipe is opened: that can wait for ever, or do something.
    """
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
    try:
        with contextlib.suppress(FileExistsError):
            if create:
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        if path.is_symlink() and not path.exists():
            raise _not_ours(path, "is a link to nothing")
        if not stat.S_ISREG(path.stat().st_mode):
            raise _not_ours(path, "is no regular file")
        # Another file may have come there by now: that one does not block either, and is looked at again.
        file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror}).", code="journal.write") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _not_ours(path, "is no regular file")
    return file


def _not_ours(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path}: {what}, and is left as it is: the journal of the run goes there.",
        hint="give -o another name, or move what is there",
        code="journal.foreign",
    )


def _lock(file: int, path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return
    except OSError as problem:
        if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(
                f"{path}: another run is writing it.", hint="give -o another name", code="journal.busy"
            ) from None
        # A file system without locks: nothing is lost by trying.


def _at(record: Record, task: Task) -> Record:
    """Return a record with the paths that the files have now."""
    for side, path in task.files.items():
        record[side]["path"] = path
    return record
