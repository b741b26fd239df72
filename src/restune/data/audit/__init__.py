"""Is this data fit to train on? Faults of items, of pairs of items and of the whole set, found in one pass."""
