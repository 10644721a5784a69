"""What one mask holds, as plain data and as text."""

from __future__ import annotations

import math
from typing import Any

from segcli.masks.mask import Mask
from segcli.report.table import Table, flat, grouped, shape_text, share, significant
from segcli.runs.document import note_record


def record(mask: Mask, threshold: float = 0.5) -> dict[str, Any]:
    """Return shape, type, grid and contents of a mask as plain data."""
    import numpy as np

    from segcli.masks import geometry

    array = mask.array
    found: dict[str, Any] = {
        "path": mask.name,
        "format": mask.format,
        "sha256": mask.sha256 or None,
        "shape": list(mask.shape),
        "dtype": str(array.dtype),
        "kind": mask.kind,
        "spacing": None if mask.spacing is None else list(mask.spacing),
        "orientation": None if mask.affine is None else geometry.orientation(mask.affine),
        "affine": None if mask.affine is None else mask.affine.tolist(),
        "header": dict(mask.header),
        "notes": [note_record(n) for n in mask.notes],
    }
    if mask.kind == "labels":
        values, counts = np.unique(array, return_counts=True)
        volume = None if mask.spacing is None or len(mask.spacing) != array.ndim else float(np.prod(mask.spacing))
        found["labels"] = [
            {
                "label": int(v),
                "voxels": int(n),
                "share": float(n / array.size),
                "volume": None if volume is None else float(n) * volume,
            }
            for v, n in zip(values, counts, strict=True)
        ]
    else:
        found["range"] = [float(array.min()), float(array.max())]
        found["mean"] = float(array.mean(dtype=np.float64))
        limit = threshold
        if mask.kind == "logits":
            limit = math.log(threshold / (1 - threshold)) if threshold else -math.inf
        found["above_threshold"] = float(np.count_nonzero(array > limit) / array.size)
    return found


def text(found: dict[str, Any]) -> str:
    """Return a description as lines of text."""
    spacing = found["spacing"]
    grid = "spacing unknown" if spacing is None else "x".join(f"{s:.4g}" for s in spacing) + " mm"
    orientation = f" · {found['orientation']}" if found["orientation"] else ""
    lines = [
        flat(found["path"]),
        f"  {found['format']} · {shape_text(found['shape'])} · {found['dtype']} · {grid}{orientation}",
    ]
    if found["kind"] == "labels":
        present = [x for x in found["labels"] if x["label"]]
        lines.append(f"  {len(present)} label{'s' if len(present) != 1 else ''} and background")
        table = Table(["label", "voxels", "share"] + ["volume"] * (spacing is not None), left=frozenset())
        for x in found["labels"][:60]:
            row = [str(x["label"]), grouped(x["voxels"]), share(x["share"])]
            table.rows.append(
                row + ([significant(x["volume"])] if x["volume"] is not None else [""] * (spacing is not None))
            )
        lines += ["  " + line for line in table.text().splitlines()]
        if len(found["labels"]) > 60:
            lines.append(f"  and {len(found['labels']) - 60} more (-f json lists all)")
    else:
        low, high = found["range"]
        lines.append(
            f"  {found['kind']}: {low:.4g} to {high:.4g}, mean {found['mean']:.4g}, "
            f"{found['above_threshold']:.2%} above the threshold"
        )
    lines += [f"  {n['level']}: {flat(n['text'])}" for n in found["notes"]]
    if "same_grid_as_first" in found:
        lines += (
            ["  same grid as the first file"]
            if found["same_grid_as_first"]
            else [f"  differs: {flat(d)}" for d in found["differences"]]
        )
    return "\n".join(lines)
