"""The facts of a run as a paragraph, as BibTeX and as plain data."""

from __future__ import annotations

from typing import Any

from segcli.kernels.surfaces import BY_AREA, MEANING
from segcli.masks.void import ignored_in
from segcli.report.table import flat
from segcli.run.bibliography import Work, bibtex, entry, escape_bibtex
from segcli.run.cite import BCA, Citation, Cited
from segcli.wording import counted

SCHEMA = "segcli.cite/1"

REMARK = """% Authors, years and identifiers as segcli has them: surnames only, co-authors may be left out, no titles.
% Complete the entries by their identifiers."""

EMPTY = {
    "undefined": "A measure without a value where a mask is empty is undefined and leaves the mean.",
    "perfect-if-both-empty": "Where both masks are empty a metric has its best value; where one is, it has what its "
    "formula gives, else 0 where more is better, and is undefined and leaves the mean where less is.",
    "worst": "Where both masks are empty a metric has its best value; where one is and it has no other, its worst: the "
    "end of its range, of a distance the image diagonal.",
    "zero": "Where a mask is empty a metric is 0.",
}
#: How percentiles are taken: by the area of the elements, or of distances that each count 1.
BY_SUM = "percentiles are the smallest distance at which the summed area reaches the share"
BY_RANK = "percentiles interpolate linearly between distances"


def _surface(value: str) -> str:
    """Return what a surface is made of, and how percentiles are taken on it."""
    return f"surface={value}: {MEANING[value]}; {BY_SUM if value in BY_AREA else BY_RANK}" if value in MEANING else ""


def paragraph(citation: Citation) -> str:
    """Return the methods sentences; works are named as in the records."""
    return flat(" ".join(sentences(citation, {work: f"{work.authors} {work.year}" for work in citation.works})))


def sentences(citation: Citation, named: dict[Work, str]) -> list[str]:
    version = f" {citation.version}" if citation.version and citation.version != "unknown" else ""
    tool = f"{citation.spec['source']} and segcli{version}" if citation.spec.get("source") else f"segcli{version}"
    found = [f"Segmentations of {counted(citation.cases, 'case')} were evaluated with {tool}."]
    if citation.missing:
        policy = citation.spec.get("missing", "fail")
        worth = (
            "counted as the worst possible" if policy == "worst" and citation.stand_ins else "left out of the numbers"
        )
        found.append(f"{counted(citation.missing, 'ground truth')} had no prediction, {worth}.")
    if citation.errors:
        found.append(f"{counted(citation.errors, 'case')} could not be scored, left out of the numbers.")
    found.append(f"The measures are {'; '.join(_measure(cited, named) for cited in citation.measures)}.")
    surfaces = list(dict.fromkeys(v for c in citation.measures for k, v in c.parameters if k == "surface"))
    told = [text for text in map(_surface, surfaces) if text]
    found += [f"Surfaces: {'; '.join(told)}."] if told else []
    found += _conditions(citation)
    found += [f"The row of means is the {text}." for text in citation.means]
    intervals = citation.intervals
    if intervals is not None:
        found.append(_interval_text(citation, named))
    return found


def _measure(cited: Cited, named: dict[Work, str]) -> str:
    parameters = ", ".join(f"{key}={value}" for key, value in cited.parameters)
    measure = cited.bound.measure
    kind = f"the {measure.kind} " if measure.kind != "metric" else ""
    sources = [named[w] for w in cited.works] + list(cited.said)
    inside = [measure.summary.rstrip("."), *([f"with {parameters}"] if parameters else []), *sources]
    return f"{kind}{measure.name} ({'; '.join(inside)})"


def _conditions(citation: Citation) -> list[str]:
    spec = citation.spec
    found = []
    if citation.units == ("mm",):
        grids = citation.spacings
        spacing = spec.get("spacing")
        if spacing is not None:
            found.append(f"The spacing was set to {_times(spacing)} mm.")
        elif len(grids) == 1:
            found.append(f"Voxels are {_times(grids[0])} mm, as in the files.")
        elif grids:
            found.append(f"Distances are in mm by the spacing of the files ({len(grids)} different ones).")
    elif citation.units:
        found.append(f"Distances are in {' or '.join(citation.units)}, as the files say.")
    if citation.labels:
        found.append("Labels: " + ", ".join(f"{name}={_values(v)}" for name, v in citation.labels.items()) + ".")
    if spec.get("ignore") is not None:
        files = "in either file" if ignored_in(spec) == "either" else "in the ground truth"
        several = "one of the values" if isinstance(spec["ignore"], str) else "the value"
        found.append(f"Voxels with {several} {spec['ignore']} {files} were ignored.")
    if spec.get("roi"):
        found.append("Only voxels inside regions of interest were counted.")
    if spec.get("threshold") is not None:
        found.append(f"Probabilities, where given, are foreground above {spec['threshold']:g}.")
    empty = spec.get("empty", "undefined")
    found.append(EMPTY.get(empty, f"Empty masks follow {empty}."))
    return found


def _times(numbers: Any) -> str:
    return " x ".join(f"{n:.4g}" for n in numbers)


def _values(values: Any) -> str:
    return values if isinstance(values, str) else "+".join(str(v) for v in values)


def _interval_text(citation: Citation, named: dict[Work, str]) -> str:
    intervals = citation.intervals
    if intervals is None:
        return ""
    parts = []
    if "bca" in intervals.methods:
        drawn = f"{intervals.resamples} resamples, seed {intervals.seed}; {named[BCA]}"
        parts.append(f"the bias-corrected and accelerated bootstrap over cases ({drawn})")
    if "normal" in intervals.methods:
        parts.append("the normal approximation of the mean for large numbers of cases")
    level = f"{intervals.level * 100:g}"
    return f"{level}% confidence intervals of means are by {' and '.join(parts)}." if parts else ""


def citation_text(citation: Citation) -> str:
    works = [f"{citation.keys[w]}: {w.text}" for w in citation.works]
    return "\n".join([paragraph(citation), "", *works]) if works else paragraph(citation)


def citation_bibtex(citation: Citation) -> str:
    """Return an entry for segcli and one for each work; titles are not on record, so none is given."""
    lines = [REMARK]
    fields = [("author", "{The segcli developers}"), ("title", "segcli")]
    if citation.version and citation.version != "unknown":
        fields.append(("note", f"Version {escape_bibtex(flat(citation.version))}"))
    lines.append(entry("misc", "segcli", fields))
    lines += [bibtex(citation.keys[w], w) for w in citation.works]
    return "\n\n".join(lines)


def citation_document(citation: Citation) -> dict[str, Any]:
    """Return the facts as plain data (`segcli.cite/1`)."""
    intervals = citation.intervals
    return {
        "schema": SCHEMA,
        "segcli": citation.version or None,
        "cases": citation.cases,
        "missing": citation.missing,
        "errors": citation.errors,
        "text": paragraph(citation),
        "measures": [
            {
                "id": c.id,
                "name": c.bound.measure.name,
                "definition": c.bound.measure.summary,
                "formula": c.bound.measure.formula,
                "unit": c.bound.measure.unit,
                "parameters": dict(c.parameters),
                "works": [citation.keys[w] for w in c.works],
                "said": list(c.said),
            }
            for c in citation.measures
        ],
        "labels": dict(citation.labels),
        "empty": citation.spec.get("empty"),
        "threshold": citation.spec.get("threshold"),
        "ignore": citation.spec.get("ignore"),
        "ignore_in": ignored_in(citation.spec),
        "roi": bool(citation.spec.get("roi")),
        "spacings": [list(s) for s in citation.spacings],
        "units": list(citation.units),
        "intervals": None
        if intervals is None
        else {
            "methods": list(intervals.methods),
            "level": intervals.level,
            "resamples": intervals.resamples,
            "seed": intervals.seed,
        },
        "works": [
            {
                "key": citation.keys[w],
                "authors": w.authors,
                "year": int(w.year),
                "scheme": w.scheme or None,
                "identifier": w.identifier or None,
                "url": w.url or None,
            }
            for w in citation.works
        ],
        "bibtex": citation_bibtex(citation),
    }
