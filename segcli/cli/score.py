"""segcli score: how good is this mask?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli.cli import options as opt
from segcli.cli.session import Session, check_outputs, deliver
from segcli.errors import ExitCode, UsageError
from segcli.masks.files import FORMAT_NAMES, WHOLE_MAP_SUFFIXES
from segcli.report.table import flat

if TYPE_CHECKING:
    from segcli.masks.reading import Reading


@opt.reads_masks()
def score(
    ctx: typer.Context,
    pred: Annotated[str, typer.Argument(metavar="PRED", help=f"Predicted mask: {FORMAT_NAMES} (file.npz:key).")],
    gt: Annotated[str, typer.Argument(metavar="GT", help="Ground truth on the same grid.")],
    metrics: opt.Metrics = "default",
    losses: opt.Losses = "",
    per_component: Annotated[
        bool, typer.Option("--per-component", help="List every object with its size and fit: short for -m ...,objects.")
    ] = False,
    surface: opt.Surface = None,
    convention: opt.Convention = None,
    empty: opt.Empty = None,
    background: opt.Background = True,
    average: opt.Average = "macro",
    mean_of: opt.MeanOf = None,
    batch_dice: opt.BatchDice = False,
    entropy_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Write the entropy of each voxel's probabilities in bits: {' '.join(WHOLE_MAP_SUFFIXES)}.",
        ),
    ] = None,
    min_: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="M=V", help="Fail (exit 1) below V: dice=0.9, tumour/dice=0.8, mean/iou=0.7."),
    ] = None,
    max_: Annotated[
        list[str] | None, typer.Option("--max", metavar="M=V", help="Fail (exit 1) above V: hd95=5, tumour/assd=1.")
    ] = None,
    strict: opt.Strict = False,
    form: opt.Format = "table",
    output: opt.Output = None,
    *,
    reading: dict[str, Any],
) -> ExitCode:
    """Score one prediction against its ground truth.

    Labels come out of the data unless --labels names them. Distances are in mm where the file says
    how large a voxel is. Exit code 1 means that a --min or --max failed, and nothing else does.
    """
    from segcli.masks.asked import reading_of
    from segcli.scoring import empty as policy
    from segcli.scoring import score as scoring
    from segcli.scoring.limits import judge, parse_limits
    from segcli.scoring.means import check_mean_of

    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = output or []
    check_outputs(outputs, [pred, gt, *opt.files_of(reading)])
    asked = f"{metrics},objects" if per_component else metrics
    rules = policy.conventional(convention, asked, losses, surface)
    rule = policy.empty_rule(empty, rules)
    chosen = rules.metrics if rules else scoring.measures_of("metric", asked, surface=surface)
    chosen_losses = rules.losses if rules else scoring.measures_of("loss", losses)
    limits = parse_limits("min", min_ or [], surface, rules) + parse_limits("max", max_ or [], surface, rules)
    for limit in limits:
        group = chosen if limit.measure.measure.kind == "metric" else chosen_losses
        if limit.measure.name not in [b.name for b in group]:
            group.append(limit.measure)
    if not chosen and not chosen_losses:
        raise UsageError("no metric and no loss is asked for.", hint="-m default", code="measure.none")
    how = reading_of(**reading)
    check_entropy_map(entropy_map, [pred, gt, *opt.files_of(reading)], how)
    made: dict[str, Any] = {"empty": rule, "background": background, "average": average, "batch_dice": batch_dice}
    made["mean_over"] = check_mean_of(mean_of)
    with session.working("scoring"):
        cases = scoring.score_cases(
            pred,
            gt,
            chosen,
            chosen_losses,
            how,
            convention=rules,
            entropy_map=entropy_map is not None,
            strict=strict,
            sha256=True,
            **made,
        )
        verdicts = judge(limits, cases)
        if entropy_map is not None:
            from segcli.masks.writing import write_map

            write_map(entropy_map, cases[0].entropy_map, cases[0].spacing, cases[0].affine)
    session.say((note for case in cases for note in case.notes), form)
    measures = [*chosen, *chosen_losses]

    def render(wanted: str, color: bool = False) -> str:
        from segcli.report import case as report
        from segcli.run.document import document
        from segcli.run.json_text import to_json

        if wanted == "csv":
            return report.score_csv(cases)
        if wanted == "json":
            seconds = time.perf_counter() - clock
            when: dict[str, Any] = {
                "started": started.isoformat(timespec="seconds"),
                "seconds": seconds,
                "argv": sys.argv[1:],
            }
            whole = document(cases, measures, how, convention=convention, verdicts=verdicts, **made, **when)
            return to_json(whole.to_dict())
        if wanted == "md":
            return report.score_markdown(cases, measures, rule, average, verdicts)
        return report.score_text(cases, measures, rule, average, verdicts, color=color)

    deliver(render, form, outputs, session)
    if entropy_map is not None and not session.quiet:
        print(flat(f"wrote {entropy_map}"), file=sys.stderr)
    return ExitCode.OK if all(v.passed for v in verdicts) else ExitCode.GATE


def check_entropy_map(path: Path | None, inputs: list[str | None], how: Reading) -> None:
    """Raise `UsageError` before anything is read where the map could not be written."""
    from segcli.masks.writing import check_map_path

    if path is not None:
        check_map_path(path, "--entropy-map", inputs, WHOLE_MAP_SUFFIXES)
        if how.stack:
            raise UsageError("--entropy-map takes one image at a time, no --stack.", code="output.stack")
