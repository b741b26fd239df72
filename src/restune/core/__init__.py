"""What every room may use: errors, files, console, machine facts, fingerprints. Knows nothing of torch."""
