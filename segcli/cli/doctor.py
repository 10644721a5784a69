"""segcli doctor: is everything here, and are the kernels compiled?"""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Annotated, Any, Literal

import typer

from segcli.cli.session import Session, deliver
from segcli.errors import ExitCode

PACKAGES = ("numpy", "scipy", "numba", "nibabel", "pillow", "isal", "rich", "typer")


def doctor(
    ctx: typer.Context,
    warm: Annotated[bool, typer.Option("--warm", help="Compile all kernels now.")] = False,
    form: Annotated[Literal["table", "json"], typer.Option("-f", "--format", help="Format of stdout.")] = "table",
) -> ExitCode:
    """Show versions, readers, threads and the kernel cache; --warm compiles everything once.

    `RUN segcli doctor --warm` in a Dockerfile makes every later start a fast one.
    """
    session: Session = ctx.obj
    facts = _facts()
    if warm:
        from segcli.kernels._jit import compile_all

        clock = time.perf_counter()
        with session.working("compiling kernels"):
            compile_all()
        facts["kernels"] = f"compiled in {time.perf_counter() - clock:.1f} s"

    def render(wanted: str, *, color: bool = False) -> str:  # noqa: ARG001 (facts have no colour)
        if wanted == "json":
            from segcli.run.json_text import to_json

            return to_json({"schema": "segcli.doctor/1", **facts})
        return "\n".join(f"{name:<14} {value}" for name, value in facts.items())

    deliver(render, form, [], session)
    return ExitCode.OK


def _facts() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    import segcli
    from segcli.kernels._jit import cache_directories, cache_directory, distrusted, is_cold
    from segcli.masks.files import BY_SUFFIX

    facts: dict[str, Any] = {"segcli": segcli.__version__, "python": f"{platform.python_version()} ({sys.executable})"}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "missing"
    facts["platform"] = f"{sys.platform} {platform.machine()}"
    facts["cores"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    facts["readers"] = " ".join(BY_SUFFIX)
    places = [d for d in cache_directories() if d != cache_directory()]
    where = str(cache_directory() or "none: no folder can be written, kernels compile at every start")
    facts["kernel cache"] = where + "".join(f"; {place} is read too" for place in places)
    if refused := distrusted():
        facts["not used"] = "; ".join(refused)
    facts["kernels"] = "not compiled yet (segcli doctor --warm)" if is_cold() else "compiled"
    return facts
