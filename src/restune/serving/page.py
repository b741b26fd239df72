"""The page for people at the server's address."""

from __future__ import annotations

from functools import lru_cache

from restune.core.language import LANGUAGES
from restune.reporting.pages import render
from restune.reporting.phrases_serve import SERVE

SCRIPT = "predict.js"
"""The page's only script, beside this file."""


@lru_cache(maxsize=8)
def page(language: str, names: tuple[str, ...], *, needs_key: bool) -> str:
    """Return the page.

    Args:
        language: ``en`` or ``zh``.
        names: the models'.
        needs_key: whether the endpoints need an API key.
    """
    words = {key: texts[LANGUAGES.index(language)] for key, texts in SERVE.items()}
    return render("serve.html", language=language, names=names, needs_key=needs_key, words=words)
