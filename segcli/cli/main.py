"""The entry point: assembles the commands and turns every end into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from segcli.cli.catalog import catalog
from segcli.cli.cite import cite
from segcli.cli.compare import compare
from segcli.cli.configured import configure, global_default, not_typed, said, with_environment
from segcli.cli.conventions import conventions
from segcli.cli.describe import describe
from segcli.cli.diff import diff
from segcli.cli.doctor import doctor
from segcli.cli.evaluate import evaluate
from segcli.cli.gate import gate
from segcli.cli.inspect import inspect
from segcli.cli.rank import rank
from segcli.cli.repeated import Command
from segcli.cli.schema import schema
from segcli.cli.score import score
from segcli.cli.session import Session
from segcli.cohort.spare import bound_libraries, check_address_space, is_shortage
from segcli.errors import ExitCode, SegcliError, UsageError
from segcli.writing import AS_WRITTEN

app = typer.Typer(
    name="segcli",
    help="How good is this segmentation, and which loss should have trained it?",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    score, compare, inspect, evaluate, gate, diff, rank, cite, conventions, catalog, describe, doctor, schema,
):  # fmt: skip
    app.command(cls=Command)(command)

#: Commands that load all of NumPy, SciPy and Numba.
READS_MASKS = {"score", "compare", "inspect", "evaluate", "conventions"}
#: Commands that load none of them: to try how many threads can be started takes 18 ms where there are 64 processors.
READS_RECORDS = {"catalog", "schema"}
#: Global options that may also stand behind the command: name -> takes a value.
GLOBALS = {
    "-q": False, "--quiet": False, "-v": False, "--verbose": False, "--no-progress": False, "--color": True,
    "--config": True, "--isolated": False,
}  # fmt: skip


def show_version(value: bool) -> None:
    if value:
        import segcli

        print(f"segcli {segcli.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def segcli_(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 (its callback does the work)
        bool, typer.Option("-V", "--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say nothing but warnings and errors on stderr.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Print each note of each case, and the traceback of an internal error."),
    ] = False,
    color: Annotated[Literal["auto", "always", "never"], typer.Option(help="Colour on stdout.")] = "auto",
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress line on stderr.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Configuration, instead of the nearest segcli.toml or pyproject.toml."),
    ] = None,
    isolated: Annotated[bool, typer.Option("--isolated", help="Read no configuration file.")] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        return
    from segcli.report.table import flat

    found = configure(ctx, config, isolated=isolated)
    given = {"quiet": quiet, "verbose": verbose, "color": color, "no_progress": no_progress}
    options = {name: global_default(ctx, found, name, value) for name, value in given.items()}
    if found.path is not None and not quiet:  # a file that was found cannot silence this
        print(flat(f"configuration: {found.path}"), file=sys.stderr)
    ctx.obj = Session(progress=not options.pop("no_progress"), config=found, **options)
    if ctx.invoked_subcommand in READS_MASKS:
        check_address_space()
    if ctx.invoked_subcommand not in READS_RECORDS and bound_libraries():
        ctx.obj.tell(["note: few threads can be started (ulimit -u?): NumPy and SciPy use one"] * (not ctx.obj.quiet))


def main() -> NoReturn:
    """Run the command line and exit with its documented code."""
    sys.exit(run(sys.argv[1:]))


class Terminated(BaseException):
    """SIGTERM arrived."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing escapes as a traceback."""

    def terminate(*_: Any) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    _safe_streams()
    sessions: list[Session] = []
    try:
        code = _invoke(_globals_first(arguments), sessions)
        sys.stdout.flush()
    except SegcliError as error:
        return _complain(error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted.", "", ExitCode.INTERRUPTED)
    except Terminated:
        return _complain("terminated.", "", ExitCode.TERMINATED)
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE
    except MemoryError:
        return _complain(
            "not enough memory for these arrays.", "--max-voxels refuses large files early", ExitCode.INPUT
        )
    except Exception as error:  # noqa: BLE001 (the last door: nothing may end in a traceback)
        if hasattr(error, "format_message"):  # the parser's own: an unknown option, a missing argument
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "segcli"
            return _complain(said(error), f"{path} --help lists what is known", ExitCode.USAGE)
        if isinstance(error, OSError) and error.filename:
            return _complain(f"{os.fsdecode(error.filename)}: {error.strerror}.", "", ExitCode.INPUT)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _complain(f"cannot write the result: {error.strerror}.", "", ExitCode.USAGE)
        if is_shortage(error):
            return _complain("no further thread or process can be started.", "ulimit -u is too low", ExitCode.USAGE)
        return _internal(error, verbose={"-v", "--verbose"} & {*arguments} or any(s.verbose for s in sessions))
    return code


class _Tolerant:
    """A stream for messages: what cannot be said (a full disk, a closed pipe) changes no exit code."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _safe_streams() -> None:
    """Give closed streams somewhere to go, and let any file name through in any locale."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: never let errors slip into another stream
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace" if name == "stderr" else AS_WRITTEN)
        setattr(sys, name, _Tolerant(stream) if name == "stderr" else stream)


def _invoke(arguments: list[str], sessions: list[Session]) -> int:
    """Run the parser and the command; whatever they raise reaches the caller, and in `sessions` how it was called."""
    if "_SEGCLI_COMPLETE" in os.environ:  # a shell asks for completions
        app(prog_name="segcli")
    command = typer.main.get_command(app)
    with_environment(command)
    # Not `app(...)`: it turns a closed pipe into exit 1, which here means a failed gate.
    context = None
    try:
        with command.make_context("segcli", arguments) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:
        return end.exit_code
    except UsageError as error:
        error.hint = "; ".join(filter(None, [error.hint, not_typed(context)]))
        raise
    finally:
        sessions += [context.obj] if context is not None and context.obj is not None else []


def _globals_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with global options moved before the command: both places are natural."""
    front: list[str] = []
    rest: list[str] = []
    given: dict[str, str] = {}
    tokens = iter(arguments)
    for word in tokens:
        name, equals, glued = word.partition("=")
        if word == "--":
            rest += [word, *tokens]
        elif word in GLOBALS and not GLOBALS[word]:
            front.append(word)
        elif GLOBALS.get(name):
            value = glued if equals else next(tokens, None)
            front += [name] if value is None else [f"{name}={value}"]
            if value is not None and given.setdefault(name, value) != value:
                raise UsageError(
                    f"{name} is given twice: {given[name]} and {value}.", hint="give it once", code="option.twice"
                )
        else:
            rest.append(word)
    return front + rest


def _complain(message: str, hint: str, code: ExitCode) -> int:
    from segcli.report.table import flat

    print("error:", " ".join(flat(str(message)).split()), file=sys.stderr)
    if hint:
        print("hint:", " ".join(flat(hint).split()), file=sys.stderr)
    return int(code)


def _internal(error: Exception, *, verbose: object) -> int:
    text = "".join(traceback.format_exception(error))
    hint = "please report it; -v prints the traceback"
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="segcli-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        file.write(" ".join(sys.argv) + "\n\n" + text)
        hint = f"the traceback is in {file.name}; please report it"
    if verbose:
        print(text, file=sys.stderr)
    last = " ".join(str(error).split())[:200]
    return _complain(f"internal error: {type(error).__name__}: {last}", hint, ExitCode.INTERNAL)


if __name__ == "__main__":
    main()
