"""The lessons' experiments, one module each."""
