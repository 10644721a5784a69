"""What can be told of a reference without looking it up: its form, its check digits, one spelling for each work."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from segcli.measure.record import measures
from segcli.run.bibliography import Work, names_of, works_of

WORKS = sorted({w for m in measures() for w in works_of(m.reference)[0]}, key=lambda w: (w.authors, w.year, w.text))
each = pytest.mark.parametrize("work", WORKS, ids=[w.text for w in WORKS])


@each
def test_authors_are_names(work: Work) -> None:
    """Every author is a surname, with `et al.` at the end only: no remark stands before a name."""
    names = names_of(work.authors)
    assert "others" not in names[:-1]
    for name in names[: len(names) - (names[-1] == "others")]:
        assert re.fullmatch(r"(van (den )?|Al )?[A-ZÀ-Ž][\w'-]+( [A-ZÀ-Ž][\w'-]+)?", name), name


@each
def test_identifier_has_its_form(work: Work) -> None:
    """A DOI has a registrant and a suffix; an arXiv number is a month, no later than the year of the work."""
    if work.scheme == "doi":
        assert re.fullmatch(r"10\.\d{4,5}/[!-~]+", work.identifier)
        assert not work.identifier.endswith((".", ",", ";"))
    elif work.scheme == "arxiv":
        parts = re.fullmatch(r"(\d\d)(\d\d)\.(\d{4,5})", work.identifier)
        assert parts is not None
        year, month = 2000 + int(parts[1]), int(parts[2])
        assert 1 <= month <= 12
        assert len(parts[3]) == (4 if year < 2015 else 5)  # five digits since January 2015
        assert 0 <= int(work.year) - year <= 2
    else:
        assert work.scheme == "openreview" or work.text == "van Rijsbergen 1979"


def isbn_holds(digits: str) -> bool:
    """Check an ISBN of 13 digits, or of 10 with X for ten."""
    values = [10 if d == "X" else int(d) for d in digits]
    if len(values) == 13:
        return sum(v * (3 if i % 2 else 1) for i, v in enumerate(values)) % 10 == 0
    return sum(v * (10 - i) for i, v in enumerate(values)) % 11 == 0


def issn_holds(digits: str) -> bool:
    """Check an ISSN: seven digits and one that makes the weighted sum a multiple of 11."""
    return sum((10 if d == "X" else int(d)) * (8 - i) for i, d in enumerate(digits)) % 11 == 0


def test_check_digits() -> None:
    """The ISBN and ISSN inside identifiers have the right last digit; so does one that is known to be wrong not."""
    assert isbn_holds("9783642409943")
    assert isbn_holds("3540454683")
    assert issn_holds("0734189X")
    assert not isbn_holds("9783642409953")
    assert not issn_holds("07341899")
    books = [re.match(r"10\.1007/((?:978-)?\d-\d+-\d+-[\dX])_\d+$", w.identifier) for w in WORKS]
    serials = [re.search(r"/(\d{4}-\d{3}[\dX])[.(]", w.identifier) for w in WORKS]
    assert sum(b is not None for b in books) >= 5
    assert sum(s is not None for s in serials) >= 5
    assert [b[1] for b in books if b and not isbn_holds(b[1].replace("-", ""))] == []
    assert [s[1] for s in serials if s and not issn_holds(s[1].replace("-", ""))] == []


def test_a_work_has_one_spelling() -> None:
    """Measures that cite the same work name it alike: the bibliography has it once."""
    spelled: dict[str, set[Work]] = defaultdict(set)
    for work in WORKS:
        if work.identifier:
            spelled[work.identifier.lower()].add(work)
    assert [works for works in spelled.values() if len(works) > 1] == []
