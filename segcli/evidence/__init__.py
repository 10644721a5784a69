"""What the measures of a pair of masks are made of, each piece computed at most once.

Start with `case.py`: a `Case` is two label maps, a `Pair` one label of them. `soft.py` is its twin for
probabilities, `classes.py` for all classes at once.
"""
