"""Drawings of a network's structure: SVG, terminal and HTML, laid out from its description. Imports no torch."""
