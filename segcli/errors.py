"""Errors a user can act on: one line that says what is wrong, one that says what to do next."""

from __future__ import annotations

from enum import IntEnum


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
