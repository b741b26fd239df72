"""Render a page from a template. All templates extend base.html: one stylesheet, one table of phrases."""

from __future__ import annotations

from typing import Any

from restune.reporting.phrases import phrases


def render(template: str, *, language: str = "en", **values: Any) -> str:
    """Return a self-contained page; `say` in the template is `phrases(language)`. Raises UserError for a language that
    there is not."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("restune", "reporting/templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(language=language, say=phrases(language), **values)
