"""One case: two masks brought together, every measure of them, their means, and the rules for empty masks."""
