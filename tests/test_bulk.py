"""Reading many records line by line: the same as the file as a whole, and nothing where it is laid out otherwise."""

from __future__ import annotations

import gc
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import as_run, read_run
from runfiles import dice_run

from segcli.errors import InputError
from segcli.run.bulk import Sharing, no_garbage, parse_lines
from segcli.run.json_text import json_lines
from segcli.run.reading import UNREAD, load_run

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def by_line(text: str, key: str = "cases") -> dict[str, Any] | None:
    return parse_lines(io.BytesIO(text.encode()), key, Sharing("a", "b"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), min_size=1, max_size=4), JSON)
def test_a_file_as_it_is_written_reads_the_same_by_line(elements: list[Any], other: Any) -> None:
    """Types and the order of keys too: the texts are equal, whatever is shared between records."""
    data = {"schema": "x/1", "cases": elements, "summary": other}
    text = "".join(json_lines(data.items()))
    assert json.dumps(by_line(text)) == json.dumps(json.loads(text)) == json.dumps(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"cases": []}',
        '{\n "cases": [\n ]\n}',
        '{\n "cases": [\n  1,\n ]\n}',
        '{\n "cases": [\n  1\n  2\n ]\n}',
        '{\n "cases": [\n  1,,\n  2\n ]\n}',
        '{\n "cases": [\n  1\n ],\n "cases": [5]\n}',
        '{\n "cases": [\n  {"a": 1, "a": 1}\n ]\n}',
        '{\n "cases": [\n  1\n ],\n "x": {"y": 1, "y": 2}\n}',
        '{\n "cases": [\n  NaN\n ]\n}',
        '{\n "cases": [\n  1\n ],\n "x": Infinity\n}',
        '{\n "cases": [\n  1\n',
        '{\n "cases": [\n  {\n   "a": 1\n  }\n ]\n}',
        '{\n "x": {\n  "cases": [\n  1\n ]\n}\n}',
        '[\n "cases": [\n  1\n ]\n]',
        "[" * 100_000,
        '{\n "cases": [\n  ' + "[" * 100_000 + "\n ]\n}",
    ],
)
def test_what_is_laid_out_otherwise_is_left_to_the_whole(text: str) -> None:
    """No guess is made: not strict, torn, a list or a key twice, elements over several lines."""
    assert by_line(text) is None


def test_shared_parts_are_one_object_and_keep_their_types() -> None:
    """Equal by value is not enough: 1, 1.0 and True are written differently."""
    share = Sharing("a")
    records = [share({"a": part}) for part in ([1, 2], [1, 2], [1.0, 2], [True, 2])]
    assert records[0]["a"] is records[1]["a"]
    assert [repr(r["a"]) for r in records] == ["[1, 2]", "[1, 2]", "[1.0, 2]", "[True, 2]"]
    assert share(5) == 5


def test_a_run_reads_without_what_is_not_wanted(tmp_path: Path) -> None:
    """The rest is as it is; a run on one line, and one that is no run, are read as a whole."""
    run = dice_run(a=0.5, b=0.25)
    path = tmp_path / "run.json"
    path.write_text("".join(json_lines(run.items())))
    assert load_run(path) == as_run(run)
    lean = read_run(path, without=UNREAD)
    assert not {key for case in lean["cases"] for key in case} & {"pred", "means"}
    assert [case["values"] for case in lean["cases"]] == [case["values"] for case in run["cases"]]
    path.write_text("\ufeff" + "".join(json_lines(run.items())))
    assert load_run(path) == as_run(run)
    path.write_text("".join(json_lines(run.items())).replace("0.25", "NaN"))
    with pytest.raises(InputError, match="NaN is no JSON number"):
        load_run(path)
    path.write_text("".join(json_lines({**run, "cases": [1, 2]}.items())))
    with pytest.raises(InputError, match=r"cases\[0\] is no object"):
        load_run(path, without=UNREAD)


def test_the_collector_is_as_it_was() -> None:
    """Paused inside, and on again after an error; where it was off it stays off."""
    inside = []
    with pytest.raises(ZeroDivisionError), no_garbage():
        inside.append(1 / (not inside.append(gc.isenabled()) and 0))
    assert inside == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        with no_garbage():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
