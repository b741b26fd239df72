"""The command line: parse, call a verb, print. No logic of its own, and no torch import before a verb runs.

One module per verb. Only the requested verb is imported and built, so that help stays fast.
"""

from __future__ import annotations

import importlib
import io
import sys
import time
from collections import Counter
from itertools import pairwise
from typing import Annotated, Any

import typer
import typer.core

from restune.cli.run import Output, output, show_error, show_usage_error
from restune.core.console import command_started
from restune.core.errors import UserError
from restune.core.language import resolve_language, speaking

VERBS = {
    "quickstart": ("quickstart", "Train, fine-tune, evaluate and predict on bundled data, in about a minute."),
    "check": ("check", "Find faults of data before training: unreadable files, duplicates, leaks, odd images."),
    "label": ("label", "Propose the next items to label, and write a page to label them by keyboard."),
    "train": ("train", "Train a residual network from scratch."),
    "finetune": ("train", "Fine-tune a pretrained network: new head, frozen or unfrozen layers."),
    "evaluate": ("evaluate", "Score a model on labelled data: accuracy, 95% interval, confusion matrix."),
    "predict": ("predict", "Label items, one line per input."),
    "export": ("export", "Write a model for other runtimes: ONNX, OpenVINO, torch, torchvision, timm; verified."),
    "serve": ("serve", "Answer predictions over HTTP, with a page for people."),
    "embed": ("embed", "Write embeddings (penultimate features) for other programs."),
    "bench": ("bench", "Compare training and prediction speed with this machine's peak."),
    "search": ("search", "Choose settings on validation items, then train with the best."),
    "average": ("average", "Average the weights of several runs into one model."),
    "report": ("report", "Draw a run's report again, or compare several runs on one page."),
    "runs": ("runs", "List runs: data, model, scores, start and state."),
    "cache": ("cache", "List and prune the cached activations of frozen layers."),
    "models": ("models", "List the networks, or show one stage by stage."),
    "lesson": ("lesson", "Why residual networks work, measured on this machine; programming exercises."),
}
"""Each verb's module and summary, in the order of a first session."""

_UsageError: Any = typer.BadParameter.__base__
"""Typer's exception for wrong arguments, under the only name that all its versions export."""


def main() -> None:
    """Run the ``restune`` command."""
    token, as_json = command_started.set(time.perf_counter()), "--json" in sys.argv[1:]
    before = output.set(Output(as_json))
    # File names may contain bytes that are not UTF-8: they are read unchanged and printed escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    language = _named_language(sys.argv[1:])
    try:
        with speaking(language):
            app = make_app(next((word for word in sys.argv[1:] if not word.startswith("-")), None))
            sys.exit(app(standalone_mode=not as_json and language == "en"))
    except _UsageError as error:  # typer itself shows it where neither --json nor a language is asked for
        with speaking(language):
            show_usage_error(error)
        sys.exit(error.exit_code)
    finally:
        output.reset(before)
        command_started.reset(token)


def _named_language(words: list[str]) -> str:
    """Return the language that the words of a command name, for messages about these words; English for unknown ones.

    >>> _named_language(["train", "photos/", "--lang", "zh"])
    'zh'
    """
    values = [word.partition("=")[2] for word in words if word.startswith("--lang=")]
    values += [value for option, value in pairwise(words) if option == "--lang"]
    try:
        return resolve_language(values[0] if values else None)
    except UserError:
        return "en"


def make_app(verb: str | None) -> typer.Typer:
    """Build the application with one verb ready to run and the others as names; all as names if `verb` is None."""
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
        app.command(name, cls=Command, short_help=summary)(function)
    return app


class Command(typer.core.TyperCommand):
    """A command that refuses an option given twice: the last one would silently win."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line. Raises a usage error for a repeated option."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        counts = Counter(param.name for param in order if not getattr(param, "multiple", False) and param.nargs == 1)
        for param in order:
            is_flag = getattr(param, "is_flag", False)
            if param.param_type_name == "option" and not is_flag and counts[param.name] > 1:
                show_error(UserError(f"{param.opts[0]} is given {counts[param.name]} times", fix="keep one of them"))
                raise SystemExit(2)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> Any:
        """Run the verb in the language of ``--lang`` or ``RESTUNE_LANG``."""
        try:
            language = resolve_language(ctx.params.get("lang"))
        except UserError as error:
            show_error(error)
            raise SystemExit(2) from None
        with speaking(language):
            return super().invoke(ctx)


def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Train, fine-tune, evaluate and ship residual networks."""
    if version:
        from restune.core.version import __version__

        print(f"restune {__version__}")
        raise typer.Exit


def _placeholder() -> None:
    """Stand in for a verb that was not requested."""
