"""The run document (`segcli.run/1`): what was asked, every value, and the environment, as plain data."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from segcli.masks.void import spec_of_void
from segcli.measure.record import BoundMeasure
from segcli.run.codec import finite
from segcli.run.model import Run
from segcli.run.records import Case, File, Spec, Summary
from segcli.scoring.values import Scored

if TYPE_CHECKING:
    from segcli.masks.mask import Mask
    from segcli.masks.reading import Reading
    from segcli.scoring.limits import Verdict


def document(
    cases: Sequence[Scored],
    measures: Sequence[BoundMeasure],
    reading: Reading,
    *,
    empty: str,
    background: bool,
    average: str = "macro",
    mean_over: Sequence[str] | None = None,
    batch_dice: bool = False,
    convention: str | None = None,
    verdicts: Sequence[Verdict] = (),
    started: str,
    seconds: float,
    argv: Sequence[str],
) -> Run:
    """Return a run of the given cases. Everything volatile stands under `environment`."""
    told = spec_of(
        measures,
        reading,
        empty=empty,
        background=background,
        average=average,
        mean_over=mean_over,
        batch_dice=batch_dice,
        convention=convention,
    )
    return Run(
        Spec(told),
        [case_of(case) for case in cases],
        summary=[row for case in cases for row in summary_of(case, cases)],
        gates=[asdict(v) for v in verdicts],
        environment=environment(started=started, seconds=seconds, argv=argv),
    )


def spec_of(
    measures: Sequence[BoundMeasure],
    reading: Reading,
    *,
    empty: str,
    background: bool,
    average: str,
    batch_dice: bool,
    mean_over: Sequence[str] | None = None,
    convention: str | None = None,
    missing: str = "fail",
    roi: bool = False,
) -> dict[str, Any]:
    """Return every option that can change a number, with a hash over them; `roi`: cases have regions of interest."""
    spec: dict[str, Any] = {
        "measures": [b.id for b in measures],
        "labels": None if reading.labels is None else {x.name: x.spec() for x in reading.labels},
        **spec_of_void(reading, roi=roi),
        "empty": empty,
        "threshold": reading.threshold,
        "geometry": reading.on_geometry,
        "spacing": None if reading.spacing is None else list(reading.spacing),
        "kind": reading.kind,
        "prob_scale": reading.prob_scale,
        "round": reading.round,
        "channel_axis": reading.channel_axis,
        "channels": None if reading.channels is None else {x.name: x.spec() for x in reading.channels},
        "normalize": reading.normalize,
        "stack": reading.stack,
        "stack_axis": reading.stack_axis,
        "axes": reading.axes,
        "squeeze": reading.squeeze,
        "colors": reading.colors,
        "soft_gt": reading.soft_gt,
        "background": background,
        "average": average,
        "mean_of": None if mean_over is None else list(mean_over),
        "batch_dice": batch_dice,
        "convention": convention,
        "missing": missing,
    }
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return {**spec, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def case_of(case: Scored) -> Case:
    """Return what a run has of a scored case."""
    return Case(
        name=case.case,
        pred=file_of(case.pred),
        gt=file_of(case.gt),
        roi=None if case.roi is None else file_of(case.roi),
        shape=case.shape,
        spacing=case.spacing,
        unit=case.unit,
        geometry=case.geometry,
        notes=tuple(case.notes),
        labels={label.name: label.spec() for label in case.labels},
        regions=tuple(label.name for label in case.labels if label.is_region),
        counts=case.counts,
        values=case.values,
        means=case.means,
        tables=case.tables,
        parts=case.parts,
    )


def file_of(mask: Mask) -> File:
    return File(mask.name.replace("\\", "/"), mask.sha256 or None)


def summary_of(case: Scored, cases: Sequence[Scored]) -> list[Summary]:
    """Return the mean rows of a case; those of metrics say which labels they are of."""
    return [
        Summary(
            label=m.label,
            kind=m.kind,
            measure=m.measure,
            unit=m.unit,
            over="labels",
            n=m.n,
            undefined=m.of - m.n,
            mean=finite(m.value),
            mean_of=case.mean_of.names if m.kind == "metric" or case.mean_of.asked else None,
            case=case.case if len(cases) > 1 else None,
        )
        for m in case.means
    ]


def environment(*, started: str, seconds: float, argv: Sequence[str]) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "unknown"

    return {
        "segcli": installed("segcli"),
        "python": platform.python_version(),
        **{name: installed(name) for name in ("numpy", "numba", "nibabel")},
        "platform": f"{sys.platform}-{platform.machine()}",
        "argv": list(argv),
        "started": started,
        "seconds": round(seconds, 3),
    }
