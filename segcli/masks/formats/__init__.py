"""The file formats of masks, each one record: what is read, in the order in which messages name it."""

from segcli.masks.formats.nifti import NIFTI
from segcli.masks.formats.npy import NPY
from segcli.masks.formats.npz import NPZ
from segcli.masks.formats.png import PNG
from segcli.masks.formats.record import Format

FORMATS: tuple[Format, ...] = (NIFTI, PNG, NPY, NPZ)
