"""Errors a user can act on: one line that says what is wrong, one that says what to do next."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class ExitCode(IntEnum):
    """What the process tells its caller. 1 means a failed gate and nothing else."""

    OK = 0
    GATE = 1
    USAGE = 2
    INPUT = 3
    PARTIAL = 4
    INTERNAL = 70
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


class SegcliError(Exception):
    """Base of everything segcli raises on purpose.

    `message` names the thing, its value and what is allowed; `hint` is the next step;
    `code` is a stable dotted word for programs (`geometry.shape`).
    """

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(SegcliError):
    """An option, a parameter or a measure's name that cannot be."""

    exit_code = ExitCode.USAGE


class InputError(SegcliError):
    """A file or an array that cannot be used as it is."""

    exit_code = ExitCode.INPUT


def keywords_checked(
    more: Callable[[], Iterable[str]] = tuple,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Make a keyword that a function does not have a `UsageError` that names the nearest one it has.

    `more` returns the keywords that the function takes beside those of its signature.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        own = [name for name, p in inspect.signature(function).parameters.items() if p.kind in kinds]

        @functools.wraps(function)
        def checked(*args: Parameters.args, **given: Parameters.kwargs) -> Result:
            if not given.keys() <= set(own):
                known = list(dict.fromkeys([*own, *more()]))
                unknown = next((name for name in given if name not in known), None)
                if unknown is not None:
                    near = difflib.get_close_matches(unknown, known, 1, cutoff=0.5)
                    raise UsageError(
                        f"segcli.{function.__name__} has no keyword {unknown!r}.",
                        hint=f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}",
                        code="keyword.unknown",
                    )
            return function(*args, **given)

        return checked

    return decorate
