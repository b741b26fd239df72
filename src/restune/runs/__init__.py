"""One training run, from what was asked for to its results."""
