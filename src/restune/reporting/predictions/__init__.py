"""Tables of predictions: their columns, and files that are written as the predictions come."""
