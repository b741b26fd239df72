"""A model behind HTTP: a bounded queue with dynamic batching, JSON and Open Inference Protocol endpoints, a page."""
