"""What a paper has to say of a run: every reference is read, nothing is made up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from made_runs import cite, made_run
from test_diff import cli

from segcli.errors import InputError
from segcli.measure.record import measures
from segcli.report.citation import citation_bibtex, citation_document, citation_text, paragraph
from segcli.run.bibliography import Work, bibtex, escape_bibtex, keys_of, names_of, works_of

HD, NSD = "metric.hd95:surface=surfel", "metric.nsd:tol=2:surface=surfel"


def fields_of(entry: str) -> dict[str, str]:
    """Return the fields of one entry, read as BibTeX reads them: braces in pairs."""
    head = re.match(r"@(\w+)\{([^,{}\s]+),\n", entry)
    assert head is not None
    found = {"ENTRYTYPE": head[1], "ID": head[2]}
    at = head.end()
    while entry[at] != "}":
        name = re.match(r"\s*(\w+) = \{", entry[at:])
        assert name is not None, entry[at:]
        start = at = at + name.end()
        depth = 1
        while depth:
            if entry[at] == "\\":
                at += 1
            else:
                depth += {"{": 1, "}": -1}.get(entry[at], 0)
            at += 1
        found[name[1]] = entry[start : at - 1]
        at += len(re.match(r",?\n?", entry[at:])[0])
    return found


@pytest.mark.parametrize(
    ("reference", "works", "rest"),
    [
        ("Dice 1945, doi:10.2307/1932409", [Work("Dice", "1945", "doi", "10.2307/1932409")], []),
        ("van Rijsbergen 1979", [Work("van Rijsbergen", "1979", "", "")], []),
        ("a count", [], ["a count"]),
        (
            "Huttenlocher 1993, doi:10.1109/34.232073; pooling as surface-distance, MONAI",
            [Work("Huttenlocher", "1993", "doi", "10.1109/34.232073")],
            ["pooling as surface-distance, MONAI"],
        ),
        (
            "Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
            [Work("Brier", "1950", "doi", "10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2")],
            [],
        ),
        (
            "after Ma et al. 2021, doi:10.1/x; Yang et al. 2019, openreview:H1lTh8unKN",
            [Work("Ma et al.", "2021", "doi", "10.1/x"), Work("Yang et al.", "2019", "openreview", "H1lTh8unKN")],
            [],
        ),
    ],
)
def test_references_are_read(reference: str, works: list[Work], rest: list[str]) -> None:
    """Works apart from remarks; a semicolon inside an identifier does not end it."""
    assert works_of(reference) == (works, rest)


def test_every_record_with_an_identifier_is_read() -> None:
    """No doi, arXiv or OpenReview number of any measure is left in the remarks."""
    for measure in measures():
        works, rest = works_of(measure.reference)
        assert works or rest, measure.id
        assert not any(re.search(r"doi:|arXiv|openreview", text) for text in rest), (measure.id, rest)
        assert all(work.scheme for work in works if re.search(r"\d{4},", work.text)), measure.id


@pytest.mark.parametrize(
    ("authors", "names"),
    [
        ("Dice", ["Dice"]),
        ("Ma et al.", ["Ma", "others"]),
        ("Taha & Hanbury", ["Taha", "Hanbury"]),
        ("Salehi, Erdogmus and Gholipour", ["Salehi", "Erdogmus", "Gholipour"]),
        ("Al Arif, Knapp and Slabaugh", ["Al Arif", "Knapp", "Slabaugh"]),
    ],
)
def test_authors_are_split(authors: str, names: list[str]) -> None:
    """At commas, `and` and `&`; a name of two words stays one."""
    assert names_of(authors) == names


def test_entries_hold_what_is_on_record() -> None:
    """Author, year, identifier raw and escaped, no title; a name of two words is one surname."""
    entry = fields_of(bibtex("k", Work("Wu, Shen and van den Hengel", "2016", "arxiv", "1605.06885")))
    assert entry == {
        "ENTRYTYPE": "misc",
        "ID": "k",
        "author": "Wu and Shen and {van den Hengel}",
        "year": "2016",
        "eprint": "1605.06885",
        "archiveprefix": "arXiv",
        "howpublished": "arXiv:1605.06885",
    }
    entry = fields_of(bibtex("k", Work("Rahman and Wang", "2016", "doi", "10.1007/978-3-319-50835-1_22")))
    assert entry["doi"] == "10.1007/978-3-319-50835-1_22"
    assert entry["howpublished"] == r"doi:10.1007/978-3-319-50835-1\_22"
    assert fields_of(bibtex("k", Work("Ma et al.", "2021", "", "")))["author"] == "Ma and others"
    assert escape_bibtex("a<b>_&%#{}$") == r"a$<$b$>$\_\&\%\#\{\}\$"


def test_keys_are_unique_and_stable() -> None:
    """All works of all measures have a key of their own, whatever is asked for and in whatever order."""
    works = [w for m in measures() for w in works_of(m.reference)[0]]
    keys = keys_of(works)
    assert len(set(keys.values())) == len(keys) == len(set(works))
    assert keys_of(reversed(works)) == keys
    assert all(re.fullmatch(r"[a-z]+\d{4}(_[0-9a-f]{4})?", key) for key in keys.values())
    assert keys[Work("Dice", "1945", "doi", "10.2307/1932409")] == "dice1945"
    twins = [Work("Ng", "2001", "doi", "10.1/a"), Work("Ng", "2001", "doi", "10.1/b")]
    assert len(set(keys_of(twins).values())) == 2
    assert keys_of(twins[::-1]) == keys_of(twins)


def test_the_paragraph_says_every_choice() -> None:
    """Version, n, measures with parameters, surface and percentile rule, threshold, empty masks, intervals."""
    values = [0.5, 0.6, 0.9, 0.4]
    run = made_run(
        {("liver", "metric.dice"): values, ("liver", HD): values, ("liver", NSD): values},
        units={HD: "mm"}, missing=("case_003",), ignore=255, threshold=0.4, empty="worst",
    )  # fmt: skip
    text = paragraph(cite(run))
    for words in (
        "3 cases", "segcli 0.1.0", "1 ground truth had no prediction", "dice (", "surface=surfel", "tol=2", "Dice 1945",
        "95th percentile", "summed area reaches the share", "above 0.4", "value 255", "liver=1", "1 x 1 mm",
        "image diagonal", "95% confidence intervals", "2000 resamples", "seed 0", "Efron 1987",
    ):  # fmt: skip
        assert words in text, words
    border = made_run({("x", "metric.hd95:surface=border"): values})
    assert "interpolate linearly" in paragraph(cite(border))
    assert "summed area" not in paragraph(cite(border))
    foreign = made_run({("x", "metric.dice"): values}, source="nnU-Net")
    foreign["environment"] = {}
    assert paragraph(cite(foreign)).startswith("Segmentations of 4 cases were evaluated with nnU-Net and segcli.")


def test_bibtex_has_every_work_once_and_segcli() -> None:
    """Dice and f1-like measures share works: one entry each, and each entry can be read."""
    run = made_run({("x", m.id): [0.5, 0.6] for m in measures("metric") if not m.params})
    found = cite(run)
    entries = ["@" + e for e in citation_bibtex(found).split("\n@")[1:]]
    read = [fields_of(e.strip()) for e in entries]
    assert read[0] | {"title": "segcli"} == read[0]
    assert len({e["ID"] for e in read}) == len(read) == len(found.works) + 1
    assert not any("title" in e for e in read[1:])
    assert citation_text(found).count("dice1945:") == 1


def test_an_unknown_measure_is_an_input_error() -> None:
    """A run of another version may have measures that this one does not know."""
    run = made_run({("x", "metric.dice"): [0.5]})
    run["spec"]["measures"] = ["metric.dcie"]
    with pytest.raises(InputError, match="dcie"):
        cite(run)


def test_the_command(tmp_path: Path) -> None:
    """Three formats, files by suffix, stdin, exit codes; JSON that its schema allows."""
    run = made_run({("x", "metric.dice"): [0.5, 0.6], ("x", NSD): [0.5, 0.6]})
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    done = cli("cite", path, "-f", "json", "-o", tmp_path / "refs.bib")
    assert done.returncode == 0, done.stderr
    schema = json.loads(cli("schema", "cite").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema)
    assert document == json.loads(json.dumps(citation_document(cite(run))))
    assert document["measures"][1]["parameters"]["tol"] == "2"
    assert [w["key"] for w in document["works"]] == ["dice1945", "nikolov2021", "efron1987"]
    assert (tmp_path / "refs.bib").read_text().rstrip() == document["bibtex"]
    assert cli("cite", "-", stdin=path.read_text()).stdout.startswith("Segmentations of 2 cases")
    for arguments, code in (
        ((tmp_path / "none.json",), 3),
        ((), 2),
        ((path, "-f", "latex"), 2),
        ((path, "-o", "x.md"), 2),
    ):
        failed = cli("cite", *arguments)
        assert failed.returncode == code, failed.stderr
        assert failed.stdout == ""
        assert "Traceback" not in failed.stderr
