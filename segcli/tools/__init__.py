"""What other tools would print for a pair, and the means of a run under their rules for empty masks."""
