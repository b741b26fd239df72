"""One run from beginning to end: request, data, initial network, recipe, fit, results."""

from __future__ import annotations

import json
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restune.core.console import command_started, note, silent
from restune.core.errors import UserError
from restune.core.files import sole_user, user_path
from restune.core.interrupt import Interrupted, Terminated
from restune.data.dataset import DataOptions
from restune.data.kinds import kind_of
from restune.data.threads import computing_threads
from restune.inference.load import load_model, pick_device
from restune.inference.model import Model
from restune.reporting.report import write_report
from restune.runs.data import open_held_out, open_train
from restune.runs.fit import fit
from restune.runs.folder import agreed_folder, resumed_recipe, write_recipe
from restune.runs.initial import initial_state
from restune.runs.prepare import Workspace, prepare, resolve_recipe
from restune.runs.request import Request
from restune.runs.results import save_results
from restune.training.distributed import World, is_lost_peer, join_world, leave_world
from restune.training.resolve_auto import resolve_auto


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        out: its folder.
        result: the object in result.json.

    >>> run = restune.train(photos, model="resnet8", image_size=16, epochs=1, out=folder / "run")
    >>> run.result["items"], run.model.classes
    ({'train': 16, 'val': 4}, ('blue', 'red'))
    """

    out: Path
    result: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        scores = (
            f", {split} accuracy {s['accuracy']:.2%} (n = {s['n']})"
            for split in ("val", "test")
            if (s := self.result.get(split))
        )
        return f"Run({str(self.out)!r}, {self.result.get('model') or 'network'}{''.join(scores)})"

    @property
    def model(self) -> Model:
        """The best model, loaded."""
        return load_model(self.out)


def run(
    data: Any,
    request: Request,
    out: str | Path | None,
    data_options: DataOptions | None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> Run:
    """Join the other processes of the run, agree on its folder, and perform it. Raises UserError, Interrupted."""
    world = join_world(request.device)
    folder = user_path(out) if out is not None else None
    try:
        with silent(not world.is_main):
            folder, continues = agreed_folder(request.verb, out, world, resume=resume)
            with sole_user(folder) if world.is_main else nullcontext():
                if continues and (folder / "result.json").exists():
                    note(f"{folder} is finished; nothing to do")
                    if world.is_main and not (folder / "report.html").exists():
                        write_report(folder)
                    return Run(folder, json.loads((folder / "result.json").read_text(encoding="utf-8")))
                return _perform(data, request, data_options, folder, world, continues, accept_changes)
    except (KeyboardInterrupt, Terminated) as error:
        if isinstance(error, Interrupted) or folder is None:
            raise
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        raise Interrupted(number, folder) from None
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise UserError(
            f"another process of this run is gone: {str(error).splitlines()[0][:200]}",
            where=str(out),
            fix="start all processes again with --resume to continue from the last checkpoint",
        ) from error
    finally:
        leave_world(world)


def _perform(
    data: Any,
    request: Request,
    data_options: DataOptions | None,
    folder: Path,
    world: World,
    continues: bool,
    accept_changes: bool,
) -> Run:
    started = command_started.get() or time.perf_counter()
    train = open_train(data, data_options)
    if train.reading:
        note(train.reading)
    recipe = request.recipe_for(kind_of(train.kind), train.form)
    run_data = open_held_out(train, recipe, data_options)
    if continues:
        named = request.has("batch_size")
        recipe = resumed_recipe(folder, recipe, accept_changes=accept_changes, batch_size_named=named)
    device = pick_device(recipe.device)
    recipe, decisions = resolve_auto(recipe, device, run_data.kind.dims)
    for decision in decisions:
        note(f"{decision.key}: {decision.value} ({decision.reason})")
    workspace = Workspace(
        folder=folder, device=device, world=world, continues=continues, accept_changes=accept_changes, started=started
    )
    encoding = None if data_options is None else data_options.encoding
    initial = initial_state(recipe, train, request.verb, encoding)
    with computing_threads(recipe.threads or 1):
        prepared = prepare(run_data, initial, recipe, workspace)
        recipe = resolve_recipe(recipe, prepared, batch_size_named=request.has("batch_size"))
        if world.is_main:
            write_recipe(folder, recipe, request.verb, data if isinstance(data, str | Path) else train, run_data.kind)
        fitted = fit(prepared, recipe)
        if not world.is_main:
            return Run(folder, {})
        return Run(folder, save_results(request.verb, prepared, recipe, fitted).to_dict())
