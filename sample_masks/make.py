"""Makes the sample masks: `python sample_masks/make.py [FOLDER]`. Needs numpy, scipy, nibabel and pillow.

Everything is drawn from seeds: shapes are level sets in mm (inside is positive) roughened by smooth
noise, and a prediction is the ground truth's signed distance moved by noise that is correlated over a few
mm, as a network's boundary error is. Missed, merged and false parts are put in by hand.
"""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPACING = (0.8, 0.8, 2.5)
#: LPS as most scanners store it: i runs to the left, j to the back, k to the head.
AFFINE = np.array([[-0.8, 0, 0, 71.2], [0, -0.8, 0, 38.4], [0, 0, 2.5, -212.5], [0, 0, 0, 1.0]])
LABELS = {"liver": 1, "tumour": 2, "kidney": 3}
#: Background, stroma, epithelium, immune cells: about the colours of an H&E stain.
TISSUE = ((244, 240, 243), (233, 150, 182), (132, 74, 152), (58, 52, 118))
NUCLEI_SHAPE = (136, 152)
TISSUE_SHAPE = (72, 80)


def noise(seed: int, shape: tuple[int, ...], width: float, spacing: tuple[float, ...]) -> Field:
    """Return smooth noise of unit deviation, correlated over `width` (in the unit of the spacing)."""
    field = np.random.RandomState(seed).standard_normal(shape)  # its stream is frozen; that of Generator is not
    field = ndimage.gaussian_filter(field, [width / s for s in spacing], mode="reflect")
    return np.asarray((field - field.mean()) / field.std())


def signed_distance(mask: Mask, spacing: tuple[float, ...]) -> Field:
    """Return the distance to the boundary, positive inside."""
    inside = ndimage.distance_transform_edt(mask, spacing)
    outside = ndimage.distance_transform_edt(~mask, spacing)
    return np.asarray(np.where(mask, inside - 0.5 * min(spacing), 0.5 * min(spacing) - outside))


# --- the abdomen --------------------------------------------------------------------------------


def ellipsoid(grid: list[Field], centre: tuple[float, ...], radii: tuple[float, ...], turn: float = 0.0) -> Field:
    """Return about the distance in mm to an ellipsoid, turned by `turn` degrees in the axial plane."""
    x, y, z = (g - c for g, c in zip(grid, centre, strict=True))
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    rho = np.sqrt(((c * x + s * y) / radii[0]) ** 2 + ((c * y - s * x) / radii[1]) ** 2 + (z / radii[2]) ** 2)
    return np.asarray((1 - rho) * min(radii))


def union(*fields: Field, soft: float = 1.5) -> Field:
    """Return the union of level sets, rounded over about `soft` mm where they meet."""
    return np.asarray(soft * np.logaddexp.reduce([f / soft for f in fields], axis=0))


def abdomen() -> dict[str, NDArray[np.uint8]]:
    """Return the label maps of the ground truth and of two models (the right upper abdomen of an infant)."""
    shape = (96, 80, 32)
    grid = [g.astype(float) for g in np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, SPACING, strict=True)),
                                                 indexing="ij")]  # fmt: skip
    liver = union(
        ellipsoid(grid, (26, 31, 44), (19, 23, 30)),  # right lobe
        ellipsoid(grid, (24, 34, 26), (13, 16, 17), -10),  # its lower tip
        ellipsoid(grid, (45, 19, 51), (22, 10.5, 17), 12),  # left lobe
        soft=2.5,
    )
    liver = np.minimum(liver, -ellipsoid(grid, (43, 38, 36), (13, 13, 21), 25))  # the hilum
    liver = np.minimum(liver, -ellipsoid(grid, (34, 17, 22), (5, 7.5, 13), 20) - 0.6)  # the gallbladder
    liver = np.minimum(liver, -ellipsoid(grid, (39.5, 41, 50), (4, 4.5, 60)) - 0.6)  # the vena cava
    liver = np.minimum(liver, -ellipsoid(grid, (38, 4, 46), (1.6, 9, 9)) - 0.3)  # the falciform fissure
    liver += 1.1 * noise(11, shape, 7, SPACING)
    kidney = ellipsoid(grid, (37, 51, 26), (9.2, 7.4, 19), 40)
    kidney = np.minimum(kidney, -ellipsoid(grid, (43.5, 48.5, 26), (5.6, 2.6, 6.5), -25))  # the sinus
    kidney += 0.5 * noise(12, shape, 5, SPACING)
    tumour = union(
        ellipsoid(grid, (20, 27, 49), (7.5, 6.2, 8.5)),
        ellipsoid(grid, (25.5, 32, 44), (5, 5.4, 6)),
        ellipsoid(grid, (16, 31.5, 43), (3.6, 4, 5)),
    )
    satellite = ellipsoid(grid, (45, 18, 55), (3.4, 3.2, 4.2))
    tumour = np.maximum(tumour, satellite) + 0.7 * noise(13, shape, 3, SPACING)
    return {
        "gt": paint(largest(liver > 0), (tumour > 0) & (liver > 1), largest(kidney > 0)),
        "pred": first_model(grid, liver, tumour, satellite, kidney),
        "pred2": second_model(grid, liver, tumour, kidney),
    }


def largest(mask: Mask) -> Mask:
    """Return the largest component."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def paint(liver: Mask, tumour: Mask, kidney: Mask) -> NDArray[np.uint8]:
    """Return the label map: tumour over liver over kidney."""
    image = np.zeros(liver.shape, np.uint8)
    image[kidney] = LABELS["kidney"]
    image[liver] = LABELS["liver"]
    image[tumour] = LABELS["tumour"]
    return image


def first_model(grid: list[Field], liver: Field, tumour: Field, satellite: Field, kidney: Field) -> NDArray[np.uint8]:
    """Return a model that misses the small tumour and calls a piece of the stomach's wall liver."""
    shape = liver.shape
    organ = signed_distance(largest(liver > 0), SPACING) + 0.2 + 0.8 * noise(21, shape, 3.5, SPACING)
    island = ellipsoid(grid, (68, 40, 57), (3.6, 2.6, 5.5), 30) + 0.5 * noise(22, shape, 2.5, SPACING)
    seen = (tumour > 0) & (liver > 1) & (satellite < -2)
    lesion = signed_distance(seen, SPACING) - 0.35 + 0.95 * noise(23, shape, 2.5, SPACING)
    bean = signed_distance(largest(kidney > 0), SPACING) - 0.1 + 0.7 * noise(24, shape, 3, SPACING)
    return paint(largest(organ > 0) | (island > 0), largest(lesion > 0), largest(bean > 0))


def second_model(grid: list[Field], liver: Field, tumour: Field, kidney: Field) -> NDArray[np.uint8]:
    """Return a smoother model: it finds both tumours, adds a false one, and loses the upper pole of the kidney."""
    shape = liver.shape
    organ = ndimage.gaussian_filter(signed_distance(largest(liver > 0), SPACING), [2.0, 2.0, 0.8])
    organ += 0.9 + 0.5 * noise(31, shape, 6, SPACING)
    lesion = signed_distance((tumour > 0) & (liver > 1), SPACING) + 0.7 + 0.7 * noise(32, shape, 3, SPACING)
    false = ellipsoid(grid, (23, 37, 30), (3.4, 3, 4.5)) + 0.5 * noise(33, shape, 2, SPACING)
    bean = signed_distance(largest(kidney > 0), SPACING) - 0.3 + 0.5 * noise(34, shape, 4, SPACING)
    bean = np.where(grid[2] > 36, bean - 0.9 * (grid[2] - 36), bean)
    return paint(largest(organ > 0), (lesion > 0) | (false > 0), largest(bean > 0))


# --- the nuclei ---------------------------------------------------------------------------------


def nuclei() -> dict[str, NDArray[Any]]:
    """Return the ground truth, the logits and probabilities of one model and those of another."""
    random = np.random.RandomState(40)
    rows, columns = np.mgrid[: NUCLEI_SHAPE[0], : NUCLEI_SHAPE[1]].astype(float)
    placed: list[tuple[float, float, float, float, float]] = []
    tries = 0
    while len(placed) < 40 and tries < 4000:
        tries += 1
        y, x = random.uniform(1, NUCLEI_SHAPE[0] - 1), random.uniform(1, NUCLEI_SHAPE[1] - 1)
        a = random.uniform(5.4, 9.0)
        b, turn = a * random.uniform(0.62, 0.95), random.uniform(0, np.pi)
        near = 0.86 if random.uniform() < 0.3 else 1.12  # some touch
        if all(np.hypot(y - v, x - u) > near * (0.5 * (a + b) + 0.5 * (c + d)) for v, u, c, d, _ in placed):
            placed.append((y, x, a, b, turn))
    rough = 0.55 * noise(41, NUCLEI_SHAPE, 2.2, (1, 1))
    fields = []
    for y, x, a, b, turn in placed:
        c, s = np.cos(turn), np.sin(turn)
        u, v = c * (columns - x) + s * (rows - y), c * (rows - y) - s * (columns - x)
        fields.append((1 - np.sqrt((u / a) ** 2 + (v / b) ** 2)) * b + rough)
    missed, faint = {3, 17, 29}, {8, 22}
    false = [(17.0, 38.0, 4.2, 3.2), (92.0, 41.0, 3.6, 3.9), (127.0, 92.0, 4.4, 3.0)]
    seen = [f - (9.0 if i in missed else 1.6 if i in faint else 0.0) for i, f in enumerate(fields)]
    seen += [(1 - np.hypot((rows - y) / a, (columns - x) / b)) * min(a, b) for y, x, a, b in false]
    logits = _confidence(union(*seen, soft=1.1), 51, 1.0)  # rounded where two meet: neighbours merge
    sharp = [f - (9.0 if i in {11, 33} else 0.0) for i, f in enumerate(fields)]
    other = _confidence(np.max(sharp, axis=0) - 0.55, 52, 1.5)
    gt = np.max(fields, axis=0) > 0
    prob, prob2 = (_sigmoid(z) for z in (logits, other))
    return {"gt": gt, "logits": logits, "prob": prob, "prob2": prob2, "pred": logits > 0}


def _confidence(field: Field, seed: int, steepness: float) -> NDArray[np.float32]:
    """Return logits that saturate softly and are unsure at the boundary, in steps of 1/256, never 0."""
    blurred = ndimage.gaussian_filter(np.maximum(field, -6), 0.7)
    raw = steepness * (blurred + 0.65 * noise(seed, field.shape, 2.0, (1, 1)))
    raw = 7 * np.tanh(raw / 5) + 0.25 * noise(seed + 100, field.shape, 0.6, (1, 1))
    return ((np.floor(raw * 256) + 0.5) / 256).astype(np.float32)


def _sigmoid(z: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float32)


# --- the tissue ---------------------------------------------------------------------------------


def tissue() -> dict[str, NDArray[Any]]:
    """Return the class map of the ground truth, and the probabilities and classes of a model."""
    shape = TISSUE_SHAPE
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    edge = 0.9 * columns - 0.55 * rows + 9 * noise(61, shape, 14, (1, 1)) + 26  # where the section ends
    gt = np.where(edge > 6, 1, 0).astype(np.uint8)
    wobble = 1.3 * noise(62, shape, 3.5, (1, 1))
    glands = [(17, 27, 12, 9, 0.3), (47, 40, 13, 10, -0.5), (21, 62, 11, 12.5, 0.2), (59, 67, 10, 8.5, 0.8)]
    for y, x, a, b, turn in glands:
        c, s = np.cos(turn), np.sin(turn)
        u, v = c * (columns - x) + s * (rows - y), c * (rows - y) - s * (columns - x)
        depth = (1 - np.hypot(u / a, v / b)) * min(a, b) + wobble
        gt[(depth > 0) & (gt > 0)] = 2
        gt[depth > 4.8] = 0  # the lumen
    cells = 3.2 * noise(63, shape, 2.4, (1, 1)) - 0.42 * np.hypot(rows - 38, columns - 66) + 2.2
    cells = np.maximum(cells, 2.6 * noise(64, shape, 2.0, (1, 1)) - 0.5 * np.hypot(rows - 64, columns - 48) + 1.4)
    gt[(cells > 0) & (gt == 1)] = 3
    scores = np.empty((4, *shape))
    for label in range(4):
        near = np.clip(signed_distance(gt == label, (1, 1)), -5, 4)
        scores[label] = 1.15 * near + 1.5 * noise(70 + label, shape, 2.0, (1, 1))
        scores[label] += 0.5 * noise(80 + label, shape, 0.7, (1, 1))
    scores[3] -= 0.7  # the rare class is under-called
    scores -= scores.max(axis=0)
    probs = np.exp(scores)
    probs = (probs / probs.sum(axis=0)).astype(np.float32)
    return {"gt": gt, "probs": probs, "pred": probs.argmax(axis=0).astype(np.uint8)}


# --- files --------------------------------------------------------------------------------------


def arrays() -> dict[str, NDArray[Any]]:
    """Return the array of every file by its name."""
    body, cells, slide = abdomen(), nuclei(), tissue()
    return {
        "abdomen_gt.nii.gz": body["gt"],
        "abdomen_pred.nii.gz": body["pred"],
        "abdomen_pred2.nii.gz": body["pred2"],
        "nuclei_gt.png": cells["gt"] * np.uint8(255),
        "nuclei_gt.npy": cells["gt"],
        "nuclei_pred.png": cells["pred"] * np.uint8(255),
        "nuclei_logits.npy": cells["logits"],
        "nuclei_prob.npy": cells["prob"],
        "nuclei_prob2.npy": cells["prob2"],
        "tissue_gt.png": slide["gt"],
        "tissue_pred.png": slide["pred"],
        "tissue_probs.npy": slide["probs"],
    }


def encode(name: str, array: NDArray[Any]) -> bytes:
    """Return the bytes of a file: the same ones each time (no time stamp, no file name inside)."""
    out = io.BytesIO()
    if name.endswith(".npy"):
        np.save(out, array)
    elif name.endswith(".png"):
        image = Image.fromarray(array)
        if name.startswith("tissue"):
            image.putpalette([level for colour in TISSUE for level in colour])
        image.save(out, "png", optimize=True)
    else:
        image = nib.Nifti1Image(array, AFFINE)
        image.header.set_xyzt_units("mm")
        image.set_sform(AFFINE, 1)
        image.set_qform(AFFINE, 1)
        with gzip.GzipFile("", "wb", 9, out, mtime=0) as packed:
            packed.write(image.to_bytes())
    return out.getvalue()


def main(folder: Path) -> None:
    """Write every file into `folder`."""
    for name, array in arrays().items():
        (folder / name).write_bytes(encode(name, array))
    rows = "".join(f"{name},{value}\n" for name, value in LABELS.items())
    (folder / "labels.csv").write_bytes(f"name,value\n{rows}".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
