"""The library's front door to cohorts: two folders, or a manifest, to a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import InputError, UsageError, keywords_checked
from segcli.masks.asked import reading_keywords
from segcli.writing import write_whole

if TYPE_CHECKING:
    from segcli.cohort.collecting import Collected, MissingPolicy, Progress
    from segcli.cohort.pairing import Pairing
    from segcli.cohort.work import Plan
    from segcli.run.model import Run

Source = str | os.PathLike[str]


@keywords_checked(reading_keywords)
def evaluate(
    pred: Source | None = None,
    gt: Source | None = None,
    *,
    manifest: Source | None = None,
    match: str = "stem",
    glob: str = "**/*",
    missing: MissingPolicy = "fail",
    metrics: str | Iterable[str] | None = "default",
    losses: str | Iterable[str] | None = (),
    surface: str | None = None,
    convention: str | None = None,
    empty: str | None = None,
    background: bool = True,
    average: str = "macro",
    mean_of: str | Iterable[str] | None = None,
    group_by: str | None = None,
    roi: Source | None = None,
    ci: float = 0.95,
    seed: int = 0,
    output: Source | None = None,
    resume: bool = False,
    retry_errors: bool = False,
    jobs: int = 0,
    engine: Literal["process", "dask"] = "process",
    scheduler: str | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    **reading: Any,
) -> Run:
    """Score a folder of predictions against a folder of ground truths and return the run.

    `pred` and `gt` are folders whose files are paired by `match` (`stem`, `relpath`, `bids`,
    `regex:PATTERN`), or `manifest` is a CSV with the columns case, pred, gt, perhaps roi, and any group columns.
    `roi` is a folder of regions of interest, paired in the same way: only voxels count that are not 0 there. The
    result is the run that `segcli evaluate -o RUN.json` writes (`to_dict()`, `segcli schema run`): its `cases`
    (values of each label: lengths in mm where the file has a spacing, else in voxels, ratios as fractions, `None`
    where undefined), `missing`, `errors` and `summary` (mean over cases with its interval of level `ci`). A case that
    fails is an entry of `errors` and a ground truth without a prediction one of `missing`: neither raises. With
    `missing="worst"` the latter is scored as an empty prediction.

    With `output`, a path that ends in .json, the run is written there; a journal beside it keeps what is
    done, and `resume` goes on after a crash. `jobs` is the number of worker processes (0: one for each
    processor; 1: none, everything runs here). Scripts need no `if __name__ == "__main__"` for that.
    `progress(done, of)` is called after each case. The other keywords are those of `segcli.score`.

    Raises `InputError` for folders or a manifest that cannot be paired and where no case could be
    scored, `UsageError` for what cannot be asked.
    """
    from segcli.cohort.collecting import Engine, collect
    from segcli.cohort.journal import finish, journal_path
    from segcli.run.document import environment
    from segcli.run.summary import Resampling

    started, clock = datetime.now(UTC), time.perf_counter()
    target = None if output is None else Path(output)
    if target is None and (resume or retry_errors):
        raise UsageError("resume needs the run file.", hint='output="run.json"', code="evaluate.output")
    if target is not None and target.suffix.lower() != ".json":
        raise UsageError(f"output {target}: a run is JSON.", hint='output="run.json"', code="output.suffix")
    if not 0.5 <= ci < 1:
        raise UsageError(f"ci {ci:g} is not in [0.5, 1).", code="evaluate.ci")
    plan = plan_of(
        metrics,
        losses,
        surface=surface,
        convention=convention,
        empty=empty,
        background=background,
        average=average,
        mean_of=mean_of,
        strict=strict,
        **reading,
    )
    pairing = pairing_of([Path(p) for p in (pred, gt) if p is not None], manifest, match, glob, roi)
    check_group(group_by, pairing.columns)
    journal = None if target is None else journal_path(target)
    collected = collect(
        plan,
        pairing,
        Engine(engine, jobs, scheduler),
        journal=journal,
        resume=resume,
        retry_errors=retry_errors,
        missing=missing,
        progress=progress,
    )
    volatile = environment(started=started.isoformat(timespec="seconds"), seconds=time.perf_counter() - clock, argv=[])
    run = run_of(collected, target, Resampling(ci, seed=seed), volatile, group_by)
    if target is not None and journal is not None:
        write_whole(target, run.lines())
        finish(journal)
    return run


def plan_of(
    metrics: str | Iterable[str] | None,
    losses: str | Iterable[str] | None,
    *,
    surface: str | None = None,
    convention: str | None = None,
    empty: str | None = None,
    background: bool = True,
    average: str = "macro",
    mean_of: str | Iterable[str] | None = None,
    strict: bool = False,
    **reading: Any,
) -> Plan:
    """Return what is computed of every case; every option is checked here, before a file is read."""
    from segcli.cohort.work import Plan
    from segcli.masks.asked import reading_of
    from segcli.scoring import means as averaging
    from segcli.scoring.empty import check_ignored, conventional, empty_rule
    from segcli.scoring.means import check_average, check_mean_of
    from segcli.scoring.score import measures_of

    rules = conventional(convention, metrics, losses, surface)
    if rules is None:
        chosen, chosen_losses = measures_of("metric", metrics, surface=surface), measures_of("loss", losses)
    else:  # the plan keeps the names as they were asked for: the tool says what they are
        chosen, chosen_losses = rules.metrics, rules.losses
    if not chosen and not chosen_losses:
        raise UsageError("no metric and no loss is asked for.", hint="-m default", code="measure.none")
    over = check_mean_of(mean_of)
    how = reading_of(**reading)
    check_ignored(convention, how)
    if how.labels is not None:  # else the files say what there is
        named = {label.name: label.spec() for label in how.labels}
        averaging.mean_of({"mean_of": over}, named, {x.name for x in how.labels if x.is_region})
    return Plan(
        tuple(b.id for b in chosen) if rules is None else _texts(metrics),
        tuple(b.id for b in chosen_losses) if rules is None else _texts(losses),
        how,
        empty=empty_rule(empty, rules),
        convention=convention,
        background=background,
        average=check_average(average),
        mean_over=over,
        strict=strict,
    )


def _texts(asked: str | Iterable[str] | None) -> tuple[str, ...]:
    return tuple(asked.split(",") if isinstance(asked, str) else asked or ())


def pairing_of(
    folders: Sequence[Path],
    manifest: Source | None,
    match: str = "stem",
    glob: str = "**/*",
    roi: Source | None = None,
) -> Pairing:
    """Return the pairs of two folders (and one of regions of interest), or of a manifest."""
    if manifest is not None and folders:
        raise UsageError("--manifest names the pairs: no folders beside it.", code="evaluate.paths")
    if manifest is not None and roi is not None:
        raise UsageError("--manifest names the regions of interest: its column roi, no --roi.", code="evaluate.roi")
    if manifest is None and len(folders) != 2:
        raise UsageError(
            f"two folders are wanted, {len(folders)} given.",
            hint="segcli evaluate PRED_DIR GT_DIR, or --manifest FILE.csv",
            code="evaluate.paths",
        )
    from segcli.cohort.pairing import pair_folders, read_manifest

    if manifest is not None:
        return read_manifest(Path(manifest))
    return pair_folders(folders[0], folders[1], match, glob, None if roi is None else Path(roi))


def check_group(column: str | None, columns: Sequence[str]) -> None:
    if column is not None and column not in columns:
        known = ", ".join(columns) or "none: a manifest or the named groups of --match regex: give them"
        raise UsageError(f"--group-by {column}: no such column.", hint=f"columns: {known}", code="evaluate.group")


def run_of(
    collected: Collected, target: Path | None, resampling: Any, environment: Mapping[str, Any], group_by: str | None
) -> Run:
    """Return the run of a cohort. Raises `InputError` where no case could be scored."""
    from segcli.cohort.collecting import document

    folder = Path() if target is None else target.parent
    run = document(collected, folder, resampling, dict(environment), group_by=group_by)
    if not run.cases:
        first = run.errors[0] if run.errors else None
        raise InputError(
            "no case could be scored" + (f"; {first.case}: {first.message}" if first else "."),
            hint=(first.hint if first else "") or "segcli describe FILE says what is in a file",
            code="evaluate.none",
        )
    return run
