"""embed: embeddings (penultimate features) of items, labelled or not, for other programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import user_path, written_whole
from restune.data.dataset import DataOptions, Dataset
from restune.data.inputs import expand
from restune.data.sources import open_dataset
from restune.inference.load import load_model
from restune.inference.model import Model

_FORMS = (".npz", ".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Features of the items that could be read.

    Args:
        features: float32 ``[N, num_features]``.
        labels: class indices ``[N]``; -1 where the inputs have no labels.
        ids: of the items.
        classes: names by index; none where the inputs have no labels.
        skipped: items that could not be read, with the reason.
        computed: how many were not in the cache.
        seconds: it took.

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

    def save(self, path: str | Path) -> Path:
        """Write a .npz, .csv or .parquet. Raises UserError.

        An .npz holds ``features``, ``labels``, ``ids`` and ``classes``, without pickled objects. A table has the
        columns ``id``, ``label`` (a class's name, empty without labels) and ``feature_0``, ``feature_1``, ...
        """
        path = saved_as(path)
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
        """The ids; bytes that are no UTF-8 are written as escapes."""
        return [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in self.ids]


def saved_as(path: str | Path) -> Path:
    """The path of a file of embeddings. Raises UserError for a suffix that names no form of one."""
    path = user_path(path)
    if path.suffix not in _FORMS:
        forms = ", ".join(_FORMS)
        raise UserError(f"embeddings are saved as {forms}", where=str(path), fix=f"name it {path.stem}.npz")
    return path


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
    """Embeddings of all items of some data, from the cache as far as they are known.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        data, data_options: as `restune.evaluate`; or what `restune.predict` takes, one input or many, without labels.
        out: an .npz, .csv or .parquet to write them to.
        batch_size, workers: how much is computed at a time, and how many threads decode.

    Raises UserError when nothing could be read.

    >>> restune.embed(run_folder, photos, out=folder / "embeddings.npz").labels.tolist()[:3]
    [0, 0, 0]
    """
    if out is not None:
        saved_as(out)
    dataset, refusal = _labelled(data, data_options)
    loaded = load_model(model, weights=weights, device=device, **preprocess)
    if dataset is None:
        dataset = _unlabelled(data, loaded, data_options, refusal)
    found = loaded.features(batch_size=batch_size, workers=workers).of(dataset.items)
    if not len(found.readable):
        raise UserError("no item of this data could be read", where=dataset.source)
    if found.failures:
        named = shorten(f"{name} ({reason})" for name, reason in list(found.failures.items())[:3])
        warn(f"skipped {len(found.failures)} unreadable items: {named}")
    note(f"{found.computed} computed, {len(found.readable) - found.computed} from the cache, {found.seconds:.1f} s")
    items = [dataset.items[index] for index in found.readable]
    made = Embeddings(
        features=found.rows[0 : len(found.rows)].numpy(),
        labels=np.array([item.target for item in items], np.int64),
        ids=tuple(item.id for item in items),
        classes=dataset.classes,
        skipped=tuple(found.failures.items()),
        computed=found.computed,
        seconds=found.seconds,
    )
    if out is not None:
        made.save(out)
    return made


def _labelled(data: Any, options: DataOptions | None) -> tuple[Dataset | None, UserError | None]:
    """A data set where `data` names one; else None, and why it does not."""
    if not isinstance(data, str | Path | Dataset):
        return None, None
    try:
        return open_dataset(data, options), None
    except UserError as error:
        return None, error


def _unlabelled(data: Any, model: Model, options: DataOptions | None, refusal: UserError | None) -> Dataset:
    """Inputs as `restune.predict` takes them, as a data set without labels.

    Raises `refusal`, the reason that they are no data set, where they are no inputs either.
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
