"""segcli gate: may this be merged or released?"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from segcli.cli.session import RESULT_SUFFIXES, Session, check_outputs, deliver
from segcli.errors import ExitCode, UsageError
from segcli.report.table import flat
from segcli.run.bulk import no_garbage

#: Formats of files by their suffix.
FILES = {suffix: form for suffix, form in RESULT_SUFFIXES.items() if form != "csv"} | {".xml": "junit"}


@no_garbage()
def gate(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN|-", help="A run file, - for stdin, or nnU-Net's summary.json.")],
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run that max_drop rules compare with.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML with [[gate]] rules, instead of the configuration's.")
    ] = None,
    min_: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="M=V", help="Fail where the mean over cases is below V: dice=0.9, mean/iou=0.7."),
    ] = None,
    max_: Annotated[
        list[str] | None, typer.Option("--max", metavar="M=V", help="Fail where it is above V: tumour/hd95=5.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a case of the run has a warning.")] = False,
    form: Annotated[
        Literal["table", "json", "junit", "github", "md"], typer.Option("-f", "--format", help="Format of stdout.")
    ] = "table",
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", metavar="FILE", help="Also write FILE (.json .md .txt .xml); repeatable."),
    ] = None,
) -> ExitCode:
    """Hold a run against rules: exit 0 when it passes, 1 when it fails.

    Rules are the [[gate]] tables of the configuration or of --rules, and --min and --max. Three are always on:
    no-missing, no-errors, and no-warnings, which is no failure without --strict. A value that is undefined where one
    mask is empty fails, as does a rule without values; a label in neither mask counts for nothing.
    """
    from segcli.gates.rules import parse_rules, read_rules

    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = output or []
    check_outputs(outputs, [run, *(str(p) for p in (baseline, rules) if p is not None)], FILES)
    if run == "-" and str(baseline) == "-":
        raise UsageError("RUN and --baseline cannot both be stdin.", code="gate.stdin")
    tables = session.config.rules if rules is None else read_rules(rules)
    asked = parse_rules(tables, str(rules or session.config.path), min_ or [], max_ or [], strict=strict)
    if not asked.rules and not session.quiet:
        print("note: no rule but those always on: give --min, --max, --rules or [[gate]]", file=sys.stderr)
    from segcli.gates.verdicts import judge_run
    from segcli.run.document import environment
    from segcli.run.json_text import to_json
    from segcli.run.reading import UNREAD, load_run

    read = partial(load_run, without=UNREAD)
    judgement = judge_run(asked, read(run), None if baseline is None else read(baseline))
    from segcli.report import gate as report
    from segcli.report.github import workflow_commands
    from segcli.report.junit import junit_xml

    files = (run, None if baseline is None else str(baseline))
    seconds = time.perf_counter() - clock

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            env = environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])
            return to_json(report.document(judgement, files, env))
        if wanted == "junit":
            return junit_xml(judgement, seconds)
        if wanted == "github":
            return workflow_commands(judgement)
        return (
            report.gate_markdown(judgement, files)
            if wanted == "md"
            else report.gate_text(judgement, files, color=color)
        )

    deliver(render, form, outputs, session, FILES)
    if form == "github" and os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(os.environ["GITHUB_STEP_SUMMARY"]), render("md"))
    return ExitCode.OK if judgement.passed else ExitCode.GATE


def _append(summary: Path, text: str) -> None:
    """Append to the summary of a job; that it cannot be written is no verdict."""
    try:
        with summary.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{text}\n\n")
    except OSError as problem:
        print(flat(f"warning: {summary}: the job summary cannot be written ({problem.strerror})"), file=sys.stderr)
