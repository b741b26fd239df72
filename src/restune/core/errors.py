"""The exception for mistakes that users can fix, and helpers for its messages."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence

from restune.core.language import Text, current_language, translated

_WHERE, _FIX = Text("where: ", "位置："), Text("what to do: ", "解决办法：")


class UserError(Exception):
    """A mistake that the user can fix. Shown as one message without a traceback; the command line exits with 2.

    Args:
        what: what is wrong, in one sentence.
        where: the file, row or option concerned.
        fix: what to do about it.

    >>> print(UserError("unknown network 'resnet19'", where="--model", fix="Did you mean 'resnet18'?"))
    unknown network 'resnet19'
      where: --model
      what to do: Did you mean 'resnet18'?
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = translated(self.what)
        if self.where:
            text += f"\n  {_WHERE.of(current_language())}{translated(self.where)}"
        if self.fix:
            text += f"\n  {_FIX.of(current_language())}{translated(self.fix)}"
        return text


class SharedError(UserError):
    """A mistake that every process of a run learns of at the same time; the first process shows it for all."""


class ChoiceError(UserError):
    """A mistake with several ways out, each an option to add to the command.

    Args:
        what, where: as in `UserError`.
        choices: for each the words to add, and what they bring.
        otherwise: what to do where none of them suits.
        command: the command that the words complete; empty shows the words alone.

    >>> print(ChoiceError("no weights", choices=[(("--weights", "runs/a"), "resnet8")], otherwise="train first"))
    no weights
      what to do: one of these works here and now:
        --weights runs/a  (resnet8)
        or train first
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        choices: Sequence[tuple[Sequence[str], str]],
        otherwise: str,
        command: Sequence[str] = (),
    ) -> None:
        self.choices, self.otherwise = choices, otherwise
        lines = [f"{shlex.join([*command, *words])}  ({brings})" for words, brings in choices]
        fix = "\n    ".join(["one of these works here and now:", *lines, f"or {otherwise}"]) if lines else otherwise
        super().__init__(what, where=where, fix=fix)

    def completing(self, command: Sequence[str]) -> ChoiceError:
        """Return the error with its choices as whole commands."""
        return ChoiceError(
            self.what, where=self.where, choices=self.choices, otherwise=self.otherwise, command=command
        )  # fmt: skip


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return a hint like ``Did you mean 'resnet18'?`` for a mistyped word, or an empty string if nothing is close."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)
    if not close:
        return ""
    names = [repr(lowered[name]) for name in close]
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
    return f"Did you mean {listed}?"


def shorten(names: Iterable[object], limit: int = 8) -> str:
    """Join names for a message, cut to `limit` of them: ``a, b, c, ... (12 in all)``."""
    listed = [str(name) for name in names]
    if len(listed) <= limit:
        return ", ".join(listed)
    return ", ".join(listed[:limit]) + f", ... ({len(listed)} in all)"
