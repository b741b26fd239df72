"""restune export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say


@opt.takes(opt.on_inference, opt.on_data, opt.on_device, opt.on_all_verbs)
def export(
    model: opt.ModelArgument,
    to: Annotated[
        list[str],
        typer.Option(
            help="Targets: onnx, openvino, torch (a torch.export program), torchvision (a state dict), "
            "timm (a folder), html (one offline page); several separated by commas, or the option repeated.",
            metavar="TARGET",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; by default `exports` in the run's folder.", metavar="DIR"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Items to compare the exports on, as for `restune train`.", metavar="DATA"),
    ] = None,
    web_runtime: Annotated[
        Path | None,
        typer.Option(
            help="For html: a folder with the npm package onnxruntime-web; by default npm fetches it once.",
            metavar="DIR",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantise the graphs of onnx, openvino and html to 8 bits; needs --calibrate."),
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Labelled items for --int8: some calibrate, the others measure the accuracy.", metavar="DATA"
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Largest loss of accuracy that --int8 accepts, a fraction.", min=0.0, max=1.0)
    ] = 0.01,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Upload model card, bundle and exports to this repository of the Hugging Face hub; private if new. "
            "The token is that of `hf auth login`, or HF_TOKEN.",
            metavar="USER/NAME",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="With --push-to-hub: a new repository can be seen by everyone.")
    ] = False,
    **options: Any,
) -> None:
    """Write a model for other runtimes. Each export is compared with the model in its own runtime.

    Example: restune export runs/train-001 --to onnx,openvino --data photos/
    """
    with verb(options["quiet"]):
        reading, inference = opt.data_options(options), opt.inference_options(options)
        early.check_inference(model, inference)
        targets = [name for listed in to for name in listed.replace(" ", "").split(",") if name]
        settings = {name: value for name, value in inference.items() if name not in ("batch_size", "workers", "device")}
        from restune.verbs.export import export_all

        result = export_all(
            model,
            to=targets,
            out=out,
            data=data,
            data_options=reading,
            web_runtime=web_runtime,
            int8=int8,
            calibrate=calibrate,
            max_drop=max_drop,
            push_to_hub=push_to_hub,
            public=public,
            **settings,
        )
        if options["as_json"]:
            print_json(result.to_dict())
        else:
            say(f"exported: {result.out}")
            for one in result.targets.values():
                say(f"  {one.how}")
            if result.hub is not None:
                say(f"uploaded: {result.hub}")
