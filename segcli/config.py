"""Configuration: `segcli.toml`, or `[tool.segcli]` of a `pyproject.toml`, the nearest one upwards.

A key is the long name of a command's option (`metrics`, `ignore-label` or `ignore_label`). The command line
goes before the environment (`SEGCLI_METRICS`), that before the file, and that before the option's default.
`[[gate]]` tables are the rules of `segcli gate`.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segcli.errors import UsageError
from segcli.text import read_text
from segcli.trust import distrust_file

#: The file that holds nothing else, and the one that has a table for it.
OWN, SHARED = "segcli.toml", "pyproject.toml"
GATE = "gate"


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file says: options by their long names with `_`, and the rules of the gate."""

    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """What a file must know of an option to set it: whether it is a switch, takes many values, names files."""

    name: str
    switch: bool = False
    many: bool = False
    files: Literal["no", "maybe", "yes"] = "no"


def load_config(given: Path | None, start: Path, known: Iterable[str], found_may_set: Collection[str]) -> Config:
    """Return the configuration of `given`, else of the nearest file upwards from `start`; empty without one.

    `known` are the long names of all options. A file that was not named but found may come with a folder from
    anywhere: it must be this user's, and sets only the options of `found_may_set`. Raises `UsageError` for a file
    that is broken, has another key, or may not be followed: skipped, it would take the rules of a gate with it.
    """
    path = given if given is not None else find_config(start)
    if path is None:
        return Config()
    if given is None and (why := distrust_file(path)):
        raise UsageError(
            f"{path}: a configuration that was found is not followed: {why}.",
            hint=f"--config {path} if you trust it, --isolated to do without",
            code="config.trust",
        )
    table = read_table(path)
    names = {name.replace("-", "_") for name in known}
    options: dict[str, Any] = {}
    rules: tuple[Mapping[str, Any], ...] = ()
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == GATE:
            rules = rule_tables(value, path)
        elif name not in names:
            raise UsageError(f"{path}: unknown key {key!r}.", hint=_suggestion(name, {*names, GATE}), code="config.key")
        elif name in options:
            raise UsageError(f"{path}: {name!r} stands there with _ and with -.", code="config.twice")
        elif given is None and name not in found_may_set:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{path}: {key!r} is no matter of how to measure, and a configuration that was found may not set it.",
                hint=f"--config {path} if you trust it, or take it out and give {option} on the command line",
                code="config.found",
            )
        else:
            options[name] = value
    return Config(path, options, rules)


def find_config(start: Path) -> Path | None:
    """Return the nearest configuration file upwards; `segcli.toml` goes before the `pyproject.toml` beside it.

    A `pyproject.toml` without `[tool.segcli]` is passed over. The search ends at the root of the repository, or at
    the home folder: what lies above is nobody's project.
    """
    for folder in _upwards(start):
        if (folder / OWN).is_file():
            return folder / OWN
        shared = folder / SHARED
        if shared.is_file() and "segcli" in _tools(_parsed(shared)):
            return shared
    return None


def _upwards(start: Path) -> Iterator[Path]:
    home = None
    with contextlib.suppress(RuntimeError):  # nobody knows where
        home = Path.home()
    for folder in (start, *start.parents):
        yield folder
        if folder == home or (folder / ".git").exists():
            return


def read_table(path: Path) -> Mapping[str, Any]:
    """Return the top table of a configuration file: `[tool.segcli]` where it is a `pyproject.toml`."""
    table = _parsed(path)
    if path.name == SHARED:
        found = _tools(table).get("segcli", {})
        if not isinstance(found, dict):
            raise UsageError(f"{path}: tool.segcli is no table.", code="config.toml")
        return found
    return table


def _tools(table: Mapping[str, Any]) -> Mapping[str, Any]:
    tools = table.get("tool", {})
    return tools if isinstance(tools, dict) else {}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror}).", code="config.read") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no UTF-8 text.", code="config.toml") from None
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(
            f"{path}: is no TOML: {problem}.", hint="--isolated ignores configuration files", code="config.toml"
        ) from None


def rule_tables(value: object, path: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the tables of `[[gate]]`; raises `UsageError` where it is none."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise UsageError(
            f"{path}: gate is no list of tables.", hint="write [[gate]] above each rule", code="config.gate"
        )
    return tuple(value)


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), 1, 0.6)
    return f"did you mean {near[0]}?" if near else "keys are the long names of options: segcli score --help"


# --- values -----------------------------------------------------------------------------------------


def as_typed(option: Option, value: object, path: Path) -> bool | str | list[str]:
    """Return a file's value as the command line would have it: a text, texts of a repeatable option, a switch.

    A list stands for a comma-separated text, a table for `name=value` parts. Files are relative to the folder
    of the configuration file. Raises `UsageError` for a value that no option has.
    """
    where = f"{path}: {option.name}"
    if option.switch or isinstance(value, bool):
        if not (option.switch and isinstance(value, bool)):
            words = "true or false" if option.switch else "no switch"
            raise UsageError(f"{where} = {_shown(value)}: it is {words}.", code="config.value")
        return value
    if option.many:
        items = value if isinstance(value, list) else [value]
        return [_file(_text(item, where), option, path) for item in items]
    if isinstance(value, list):
        return ",".join(_text(item, where) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{_part(name, where, ',=')}={_values(inner, where)}" for name, inner in value.items())
    return _file(_text(value, where), option, path)


def _values(value: object, where: str) -> str:
    return "+".join(_part(v, where, ",+") for v in value) if isinstance(value, list) else _part(value, where, ",")


def _part(value: object, where: str, reserved: str) -> str:
    text = _text(value, where)
    if any(sign in text for sign in reserved):
        raise UsageError(f"{where}: {text!r} has one of the signs {' '.join(reserved)}", code="config.value")
    return text


def _text(value: object, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    raise UsageError(f"{where} = {_shown(value)} is neither a text nor a number.", code="config.value")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _file(text: str, option: Option, path: Path) -> str:
    """Return a text that names a file beside the configuration as the path from here."""
    beside = path.parent / text
    named = option.files == "yes" or (option.files == "maybe" and os.path.isfile(beside))  # noqa: PTH113 (any text)
    return str(beside) if named and text != "-" else text
