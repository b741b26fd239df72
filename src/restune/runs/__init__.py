"""One training run, from its request to its results."""
