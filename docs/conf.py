"""Sphinx: the pages in this folder, English at the top, Chinese in zh/; the API reference from docstrings."""

from __future__ import annotations

from restune import __version__

project = "restune"
copyright = "the authors of restune"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "notebooks"]
html_theme = "furo"
html_title = "restune"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "code"  # docstrings mark names with single backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False
