"""The command line: parse, call a verb, show. No logic of its own, and no torch before a verb runs.

One module a verb. Only the verb that is asked for is imported and built: help stays quick however many there are.
"""

from __future__ import annotations

import importlib
import io
import sys
import time
from typing import Annotated

import typer

from restune.core.console import command_started

VERBS = {
    "quickstart": ("quickstart", "The whole journey in a minute, on data that comes with the install."),
    "train": ("train", "A residual network from scratch."),
    "finetune": ("train", "A pretrained network: new head, frozen or thawed layers."),
    "evaluate": ("evaluate", "Score a model on labelled data: accuracy with its interval, confusion."),
    "predict": ("predict", "Label items: one line per input, whatever becomes of the others."),
    "embed": ("embed", "Write the embeddings (penultimate features) of each item, for other programs."),
    "bench": ("bench", "How fast this machine is, and how near its limit training and predicting are."),
    "cache": ("cache", "List and prune what is kept of frozen layers between runs."),
    "models": ("models", "List the networks, or show one stage by stage."),
}
"""Every verb with its module and what it does, in the order of a first journey."""


def main() -> None:
    """What ``restune`` runs."""
    token = command_started.set(time.perf_counter())
    # File names may hold bytes that are no UTF-8: they are read as they are, and printed escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    try:
        make_app(next((word for word in sys.argv[1:] if not word.startswith("-")), None))()
    finally:
        command_started.reset(token)


def make_app(verb: str | None) -> typer.Typer:
    """The application with one verb ready to run and the others as names; all as names where `verb` is none."""
    app = typer.Typer(
        name="restune",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for name, (module, summary) in VERBS.items():
        function = getattr(importlib.import_module(f"restune.cli.{module}"), name) if name == verb else _placeholder
        app.command(name, short_help=summary)(function)
    return app


def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Residual networks you can trust and ship."""
    if version:
        from restune.core.version import __version__

        print(f"restune {__version__}")
        raise typer.Exit


def _placeholder() -> None:
    """A verb that was not asked for."""
