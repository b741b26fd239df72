"""restune serve."""

from __future__ import annotations

import os
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.errors import UserError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


class LogFormat(StrEnum):
    text = "text"
    json = "json"


@opt.takes(opt.on_engine, opt.on_device, opt.on_all_verbs)
def serve(
    models: Annotated[
        list[str], typer.Argument(help="Model files or run folders; served under their names.", metavar="MODEL...")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    max_body: Annotated[int, typer.Option(help="Most MiB of a request's body.", min=1, max=1024)] = 32,
    max_pixels: Annotated[int | None, typer.Option(help="Most pixels of an image.", min=1)] = None,
    max_queue: Annotated[int, typer.Option(help="Most waiting inputs for each model.", min=1)] = 256,
    max_batch: Annotated[int, typer.Option(help="Most inputs computed at a time.", min=1)] = 32,
    timeout: Annotated[float, typer.Option(help="Most seconds of a request.", min=0.1, max=3600)] = 30.0,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file of API keys, one per line; any of them is needed.", metavar="FILE")
    ] = None,
    log: Annotated[LogFormat, typer.Option(help="How requests are logged, on standard error.")] = LogFormat.text,
    **options: Any,
) -> None:
    """Answer predictions over HTTP, and show a page for people at the same address.

    Example: restune serve runs/train-001 --port 8000
    """
    with verb(options["quiet"]):
        # Before torch is loaded: its threads would wait for work on the cores that decode and answer.
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
        if not all(map(find_spec, _NEEDED)):
            raise UserError("serving needs further packages", where="serve", fix="pip install 'restune[serve]'")
        engine = opt.engine_options(options)
        early.check_engine(engine.get("engine"))
        for model in models:
            early.check_model(model, None)
        from restune.serving.answers import Limits
        from restune.serving.server import read_keys
        from restune.serving.server import serve as run

        keys = read_keys(api_key_file)
        limits = Limits(
            max_body=max_body * 2**20, max_queue=max_queue, max_batch=max_batch, timeout=timeout, api_keys=keys
        )
        device = options["device"].value
        names = run(
            models, host=host, port=port, limits=limits, max_pixels_each=max_pixels, device=device, log=log.value,
            **engine,
        )  # fmt: skip
        if options["as_json"]:
            print_json({"served": names})
