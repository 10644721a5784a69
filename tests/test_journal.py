"""The journal of a run: files that are none, lines that are damaged, masks that were replaced; nothing in silence."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort, process, same_runs, segcli, without_environment

import segcli as library
from segcli.cohort import collecting, states
from segcli.cohort.engine import Done, killed
from segcli.cohort.work import Plan, Task
from segcli.errors import InputError, UsageError

CASES = 6
MEASURES = ("-m", "dice,hd95", "-l", "dice")
FINISHED = b'{"finished":true}\n'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
POSIX = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a cohort, its undisturbed run `r.json` and the journal of that."""
    where = tmp_path_factory.mktemp("clean")
    cohort(where, CASES)
    assert evaluate(where).returncode == 0
    return where


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """Give a copy of them: to the journal each file was copied."""
    shutil.copytree(clean, tmp_path / "d")
    return tmp_path / "d"


def evaluate(where: Path, *more: str, real: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the evaluation in its folder, in this process or in one of its own."""
    call = process if real else segcli
    return call("evaluate", "pred", "gt", *MEASURES, "-o", "r.json", "-j1", *more, cwd=where)


def journal(where: Path) -> Path:
    return where / "r.json.journal"


def taken(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many cases came from the journal."""
    found = re.search(r"^(\d+) cases? taken from the journal$", done.stderr, re.MULTILINE)
    return int(found[1]) if found else 0


def warned(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [x.removeprefix("warning: ") for x in done.stderr.splitlines() if x.startswith("warning: r.json.journal")]


def dice_of(where: Path, name: str) -> set[float]:
    """Return the values of Dice of a case."""
    case = next(case for case in json.loads((where / "r.json").read_text())["cases"] if case["case"] == name)
    return {v["value"] for v in case["values"] if (v["kind"], v["measure"]) == ("metric", "dice")}


# --- files that are no journal ------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--resume"], ["--retry-errors"], ["--shard", "1/2"]], ids=str)
@pytest.mark.parametrize(
    "content",
    [
        b"my notes\n",
        b"my notes, without an end of line",
        PNG,
        b"[1, 2]\n",
        b'{"what": 1}\n{"case": "a"}\n',
        b'{"journal": 5}\n',
        b"\n",
        b"[" * 100_000 + b"\n",
        b"\0" * 5000,
        b'{"case":"a","files":{},"records":[]}\n{"finished":true}\n',
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_that_is_no_journal_is_not_touched(data: Path, content: bytes, more: list[str]) -> None:
    """Exit 2 with a way out, whatever is asked; its bytes and its time stay."""
    journal(data).write_bytes(content)
    before = journal(data).stat()
    (data / "r.json").unlink()
    done = evaluate(data, *more)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: r.json.journal: is no journal of segcli, and is left as it is")
    assert "hint: give -o another name" in done.stderr
    assert (journal(data).read_bytes(), journal(data).stat().st_mtime_ns) == (content, before.st_mtime_ns)
    assert not (data / "r.json").exists()


@POSIX
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=str)
@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "to a file", "to nothing", "to a fifo", "circle"])
def test_what_is_no_file_of_ours_is_not_touched(data: Path, kind: str, more: list[str]) -> None:
    """Nothing is opened that could wait, nothing written or made where a link points: exit 2 at once."""
    place, other = journal(data), data.parent / "other"
    place.unlink()
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "circle":
        place.symlink_to(place.name)
    else:
        place.symlink_to(other)
        if kind == "to a file":
            other.write_bytes(PNG)
        elif kind == "to a fifo":
            os.mkfifo(other)
    there = other.lstat() if os.path.lexists(other) else None
    done = subprocess.run(
        [sys.executable, "-m", "segcli", "evaluate", "pred", "gt", *MEASURES, "-o", "r.json", "-j1", *more],
        cwd=data, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 2), done.stderr
    assert "and is left as it is: the journal of the run goes there" in done.stderr
    assert os.path.lexists(other) == (there is not None)
    if there is not None:
        now = other.lstat()
        assert (now.st_size, now.st_mtime_ns, now.st_ino) == (there.st_size, there.st_mtime_ns, there.st_ino)


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes")
@pytest.mark.parametrize("start", [b"", b"notes\n"])
def test_a_hole_of_a_terabyte_is_refused(data: Path, start: bytes) -> None:
    """It is not read to its end."""
    journal(data).write_bytes(start)
    os.truncate(journal(data), 1 << 40)
    done = evaluate(data)
    assert (done.returncode, "is no journal of segcli" in done.stderr) == (2, True)
    assert journal(data).stat().st_size == 1 << 40


@POSIX
def test_a_link_to_a_journal_of_ours_is_followed(data: Path) -> None:
    """The link stays one, and what it points to is the journal."""
    journal(data).rename(data.parent / "kept")
    journal(data).symlink_to(data.parent / "kept")
    assert taken(evaluate(data, "--resume")) == CASES
    assert journal(data).is_symlink()
    assert (data.parent / "kept").read_bytes().endswith(FINISHED)


def test_an_empty_file_is_a_journal_that_was_just_begun(data: Path) -> None:
    """A crash before the first line leaves it; that it holds nothing is said where something was expected."""
    journal(data).write_bytes(b"")
    assert (evaluate(data).returncode, warned(evaluate(data))) == (0, [])
    journal(data).write_bytes(b"")
    done = evaluate(data, "--resume", "-q")
    assert (done.returncode, warned(done)) == (0, ["r.json.journal: is empty: all cases are scored"])


@POSIX
def test_a_file_that_comes_while_a_run_goes_on_is_not_touched(data: Path) -> None:
    """Where the journal is another file in the end, nothing is added to it."""

    def replaced(done: int, of: int) -> None:
        if done == of:
            journal(data).unlink()
            journal(data).write_bytes(PNG)

    asked = {"metrics": "dice,hd95", "losses": "dice", "jobs": 1}
    library.evaluate(data / "pred", data / "gt", output=data / "r.json", progress=replaced, **asked).to_dict()
    assert journal(data).read_bytes() == PNG


# --- damage -----------------------------------------------------------------------------------------


def flipped_digit(line: bytes) -> bytes:
    """Return a line in which a digit of a value is another one: JSON as before."""
    at = re.search(rb'"value":0\.\d', line)
    assert at is not None
    where = at.end() - 1
    digit = b"1" if line[where : where + 1] != b"1" else b"2"
    found = line[:where] + digit + line[where + 1 :]
    json.loads(found)
    return found


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a digit": flipped_digit,
    "zeros": lambda line: bytes(len(line) - 1) + b"\n",
    "no UTF-8": lambda line: line[:30] + b"\xff\xfe" + line[32:],
    "a bit": lambda line: line[:-40] + bytes([line[-40] ^ 4]) + line[-39:],
    "deep": lambda _: b'{"case":' + b"[" * 100_000 + b"\n",
    "huge": lambda line: line.replace(b'"value":', b'"value":' + b"9" * 5000, 1),
    "NaN": lambda line: re.sub(rb'"value":[0-9.e-]+', b'"value":NaN', line, count=1),
    "infinity": lambda line: re.sub(rb'"value":[0-9.e-]+', b'"value":1e999', line, count=1),
    "twice": lambda line: line.replace(b'{"case":', b'{"case":"b","case":', 1),
    "another case": lambda line: re.sub(rb"case_00\d", b"case_009", line),
    "wrong types": lambda _: b'{"case":"case_003","files":[1],"records":"x"}\n',
    "no hash": lambda line: re.sub(rb',"sum":"[0-9a-f]+"', b"", line),
    "empty": lambda _: b"\n",
    "half": lambda line: line[: len(line) // 2] + b"\n",
    "megabytes": lambda line: line[:-1] + b" " * 3_000_000 + b"\n",
}


@pytest.mark.parametrize("quiet", [[], ["-q"]], ids=["", "quiet"])
@pytest.mark.parametrize("number", [2, 4, 7])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_line_costs_its_case(data: Path, how: str, number: int, quiet: list[str]) -> None:
    """It is told, also with -q; its case is scored again, those below are taken, and the run is the clean one."""
    lines = journal(data).read_bytes().splitlines(keepends=True)
    if how == "a digit" and number == 2:  # every dice is 1
        number = 3
    lines[number - 1] = DAMAGES[how](lines[number - 1])
    journal(data).write_bytes(b"".join(lines))
    shutil.move(data / "r.json", data / "before.json")
    done = evaluate(data, "--resume", *quiet)
    assert done.returncode == 0, done.stderr
    assert warned(done) == [f"r.json.journal: 1 of 8 lines is damaged ({number}): what it held is scored again"]
    assert quiet or taken(done) == CASES - 1
    assert same_runs(data / "r.json", data / "before.json")
    again = evaluate(data, "--resume")
    assert (taken(again), warned(again)) == (CASES, [])  # it is whole now, and told once
    assert same_runs(data / "r.json", data / "before.json")


@pytest.mark.parametrize("quiet", [[], ["-q"]], ids=["", "quiet"])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda line: bytes(len(line) - 1) + b"\n", "damaged"),
        (lambda line: line[:40] + b"\xff" + line[41:], "damaged"),
        (lambda line: line.replace(b'"plan":"', b'"plan":"0'), "damaged"),
        (lambda line: line.replace(b"segcli.journal/", b"segcli.journal/4"), "damaged"),
        (lambda _: b"[" * 100_000 + b"\n", "damaged"),
        (lambda _: b"\n", "damaged"),
        (lambda _: b"", "missing"),
    ],
    ids=["zeros", "no UTF-8", "plan", "version", "deep", "empty", "gone"],
)
def test_a_damaged_first_line_costs_no_case(
    data: Path, how: Callable[[bytes], bytes], told: str, quiet: list[str]
) -> None:
    """What each line is of stands in itself."""
    first, rest = journal(data).read_bytes().split(b"\n", 1)
    journal(data).write_bytes(how(first + b"\n") + rest)
    shutil.move(data / "r.json", data / "before.json")
    done = evaluate(data, "--resume", *quiet)
    assert done.returncode == 0, done.stderr
    assert warned(done) == [f"r.json.journal: its first line is {told}; the cases are whole"]
    assert quiet or taken(done) == CASES
    assert same_runs(data / "r.json", data / "before.json")


def test_without_its_first_line_a_journal_of_another_plan_is_refused(data: Path) -> None:
    """The lines themselves know, and stay."""
    first, rest = journal(data).read_bytes().split(b"\n", 1)
    journal(data).write_bytes(bytes(len(first)) + b"\n" + rest)
    before = journal(data).read_bytes()
    done = evaluate(data, "--resume", "--empty", "worst")
    assert (done.returncode, "was begun with other measures, labels or options, or by" in done.stderr) == (3, True)
    assert journal(data).read_bytes() == before


def test_a_line_of_another_plan_is_not_taken(data: Path) -> None:
    """Two journals in one file, as a repair may glue them."""
    shutil.copytree(data, data.parent / "other")
    assert evaluate(data.parent / "other", "--empty", "worst").returncode == 0
    lines = journal(data).read_bytes().splitlines(keepends=True)
    lines[5] = journal(data.parent / "other").read_bytes().splitlines(keepends=True)[5]
    journal(data).write_bytes(b"".join(lines))
    done = evaluate(data, "--resume")
    assert (done.returncode, taken(done)) == (0, CASES - 1)
    assert warned(done) == ["r.json.journal: 1 of 8 lines is damaged (6): what it held is scored again"]


def test_all_lines_damaged_is_told(data: Path) -> None:
    """Five are named; nothing is taken and the run is right."""
    lines = journal(data).read_bytes().splitlines(keepends=True)
    journal(data).write_bytes(lines[0] + b"".join(line.replace(b"a", b"b") for line in lines[1:]))
    shutil.move(data / "r.json", data / "before.json")
    done = evaluate(data, "--resume", "-q", real=True)
    said = "6 of 8 lines are damaged (2, 3, 4, 5, 6 and 1 more): what they held is scored again"
    assert (done.returncode, done.stderr) == (0, f"warning: r.json.journal: {said}\n")
    assert same_runs(data / "r.json", data / "before.json")


def test_an_interrupted_run_with_damaged_lines_is_not_overwritten(data: Path) -> None:
    """Neither where some lines are damaged nor where all are."""
    lines = journal(data).read_bytes().removesuffix(FINISHED).splitlines(keepends=True)
    for broken, told in (
        (lines[2:3], "5 cases done and 1 damaged line"),
        (lines[1:], "0 cases done and 6 damaged lines"),
    ):
        text = b"".join(line.replace(b"case", b"cash") if line in broken else line for line in lines)
        journal(data).write_bytes(text)
        done = evaluate(data)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
        assert journal(data).read_bytes() == text
    # The line that says it is finished is damaged.
    journal(data).write_bytes(b"".join(lines) + FINISHED.replace(b"true", b"trve"))
    assert "6 cases done" in evaluate(data).stderr


def test_a_torn_last_line_is_told(data: Path) -> None:
    """A kill leaves none, a power cut does: it is cut off, and what is written next stands by itself."""
    text = journal(data).read_bytes().removesuffix(FINISHED)
    journal(data).write_bytes(text[:-30])
    shutil.move(data / "r.json", data / "before.json")
    done = evaluate(data, "--resume", "-q")
    assert (done.returncode, warned(done)) == (
        0,
        ["r.json.journal: its last line is torn: what it held is scored again"],
    )
    assert same_runs(data / "r.json", data / "before.json")
    again = evaluate(data, "--resume")
    assert (taken(again), warned(again)) == (CASES, [])


def test_an_error_that_was_mended_does_not_come_back(data: Path) -> None:
    """The line of the mended case is damaged: the older one of its error is not taken for it."""
    original = collecting.run_here

    def failing(plan: Plan, tasks: Sequence[Task]) -> Iterator[Done]:
        for task, records in original(plan, tasks):
            yield task, [killed(task)] if task.case == "case_001" else records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "run_here", failing)
        assert evaluate(data).returncode == 4
    assert taken(evaluate(data, "--retry-errors")) == CASES - 1
    text = journal(data).read_bytes()
    at = text.rindex(b'"value"')
    journal(data).write_bytes(text[:at] + b'"valve"' + text[at + 7 :])
    done = evaluate(data, "--resume")
    assert (done.returncode, taken(done), len(warned(done))) == (0, CASES - 1, 1)


def test_the_library_warns(data: Path) -> None:
    """By `warnings`; what it returns is right."""
    lines = journal(data).read_bytes().splitlines(keepends=True)
    lines[3] = flipped_digit(lines[3])
    journal(data).write_bytes(b"".join(lines))
    before = without_environment(data / "r.json")
    asked = {"metrics": "dice,hd95", "losses": "dice", "jobs": 1, "resume": True}
    with pytest.warns(UserWarning, match=r"r\.json\.journal: 1 of 8 lines is damaged \(4\)"):
        run = library.evaluate(data / "pred", data / "gt", output=data / "r.json", **asked).to_dict()
    assert {**run, "environment": 0} == {**before, "environment": 0}


def test_a_journal_of_a_shard_is_damaged(data: Path) -> None:
    """Each shard has its own; the merge of a mended one is the run."""
    for i in "12":
        call = ("evaluate", "pred", "gt", *MEASURES, "-j1", "--shard", f"{i}/2", "-o", f"s{i}.json")
        assert segcli(*call, cwd=data).returncode == 0
        place = data / f"s{i}.json.journal"
        text = place.read_bytes()
        place.write_bytes(text.replace(b'"case":"case_00', b'"case":"case_01', 1))
        done = segcli(*call, "--resume", "-q", cwd=data)
        assert (done.returncode, f"s{i}.json.journal: 1 of " in done.stderr) == (0, True)
    assert segcli("evaluate", "--merge", "s1.json", "s2.json", "-o", "m.json", cwd=data).returncode == 0
    assert same_runs(data / "m.json", data / "r.json")


def test_no_mutation_of_a_journal_changes_a_number(data: Path) -> None:
    """Bits, cuts, swaps, copies and junk at random places: the clean run, or a refusal in one line."""
    chance = random.Random(20)  # noqa: S311
    whole = journal(data).read_bytes()
    expected = {**without_environment(data / "r.json"), "environment": 0}
    asked = {"metrics": "dice,hd95", "losses": "dice", "jobs": 1}
    refused = silent = 0
    for _ in range(300):
        text = bytearray(whole)
        for _ in range(chance.choice((1, 1, 1, 3, 20))):
            at, until = sorted(chance.randrange(len(text) + 1) for _ in range(2))
            until = min(until, at + 400)
            kind = chance.randrange(6)
            if kind == 0 and at < len(text):
                text[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del text[at:until]
            elif kind == 2:
                text[at:at] = text[until : until + 300]
            elif kind == 3:
                text[at:until] = chance.randbytes(until - at)
            elif kind == 4:
                text[at:until] = bytes(until - at)
            elif chance.random() < 0.3:
                del text[at:]
        journal(data).write_bytes(text)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                run = library.evaluate(
                    data / "pred", data / "gt", output=data / "r.json", resume=True, **asked
                ).to_dict()
            except (UsageError, InputError) as problem:
                refused += 1
                line, run = problem.message, None
        if run is None:
            assert "\n" not in line
            assert bytes(text) == journal(data).read_bytes()
            continue
        assert {**run, "environment": 0} == expected
        silent += bytes(text) != whole and not told
    assert refused < 60
    assert silent < 30  # what was cut off between two lines, a line that stands there twice


# --- masks that change ------------------------------------------------------------------------------


def resumed(data: Path) -> Path:
    """Return a cohort whose journal knows the files as they are: they were copied."""
    assert taken(evaluate(data, "--resume")) == CASES
    return data


def as_before(path: Path, change: Callable[[], object]) -> None:
    """Change a file and give it the time that it had."""
    stat = path.stat()
    change()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@POSIX
@pytest.mark.parametrize("way", ["in place", "another file"])
@pytest.mark.parametrize("side", ["pred", "gt"])
def test_another_content_of_the_same_size_and_time_is_scored_again(data: Path, side: str, way: str) -> None:
    """Written over, or replaced by another file: the time was set back, ctime or inode tell."""
    mask, other = resumed(data) / side / "case_002.npy", data / ("gt" if side == "pred" else "pred") / "case_002.npy"
    content = other.read_bytes()

    def change() -> None:
        if way == "in place":
            mask.write_bytes(content)
        else:
            (data / "new").write_bytes(content)
            (data / "new").replace(mask)

    as_before(mask, change)
    done = evaluate(data, "--resume", real=True)
    assert (done.returncode, taken(done)) == (0, CASES - 1)
    assert dice_of(data, "case_002") == {1.0}


@POSIX
@pytest.mark.parametrize("way", ["chmod", "copy", "touch", "link"])
def test_the_same_content_is_read_and_not_scored(data: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A copy or a chmod of every mask costs a hash each, once: the journal remembers what was found."""
    resumed(data)
    masks = [path for side in ("pred", "gt") for path in sorted((data / side).iterdir())]
    for path in masks:
        if way == "chmod":
            path.chmod(0o600)
        elif way == "touch":
            os.utime(path)
        elif way == "link":
            os.link(path, data / "linked")
            (data / "linked").unlink()
        else:
            shutil.copy2(path, data / "copied")
            (data / "copied").replace(path)
    before = without_environment(data / "r.json")
    hashed: list[str] = []
    real = states.sha256_of
    monkeypatch.setattr(states, "sha256_of", lambda path: hashed.append(path) or real(path))
    for times in (1, 0):
        hashed.clear()
        assert taken(evaluate(data, "--resume")) == CASES
        assert len(hashed) == times * len(masks)
    assert without_environment(data / "r.json") == before


@POSIX
def test_a_region_of_interest_is_looked_at_too(data: Path) -> None:
    """One of the same size and time with other voxels: its case alone is scored again."""
    (data / "roi").mkdir()
    for path in (data / "gt").iterdir():
        np.save(data / "roi" / path.name, np.ones_like(np.load(path)))
    assert evaluate(data, "--roi", "roi").returncode == 0
    region = data / "roi/case_004.npy"
    half = np.load(region)
    half[: len(half) // 2] = 0
    as_before(region, lambda: np.save(region, half))
    assert taken(evaluate(data, "--roi", "roi", "--resume")) == CASES - 1
    shutil.move(data / "r.json", data / "resumed.json")
    assert evaluate(data, "--roi", "roi").returncode == 0
    assert same_runs(data / "r.json", data / "resumed.json")


def test_a_file_that_changes_while_an_error_is_tried_again(data: Path) -> None:
    """Its state is that of before it was read: the new content is scored the next time."""
    mask, gt = data / "pred/case_001.npy", (data / "gt/case_001.npy").read_bytes()
    original = collecting.run_here

    def failing(plan: Plan, tasks: Sequence[Task]) -> Iterator[Done]:
        for task, records in original(plan, tasks):
            yield task, [killed(task)] if task.case == "case_001" else records

    def changing(plan: Plan, tasks: Sequence[Task]) -> Iterator[Done]:
        for done in original(plan, tasks):
            as_before(mask, lambda: mask.write_bytes(gt))
            yield done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "run_here", failing)
        assert evaluate(data).returncode == 4
        patch.setattr(collecting, "run_here", changing)
        assert evaluate(data, "--retry-errors").returncode == 0
    assert taken(evaluate(data, "--resume")) == CASES - 1
    assert dice_of(data, "case_001") == {1.0}
