"""embed: compute the embeddings of items, labelled or not, for other programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import EMBEDDING_SUFFIXES, named_as, written_whole
from restune.data.dataset import DataOptions, Dataset
from restune.data.inputs import expand
from restune.data.sources import open_dataset
from restune.inference.load import load_model
from restune.inference.model import Model


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of the items that could be read.

    Args:
        features: embeddings (penultimate features), float32 ``[N, num_features]``.
        labels: class indices ``[N]``; -1 if the inputs do not have one class each.
        ids: of the items.
        classes: names by index; empty if the inputs have no labels.
        skipped: items that could not be read, with the reason.
        computed: number of embeddings that were not in the cache.
        seconds: time taken.

    >>> embeddings = restune.embed(run_folder, photos)
    >>> embeddings.features.shape, embeddings.classes
    ((20, 64), ('blue', 'red'))
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    computed: int
    seconds: float

    def __repr__(self) -> str:
        count, width = self.features.shape
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"Embeddings({count} items, {width} features each, {len(self.classes)} classes{skipped})"

    def save(self, path: str | Path) -> Path:
        """Write a .npz, .csv or .parquet file. Raises UserError.

        An .npz contains ``features``, ``labels``, ``ids`` and ``classes``, without pickled objects. A table has the
        columns ``id``, ``label`` (a class's name, empty without labels) and ``feature_0``, ``feature_1``, ...
        """
        path = named_as(path, EMBEDDING_SUFFIXES, "embeddings")
        with written_whole(path) as temporary:
            if path.suffix == ".npz":
                self._write_npz(temporary)
            else:
                self._write_table(temporary, path.suffix)
        return path

    def _write_npz(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(
                file,
                features=self.features,
                labels=self.labels,
                ids=np.array(self._printable_ids(), dtype=np.str_),
                classes=np.array(self.classes, dtype=np.str_),
            )

    def _write_table(self, path: Path, suffix: str) -> None:
        import pyarrow as pa
        from pyarrow import csv, parquet

        columns: dict[str, Any] = {
            "id": self._printable_ids(),
            "label": [self.classes[label] if label >= 0 else None for label in self.labels],
        }
        columns |= {f"feature_{place}": column for place, column in enumerate(np.ascontiguousarray(self.features.T))}
        schema = [("id", pa.string()), ("label", pa.string()), *((name, pa.float32()) for name in list(columns)[2:])]
        table = pa.table(columns, schema=pa.schema(schema))
        (csv.write_csv if suffix == ".csv" else parquet.write_table)(table, str(path))

    def _printable_ids(self) -> list[str]:
        """Return the ids, with bytes that are not UTF-8 as escapes."""
        return [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in self.ids]


def embed(
    model: str | Path | Model,
    data: Any,
    *,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> Embeddings:
    """Compute the embeddings of all items of a data set or of inputs; cached ones are reused.

    Args:
        model, weights, device, preprocess: as `restune.load`.
        data, data_options: as `restune.evaluate`; or one or many inputs as in `restune.predict`, without labels.
        out: an .npz, .csv or .parquet file to write them to.
        batch_size, workers: items per forward pass, and decoding threads.

    Raises UserError if no item could be read.

    >>> restune.embed(run_folder, photos, out=folder / "embeddings.npz").labels.tolist()[:3]
    [0, 0, 0]
    """
    if out is not None:
        named_as(out, EMBEDDING_SUFFIXES, "embeddings")
    dataset, refusal = _labelled(data, data_options)
    loaded = load_model(model, weights=weights, device=device, **preprocess)
    if dataset is None:
        dataset = _unlabelled(data, loaded, data_options, refusal)
    found = loaded.features(batch_size=batch_size, workers=workers).of(dataset.items)
    if not len(found.readable):
        raise UserError("no item of this data could be read", where=dataset.source)
    if found.failures:
        named = shorten(f"{name} ({reason})" for name, reason in list(found.failures.items())[:3])
        count = f"{len(found.failures)} unreadable item" + "s" * (len(found.failures) > 1)
        warn(f"skipped {count}: {named}")
    note(f"{found.computed} computed, {len(found.readable) - found.computed} from the cache, {found.seconds:.1f} s")
    items = [dataset.items[index] for index in found.readable]
    has_classes = dataset.task == "single-label"
    made = Embeddings(
        features=found.rows[0 : len(found.rows)].numpy(),
        labels=np.array([item.target if has_classes else -1 for item in items], np.int64),
        ids=tuple(item.id for item in items),
        classes=dataset.classes if has_classes else (),
        skipped=tuple(found.failures.items()),
        computed=found.computed,
        seconds=found.seconds,
    )
    if out is not None:
        made.save(out)
    return made


def _labelled(data: Any, options: DataOptions | None) -> tuple[Dataset | None, UserError | None]:
    """Open `data` as a data set; if it is not one, return None and the error."""
    if not isinstance(data, str | Path | Dataset):
        return None, None
    try:
        return open_dataset(data, options), None
    except UserError as error:
        return None, error


def _unlabelled(data: Any, model: Model, options: DataOptions | None, refusal: UserError | None) -> Dataset:
    """Return inputs as in `restune.predict` as a data set without labels.

    Raises `refusal`, the error of opening them as a data set, if they are not inputs either.
    """
    if refusal is not None and options is not None and (options.label_column or options.split_column):
        raise refusal
    items = tuple(expand(data, replace(options or DataOptions(), kind=model.preprocess.kind), model.classes))
    if refusal is not None and all(item.location.signature() in ("", "missing") for item in items):
        raise refusal
    if refusal is not None:
        note(f"embedding {len(items)} inputs without labels ({refusal.what})")
    source = str(data) if isinstance(data, str | Path) else f"{len(items)} inputs"
    return Dataset(items=items, classes=(), source=source, kind=model.preprocess.kind)
