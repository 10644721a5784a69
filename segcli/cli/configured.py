"""How options that nobody typed get their values: from `SEGCLI_*` variables, then from the configuration file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from segcli.cli.options import READING
from segcli.config import Config, Option, as_typed, load_config
from segcli.errors import UsageError

#: Options that are about the call itself, and never come from a file.
OF_THE_CALL = {"help", "version", "config", "isolated", "install_completion", "show_completion"}
#: What a configuration that was found, not named, may set: how to measure, and how results look. Never where to write,
#: what to connect to or which work is left out; a new option is none of these before it is listed.
FOUND_MAY_SET = frozenset(
    {name for name, _, _ in READING}
    | {"metrics", "losses", "loss", "surface", "convention", "empty", "background", "average", "mean_of"}
    | {"batch_dice", "strict"}
    | {"match", "glob", "group_by", "missing", "ci", "seed", "resamples", "jobs", "rank_by", "sweep", "per_component"}
    | {"min", "max", "rules", "baseline", "all", "by", "cell", "sort", "worst"}
    | {"format", "color", "quiet", "verbose", "no_progress"}
)
#: Options whose text is a list or a file.
MAYBE_FILES = {"labels", "colors"}


def options_of(command: Any) -> dict[str, Any]:
    """Return the parameters of a command that are options, by their long names with `_`."""
    found = {}
    for parameter in command.params:
        names = [word for word in parameter.opts if word.startswith("--")]
        if parameter.param_type_name == "option" and names:
            found[names[0].removeprefix("--").replace("-", "_")] = parameter
    return found


def with_environment(group: Any) -> None:
    """Let `SEGCLI_NAME` set the option `--name` of the program and of its commands."""
    commands = list(group.commands.values())
    for command in (group, *commands):
        for name, parameter in options_of(command).items():
            variable = f"SEGCLI_{name.upper()}"
            of_the_call = name in OF_THE_CALL - {"config", "isolated"}
            if not of_the_call and not _meant_elsewhere(name, os.environ.get(variable), parameter, commands):
                parameter.envvar = variable
                parameter.show_envvar = False


def _meant_elsewhere(name: str, value: object, parameter: Any, commands: Iterable[Any]) -> bool:
    """Return whether a value is none of an option's words, but one of the same option of another command.

    `--kind` and `--format` know other words in each command: a value for one must not break the others.
    """
    own = parameter.type_descriptor.choices
    if own is None or value in own:
        return False
    others = [options.type_descriptor.choices for c in commands if (options := options_of(c).get(name)) is not None]
    return any(words is None or value in words for words in others)


def configure(ctx: typer.Context, given: Path | None, *, isolated: bool) -> Config:
    """Read the configuration file and make its values the defaults of the command that is called."""
    if isolated and given is not None:
        raise UsageError("--isolated and --config contradict each other.", code="config.isolated")
    if isolated:
        return Config()
    group: Any = ctx.command
    commands: Mapping[str, Any] = group.commands
    known = {name for command in (group, *commands.values()) for name in options_of(command)} - OF_THE_CALL
    config = load_config(given, Path.cwd(), known, FOUND_MAY_SET)
    called = ctx.invoked_subcommand or ""
    if config.path is not None and called in commands:
        ctx.default_map = {called: _defaults(config, config.path, commands[called], list(commands.values()))}
    return config


def _defaults(config: Config, path: Path, command: Any, commands: Iterable[Any]) -> dict[str, Any]:
    """Return the file's values of a command's options, by the names of its parameters."""
    found = {}
    for name, parameter in options_of(command).items():
        given = config.options.get(name)
        if given is not None and name not in OF_THE_CALL and not _meant_elsewhere(name, given, parameter, commands):
            typed = parameter.type_descriptor
            files = "yes" if "Path" in str(typed.annotation) else "maybe" if name in MAYBE_FILES else "no"
            option = Option(name, parameter.is_flag, parameter.multiple, files)  # type: ignore[arg-type]
            found[parameter.name] = as_typed(option, given, path)
    return found


def global_default(ctx: typer.Context, config: Config, name: str, value: Any) -> Any:
    """Return the value of a global option: the file's where neither the command line nor the environment has one."""
    from_default = getattr(ctx.get_parameter_source(name), "name", "DEFAULT") == "DEFAULT"
    if config.path is None or name not in config.options or not from_default:
        return value
    parameter = options_of(ctx.command)[name]
    typed = as_typed(Option(name, parameter.is_flag), config.options[name], config.path)
    try:
        return parameter.process_value(ctx, typed)
    except Exception as problem:  # noqa: BLE001 (the parser's own errors have no public base)
        raise UsageError(f"{config.path}: {name} = {typed!r}: {said(problem)}", code="config.value") from None


def said(problem: Exception) -> str:
    """Return what the parser says of a value, with the place where it came from if nobody typed it."""
    told = problem.format_message() if hasattr(problem, "format_message") else str(problem)
    parameter, context = getattr(problem, "param", None), getattr(problem, "ctx", None)
    if parameter is None or context is None:
        return told
    source = getattr(context.get_parameter_source(parameter.name), "name", "")
    if source == "ENVIRONMENT":
        return f"{parameter.envvar}: {told}"
    session = context.find_root().obj
    return f"{session.config.path}: {told}" if source == "DEFAULT_MAP" and session is not None else told


def not_typed(context: Any) -> str:
    """Return which options of the command that was called nobody typed: a mistake may be in one of them."""
    session = None if context is None else context.obj
    if session is None:
        return ""
    called = context.command.commands.get(context.invoked_subcommand)
    options = {} if called is None else options_of(called)
    names = [name for name in options if os.environ.get(f"SEGCLI_{name.upper()}")]
    told = [f"SEGCLI_{name.upper()} is set" for name in names]
    filed = [name for name in options if name in session.config.options]
    return "; ".join(told + ([f"{session.config.path} sets {', '.join(filed)}"] if filed else []))
