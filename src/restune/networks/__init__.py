"""Pure torch modules and the specs that define them. Reads and writes no files."""
