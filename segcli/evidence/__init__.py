"""What the measures of a pair of masks are made of, each piece computed at most once.

Of masks it is views, one on top of the other, each of which keeps what depends on no more than it knows: `maps.py` two
label maps as codes, `labelled.py` with the labels that are asked for, `measured.py` with the size of a voxel, `case.py`
with all that is known of the pair. `pair.py` is one label of a case, `confusion.py` its classes. Of probabilities:
`voxels.py` is a row of voxels, `lattice.py` where they lie, `soft.py` both for one label, `classes.py` for all classes,
`pooled.py` several of these as one.
"""
