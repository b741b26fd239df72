"""restune bench."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say
from restune.core.errors import UserError


@opt.takes(opt.on_device, opt.on_all_verbs)
def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Networks to time; three by default.", metavar="[NAME]...")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images, pixels.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items per step.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="Seconds per measurement; longer is steadier.")] = 4.0,
    threads: Annotated[int | None, typer.Option(help="CPU threads for computation.", min=1)] = None,
    compiles: Annotated[
        bool,
        typer.Option(
            "--compile", help="Also time compiled training; later runs on this machine compile where it was faster."
        ),
    ] = False,
    **options: Any,
) -> None:
    """Time matrix products on this machine, and compare the speed of training and prediction with them.

    Example: restune bench resnet18 resnet50
    """
    with verb(options["quiet"]):
        early.check_networks(models or (), "NAME")
        if not seconds > 0:
            raise UserError("the measuring time must be above 0", where="--seconds", fix="use 1 or more")
        from restune.verbs.bench import DEFAULT
        from restune.verbs.bench import bench as run

        measured = run(
            models or DEFAULT,
            image_size=image_size,
            batch_size=batch_size,
            seconds=seconds,
            threads=threads,
            device=options["device"].value,
            compile=compiles,
        )
        if options["as_json"]:
            print_json(measured.to_dict())
            return
        from restune.reporting import tables

        peaks = ", ".join(f"{name} {value / 1e9:.1f} GFLOP/s" for name, value in measured.peaks.items())
        say(f"matrix products on {measured.device}: {peaks}")
        say(f"training precision: {measured.precision} ({measured.reason})")
        tables.show(tables.bench_table(measured))
