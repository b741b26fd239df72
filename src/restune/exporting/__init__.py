"""Models for other runtimes: one graph from raw input to probabilities, and the files that hold it."""
