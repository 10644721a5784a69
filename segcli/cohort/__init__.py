"""Many cases: pairing files, scoring them in many processes, a journal that survives, one run out of it."""
