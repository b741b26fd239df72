"""How a verb runs: what it raises becomes a message and an exit status; what it returns is printed."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from restune.core import console
from restune.core.errors import UserError


class _Terminated(BaseException):
    """SIGTERM: a job scheduler wants this process to end."""


def _terminate(_signal: int, _frame: object) -> None:
    raise _Terminated


@contextmanager
def verb(quiet: bool) -> Iterator[None]:
    """Turn what a verb raises into a message and an exit status: 2 for the user's to mend, 1 for a fault of ours."""
    warnings.showwarning = _show_warning
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        with console.quiet(quiet):
            yield
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, _Terminated) as error:
        by_hand = isinstance(error, KeyboardInterrupt)
        print("interrupted" if by_hand else "terminated", file=sys.stderr)
        raise typer.Exit(130 if by_hand else 143) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        print(f"error: the results cannot be written: {error.strerror}", file=sys.stderr)
        raise typer.Exit(2) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception:
        traceback.print_exc()
        print("error: this is a fault of restune's; please report it with the lines above", file=sys.stderr)
        raise typer.Exit(1) from None


def _show_warning(message: Warning | str, category: type[Warning], *_where: Any, **_more: Any) -> None:
    """Warnings of ours as one line; those of libraries that a user cannot act on are left out."""
    if category.__module__.startswith("restune"):
        console.warn(str(message))


def print_json(content: dict[str, Any]) -> None:
    """One line on standard output."""
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))
