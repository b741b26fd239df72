"""One run from beginning to end: request, data, initial network, recipe, fit, results."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from restune.core.console import command_started, note, silent
from restune.core.errors import UserError
from restune.core.files import sole_user, user_path
from restune.core.interrupt import Interrupted, Terminated
from restune.data.dataset import DataOptions, Dataset
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.data.threads import computing_threads
from restune.inference.load import load_model, pick_device
from restune.inference.model import Model
from restune.reporting.report import write_report
from restune.reporting.run_files import flat
from restune.reporting.score_words import main_score
from restune.runs.custom import recipe_comment
from restune.runs.data import grouped, open_held_out, smoke_sample
from restune.runs.fit import fit
from restune.runs.folder import RunFolder, agreed_folder, removed_unless_begun, resumed_recipe, write_recipe
from restune.runs.initial import initial_state
from restune.runs.network_choice import choose_network
from restune.runs.prepare import Workspace, prepare, resolve_recipe
from restune.runs.record import RunRecord, no_data, read_run_record
from restune.runs.request import Request
from restune.runs.results import save_results
from restune.runs.task_settings import settle_task
from restune.runs.teacher import checked_teacher
from restune.runs.tracking import followed, start_tracking
from restune.runs.weights_choice import AUTO, choose_weights
from restune.training.distributed import World, is_lost_peer, join_world, leave_world
from restune.training.metrics_log import EpochRecord
from restune.training.recipe import Recipe, read_recipe
from restune.training.resolve_auto import resolve_auto, resolve_policy


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        out: its folder.
        result: the object in result.json.
        module: the module of one's own that was trained; None for a network of restune.

    >>> run = restune.train(photos, model="resnet8", image_size=16, epochs=1, out=folder / "run")
    >>> run.result["items"], run.model.classes
    ({'train': 16, 'val': 4}, ('blue', 'red'))
    """

    out: Path
    result: dict[str, Any] = field(repr=False)
    module: nn.Module | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        scores = (
            f", {split} {main_score(s)} (n = {s['n']})" for split in ("val", "test") if (s := self.result.get(split))
        )
        return f"Run({str(self.out)!r}, {self.result.get('model') or 'network'}{''.join(scores)})"

    @property
    def model(self) -> Model:
        """The best model, loaded."""
        return load_model(self.out, module=self.module)


def run(
    data: Any,
    request: Request,
    out: str | Path | None,
    data_options: DataOptions | None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    opened: Callable[[Any, DataOptions | None], Dataset] = open_dataset,
) -> Run:
    """Join the other processes of the run, agree on its folder, and perform it. Raises UserError, Interrupted.

    Args:
        data: the labelled items; None for those that the run in `out` began with.
        opened: opens the training data; several runs may share it.
    """
    world = join_world(request.device)
    folder = user_path(out) if out is not None else None
    try:
        with silent(not world.is_main):
            place = agreed_folder(request.verb, out, world, resume=resume)
            folder = place.path
            with _held(place) if world.is_main else nullcontext():
                data, data_options, record = _command(data, data_options, request.verb, place)
                if place.continues and (folder / "result.json").exists():
                    finished = _finished(folder, request, world, accept_changes=accept_changes)
                    if finished is not None:
                        return finished
                task = _Task(data, data_options, record, request, opened)
                return _perform(task, folder, world, place.continues, accept_changes)
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


@contextmanager
def _held(place: RunFolder) -> Iterator[None]:
    """Lock the run's folder within this block; remove it if the start fails."""
    with removed_unless_begun(place), sole_user(place.path):
        yield


@dataclass(frozen=True)
class _Task:
    """The command of a run: its data, how they are read and opened, their record, and the request."""

    data: Any
    options: DataOptions | None
    record: RunRecord
    request: Request
    opened: Callable[[Any, DataOptions | None], Dataset]


def _command(
    data: Any, options: DataOptions | None, verb: str, place: RunFolder
) -> tuple[Any, DataOptions | None, RunRecord]:
    """Return the data and how they are read, as named or as the run to resume began, and the record of both."""
    before = read_run_record(place.path) if place.continues else None
    if before is not None and before.verb != verb:
        raise UserError(
            f"this run was begun by {before.verb}, not by {verb}",
            where=str(place.path),
            fix=f"restune {before.verb} --resume --out {place.path}",
        )
    if data is not None:
        record = RunRecord.of(verb, data, options)
        if before is None:
            return data, options, record
        record.reject_changed_tables(before)
        return data, options, replace(record, started=before.started)
    if before is None:
        raise no_data(place.path, verb)
    options = before.read_with(options)
    record = before.with_options(options)
    record.reject_changed_tables(before)
    return before.reopen(place.path), options, record


def _finished(folder: Path, request: Request, world: World, *, accept_changes: bool) -> Run | None:
    """Return the finished run in `folder`; None if the request lengthens it. Raises UserError for other changes."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    stored = read_recipe(folder / "recipe.yaml")
    requested, named = request.recipe_for(kind_of(result["kind"])), request.has("batch_size")
    task = result.get("task", "single-label")
    requested = settle_task(requested, task, request.has, own_loss=request.custom.loss is not None)
    wanted = resumed_recipe(folder, requested, accept_changes=accept_changes, batch_size_named=named)
    if (wanted.epochs, wanted.time) != (stored.epochs, stored.time):
        return None
    note(f"{folder} is finished; nothing to do")
    if world.is_main and not (folder / "report.html").exists():
        write_report(folder)
    return Run(folder, result, request.custom.model)


def _perform(task: _Task, folder: Path, world: World, continues: bool, accept_changes: bool) -> Run:
    started = command_started.get() or time.perf_counter()
    request, data_options, record = task.request, task.options, task.record
    train = task.opened(task.data, data_options)
    if record.in_memory:
        record = replace(record, data=train.source)
    if train.reading:
        note(train.reading)
    recipe = request.recipe_for(kind_of(train.kind), train.form)
    recipe = settle_task(recipe, train.task, request.has, own_loss=request.custom.loss is not None)
    everything, train = train, grouped(smoke_sample(train, recipe) if recipe.smoke else train, data_options)
    run_data = open_held_out(train, recipe, data_options)
    if continues:
        named = request.has("batch_size")
        recipe = resumed_recipe(folder, recipe, accept_changes=accept_changes, batch_size_named=named)
    device = pick_device(recipe.device)
    recipe, decisions = resolve_auto(recipe, device, run_data.kind.dims)
    if request.verb == "train" and request.custom.model is None:
        recipe, chosen = choose_network(recipe, everything, world)
        decisions += chosen
    encoding = None if data_options is None else data_options.encoding
    if request.verb == "finetune" and recipe.weights == AUTO:
        recipe, _ = choose_weights(recipe, run_data, device, world, encoding)
    policy = resolve_policy(recipe, len(train))
    if policy is not None:
        recipe = recipe.changed({policy.key: policy.value})
        decisions.append(policy)
    for decision in decisions:
        note(f"{decision.key}: {decision.value} ({decision.reason})")
    workspace = Workspace(
        folder=folder, device=device, world=world, continues=continues, accept_changes=accept_changes, started=started,
        teacher=checked_teacher(recipe, train),
    )  # fmt: skip
    initial = initial_state(recipe, train, request.verb, encoding, request.custom.model)
    with computing_threads(recipe.threads or 1):
        prepared = prepare(run_data, initial, recipe, workspace)
        recipe = resolve_recipe(
            recipe, prepared, batch_size_named=request.has("batch_size"), recipe_named=request.recipe is not None
        )
        if world.is_main:
            comment = recipe_comment(request.custom, list(recipe.custom))
            write_recipe(folder, recipe, record, run_data.kind, comment)
        with _tracked(folder, request, recipe, world) as tracking:
            fitted = fit(prepared, recipe, tracking.on_epoch, request.custom)
            if not world.is_main:
                return Run(folder, {}, request.custom.model)
            tracking.result = result = save_results(request.verb, prepared, recipe, fitted).to_dict()
        return Run(folder, result, request.custom.model)


@dataclass
class _Tracking:
    """What is called after each epoch, and the result to log at the end."""

    on_epoch: Callable[[EpochRecord], None] | None
    result: dict[str, Any] | None = None


@contextmanager
def _tracked(folder: Path, request: Request, recipe: Recipe, world: World) -> Iterator[_Tracking]:
    """Log the run within this block, in the first process, with the tool of the request or of the run to resume."""
    settings = flat(recipe.model_dump(mode="json"))
    tracker = start_tracking(folder, request.custom.track, settings) if world.is_main else None
    tracking = _Tracking(followed(tracker, request.custom.on_epoch))
    try:
        yield tracking
    finally:
        if tracker is not None:
            tracker.close(tracking.result)
