"""From files or arrays to a pair on one grid with its labels: the options checked, both sides read and matched."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import InputError, SegcliError
from segcli.masks.colours import colours
from segcli.masks.labels import BACKGROUND, MOST_CLASSES, Label
from segcli.masks.mask import Mask, MaskKind, Note
from segcli.masks.occurring import resolve
from segcli.masks.reading import Reading
from segcli.masks.void import holds, members, unmarked
from segcli.wording import counted

if TYPE_CHECKING:
    from segcli.evidence.case import Case
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair
    from segcli.masks.matching import Grid


@dataclass(frozen=True)
class Loaded:
    """A pair on one grid with its labels: the hard `case` for metrics, `soft` pairs for losses."""

    name: str
    pred: Mask
    gt: Mask
    grid: Grid
    case: Case
    binary: bool
    notes: list[Note]
    #: The region of interest, where there is one.
    roi: Mask | None = None
    #: The pair as the file has it, where void in a prediction of one label was made the wrong class.
    written: Loaded | None = None
    #: Nobody named a label, and values are objects of one class.
    instances: bool = False

    @property
    def labels(self) -> list[Label]:
        return self.case.labels

    @property
    def channels(self) -> list[Label]:
        """Return the labels that losses average over, whatever rows were asked for.

        The channels of the prediction, the background among them; of a hard multi-label map the values
        that occur. A binary pair or a single probability map has one. None is of a value that marks void. Values
        too many for classes are no channels: then they are the labels, or an `InputError` where each value is one.
        """
        if self.grid.regions:
            return list(self.grid.regions)
        void = self.grid.void
        return [x for x in self.every_class if x.values is None or not all(holds(void, v) for v in x.values)]

    @property
    def every_class(self) -> list[Label]:
        """Return the channels, also those of values that mark void: a voxel's probability is divided among all."""
        if self.binary or (self.grid.channels == 0 and self.grid.prob is not None):
            return self.labels
        occurring = {*self.case.maps.label_values("pred"), *self.case.maps.label_values("gt")}
        occurring.update(range(self.grid.channels))
        if len(occurring) > MOST_CLASSES:
            if len(self.labels) > MOST_CLASSES:
                raise InputError(
                    f"a loss of {len(occurring)} values would have as many channels; {MOST_CLASSES} are the most.",
                    hint="--labels cells=any makes them one class",
                    code="labels.many",
                )
            return self.labels
        if not holds(self.grid.void, 0):
            occurring.add(0)
        named = {x.values: x for x in reversed(self.labels) if x.values is not None and not x.is_region}
        taken = {x.name for x in self.labels}
        named.setdefault((0,), Label("0", (0,)) if BACKGROUND.name in taken else BACKGROUND)
        return [named.get((v,)) or Label(str(v), (v,)) for v in sorted(occurring)]

    def predicted(self, label: Label) -> Any:
        """Return where the hard prediction has `label`, as a boolean grid."""
        if self.grid.bits is not None:
            return self.grid.pred & self.grid.bits[label] != 0
        one_map = self.grid.prob is not None and self.grid.channels == 0
        return self.grid.pred != 0 if one_map else self._member("pred", label)

    def soft(self, label: Label) -> SoftPair:
        """Return the probabilities of `label` (0 and 1 for a hard mask) against its ground truth."""
        from segcli.evidence.soft import SoftPair

        grid = self.grid
        y, z = self._truth(label), None
        if grid.prob is not None and grid.channels == 0:
            p, z = grid.prob, grid.logits
        else:
            p = self._probability(label)
            if grid.regions and grid.logits is not None:
                z = grid.logits[grid.regions.index(label)]
        return SoftPair.of(
            p, y, z=z, spacing=grid.spacing, valid=grid.valid, hard=grid.prob is None, threshold=grid.threshold
        )

    def classes(self, labels: Sequence[Label] | None = None) -> SoftClasses:
        """Return the probabilities of all classes at once against the ground truth.

        The classes are the channels, or `labels`; a binary pair or a single map has two, the background and
        the rest. A channel of a value that marks void is a class that the ground truth never has. Raises
        `InputError` for channels that overlap.
        """
        import numpy as np

        from segcli.evidence.classes import SoftClasses

        self._refuse_overlap("losses over all classes need one label in each voxel")
        grid, labels = self.grid, self.every_class if labels is None else list(labels)
        probabilities: Any = grid.prob
        of_one_map = len(labels) == 1
        if of_one_map and grid.channels == 2 and self.channels_of(labels[0]) == [1]:
            labels, of_one_map = [BACKGROUND, *labels], False
            y, z = self._truth(labels[1]), grid.logits
            truth = np.stack([1 - y, y])
            if z is None:  # float32 channels sum to 1 but for 1e-8: the label is what is not background, as in `soft`
                p = self._probability(labels[1])
                probabilities = np.stack([1 - p, p])
        elif of_one_map:
            labels = [BACKGROUND, *labels]
            one = self.soft(labels[1])
            p, y = one.grid(one.p, 0.0), one.grid(one.y, 0.0)
            probabilities, truth = np.stack([self.background(p), p]), np.stack([1 - y, y])
            z = None if one.z is None else np.stack([np.zeros(grid.gt.shape), one.grid(one.z)])
        else:
            probabilities = np.stack([self._probability(label) for label in labels])
            truth = np.stack([self._truth(label) for label in labels])
            z = grid.logits if len(labels) == grid.channels else None
        return SoftClasses.of(
            probabilities,
            truth,
            names=[label.name for label in labels],
            z=z,
            spacing=grid.spacing,
            valid=grid.valid,
            hard=grid.prob is None,
            threshold=grid.threshold,
            of_one_map=of_one_map,
        )

    def background(self, p: Any) -> Any:
        """Return the probability of the background of a binary pair on the grid, given that of the rest.

        Where a hard prediction is no label neither has any.
        """
        grid = self.grid
        return self._member("pred", BACKGROUND) if grid.void and grid.prob is None else 1 - p

    @property
    def tied(self) -> bool:
        """Return whether the prediction has several channels, read through one softmax."""
        return self.grid.channels > 1 and not self.grid.regions

    def channels_of(self, label: Label) -> list[int]:
        """Return which channels of the prediction add up to a label."""
        if self.grid.regions:
            return [c for c, region in enumerate(self.grid.regions) if region == label]
        every = range(self.grid.channels)
        return [c for c in every if (c in label.values if label.values is not None else c > 0)]

    def channel_rows(self) -> Any:
        """Return the probabilities of all channels at the voxels that count (C, n), in the order of `soft`."""
        p: Any = self.grid.prob
        return p.reshape(len(p), -1) if self.grid.valid is None else p[:, self.grid.valid]

    def entropy(self) -> Any:
        """Return how open the class of each voxel is, in bits on the grid of the ground truth; 0 in ignored voxels.

        The classes are the channels of the prediction; those of a single map are its label and the background. Raises
        `InputError` for a hard mask.
        """
        import numpy as np

        from segcli.evidence.classes import entropy

        self._refuse_overlap("the entropy is that of one label in each voxel")
        grid = self.grid
        if grid.prob is None:
            raise InputError(
                f"{self.pred.name}: entropy needs probabilities; this is a hard mask.",
                hint="score the probability map or the logits that it was made from",
                code="kind.hard",
            )
        p, labels = grid.prob, self.channels
        if len(labels) == 1:  # in float64: of a small float32 p nothing is left in 1-p
            p = np.asarray(self._probability(labels[0]) if grid.channels else p, dtype=np.float64)
            p = np.stack([1 - p, p])
        found = entropy(p)
        return found if grid.valid is None else np.where(grid.valid, found, 0.0)

    def _refuse_overlap(self, why: str) -> None:
        if self.grid.regions:
            raise InputError(
                f"{self.pred.name}: {why}; its channels overlap (--channels).",
                hint="read exclusive channels without --channels",
                code="channels.overlap",
            )

    def literal(self) -> Loaded:
        """Return the pair with the values that occur as its only labels, without the union that stands beside two."""
        own = [label for label in self.labels if label.values is not None]
        if not own or len(own) == len(self.labels):
            return self
        twin = replace(self, case=self.case.with_labels(own))
        if self.grid.prob is not None:
            twin.case.probabilities = twin
        return twin

    def sizes(self, labels: Sequence[Label]) -> list[float]:
        """Return how many voxels each label has in the ground truth, the sum of a soft one."""
        return [float(self.soft(label).sums.y) for label in labels]

    def _truth(self, label: Label) -> Any:
        """Return where the ground truth has a label, of a soft one how much of it."""
        soft = self.grid.soft_gt
        if soft is None:
            return self._member("gt", label)
        return 1 - soft if label.values == (0,) else soft

    def _probability(self, label: Label) -> Any:
        """Return the probability of a label of several: the sum of its channels, 0 and 1 of a hard map."""
        import numpy as np

        grid = self.grid
        if grid.prob is None:
            return self.predicted(label)
        if grid.regions:
            return grid.prob[grid.regions.index(label)]
        if label.values is None:
            return 1 - grid.prob[0]
        parts = [grid.prob[v] for v in label.values if 0 <= v < grid.channels]
        return parts[0] if len(parts) == 1 else np.zeros(grid.gt.shape) + sum(parts)

    def _member(self, side: Literal["pred", "gt"], label: Label) -> Any:
        """Return where a label map has a label, as a boolean grid."""
        return members(self.grid.pred if side == "pred" else self.grid.gt, label, self.grid.void)


def load(
    pred: Any, gt: Any, reading: Reading, *, sha256: bool = False, strict: bool = False, instances: bool = False
) -> list[Loaded]:
    """Read a pair (paths, arrays or masks) and bring it onto one grid; a stack gives one for each image.

    With `instances` values that nobody named are objects of one class, not classes.
    """
    import numpy as np

    from segcli.evidence.case import Case
    from segcli.evidence.labelled import Labelled
    from segcli.evidence.maps import Maps
    from segcli.masks.matching import match
    from segcli.scoring.grids import itk_spacing

    _check_headers(pred, gt, reading)
    pred_mask = read_side(pred, "pred", reading, sha256=sha256)
    gt_mask = read_side(gt, "gt", reading, sha256=sha256)
    roi = None if reading.roi is None else read_side(reading.roi, "roi", reading, sha256=sha256)
    grids = match(pred_mask, gt_mask, reading, roi)
    maps = [Maps(g.pred, g.gt, valid=g.valid, bits=g.bits, void=g.void) for g in grids]
    one_channel = grids[0].prob is not None and grids[0].channels == 0
    # What the labels are is decided once for all images of a stack.
    values = [sorted({v for own in maps for v in own.label_values(side)}) for side in ("pred", "gt")]
    labels = resolve(
        reading.labels,
        *values,
        channels=grids[0].channels,
        one_channel=one_channel,
        ignored=reading.ignore,
        names=label_names(reading),
        instances=instances,
    )
    if grids[0].soft_gt is not None and (grids[0].channels > 2 or len(labels.labels) > 1):
        raise InputError(
            f"{gt_mask.name}: a soft ground truth is one map; {pred_mask.name} has several labels.",
            hint="--soft-gt takes a prediction of one label",
            code="kind.mixed",
        )
    if one_channel and labels.labels[0].values is not None:
        # The one map is that of the one label asked for, whatever its value.
        hard = [np.where(g.pred, labels.labels[0].values[0], 0) for g in grids]
        maps = [Maps(h, g.gt, valid=g.valid) for h, g in zip(hard, grids, strict=True)]
    largest = int(np.iinfo(gt_mask.array.dtype).max) if gt_mask.array.dtype.kind in "iu" else 1
    if not labels.instances:
        labels.notes.extend(unmarked(values[1], largest, reading.labels))
    base = _stem(pred_mask.name if isinstance(pred, (str, os.PathLike, Mask)) else gt_mask.name)
    found = []
    for index, (grid, own) in enumerate(zip(grids, maps, strict=True)):
        by_itk = itk_spacing(pred_mask, gt_mask, grid.spacing) if reading.spacing is None and len(grids) == 1 else None
        case = Case(Labelled(own, labels.labels), grid.spacing, grid.unit, itk_spacing=by_itk)
        notes = [*grid.notes, *(labels.notes if index == 0 else [])]
        if strict:
            _refuse_warnings(notes)
        title = base if len(grids) == 1 else f"{base}[{index}]"
        one = Loaded(title, pred_mask, gt_mask, grid, case, labels.binary, notes, roi, instances=labels.instances)
        if grid.prob is not None:
            case.probabilities = one
        found.append(_decided(one))
    return found


def _check_headers(pred: Any, gt: Any, reading: Reading) -> None:
    """Raise what reading and `match` would, for what headers tell: before a voxel of any file is unpacked."""
    from segcli.masks.matching import check_grids
    from segcli.masks.readers import look

    def declared(source: Any, side: Literal["pred", "gt", "roi"]) -> Mask | None:
        """Return a side without its voxels; `None` for an object that its reader has to ask."""
        import numpy as np

        if isinstance(source, np.ndarray):
            return Mask(side, source, "labels", "array")
        if isinstance(source, Mask) or not isinstance(source, (str, os.PathLike)):
            return source if isinstance(source, Mask) else None
        try:
            return look(source)
        except SegcliError:
            return read_side(source, side, reading)  # says what is wrong with it

    if not any(isinstance(source, (str, os.PathLike)) for source in (pred, gt, reading.roi)):
        return
    sides = declared(pred, "pred"), declared(gt, "gt")
    region = None if reading.roi is None else declared(reading.roi, "roi")
    if sides[0] is not None and sides[1] is not None:
        check_grids(sides[0], sides[1], reading, None if region is None else replace(region, kind="labels"))


def label_names(reading: Reading) -> Mapping[int, str]:
    """Return the names that a table of colours gives to labels."""
    table = None if reading.colors is None else colours(reading.colors)
    return {} if table is None else table.names


def _decided(one: Loaded) -> Loaded:
    """Return a pair of one label with what `decided` makes of void in its prediction."""
    from segcli.evidence.case import Case
    from segcli.masks.void import CHARGED, decided, shown

    grid, case = one.grid, one.case
    if len(one.labels) != 1 or not grid.void or grid.prob is not None:
        return one
    pred, count = decided(grid.pred, grid.gt, grid.valid, one.labels[0], grid.void, fresh=one.instances)
    if pred is grid.pred:
        return one
    twin = Case.of(pred, grid.gt, case.labels, spacing=case.spacing, unit=case.unit, valid=grid.valid, void=grid.void)
    twin.itk_spacing = case.itk_spacing
    where = f"{shown(grid.void)} in the prediction at {counted(count, 'voxel')} outside {one.labels[0].name}"
    told = Note(f"{where}: with one label a false alarm", code=CHARGED)
    notes = [*one.notes, told] if count else one.notes
    return replace(one, grid=replace(grid, pred=pred), case=twin, notes=notes, written=one)


def read_side(source: Any, side: Literal["pred", "gt", "roi"], reading: Reading, *, sha256: bool = False) -> Mask:
    """Read the prediction, the ground truth or the region of interest: a path, an array or a `Mask` as it is."""
    from segcli.masks.readers import from_array, read

    kind: MaskKind | None = reading.kind
    scale = reading.prob_scale
    common: dict[str, Any] = {
        "max_voxels": reading.max_voxels, "rounded": reading.round, "colors": reading.colors,
    }  # fmt: skip
    if side == "roi":
        kind, scale = None, None
    elif side == "gt":
        # What `--kind` and `--prob-scale` say is about the prediction; a soft gt is read as it lies.
        kind, scale = ("labels" if kind == "labels" else None), None
    elif scale is not None:
        kind = "probability"
    if isinstance(source, Mask):
        rounds = reading.round and source.kind != "labels"
        if kind in (None, source.kind) and scale is None and not rounds:
            return source
        again = from_array(source.array, name=source.name, kind=kind, prob_scale=scale, **common)
        return replace(source, array=again.array, kind=again.kind, notes=(*source.notes, *again.notes))
    if isinstance(source, (str, os.PathLike)):
        return read(source, kind=kind, prob_scale=scale, sha256=sha256, **common)
    return from_array(source, name=side, kind=kind, prob_scale=scale, **common)


def _stem(name: str) -> str:
    stem = Path(name).name
    lower = stem.lower()
    return next((stem[: -len(s)] for s in (".nii.gz",) if lower.endswith(s)), Path(stem).stem) or stem


def _refuse_warnings(notes: Sequence[Note]) -> None:
    for note in notes:
        if note.level == "warning":
            raise InputError(note.text, hint="--strict makes this warning an error", code="strict")
