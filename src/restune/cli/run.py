"""How a verb runs: what it raises becomes a message and an exit status; what it returns is printed."""

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
from pathlib import Path
from typing import Any

import typer

from restune.core import console
from restune.core.errors import SharedError, UserError
from restune.core.interrupt import Interrupted, Terminated, raise_terminated

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def verb(quiet: bool) -> Iterator[None]:
    """Turn what a verb raises into a message and an exit status: 2 for the user's to mend, 1 for a fault of ours."""
    warnings.showwarning = _show_warning
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, raise_terminated)
    try:
        with console.quiet(quiet):
            yield
            sys.stdout.flush()
    except UserError as error:
        if not isinstance(error, SharedError) or os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Interrupted as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"{error}\n{_how_to_go_on(error.folder)}", file=sys.stderr)
        raise typer.Exit(128 + error.number) from None
    except (KeyboardInterrupt, Terminated) as error:
        by_hand = isinstance(error, KeyboardInterrupt)
        print("interrupted" if by_hand else "terminated", file=sys.stderr)
        raise typer.Exit(130 if by_hand else 143) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            print(f"error: the results cannot be written: {error.strerror}", file=sys.stderr)
            raise typer.Exit(2) from None
        traceback.print_exc()
        print("error: this is a fault of restune's; please report it with the lines above", file=sys.stderr)
        raise typer.Exit(1) from None


def _how_to_go_on(folder: Path) -> str:
    """The command that was run, made to go on with the run's folder."""
    if sys.argv[1:2] not in (["train"], ["finetune"]):
        return "to begin again: run the same command"
    if "WORLD_SIZE" in os.environ:
        return "to go on: the same torchrun command, with --resume"
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(folder)]
    return "to go on: " + shlex.join(["restune", *words, "--resume"])


def _show_warning(message: Warning | str, category: type[Warning], *_where: Any, **_more: Any) -> None:
    """Warnings of ours as one line; those of libraries that a user cannot act on are left out."""
    if category.__module__.startswith("restune"):
        console.warn(str(message))


def print_json(content: dict[str, Any]) -> None:
    """One line on standard output."""
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))
