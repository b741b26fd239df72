"""restune bench."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb


@opt.takes(opt.on_device, opt.on_all_verbs)
def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Networks to time; three by default.", metavar="[NAME]...")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images, pixels.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="For each figure; more is steadier.")] = 4.0,
    threads: Annotated[int | None, typer.Option(help="Threads of arithmetic.", min=1)] = None,
    compiles: Annotated[
        bool,
        typer.Option(
            "--compile", help="Also time compiled training, and remember the gain: runs here compile where it pays."
        ),
    ] = False,
    **options: Any,
) -> None:
    """Time this machine's matrix products, and how near to them training and predicting come.

    Example: restune bench resnet18 resnet50
    """
    with verb(options["quiet"]):
        from restune.verbs.bench import DEFAULT
        from restune.verbs.bench import bench as run

        found = run(
            models or DEFAULT,
            image_size=image_size,
            batch_size=batch_size,
            seconds=seconds,
            threads=threads,
            device=options["device"].value,
            compile=compiles,
        )
        if options["as_json"]:
            print_json(found.to_dict())
            return
        from restune.reporting import tables

        peaks = ", ".join(f"{name} {value / 1e9:.1f} GFLOP/s" for name, value in found.peaks.items())
        print(f"matrix products on {found.device}: {peaks}")
        print(f"training takes {found.precision}: {found.reason}")
        tables.show(tables.bench_table(found))
