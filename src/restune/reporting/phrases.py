"""The words of pages and drawings in English and Chinese: one table for all pages, written page by page."""

from __future__ import annotations

from collections.abc import Callable

from restune.core.language import LANGUAGES, Text, resolve_language
from restune.reporting.phrases_check import CHECK
from restune.reporting.phrases_comparison import COMPARISON
from restune.reporting.phrases_explanations import EXPLANATION_PHRASES
from restune.reporting.phrases_label import LABEL
from restune.reporting.phrases_report import REPORT
from restune.reporting.phrases_search import SEARCH
from restune.reporting.phrases_serve import SERVE
from restune.reporting.phrases_structure import STRUCTURE
from restune.reporting.phrases_tasks import TASKS
from restune.reporting.phrases_web import WEB

PAGES = (STRUCTURE, REPORT, COMPARISON, EXPLANATION_PHRASES, CHECK, TASKS, WEB, SERVE, SEARCH, LABEL)
PHRASES: dict[str, tuple[str, str]] = {key: texts for page in PAGES for key, texts in page.items()}
"""Keys are unique over all pages."""


def phrases(language: str | None) -> Callable[..., str]:
    """Return a function from a phrase's key, and the values in it, to text. Raises UserError for other languages.

    >>> phrases("en")("stage", n=2)
    'stage 2'
    """
    column = LANGUAGES.index(resolve_language(language))

    def say(key: str, **values: object) -> str:
        return PHRASES[key][column].format(**values)

    return say


def both(key: str, **values: object) -> Text:
    """Return a phrase in both languages, for plots.

    >>> both("stage", n=2)
    Text(en='stage 2', zh='第 2 阶段')
    """
    return Text(*(text.format(**values) for text in PHRASES[key]))
