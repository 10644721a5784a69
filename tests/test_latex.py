"""LaTeX tables: what is escaped, that the structure holds together, and which values are bold."""

from __future__ import annotations

import re
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import Source, as_run, made_run, run_latex
from test_diff import cli

from segcli.measure.notation import bind
from segcli.measure.record import find
from segcli.report.cohort import measures_of
from segcli.report.latex import best_of, difference_latex, escape_latex, numeric, ranking_latex
from segcli.run.diff import compare_runs
from segcli.run.rank import rank_runs
from segcli.run.summary import Resampling

DICE, HD, RVE = "metric.dice", "metric.hd95:surface=surfel", "metric.rve"
NASTY = r"a&b%c$d#e_f{g}h~i^j\k<l>m|n[o]*p`q--r"
AT = Resampling(resamples=100)


def unescaped(text: str) -> str:
    """Return what LaTeX prints of an escaped text: the reverse, written from LaTeX's own definitions."""
    words = {
        "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
        "textbar": "|", "textasciigrave": "`",
    }  # fmt: skip
    printed, at = "", 0
    while at < len(text):
        word = re.match(r"\\([a-z]+)\{\}", text[at:])
        if word:
            printed, at = printed + words[word[1]], at + word.end()
        elif text[at] == "\\":
            assert text[at + 1] in "&%$#_{}", text
            printed, at = printed + text[at + 1], at + 2
        elif text[at] in "{}":  # a group prints nothing
            at += 1
        else:
            assert text[at] not in "&%$#_~^", text
            assert text[at : at + 2] != "--", text
            printed, at = printed + text[at], at + 1
    return printed


def balanced(text: str) -> bool:
    depth = 0
    for letter in re.sub(r"\\[{}\\]", "", text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    return depth == 0


def table_of(text: str) -> tuple[int, list[list[str]]]:
    """Check the structure of a table and return its number of columns and the cells of its rows."""
    assert balanced(text)
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert opened == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == opened[::-1]
    lines = text.splitlines()
    for rule in ("toprule", "bottomrule"):
        assert lines.count(f"\\{rule}") == 1
    assert "\\midrule" in lines
    assert sum(line.startswith(r"\caption{") for line in lines) == 1
    assert sum(line.startswith(r"\label{tab:") for line in lines) == 1
    assert text.index(r"\caption") < text.index(r"\label")  # else the number is that of the section
    columns = len(re.search(r"\\begin\{tabular\}\{([lrc]+)\}", text)[1])
    rows = []
    for line in lines[lines.index(r"\toprule") + 1 : lines.index(r"\bottomrule")]:
        if line.endswith(r"\\"):
            cells = re.split(r"(?<!\\)&", line.removesuffix(r"\\"))
            spans = [int(m[1]) if (m := re.match(r"\s*\\multicolumn\{(\d+)\}", c)) else 1 for c in cells]
            assert sum(spans) == columns, line
            assert not cells[0].lstrip().startswith(("[", "*"))  # an argument of the row's end before it
            rows.append([c.strip() for c in cells])
        else:
            assert line == r"\midrule" or line.startswith(r"\cmidrule"), line
    return columns, rows


@pytest.mark.parametrize("letter", [*"&%$#_{}~^\\<>|[]*`", "--", "---", "\t", "\n", "é", "肝"])
def test_every_special_character_prints_as_itself(letter: str) -> None:
    """Between letters, alone, and doubled."""
    for text in (f"a{letter}b", letter, letter * 2):
        assert unescaped(escape_latex(text)) == " ".join(text.split())


@settings(max_examples=200)
@given(st.text(alphabet=string.printable + "éß–", max_size=30))
def test_escaping_any_text(text: str) -> None:
    """What LaTeX prints is the text with its white space folded; a dash is two hyphens in LaTeX."""
    shown = escape_latex(text)
    assert balanced(shown)
    if "–" not in text:
        assert unescaped(shown) == "".join(c for c in " ".join(text.split()) if c.isprintable())


def test_numbers() -> None:
    """A minus is one, thousands are apart, percent is escaped, undefined is a dash."""
    assert numeric("-0.5") == "$-$0.5"
    assert numeric("1 482 113") == r"1\,482\,113"
    assert numeric("-4.5%") == r"$-$4.5\%"
    assert numeric("–") == "--"


def test_best_is_by_what_is_printed() -> None:
    """Values that look the same are both best; the direction is the measure's; sizes where 0 is best."""
    assert best_of([0.9001, 0.9002, 0.8], find("dice")) == [True, True, False]
    assert best_of([3.0, None, 2.0], find("hd95")) == [False, False, True]
    assert best_of([-0.2, 0.1], find("rve")) == [False, True]
    assert best_of([5.0, 4.0], find("voxels_gt")) == [False, False]
    assert best_of([None, None], find("dice")) == [False, False]


def nasty_run(shift: float = 0.0) -> dict:
    columns = {
        (NASTY, DICE): [0.5 + shift, 0.7 + shift, 0.6 + shift],
        (NASTY, HD): [3.0 - shift, 2.0, "pred_empty"],
        (NASTY, RVE): [-0.2, 0.1 + shift, 0.0],
        ("[x]", DICE): [0.5, 0.5, 0.5],
        ("[x]", HD): [1.0, 1.0, 1.0],
        ("[x]", RVE): [0.0, 0.0, 0.0],
    }
    return made_run(columns, units={HD: "mm"})


@pytest.mark.parametrize("cell", ["sd", "iqr"])
def test_a_run(cell: str) -> None:
    """Labels, n, mean and sd by hand; what is undefined is counted; the caption defines every measure."""
    run = nasty_run()
    text = run_latex(run, measures_of(as_run(run)), cell)
    columns, rows = table_of(text)
    assert columns == 5
    assert rows[0] == ["Label", "$n$", r"dice~$\uparrow$", r"hd95 (mm)~$\downarrow$", r"rve~$\rightarrow 0$"]
    assert unescaped(rows[1][0]) == NASTY
    assert rows[1][1] == "3"
    # 0.5 0.7 0.6: mean and median 0.6, sd 0.1, quartiles 0.55 and 0.65; 3 and 2: sd sqrt(0.5)
    assert (
        rows[1][2:4]
        == {
            "sd": [r"0.600 $\pm$ 0.100", r"2.50 $\pm$ 0.707 (2)"],
            "iqr": ["0.600 [0.550, 0.650]", "2.50 [2.25, 2.75] (2)"],
        }[cell]
    )
    assert r"\textbf" not in text
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for word in ("dice:", "hd95:", "rve:", "Surface surfel", "Empty masks: undefined", "Arrows"):
        assert word in caption


def test_a_run_with_groups() -> None:
    """Groups stand apart, with a column of their own."""
    run = nasty_run()
    for case, site in zip(run["cases"], ("A_1", "A_1", "B&2"), strict=True):
        case["group"] = {"site": site}
    from made_runs import summaries

    run["summary"] = summaries(run["cases"], AT, "site")
    columns, rows = table_of(run_latex(run, measures_of(as_run(run))))
    assert columns == 6
    assert {unescaped(r[0]) for r in rows[1:]} == {"all cases", "site=A_1", "site=B&2"}


def test_a_difference() -> None:
    """The better mean of a row is bold, both where they are the same, the change has its interval."""
    found = compare_runs(Source(NASTY, nasty_run()), Source("b", nasty_run(0.1)), resampling=AT)
    text = difference_latex(found)
    columns, rows = table_of(text)
    assert columns == 7
    first = rows[1]
    assert unescaped(first[0]) == NASTY
    assert first[2:5] == ["3", r"0.600 $\pm$ 0.100", r"\textbf{0.700 $\pm$ 0.100}"]
    assert first[5].startswith("0.100 [")
    assert rows[2][0] == ""  # the label stands once
    assert r"$|$\mbox{rve}$|$" in rows[3][1]
    same = next(r for r in rows[1:] if unescaped(r[0]) == "[x]")
    assert [r"\textbf" in c for c in same[3:5]] == [True, True]
    assert "A: " + escape_latex(NASTY) in text


@pytest.mark.parametrize("cell", ["sd", "iqr"])
def test_a_ranking(cell: str) -> None:
    """A column for each label and measure under the label's head; the best of each column is bold."""
    runs = [Source(n, nasty_run(s)) for n, s in ((NASTY, 0.2), ("b", 0.1), ("c", 0.0))]
    text = ranking_latex(rank_runs(runs, resampling=AT), cell)
    columns, rows = table_of(text)
    assert columns == 1 + 6 + 2
    assert [unescaped(r[0]) for r in rows[2:]] == [NASTY, "b", "c"]
    assert [r"\textbf" in r[1] for r in rows[2:]] == [True, False, False]
    assert all(r"\textbf" in r[4] for r in rows[2:])  # [x] dice is the same in all
    assert rows[0][1].startswith(r"\multicolumn{3}{c}{")
    assert text.count(r"\cmidrule(lr)") == 3
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7} \cmidrule(lr){8-9}" in text


def test_a_metric_and_a_loss_of_one_name_are_told_apart() -> None:
    """`dice` is both: their heads are the ids."""
    run = made_run({("x", DICE): [0.5, 0.6], ("x", "loss.dice"): [0.5, 0.4]})
    _, rows = table_of(run_latex(run, [bind("metric.dice"), bind("loss.dice")]))
    assert rows[0][2:] == [r"metric.dice~$\uparrow$", r"loss.dice~$\downarrow$"]


def test_the_command(tmp_path: Path) -> None:
    """`evaluate -f latex --cell iqr` prints a table; --cell without LaTeX is refused."""
    for folder in ("pred", "gt"):
        (tmp_path / folder).mkdir()
        for i in range(3):
            mask = np.zeros((8, 9), np.uint8)
            mask[2:6, 2 : 5 + i] = 1
            np.save(tmp_path / folder / f"c{i}.npy", mask)
    call = ("evaluate", tmp_path / "pred", tmp_path / "gt", "-m", "dice", "-j", 1)
    done = cli(*call, "-f", "latex", "--cell", "iqr", "-o", tmp_path / "run.tex")
    assert done.returncode == 0, done.stderr
    _, rows = table_of(done.stdout.rstrip())
    assert rows[1] == ["foreground", "3", "1.000 [1.000, 1.000]"]
    assert (tmp_path / "run.tex").read_text() == done.stdout
    failed = cli(*call, "--cell", "iqr")
    assert failed.returncode == 2
    assert "--cell iqr" in failed.stderr
