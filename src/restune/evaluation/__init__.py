"""Honest numbers about a model."""
