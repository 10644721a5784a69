"""The sample masks: small pairs that ship with the package, made by `sample_masks/make.py`."""

from __future__ import annotations

from pathlib import Path

from segcli.errors import InputError


def sample_folder() -> Path:
    """Return the folder of the sample masks: inside an installed package, beside it in a source tree."""
    package = Path(__file__).parents[1]
    for folder in (package / "sample_masks", package.parent / "sample_masks"):
        if folder.is_dir():
            return folder
    raise InputError("the sample masks are missing from this installation.", hint="reinstall segcli", code="samples")


def sample_pair() -> list[str]:
    """Return the prediction and the ground truth that `segcli compare` uses without files."""
    folder = sample_folder()
    return [str(folder / "nuclei_prob.npy"), str(folder / "nuclei_gt.npy")]
