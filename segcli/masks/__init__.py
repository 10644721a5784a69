"""Files and arrays to masks: reading, geometry, labels, and bringing a pair together."""
