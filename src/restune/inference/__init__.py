"""A trained network in use: the loaded model and its predictions."""
