"""Names from outside (files, cases, labels, groups) draw nothing in any text, and run in no spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from cohorts import segcli

from segcli.report.latex import escape_latex
from segcli.report.table import escape_markdown, flat
from segcli.report.tidy import as_csv, harmless
from segcli.run.json_text import to_json

ESCAPES = "a\x1b[31mr\x07\x9b2J"
TURNED = "x\u202ey\u2066z"
HIDDEN = "p\u200bq\ufeffr\u00ads\u3164"
FLOOD = "e" + "\u0301" * 40
NASTY = f"={ESCAPES}\n{TURNED}{HIDDEN}[red]|::error::##[error]&copy;{FLOOD}"
SQUARE = np.zeros((12, 12), np.uint8)
SQUARE[2:8, 2:8] = 1


def drawn(text: str) -> set[str]:
    """Return what draws in a text: controls but line ends, turning and hidden characters, floods of marks."""
    found = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    return found | ({"flood"} if "\u0301" * 6 in text else set())


def test_a_flat_text_draws_nothing_and_keeps_scripts() -> None:
    """Controls are a space, what turns or hides is written out, marks end after four; letters of any script stay."""
    assert flat(NASTY) == (
        "=a [31mr 2J x\\u202ey\\u2066zp\\u200bq\\ufeffr\\u00ads\\u3164[red]|::error::##[error]&copy;e"
        + "\u0301" * 4
        + "…"
    )
    assert flat(flat(NASTY)) == flat(NASTY)
    for fine in ("Überlänge", "e\u0301", "肝臓", "كبد", "יְרוּשָׁלַיִם", "ตับที่", "यकृत्", "a-b_c 1+2"):
        assert flat(fine) == fine


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"), ("+cmd", "'+cmd"), ("-a", "'-a"), ("@SUM(A1)", "'@SUM(A1)"), (" =1", "' =1"),
        ("＝1", "'＝1"), ("\t=1", "' =1"),
        ("-0.5", "-0.5"), ("-inf", "-inf"), ("+3", "+3"), ("a=1", "a=1"), ("1-2", "1-2"), ("", ""),
    ],
)  # fmt: skip
def test_a_text_that_a_spreadsheet_would_run_is_prefixed(text: str, shown: str) -> None:
    """A number stays a number."""
    assert harmless(text) == shown
    assert next(csv.reader(io.StringIO(as_csv([[text, -1.5]])))) == [shown, "-1.5"]


@pytest.mark.parametrize("text", ["&copy;", "[a](b)", "<b>", "a|b", "`x`", "*x*", "~~x~~", "#1"])
def test_markdown_shows_markup(text: str) -> None:
    """Each sign of it is escaped, an entity's too."""
    bare = escape_markdown(text)
    assert all(bare[i - 1] == "\\" for i, c in enumerate(bare) if c in "&[]<>|`*~#")


@pytest.mark.parametrize(
    ("text", "shown"), [("- a", "\\- a"), ("1. a", "1\\. a"), ("2) a", "2\\) a"), ("-a", "-a"), ("1.5", "1.5")]
)
def test_markdown_begins_no_list(text: str, shown: str) -> None:
    """A line that begins as one would."""
    assert escape_markdown(text) == shown


def test_json_is_exact_and_draws_nothing() -> None:
    """What draws is escaped, and is what it was when it is read."""
    text = to_json({NASTY: [NASTY]})
    assert json.loads(text) == {NASTY: [NASTY]}
    assert not drawn(text) - {"flood"}


def test_latex_is_one_line_of_plain_letters() -> None:
    """Controls and hidden characters are gone or written out."""
    assert not drawn(escape_latex(NASTY))
    assert "\n" not in escape_latex(NASTY)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a cohort whose files, cases, groups and labels have such names, and its run."""
    folder = tmp_path_factory.mktemp("nasty")
    for side, array in (("pred", np.roll(SQUARE, 1) * 2), ("gt", SQUARE)):
        (folder / side).mkdir()
        for name in (NASTY, f"{NASTY}2"):
            np.save(folder / side / f"{name}.npy", array)
    np.save(folder / "gt" / f"-lost{NASTY}.npy", SQUARE)
    np.save(folder / "gt" / f"@bad{NASTY}.npy", SQUARE)
    np.save(folder / "pred" / f"@bad{NASTY}.npy", SQUARE[:5])
    np.save(folder / "prob.npy", (0.1 + 0.8 * SQUARE).astype(np.float32))
    labels = f"l{ESCAPES}{TURNED}=1,+w{HIDDEN}=2"
    (folder / "labels.txt").write_text(labels)
    done = segcli("--isolated", "evaluate", "pred", "gt", "-m", "dice", "-j1", "-o", "run.json", cwd=folder)
    assert done.returncode == 4
    done = segcli(
        "--isolated", "evaluate", "pred", "gt", "-m", "dice", "-j1", "--labels", labels, "-o", "named.json", cwd=folder
    )
    assert done.returncode == 4
    return folder


CALLS = [
    *(("score", "PRED", "GT", *more, "-f", form) for form in ("table", "csv", "md", "json")
      for more in (("--labels", "LABELS"), ("-m", "dice,confusion", "--min", "dice=0.5"))),
    *(("compare", "PRED", "GT", "--labels", "LABELS", "-l", "dice", "-m", "dice", "-f", form)
      for form in ("table", "csv", "md", "json")),
    *(("inspect", "PRED", "GT", "--labels", "LABELS", "-l", "dice", "--by", "label,component", "-f", form)
      for form in ("table", "csv", "json")),
    *(("conventions", "PRED", "GT", "--labels", "LABELS", "-f", form) for form in ("table", "csv", "md", "json")),
    *(("evaluate", "pred", "gt", "-m", "dice", "-j1", "--labels", "LABELS", "-f", form)
      for form in ("table", "csv", "md", "latex", "json")),
    *(("evaluate", "pred", "gt", "--dry-run", "-f", form) for form in ("table", "md", "json")),
    *((*call, "-f", form) for form in ("table", "csv", "md", "latex", "json")
      for call in (("diff", "named.json", "named.json", "--all"), ("rank", "named.json", "NAME"))),
    *(("gate", run, "--min", "dice=0.5", "-f", form) for form in ("table", "json", "junit", "github", "md")
      for run in ("run.json", "named.json")),
    *(("cite", "named.json", "-f", form) for form in ("text", "json", "bibtex")),
    *(("describe", "PRED", "GT", "-f", form) for form in ("table", "json")),
]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_no_name_draws_in_any_output(nasty: Path, call: tuple[str, ...]) -> None:
    """Every command in every format; no line is begun by a name, and no command of GitHub's runner."""
    real = {
        "PRED": str(nasty / "pred" / f"{NASTY}.npy"), "GT": str(nasty / "gt" / f"{NASTY}.npy"),
        "LABELS": (nasty / "labels.txt").read_text(), "NAME": f"{NASTY.removeprefix('=')}=named.json",
    }  # fmt: skip
    done = segcli("--isolated", *(real.get(word, word) for word in call), cwd=nasty)
    assert done.returncode in (0, 1, 4), done.stderr
    exact = {"flood"} if call[-1] == "json" else set()
    assert not drawn(done.stdout) - exact
    assert not drawn(done.stderr)
    for line in (done.stdout + done.stderr).splitlines():
        assert not line.lstrip().startswith(TURNED[:1] + "\\u202e")
        if call[-1] == "github":
            assert "##[" not in line
            assert not line.startswith("::") or line.startswith(("::error title=segcli", "::warning title=segcli"))
    if call[-1] == "csv":
        for row in csv.reader(io.StringIO(done.stdout)):
            assert all(harmless(cell) == cell for cell in row)


def test_a_manifest_is_exact(nasty: Path) -> None:
    """It is read back: its names are those of the files."""
    done = segcli("--isolated", "evaluate", "pred", "gt", "--dry-run", "-f", "csv", cwd=nasty)
    found = {row["gt"] for row in csv.DictReader(io.StringIO(done.stdout, newline=""))}
    assert found == {str(Path("gt") / path.name) for path in (nasty / "gt").iterdir()}
