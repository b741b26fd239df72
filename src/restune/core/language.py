"""The language of what people read: English or Chinese."""

from __future__ import annotations

import os
from typing import NamedTuple

from restune.core.errors import UserError

LANGUAGES = ("en", "zh")


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
    where = "--lang" if requested else "RESTUNE_LANG"
    named = (requested or os.environ.get("RESTUNE_LANG") or "en").lower().replace("_", "-")
    code = named.split("-")[0].split(".")[0]
    if code not in LANGUAGES:
        raise UserError(f"there is no text in the language {named!r}", where=where, fix="en (English) or zh (Chinese)")
    return code
