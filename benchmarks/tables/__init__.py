"""Tables of measurements: one script per table, stored JSON, and the pages docs/results.md made from it."""
