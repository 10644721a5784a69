"""How options that nobody typed get their values: from `SEGCLI_*` variables, then from the configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from segcli.config import Config, Option, as_typed, load_config
from segcli.errors import UsageError

#: Options that are about the call itself, and never come from a file.
OF_THE_CALL = {"help", "version", "config", "isolated", "install_completion", "show_completion"}
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


def with_environment(command: Any) -> None:
    """Let `SEGCLI_NAME` set the option `--name` of a command and of those below it."""
    for name, parameter in options_of(command).items():
        if parameter.envvar is None and name not in OF_THE_CALL - {"config", "isolated"}:
            parameter.envvar = f"SEGCLI_{name.upper()}"
            parameter.show_envvar = False
    for inner in getattr(command, "commands", {}).values():
        with_environment(inner)


def configure(ctx: typer.Context, given: Path | None, *, isolated: bool) -> Config:
    """Read the configuration file and make its values the defaults of the command that is called."""
    if isolated and given is not None:
        raise UsageError("--isolated and --config contradict each other.", code="config.isolated")
    if isolated:
        return Config()
    group: Any = ctx.command
    commands: Mapping[str, Any] = group.commands
    known = {name for command in (group, *commands.values()) for name in options_of(command)} - OF_THE_CALL
    config = load_config(given, Path.cwd(), known)
    called = ctx.invoked_subcommand or ""
    if config.path is not None and called in commands:
        ctx.default_map = {called: _defaults(config, config.path, commands[called])}
    return config


def _defaults(config: Config, path: Path, command: Any) -> dict[str, Any]:
    """Return the file's values of a command's options, by the names of its parameters."""
    found = {}
    for name, parameter in options_of(command).items():
        if name in config.options and name not in OF_THE_CALL:
            typed = parameter.type_descriptor
            files = "yes" if "Path" in str(typed.annotation) else "maybe" if name in MAYBE_FILES else "no"
            option = Option(name, parameter.is_flag, parameter.multiple, files)  # type: ignore[arg-type]
            found[parameter.name] = as_typed(option, config.options[name], path)
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
