"""restune cache."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say


@opt.takes(opt.on_all_verbs)
def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Remove tables, least recently used first.")] = False,
    to: Annotated[
        str | None, typer.Option(help="With --prune: keep at most this size, such as 2G; 0 removes all.")
    ] = None,
    unused_days: Annotated[
        float | None, typer.Option(help="With --prune: remove tables unused for this many days.", min=0)
    ] = None,
    **options: Any,
) -> None:
    """List the cached activations of frozen layers, or remove some with --prune.

    Example: restune cache --prune --to 2G
    """
    with verb(options["quiet"]):
        from restune.core.errors import UserError
        from restune.verbs.cache import cached_features, prune_features

        if not prune and (to is not None or unused_days is not None):
            raise UserError("--to and --unused-days need --prune", where="restune cache", fix="add --prune")
        removed = prune_features(to=to, unused_days=unused_days) if prune else []
        stores = cached_features()
        total = sum(store.size for store in stores)
        if options["as_json"]:
            tables = [
                {"folder": str(store.folder), "rows": store.rows, "bytes": store.size,
                 "unused_seconds": round(store.used), "about": store.about}
                for store in stores
            ]  # fmt: skip
            print_json({"tables": tables, "bytes": total, "removed": [str(store.folder) for store in removed]})
            return
        from restune.reporting import tables as show

        if removed:
            say(f"removed {len(removed)} tables, {sum(store.size for store in removed) / 2**20:.1f} MiB")
        show.show(show.stores_table(stores))
        say(f"{len(stores)} tables, {total / 2**20:.1f} MiB")
