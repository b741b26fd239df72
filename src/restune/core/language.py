"""The language of what people read: English or Chinese."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

LANGUAGES = ("en", "zh")

_language: ContextVar[str | None] = ContextVar("restune_language", default=None)


class Text(NamedTuple):
    """A sentence in both languages, with `str.format` fields of the same names.

    >>> Text("{n} classes", "{n} 个类别").of("zh", n=3)
    '3 个类别'
    """

    en: str
    zh: str

    def of(self, language: str, **values: object) -> str:
        """Return the sentence in `language`, its fields filled in."""
        sentence = self.zh if language == "zh" else self.en
        return sentence.format(**values) if values else sentence


def resolve_language(requested: str | None = None) -> str:
    """Return the language asked for, else that of ``RESTUNE_LANG``, else English. Raises UserError for others.

    >>> resolve_language("zh")
    'zh'
    """
    from restune.core.errors import UserError  # errors are shown in a language themselves

    where = "--lang" if requested else "RESTUNE_LANG"
    named = requested or os.environ.get("RESTUNE_LANG") or "en"
    code = _code(named)
    if code not in LANGUAGES:
        raise UserError(f"there is no text in the language {named!r}", where=where, fix="en (English) or zh (Chinese)")
    return code


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Show messages in this language within this block."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def current_language() -> str:
    """Return the language of this block, else that of ``RESTUNE_LANG``, else English; English for unknown ones.

    >>> with speaking("zh"):
    ...     print(current_language())
    zh
    """
    code = _language.get() or _code(os.environ.get("RESTUNE_LANG") or "en")
    return code if code in LANGUAGES else "en"


def translated(message: str) -> str:
    """Return a message in the current language; what is not in the catalogue stays English.

    >>> with speaking("zh"):
    ...     print(translated("keep one of them"))
    只保留其中一个
    """
    if current_language() == "en":
        return message
    from restune.core.translations import translate

    return translate(message)


def _code(named: str) -> str:
    """Return ``zh`` for ``zh_CN.UTF-8``."""
    return named.lower().replace("_", "-").split("-")[0].split(".")[0]
