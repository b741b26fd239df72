"""Render a page from a template. All templates extend base.html: one stylesheet, one table of phrases."""

from __future__ import annotations

from typing import Any

from restune.reporting.phrases import phrases
from restune.reporting.score_words import metric_value


def render(template: str, *, language: str = "en", **values: Any) -> str:
    """Return a self-contained page; `say` in the template is `phrases(language)`. Raises UserError for a language that
    there is not."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("restune", "reporting/templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.globals.update(shown=metric_value, interval=_interval)
    return environment.get_template(template).render(language=language, say=phrases(language), **values)


def _interval(metric: str, ends: tuple[float | None, float | None]) -> str:
    """Format an interval for a table's cell."""
    return "–" if None in ends else f"{metric_value(metric, ends[0], 1)} – {metric_value(metric, ends[1], 1)}"
