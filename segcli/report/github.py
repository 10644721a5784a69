"""The gate's verdicts as annotations of a GitHub job, and its summary page."""

from __future__ import annotations

from segcli.gates.verdicts import Judgement
from segcli.report.gate import counts_line, notes, ordered, sentence
from segcli.report.table import flat

#: GitHub shows no more of one step.
MOST = 10


def workflow_commands(judgement: Judgement) -> str:
    """Return `::error` and `::warning` commands, failures first, and the counts as a last line."""
    told = [v for v in ordered(judgement) if v.status in ("failed", "warned")]
    lines = [
        f"::{'error' if v.status == 'failed' else 'warning'} title={escape_property(f'segcli gate: {flat(v.rule)}')}"
        f"::{escape_data(sentence(v))}"
        for v in told[:MOST]
    ]
    if len(told) > MOST:
        more = len(told) - MOST
        lines.append(f"{more} more {'is' if more == 1 else 'are'} not annotated: GitHub shows {MOST} of a step")
    # The runner's older commands, ##[error], may stand anywhere in a line.
    return "\n".join([*lines, *notes(judgement), counts_line(judgement)]).replace("##[", "## [")


def escape_data(text: str) -> str:
    """Return a message so that the runner takes it literally, also its line ends."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Return a property's value so that it cannot end the property or the command."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")
