"""Predict with exported graphs: numpy, Pillow and a runtime; no torch (but in `predictor`, for evaluate)."""
