"""Runtimes that compute a model's logits: torch, ONNX Runtime, OpenVINO, and the choice between them."""
