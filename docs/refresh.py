"""Regenerate what the documents show of the tool: console samples, the table of measures, the picture.

`python docs/refresh.py` writes, `--check` only says what is stale (exit 1). A console sample is a fenced block
whose first line is `$ segcli ...`, run from the root of the repository.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from segcli.measure.losses.libraries import LEGEND
from segcli.measure.record import Measure, measures
from segcli.report.catalog import elsewhere, facts, outside

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "score.svg"
PICTURED = (
    "segcli score sample_masks/abdomen_pred.nii.gz sample_masks/abdomen_gt.nii.gz --labels sample_masks/labels.csv"
)

FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="-14 -10 @WIDTH@ @HEIGHT@" role="img" \
aria-label="Output of segcli score">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}<clipPath id="{unique_id}-clip-terminal">\
<rect width="{terminal_width}" height="{terminal_height}"/></clipPath></defs>
<rect x="-14" y="-10" width="@WIDTH@" height="@HEIGHT@" rx="8" fill="#1e1e24"/>
<!-- {terminal_width} {terminal_height} -->
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g>
</svg>
"""


def run(command: str, *, color: bool = False) -> str:
    """Return what a command prints; the exit code is part of the sample's truth and not of its text."""
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", *words, *(["--color", "always"] if color else [])],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env={k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command}\n{done.stderr}")
    return done.stdout


def samples(text: str) -> str:
    """Return a document with the output of each of its console samples as it is now."""

    def refreshed(block: re.Match[str]) -> str:
        return f"```console\n$ {block[1]}\n{run(block[1]).rstrip()}\n```"

    return re.sub(r"```console\n\$ (segcli [^\n]*)\n(?:.*?\n)??```", refreshed, text, flags=re.DOTALL)


def measure_table(text: str) -> str:
    """Return a document with the measures of each family between its marks."""
    plurals = {"metric": "metrics", "table": "tables", "loss": "losses"}
    lines = ["| | family | measures |", "|---|---|---|"]
    for kind, family in dict.fromkeys((m.kind, m.family) for m in measures()):
        names = " ".join(f"[`{m.name}`](docs/measures.md#{anchor(m)})" for m in measures(kind) if m.family == family)
        lines.append(f"| {plurals[kind]} | {family} | {names} |")
    marks = r"(<!-- measures -->\n).*?(<!-- /measures -->)"
    return re.sub(marks, lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text, flags=re.DOTALL)


def anchor(measure: Measure) -> str:
    """Return what a heading of the page of measures is called in a link."""
    return measure.id.replace(".", "").lower()


def measure_pages() -> str:
    """Return the page of all measures, a section each, out of their records."""
    lines = [
        "# Measures",
        "",
        "Generated from the records by `python docs/refresh.py`; `segcli catalog NAME` prints the same.",
        "*gt empty* and *pred empty* mean that only the one mask is empty.",
        f"In the calls of other libraries, {LEGEND}.",
    ]
    headings = {"metric": "Metrics", "table": "Tables", "loss": "Losses"}
    for kind, family in dict.fromkeys((m.kind, m.family) for m in measures()):
        lines += ["", f"## {headings[kind]}: {family}"]
        for m in (m for m in measures(kind) if m.family == family):
            lines += [
                "",
                f"### {m.id}",
                "",
                f"{m.summary} {' '.join(m.notes.split())}".strip(),
                "",
                f"$${m.formula}$$",
                "",
            ]
            lines += [f"- {name}: {text}" for name, text in facts(m)]
            lines += [
                f"- parameter `{p.name}` ({p.allowed()}; default {p.default}): {p.help}" for p in m.params.values()
            ]
            of = outside(m)
            lines += [f"- elsewhere: {text}" for text in elsewhere(of, "`")]
            lines += [f"- often wrong: {text}" for text in of.mistakes]
    return "\n".join(lines) + "\n"


def picture() -> str:
    """Return the pictured command with its output as SVG, without fonts from elsewhere."""
    from rich.console import Console
    from rich.text import Text

    output = Text.from_ansi(f"$ {PICTURED}\n{run(PICTURED, color=True)}".rstrip())
    width = max(line.cell_len for line in output.split())
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(output)
    svg = console.export_svg(code_format=FRAME, unique_id="segcli")
    size = re.search(r"<!-- ([\d.]+) ([\d.]+) -->", svg)
    if size is None:
        raise SystemExit("the frame of the picture has lost its size")
    for name, number, margin in (("@WIDTH@", size[1], 28), ("@HEIGHT@", size[2], 28)):
        svg = svg.replace(name, f"{float(number) + margin:.0f}")
    return svg


def main() -> int:
    readme = ROOT / "README.md"
    wanted = {
        readme: measure_table(samples(readme.read_text(encoding="utf-8"))),
        ROOT / "docs" / "measures.md": measure_pages(),
        PICTURE: picture(),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'}: {path.relative_to(ROOT)}")
        if "--check" not in sys.argv:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
