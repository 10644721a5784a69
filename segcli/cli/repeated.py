"""Options that stand on the command line more than once: lists grow, anything else may not say two things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from typer.core import TyperCommand

from segcli.errors import UsageError

#: The metavar of options that take a list: those of one that may also be a file begin with it.
LIST = "LIST"


class Command(TyperCommand):
    """A command whose list options may be repeated: `-m dice -m hd95` is `-m dice,hd95`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command; raises `UsageError` where an option says two things."""
        return super().parse_args(ctx, args if ctx.resilient_parsing else once(self.params, args))


@dataclass(slots=True)
class _Given:
    """An option on the command line: where it stands first among the arguments that are left, and its values."""

    parameter: Any
    name: str
    at: int
    values: list[str] = field(default_factory=list)


def once(parameters: Sequence[Any], arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the values of each list option joined by commas where it stands first.

    Raises `UsageError` where another option is there twice with two values, or a switch is turned on and off.
    """
    known = {name: p for p in parameters if p.param_type_name == "option" and not p.multiple for name in _names(p)}
    found: dict[str, _Given] = {}
    kept: list[str] = []
    tokens = iter(arguments)
    for word in tokens:
        if word == "--":
            kept += [word, *tokens]
            break
        name, values = _split(word, known)
        parameter = known.get(name)
        if parameter is None:
            kept.append(word)
            continue
        if parameter.is_flag or parameter.count:
            values = [str(name in parameter.opts)]
        elif not values:
            values = [value for value in [next(tokens, None)] if value is not None]
            if not values:  # the parser says what is lacking
                kept.append(word)
                continue
        given = found.get(parameter.name)
        if given is None:
            found[parameter.name] = _Given(parameter, name, len(kept), values)
            kept.append(word if parameter.is_flag else "")
        elif _is_list(parameter):
            given.values += values
        elif given.values != values:
            raise UsageError(
                f"{given.name} and {name} contradict each other."
                if parameter.is_flag
                else f"{given.name} is given twice: {given.values[0]} and {values[0]}.",
                hint="give it once",
                code="option.twice",
            )
    for given in found.values():
        if not kept[given.at]:
            kept[given.at] = f"{_long(given.parameter)}={_joined(given)}"
    return kept


def _names(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


def _long(parameter: Any) -> str:
    return str(next(name for name in parameter.opts if name.startswith("--")))


def _split(word: str, known: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the option that a word names, and the value that is glued to it."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, [value] if equals else []
    short = word[:2]
    glued = word[2:]
    return (short, [glued] if glued else []) if short in known else (word, [])


def _is_list(parameter: Any) -> bool:
    return str(parameter.metavar or "").startswith(LIST)


def _joined(given: _Given) -> str:
    from segcli.masks.labels import is_file

    if len(given.values) > 1 and "FILE" in str(given.parameter.metavar):
        file = next((text for text in given.values if is_file(text)), None)
        if file is not None:
            raise UsageError(
                f"{given.name} {file}: a file stands alone, and {given.name} is there {len(given.values)} times.",
                hint="one file, or a list",
                code="option.twice",
            )
    return ",".join(text for text in given.values if text) if len(given.values) > 1 else given.values[0]
