"""Experiments and exercises that teach why residual networks work."""
