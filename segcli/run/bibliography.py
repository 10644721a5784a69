"""The `reference` fields of measures as bibliography entries. What a record does not say is not made up."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Scheme = Literal["doi", "arxiv", "openreview", "jstor", ""]


@dataclass(frozen=True, slots=True)
class Work:
    """One cited work: who, when, and where it can be found. Titles are not on record."""

    authors: str
    year: str
    scheme: Scheme
    identifier: str

    @property
    def text(self) -> str:
        where = f", {_LABELS[self.scheme]}:{self.identifier}" if self.scheme else ""
        return f"{self.authors} {self.year}{where}"

    @property
    def url(self) -> str:
        return _HOMES[self.scheme] + self.identifier if self.scheme else ""


_LABELS = {"doi": "doi", "arxiv": "arXiv", "openreview": "openreview", "jstor": "jstor"}
_HOMES = {
    "doi": "https://doi.org/",
    "arxiv": "https://arxiv.org/abs/",
    "openreview": "https://openreview.net/forum?id=",
    "jstor": "https://www.jstor.org/stable/",
}
_WORK = re.compile(
    r"(?P<authors>\D+?),? (?P<year>1[5-9]\d\d|20\d\d)[a-z]?"
    r"(?:, (?:(?P<scheme>doi|arXiv|openreview|jstor)[: ](?P<identifier>\S+)|(?P<rest>.+)))?"
)


def works_of(reference: str) -> tuple[list[Work], list[str]]:
    """Return the works that a `reference` names, and what else it says (`pooling as MedPy`)."""
    works, rest = [], []
    for part in re.split(r";\s+", reference):
        found = _WORK.fullmatch(part.removeprefix("after ").strip())
        if found is None or not found["authors"][:1].isalpha() or found["rest"] is not None:
            rest.append(part)
        else:
            scheme = (found["scheme"] or "").lower()
            works.append(Work(found["authors"], found["year"], scheme, found["identifier"] or ""))  # type: ignore[arg-type]
    return works, rest


def names_of(authors: str) -> list[str]:
    """Return the surnames of `Ma et al.`, `Salehi, Erdogmus and Gholipour`, `Taha & Hanbury`; `others` for et al."""
    several = authors.endswith(" et al.")
    bare = authors.removesuffix(" et al.")
    return [name for name in re.split(r",\s*|\s+and\s+|\s*&\s*", bare) if name] + ["others"] * several


def keys_of(works: Iterable[Work]) -> dict[Work, str]:
    """Return a key for each work: first author and year; where two works share that, with a part of a hash.

    Given all works that are on record, a key does not depend on which measures a run has.
    """
    unique = list(dict.fromkeys(works))
    plain = {work: _plain_key(work) for work in unique}
    shared = {key for key in plain.values() if list(plain.values()).count(key) > 1}
    return {work: key + (f"_{_hash(work)}" if key in shared else "") for work, key in plain.items()}


def _plain_key(work: Work) -> str:
    first = unicodedata.normalize("NFKD", names_of(work.authors)[0]).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", first.lower()) + work.year


def _hash(work: Work) -> str:
    return hashlib.sha256(work.text.encode()).hexdigest()[:4]


def bibtex(key: str, work: Work) -> str:
    """Return a BibTeX entry.

    The record has no title, so the type is `misc`: of the standard types the one that asks for no field.
    Identifiers stand as they are in fields of their own, and escaped in `howpublished`, which every style prints.
    """
    authors = " and ".join(n if n == "others" else _braced(n) for n in names_of(work.authors))
    fields = [("author", authors), ("year", work.year)]
    if work.scheme == "doi":
        fields += [("doi", work.identifier), ("howpublished", f"doi:{escape_bibtex(work.identifier)}")]
    elif work.scheme == "arxiv":
        fields += [("eprint", work.identifier), ("archiveprefix", "arXiv")]
        fields.append(("howpublished", f"arXiv:{escape_bibtex(work.identifier)}"))
    elif work.scheme:
        fields += [("url", work.url), ("howpublished", f"{work.scheme}:{escape_bibtex(work.identifier)}")]
    return entry("misc", key, fields)


def entry(kind: str, key: str, fields: Iterable[tuple[str, str]]) -> str:
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields)
    return f"@{kind}{{{key},\n{body}\n}}"


def _braced(name: str) -> str:
    """Return a surname so that BibTeX takes all of it as one."""
    escaped = escape_bibtex(name)
    return f"{{{escaped}}}" if " " in name else escaped


_SPECIAL = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "<": r"$<$", ">": r"$>$",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def escape_bibtex(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
