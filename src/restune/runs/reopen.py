"""Open the data of a finished run again, in the run's own splits."""

from __future__ import annotations

from pathlib import Path

from restune.core.errors import UserError
from restune.data.sources import open_dataset
from restune.data.splits import Splits, read_splits
from restune.runs.data import grouped, open_held_out
from restune.runs.record import read_run_record
from restune.training.recipe import read_recipe


def reopened_splits(folder: Path) -> Splits:
    """Return a run's training, validation and test items, from its own data. Raises UserError if they are gone.

    Args:
        folder: of the run.
    """
    record = read_run_record(folder) if folder.is_dir() else None
    if record is None or not (folder / "split.csv").exists():
        raise UserError("this is not the folder of a run", where=str(folder), fix="`restune runs` lists them")
    if record.seeds:
        raise UserError(
            "this folder holds several runs", where=str(folder), fix=f"name them: {folder}/seed-{record.seeds[0]} ..."
        )
    recipe = read_recipe(folder / "recipe.yaml")
    train = grouped(open_dataset(record.reopen(folder), record.options), record.options)
    data = open_held_out(train, recipe, record.options)
    return read_splits(folder / "split.csv", data.train, data.val, data.test)
