"""The version of restune."""

__version__ = "0.1.0"
