"""embed: compute the embeddings of items for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import user_path, written_whole
from restune.data.dataset import DataOptions, Dataset
from restune.data.sources import open_dataset
from restune.inference.load import load_model
from restune.inference.model import Model


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of the items that could be read.

    Args:
        features: embeddings (penultimate features), float32 ``[N, num_features]``.
        labels: class indices ``[N]``.
        ids: of the items.
        classes: names by index.
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

    def save(self, path: str | Path) -> Path:
        """Write ``features``, ``labels``, ``ids`` and ``classes`` as an .npz without pickled objects."""
        path = user_path(path)
        if path.suffix != ".npz":
            raise UserError("embeddings are saved as .npz", where=str(path), fix=f"name it {path.stem}.npz")
        names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in self.ids]
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                features=self.features,
                labels=self.labels,
                ids=np.array(names, dtype=np.str_),
                classes=np.array(self.classes, dtype=np.str_),
            )
        return path


def embed(
    model: str | Path | Model,
    data: str | Path | Dataset,
    *,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> Embeddings:
    """Compute the embeddings of all items of a data set; cached ones are reused.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        data, data_options: as `restune.evaluate`; labels are returned but not used by the model.
        out: an .npz file to write them to.
        batch_size, workers: items per forward pass, and decoding threads.

    Raises UserError if no item could be read.

    >>> restune.embed(run_folder, photos, out=folder / "embeddings.npz").labels.tolist()[:3]
    [0, 0, 0]
    """
    dataset = open_dataset(data, data_options)
    loaded = load_model(model, weights=weights, device=device, **preprocess)
    found = loaded.features(batch_size=batch_size, workers=workers).of(dataset.items)
    if not len(found.readable):
        raise UserError("no item of this data could be read", where=dataset.source)
    if found.failures:
        named = shorten(f"{name} ({reason})" for name, reason in list(found.failures.items())[:3])
        count = f"{len(found.failures)} unreadable item" + "s" * (len(found.failures) > 1)
        warn(f"skipped {count}: {named}")
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
