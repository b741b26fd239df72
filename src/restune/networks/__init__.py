"""Pure torch modules and the numbers that make them. Knows nothing of files."""
