"""Run verbs: exceptions become a message, with --json also an object, and an exit status; results are printed."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from restune.core import console
from restune.core.errors import ChoiceError, SharedError, UserError
from restune.core.interrupt import Interrupted, Terminated, raise_terminated
from restune.core.language import Text, current_language, translated

_ERROR = Text("error: ", "错误：")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Output:
    """What standard output receives.

    Args:
        as_json: whether the last line is a JSON object.
        is_complete: whether that object is printed.
    """

    as_json: bool = False
    is_complete: bool = False


output: ContextVar[Output] = ContextVar("restune_output")
"""Of the command that runs."""


@contextmanager
def verb(quiet: bool) -> Iterator[None]:
    """Turn a verb's exceptions into a message and an exit status: 2 for errors that users can fix, 1 for bugs."""
    show, handler = warnings.showwarning, signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    warnings.showwarning = _show_warning
    if is_main:
        signal.signal(signal.SIGTERM, raise_terminated)
    try:
        with console.quiet(quiet):
            yield
            sys.stdout.flush()
    except UserError as error:
        if not isinstance(error, SharedError) or _is_main():
            show_error(_with_commands(error))
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Interrupted as error:
        if _is_main():
            hint = _resume_hint(error.folder)
            print(f"{translated(str(error))}\n{translated(hint)}", file=sys.stderr)
            print_json_error(str(error), str(error.folder), hint)
        raise typer.Exit(128 + error.number) from None
    except (KeyboardInterrupt, Terminated) as error:
        by_hand = isinstance(error, KeyboardInterrupt)
        what = "interrupted" if by_hand else "terminated"
        print(translated(what), file=sys.stderr)
        print_json_error(what, None, "to start again: run the same command")
        raise typer.Exit(130 if by_hand else 143) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            show_error(UserError(f"the results cannot be written: {error.strerror}"))
            raise typer.Exit(2) from None
        traceback.print_exc()
        bug = "this is a bug in restune; please report it with the lines above"
        print(f"{_ERROR.of(current_language())}{translated(bug)}", file=sys.stderr)
        fault = " ".join(traceback.format_exception_only(error)).strip()
        print_json_error(f"this is a bug in restune: {fault}", None, "please report it with standard error's lines")
        raise typer.Exit(1) from None
    finally:
        warnings.showwarning = show
        if is_main and handler is not None:  # None: the handler was not set from Python
            signal.signal(signal.SIGTERM, handler)


def show_error(error: UserError) -> None:
    """Print the error's message on standard error and, with --json, its object on standard output."""
    print(f"{_ERROR.of(current_language())}{error}", file=sys.stderr)
    print_json_error(error.what, error.where, error.fix)


def show_usage_error(error: Any) -> None:
    """Print typer's message about wrong arguments: on standard error and, with --json, as an object."""
    context = getattr(error, "ctx", None)
    name = getattr(context, "command_path", "restune")
    if current_language() == "en":
        error.show()
    else:
        if context is not None:
            print(f"{translated('Usage')}：{context.get_usage().partition(' ')[2].strip()}", file=sys.stderr)
            print(translated(f"Try '{name} --help' for help."), end="\n\n", file=sys.stderr)
        print(f"{_ERROR.of(current_language())}{translated(error.format_message())}", file=sys.stderr)
    print_json_error(error.format_message(), name, f"{name} --help lists the arguments and options")


def print_json_error(what: str, where: str | None, fix: str | None) -> None:
    """Print ``{"error": {"what", "where", "fix"}}`` as the last line, if an object is expected and not yet printed."""
    now = output.get(Output())
    if now.as_json and not now.is_complete:
        shown = [text if text is None else translated(text) for text in (what, where, fix)]
        print_json({"error": dict(zip(("what", "where", "fix"), shown, strict=True))})


def _with_commands(error: UserError) -> UserError:
    """Turn options to choose from into whole commands."""
    return error.completing(["restune", *sys.argv[1:]]) if isinstance(error, ChoiceError) else error


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _resume_hint(folder: Path) -> str:
    """Return the command that resumes the run in `folder`."""
    if sys.argv[1:2] == ["quickstart"]:
        words = [word for word in sys.argv[1:] if word != "--resume"]
        if not any(word == "--out" or word.startswith("--out=") for word in words):
            words += ["--out", str(folder.parent)]
        return "to resume: " + shlex.join(["restune", *words, "--resume"])
    if sys.argv[1:2] == ["predict"]:
        if "WORLD_SIZE" in os.environ:
            return "to resume: the same torchrun command"
        return "to resume: " + shlex.join(["restune", *sys.argv[1:]])
    if sys.argv[1:2] not in (["train"], ["finetune"]):
        return "to start again: run the same command"
    if "WORLD_SIZE" in os.environ:
        return "to resume: the same torchrun command, with --resume"
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(folder)]
    return "to resume: " + shlex.join(["restune", *words, "--resume"])


def _show_warning(message: Warning | str, category: type[Warning], *_where: Any, **_more: Any) -> None:
    """Print restune's own warnings as one line; drop those of libraries, on which users cannot act."""
    if category.__module__.startswith("restune"):
        console.warn(str(message))


def print_json(content: dict[str, Any]) -> None:
    """Print one line of JSON on standard output: the command's result."""
    print_json_line(json.dumps(content, ensure_ascii=False, allow_nan=False))


def print_json_line(text: str) -> None:
    """Print an object that is already JSON on standard output: the command's result."""
    print(text)
    output.get(Output()).is_complete = True
