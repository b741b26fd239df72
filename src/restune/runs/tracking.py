"""A run's metrics for TensorBoard or MLflow, in these tools' own conventions; a resumed run continues its log."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from restune.core.errors import UserError, did_you_mean
from restune.core.files import write_text

if TYPE_CHECKING:
    from restune.training.metrics_log import EpochRecord

TOOLS = ("tensorboard", "mlflow")
_NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
_RECORD = "track.json"
_NAMES = {
    "train_loss": "train/loss",
    "val_loss": "val/loss",
    "val_accuracy": "val/accuracy",
    "val_balanced_accuracy": "val/balanced_accuracy",
    "val_macro_f1": "val/macro_f1",
    "val_map": "val/map",
    "val_mae": "val/mae",
    "val_r2": "val/r2",
    "lr": "train/lr",
    "epoch": "epoch",
}
"""Names of an epoch's metrics; both tools group them by what stands before the slash."""
_LONGEST_VALUE = 500


class Tracker(Protocol):
    """The log of one run."""

    def epoch(self, record: EpochRecord) -> None:
        """Log an epoch's metrics at its last optimiser step."""
        ...

    def close(self, result: Mapping[str, Any] | None) -> None:
        """Log the final scores and end the log; None: the run stopped."""
        ...


def check_tool(name: Any) -> str | None:
    """Return the tool's name. Raises UserError for an unknown one, and for one that is not installed.

    >>> check_tool(None) is None
    True
    """
    if name is None:
        return None
    if name not in TOOLS:
        hint = did_you_mean(str(name), TOOLS) or f"use {' or '.join(TOOLS)}"
        raise UserError(f"runs cannot be tracked by {name!r}", where="--track", fix=hint)
    missing = [module for module in _NEEDS[name] if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} is not installed",
            where=f"--track {name}",
            fix="pip install 'restune[track]'",
        )
    return str(name)


def start_tracking(folder: Path, tool: str | None, settings: Mapping[str, Any]) -> Tracker | None:
    """Begin the log of a run, or continue the one that its folder names. None without a tool.

    Args:
        folder: of the run.
        tool: a name of `TOOLS`; None: the one that the run began with.
        settings: the recipe's, by dotted key.
    """
    record = _read(folder)
    tool = tool or check_tool(record.get("tool"))
    if tool is None:
        return None
    if record.get("tool") != tool:
        record = {"tool": tool}
    tracker: Tracker = _TensorBoard(folder, settings) if tool == "tensorboard" else _MLflow(folder, settings, record)
    write_text(folder / _RECORD, json.dumps(record, indent=1) + "\n")
    return tracker


def followed(tracker: Tracker | None, on_epoch: Callable[[EpochRecord], None] | None) -> Any:
    """Return a function that logs an epoch and then calls `on_epoch`."""
    if tracker is None:
        return on_epoch

    def call(record: EpochRecord) -> None:
        tracker.epoch(record)
        if on_epoch is not None:
            on_epoch(record)

    return call


class _TensorBoard:
    """Event files in the run's folder ``tensorboard``, with hyperparameters for its HPARAMS page."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder / "tensorboard", settings
        self.writer: Any = None

    def epoch(self, record: EpochRecord) -> None:
        writer = self._writer(record.step)
        for name, value in _metrics(record).items():
            writer.add_scalar(name, value, record.step)
        writer.flush()

    def close(self, result: Mapping[str, Any] | None) -> None:
        if result is not None and (scores := _scores(result)):
            writer = self._writer(None)
            step = result["steps"]
            for name, value in scores.items():
                writer.add_scalar(name, value, step)
            plain = {key: _plain(value) for key, value in self.settings.items()}
            writer.add_hparams(plain, {f"hparam/{name}": value for name, value in scores.items()}, run_name=".")
        if self.writer is not None:
            self.writer.close()

    def _writer(self, step: int | None) -> Any:
        """Open the log; what a stopped run logged from `step` on is dropped, since it is logged again."""
        if self.writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            has_events = self.folder.exists() and any(self.folder.iterdir())
            self.writer = SummaryWriter(str(self.folder), purge_step=step if has_events else None)
        return self.writer


class _MLflow:
    """A run of the experiment ``restune`` (or $MLFLOW_EXPERIMENT_NAME), on $MLFLOW_TRACKING_URI, else in mlflow.db."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], record: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no connection that was not asked for
        from mlflow import MlflowClient

        database = f"sqlite:///{Path('mlflow.db').absolute()}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or record.get("uri") or database
        self.client = _quietly(lambda: MlflowClient(tracking_uri=uri))
        if "run_id" in record:
            self.run_id = str(record["run_id"])
            self._call(lambda: self.client.update_run(self.run_id, status="RUNNING"), uri)
        else:
            self.run_id = self._call(lambda: self._new_run(folder, settings), uri)
            record |= {"uri": uri, "run_id": self.run_id}
        self.logged = {one.step for one in self.client.get_metric_history(self.run_id, "epoch")}

    def epoch(self, record: EpochRecord) -> None:
        if record.step in self.logged:  # by the run that stopped after this epoch, before its checkpoint
            return
        for name, value in _metrics(record).items():
            self.client.log_metric(self.run_id, name, value, step=record.step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        if result is not None:
            for name, value in _scores(result).items():
                self.client.log_metric(self.run_id, name, value, step=result["steps"])
        self.client.set_terminated(self.run_id, "KILLED" if result is None else "FINISHED")

    def _new_run(self, folder: Path, settings: Mapping[str, Any]) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "restune"
        found = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if found is None else found.experiment_id
        run_id = str(self.client.create_run(experiment, run_name=folder.name).info.run_id)
        for key, value in settings.items():
            self.client.log_param(run_id, key, str(value)[:_LONGEST_VALUE])
        return run_id

    @staticmethod
    def _call(action: Callable[[], Any], uri: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return _quietly(action)
        except MlflowException as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"MLflow cannot log this run: {reason}", where=uri, fix="check MLFLOW_TRACKING_URI"
            ) from error


def _quietly(action: Callable[[], Any]) -> Any:
    """Call without the log lines of a database that is being created."""
    import logging

    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        return action()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _metrics(record: EpochRecord) -> dict[str, float]:
    values = record.to_dict()
    return {name: float(values[key]) for key, name in _NAMES.items() if key in values}


def _scores(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the final scores: of the held-out splits that the run has."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "map", "micro_f1", "mae", "rmse", "r2")
    return {
        f"final/{split}_{name}": float(result[split][name])
        for split in ("val", "test")
        if result.get(split)
        for name in names
        if isinstance(result[split].get(name), int | float)
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _read(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
