"""What one mask holds, as plain data and as text."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segcli.errors import InputError
from segcli.masks.labels import is_background
from segcli.masks.mask import Mask
from segcli.masks.source import size_text
from segcli.masks.void import unmarked
from segcli.report.table import Table, flat, grouped, shape_text, share, significant
from segcli.run.codec import note_to
from segcli.wording import counted

#: As many values as a description of a file that cannot be used names.
FIRST = 12
_CHUNK = 1 << 20


def record(mask: Mask, threshold: float = 0.5, names: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Return shape, type, grid and contents of a mask as plain data; `names` are those of its labels."""
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
        "notes": [note_to(n) for n in mask.notes],
    }
    if mask.kind == "labels":
        counts = _counts(array)
        volume = None if mask.spacing is None or len(mask.spacing) != array.ndim else float(np.prod(mask.spacing))
        found["labels"] = [
            {
                "label": int(v),
                "voxels": int(n),
                "share": float(n / array.size),
                "volume": None if volume is None else float(n) * volume,
            }
            for v, n in counts.items()
        ]
        for row in found["labels"]:
            if names and row["label"] in names:
                row["name"] = names[row["label"]]
        largest = int(np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else 1
        found["notes"] += [{"level": n.level, "text": n.text} for n in unmarked(list(counts), largest, where="")]
    else:
        found["range"] = [float(array.min()), float(array.max())]
        found["mean"] = float(array.mean(dtype=np.float64))
        limit = threshold
        if mask.kind == "logits":
            limit = math.log(threshold / (1 - threshold)) if threshold else -math.inf
        found["above_threshold"] = float(np.count_nonzero(array > limit) / array.size)
    return found


def _counts(array: Any) -> dict[int, int]:
    """Count the values of a label map in ascending order, with little memory beside the map."""
    import numpy as np

    flat, total = array.ravel(order="K"), Counter[int]()
    short = flat.dtype.itemsize <= 2
    if short:  # as unsigned numbers, which index a table
        unsigned = flat.view(f"u{flat.dtype.itemsize}")
        table = np.zeros(1 << 8 * flat.dtype.itemsize, np.int64)
        for start in range(0, flat.size, _CHUNK):
            table += np.bincount(unsigned[start : start + _CHUNK], minlength=table.size)
        values = np.flatnonzero(table)
        total.update(
            dict(zip(values.astype(unsigned.dtype).view(flat.dtype).tolist(), table[values].tolist(), strict=True))
        )
    for start in range(0, 0 if short else flat.size, _CHUNK):
        found, counts = np.unique(flat[start : start + _CHUNK], return_counts=True)
        total.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(total.items()))


def broken(
    path: str, problem: InputError, *, colors: str | None = None, max_voxels: int | None = None
) -> dict[str, Any]:
    """Return what can still be said of a file that is no mask: its size, its header, its numbers, and what is wrong."""
    from segcli.masks import files, readers

    found: dict[str, Any] = {"path": path, "bytes": None, "error": {"code": problem.code, "message": problem.message}}
    if problem.hint:
        found["error"]["hint"] = problem.hint
    file = Path(files.files_of(path)[0]) if path else Path()
    if file.is_file():
        found["bytes"] = file.stat().st_size
    with contextlib.suppress(InputError, OSError, ValueError, MemoryError):
        head = readers.look(path)
        found |= {
            "format": head.format,
            "shape": list(head.shape),
            "dtype": head.header["dtype"],
            "spacing": None if head.spacing is None else list(head.spacing),
        }
        found["values"] = _values(readers.raw(path, colors=colors, max_voxels=max_voxels).array)
    return found


def _values(array: Any) -> dict[str, Any] | None:
    """Return what numbers an array holds, whatever they mean."""
    import numpy as np

    if array.dtype.kind not in "biuf" or not array.size:
        return None
    flat = array.reshape(-1, order="A")
    finite = flat[np.isfinite(flat)]
    some = np.unique(finite)
    return {
        "range": [float(finite.min()), float(finite.max())] if finite.size else None,
        "distinct": int(some.size),
        "first": [float(v) for v in some[:FIRST]],
        "fractions": int(np.count_nonzero(np.rint(finite) != finite)),
        "nan": int(np.count_nonzero(np.isnan(flat))),
        "infinite": int(np.count_nonzero(np.isinf(flat))),
    }


def _broken_text(found: dict[str, Any]) -> list[str]:
    lines = [found["path"]]
    facts = [found["format"], shape_text(found["shape"]), found["dtype"]] if "format" in found else []
    if found.get("spacing"):
        facts.append("x".join(f"{s:.4g}" for s in found["spacing"]) + " mm")
    if found["bytes"] is not None:
        facts.append(size_text(found["bytes"]))
    lines += ["  " + " · ".join(facts)] * bool(facts)
    if values := found.get("values"):
        count = values["distinct"]
        ends = "no finite number" if values["range"] is None else "{:.6g} to {:.6g}".format(*values["range"])
        told = [f"{ends}, {counted(count, 'distinct value', shown=grouped(count))}"]
        told += [f"{grouped(values['fractions'])} with a fraction"] * (values["fractions"] > 0)
        told += [
            f"{grouped(values[key])} {word}" for key, word in (("nan", "NaN"), ("infinite", "infinite")) if values[key]
        ]
        lines.append("  " + ", ".join(told))
        if 1 < count <= FIRST:
            lines.append("  values " + ", ".join(f"{v:.9g}" for v in values["first"]))
    lines.append(f"  cannot be used: {found['error']['message'].removeprefix(found['path'] + ': ')}")
    return lines + [f"  {found['error']['hint']}"] * ("hint" in found["error"])


def text(found: dict[str, Any]) -> str:
    """Return a description as lines of text."""
    if "error" in found:
        return "\n".join(_broken_text(found))
    spacing = found["spacing"]
    grid = "spacing unknown" if spacing is None else "x".join(f"{s:.4g}" for s in spacing) + " mm"
    orientation = f" · {found['orientation']}" if found["orientation"] else ""
    lines = [
        flat(found["path"]),
        f"  {found['format']} · {shape_text(found['shape'])} · {found['dtype']} · {grid}{orientation}",
    ]
    if found["kind"] == "labels":
        present = [x for x in found["labels"] if x["label"] or not is_background(x.get("name", ""))]
        background = " and background" * all(x["label"] for x in present)
        lines.append(f"  {counted(len(present), 'label')}{background}")
        named = any("name" in x for x in found["labels"])
        table = Table(
            ["label", "voxels", "share"] + ["volume"] * (spacing is not None) + ["name"] * named,
            left=frozenset({3 + (spacing is not None)} if named else ()),
        )
        for x in found["labels"][:60]:
            row = [str(x["label"]), grouped(x["voxels"]), share(x["share"])]
            table.rows.append(
                row
                + ([significant(x["volume"])] if x["volume"] is not None else [""] * (spacing is not None))
                + [flat(x.get("name", ""))] * named
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
