"""What every command shares at run time: streams, colour, progress, and writing results."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segcli.config import Config
from segcli.errors import UsageError
from segcli.report.table import flat
from segcli.writing import target_of, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from segcli.masks.mask import Note

#: A wait longer than this, in seconds, is told about.
PATIENCE = 1.0
#: The format of a result by the suffix of its file.
RESULT_SUFFIXES = {".json": "json", ".csv": "csv", ".md": "md", ".txt": "table"}
#: What commands write whose results stand in papers.
PAPER_SUFFIXES = {**RESULT_SUFFIXES, ".tex": "latex"}


@dataclass(slots=True)
class Session:
    """The global options of one call."""

    quiet: bool = False
    verbose: bool = False
    color: str = "auto"
    progress: bool = True
    config: Config = field(default_factory=Config)

    def colored(self) -> bool:
        """Return whether stdout gets a terminal's table: `--color`, NO_COLOR, FORCE_COLOR, a terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")

    def say(self, notes: Iterable[Note], form: str = "") -> None:
        """Print notes and warnings to stderr, each once; `--quiet` keeps warnings only.

        A table on a terminal has the warnings itself.
        """
        table = form == "table" and sys.stdout.isatty()
        for note in dict.fromkeys(notes):
            if not table if note.level == "warning" else not self.quiet:
                self.tell([f"{note.level}: {note.text}"])

    def warn(self, texts: Sequence[str], form: str = "") -> None:
        """Print warnings to stderr, also with `--quiet`; not beside a table on a terminal, which has them itself."""
        if form != "table" or not sys.stdout.isatty():
            self.tell([f"warning: {text}" for text in texts])

    def tell(self, lines: Sequence[str]) -> None:
        """Print lines to stderr as they are."""
        for line in lines:
            print(flat(line), file=sys.stderr)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Tell on stderr that something takes its time: compiling at once, anything else after a second."""
        from segcli.kernels._jit import on_compiling

        if not self.quiet:
            on_compiling(lambda: print("compiling kernels (first run only)", file=sys.stderr, flush=True))
        if self.quiet or not self.progress or not sys.stderr.isatty():
            yield
            return
        shown = threading.Event()

        def show() -> None:
            shown.set()
            print(f"\r{what} ...", end="", file=sys.stderr, flush=True)

        timer = threading.Timer(PATIENCE, show)
        timer.daemon = True
        with suppress(RuntimeError):  # no more threads: it is not told
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if shown.is_set():
                print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def check_outputs(
    outputs: Sequence[Path], inputs: Sequence[str | None] = (), suffixes: Mapping[str, str] = RESULT_SUFFIXES
) -> None:
    """Refuse an output file that cannot be written, or is an input, before anything is computed."""
    for path in outputs:
        if path.suffix.lower() not in suffixes:
            known = ", ".join(suffixes)
            raise UsageError(f"-o {path}: the suffix says the format; known: {known}.", code="output.suffix")
        if path.is_dir():
            raise UsageError(
                f"-o {path}: is a folder.", hint=f"for example -o {path / 'run.json'}", code="output.folder"
            )
        folder = (target_of(path, "-o") if path.is_symlink() else path).parent
        if not folder.is_dir():
            raise UsageError(f"-o {path}: the folder {folder} does not exist.", code="output.folder")
        if not os.access(folder, os.W_OK):
            raise UsageError(f"-o {path}: the folder {folder} cannot be written.", code="output.folder")
        target_of(path, "-o")
        for given in inputs:
            if given and path.exists() and os.path.exists(given) and path.samefile(given):  # noqa: PTH110 (raw text)
                raise UsageError(f"-o {path}: is an input of this call.", hint="name another file", code="output.input")


def deliver(
    render: Callable[..., str],
    form: str,
    outputs: Sequence[Path],
    session: Session,
    suffixes: Mapping[str, str] = RESULT_SUFFIXES,
) -> None:
    """Write a result to its files and to stdout.

    `render(format)` returns the text of a format; `render("table", color=True)` a terminal's table.
    Files are written under a temporary name and renamed, so that a crash never leaves half a file.
    """
    for path in outputs:
        write_whole(path, render(suffixes[path.suffix.lower()]))
    text = render(form, color=True) if form == "table" and session.colored() else render(form)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()
    for path in outputs:
        if not session.quiet:
            print(flat(f"wrote {path}"), file=sys.stderr)
