"""Shared by every package: errors, files, console, machine facts, random streams, row stores. Imports no torch."""
