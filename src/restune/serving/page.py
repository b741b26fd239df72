"""The page for people at the server's address, and the modules of its script."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from restune.core.language import LANGUAGES
from restune.reporting.pages import render
from restune.reporting.phrases_serve import SERVE
from restune.reporting.phrases_structure import STRUCTURE
from restune.reporting.structure.svg import style_rules
from restune.serving.answers import Refused

if TYPE_CHECKING:
    from restune.serving.app import Models

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_FOLDERS = ("serving/web", "reporting/templates/modules")
"""Where the modules are; those of the second folder also stand in written pages."""


def add_routes(app: FastAPI, models: Models) -> None:
    """Add the page and its modules, which are open without an API key: they hold nothing of a model but its name."""
    scripts = modules()

    @app.get("/", include_in_schema=False)
    async def people(request: Request, lang: str | None = None) -> Response:
        wanted = lang or request.headers.get("accept-language", "")
        limits = models.limits
        content = page(
            "zh" if wanted.strip().lower().startswith("zh") else "en",
            tuple(models.by_name),
            needs_key=bool(limits.api_keys),
            most_bytes=limits.max_body,
        )
        return Response(content, media_type="text/html", headers={"content-security-policy": _POLICY})

    @app.get("/page/{name}", include_in_schema=False)
    async def module(name: str) -> Response:
        if name not in scripts:
            raise Refused(404, "there is no such module")
        return Response(scripts[name], media_type="text/javascript")


@lru_cache(maxsize=1)
def modules() -> dict[str, str]:
    """Return the page's modules by name."""
    folders = [resources.files("restune") / folder for folder in _FOLDERS]
    files = [file for folder in folders for file in folder.iterdir() if file.name.endswith(".js")]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


@lru_cache(maxsize=8)
def page(language: str, names: tuple[str, ...], *, needs_key: bool, most_bytes: int) -> str:
    """Return the page, which holds its words in every language.

    Args:
        language: ``en`` or ``zh``.
        names: the models'.
        needs_key: whether the endpoints need an API key.
        most_bytes: of a request's body.
    """
    phrases = {**SERVE, **{key: STRUCTURE[key] for key in ("fold_all", "unfold_all")}}
    words = {code: {key: texts[place] for key, texts in phrases.items()} for place, code in enumerate(LANGUAGES)}
    return render(
        "serve.html", language=language, names=names, needs_key=needs_key, rules=style_rules(),
        settings={"words": words, "language": language, "most_bytes": most_bytes},
    )  # fmt: skip
