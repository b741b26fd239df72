"""The scores of a model on labelled data."""
