"""Cost of a cohort against scripts that loop MONAI's metrics, and surface-distance, over the same files.

    python benchmarks/cohort.py                # 200 cases, the slow tools on six of them; about two minutes
    python benchmarks/cohort.py --cases 12     # about a minute

Cases are of 30 labels on 160x160x160 voxels, NIfTI, written to a temporary folder. CPU time of one
process, and the wall time of one worker against two, from nothing to the table (give it an idle machine).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE, LABELS, SPACING = (160, 160, 160), 30, (1.0, 1.0, 1.5)


def write(folder: Path, cases: int) -> None:
    """Write pairs of ellipsoids; in the prediction they are moved by a voxel or two."""
    grids = np.ogrid[tuple(slice(n) for n in SHAPE)]
    affine = np.diag([*SPACING, 1.0])
    for side in ("pred", "gt"):
        (folder / side).mkdir()
    for case in range(cases):
        rng = np.random.default_rng(case)
        middles = rng.uniform(20, 140, (LABELS, 3))
        radii = rng.uniform(7, 18, (LABELS, 3))
        for side, moves in (("gt", np.zeros((LABELS, 3))), ("pred", rng.integers(-2, 3, (LABELS, 3)))):
            mask = np.zeros(SHAPE, np.uint8)
            for label in range(LABELS):
                parts = zip(grids, middles[label] + moves[label], radii[label], strict=True)
                mask[sum(((g - m) / r) ** 2 for g, m, r in parts) < 1] = label + 1
            nib.save(nib.Nifti1Image(mask, affine), folder / side / f"case_{case:03}.nii.gz")


LOAD = f"""
import sys
from pathlib import Path
import nibabel as nib
import numpy as np

folder, cases = Path(sys.argv[1]), int(sys.argv[2])
LABELS, SPACING = {LABELS}, {SPACING}
for path in sorted((folder / "gt").iterdir())[:cases]:
    gt, pred = (np.asarray(nib.load(folder / side / path.name).dataobj) for side in ("gt", "pred"))
"""

MONAI = (
    """
import torch
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
"""
    + LOAD
    + """
    one_hot = [torch.from_numpy(np.stack([a == k for k in range(LABELS + 1)]))[None].float() for a in (pred, gt)]
    compute_dice(*one_hot, include_background=False)
    compute_hausdorff_distance(*one_hot, include_background=False, percentile=95, spacing=SPACING)
    compute_average_surface_distance(*one_hot, include_background=False, symmetric=True, spacing=SPACING)
"""
)

SURFACE_DISTANCE = (
    """
import surface_distance as sd
"""
    + LOAD
    + """
    for k in range(1, LABELS + 1):
        found = sd.compute_surface_distances(gt == k, pred == k, SPACING)
        sd.compute_robust_hausdorff(found, 95)
        sd.compute_average_surface_distance(found)
        sd.compute_surface_dice_at_tolerance(found, 2)
        sd.compute_dice_coefficient(gt == k, pred == k)
"""
)

READ = """
import sys
from pathlib import Path
from segcli.masks.readers import read

folder, cases = Path(sys.argv[1]), int(sys.argv[2])
for path in sorted((folder / "gt").iterdir())[:cases]:
    for side in ("gt", "pred"):
        read(folder / side / path.name, sha256=True)
"""


def cost(call: list[str]) -> tuple[float, float]:
    """Run a command and return its CPU seconds and its wall seconds.

    Workers are children of a fork server that nobody waits for: their CPU time is not in it.
    """
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - clock


def per_case(script: str, folder: Path, cases: int) -> float:
    """Return the CPU seconds of one case: start-up is that of a run over no case."""
    none = cost([sys.executable, "-c", script, str(folder), "0"])[0]
    return (cost([sys.executable, "-c", script, str(folder), str(cases)])[0] - none) / cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    cases = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, cases)
        call = [
            sys.executable,
            "-m",
            "segcli",
            "evaluate",
            f"{folder}/pred",
            f"{folder}/gt",
            "-m",
            "dice,hd95,assd,nsd:tol=2",
        ]
        cost([*call, "-j1"])  # the files are in the page cache, the kernels compiled
        (one_cpu, one_wall), (_, two_wall) = (cost([*call, f"-j{jobs}"]) for jobs in (1, 2))
        some, few = min(cases, 20), min(cases, 6)
        ours = one_cpu / cases
        reading = per_case(READ, folder, some)
        monai, google = per_case(MONAI, folder, few), per_case(SURFACE_DISTANCE, folder, few)
    print(f"{cases} cases, {LABELS} labels, {'x'.join(map(str, SHAPE))}; dice, hd95, assd, nsd")
    print(f"segcli             {ours:6.2f} CPU s a case, start-up included; reading both files {reading:.2f}")
    print(f"MONAI              {monai:6.2f} CPU s a case ({few} cases; dice, hd95, assd)  {monai / ours:5.1f} x")
    print(f"surface-distance   {google:6.2f} CPU s a case ({few} cases)                    {google / ours:5.1f} x")
    print(f"1 job {one_wall:.1f} s, 2 jobs {two_wall:.1f} s wall: {one_wall / two_wall:.2f} x")


if __name__ == "__main__":
    main()
