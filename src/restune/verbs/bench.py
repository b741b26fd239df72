"""bench: measure the speed of this machine, and of training and prediction against its peak."""

from __future__ import annotations

from collections.abc import Sequence

from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.data.threads import computing_threads
from restune.inference.load import pick_device
from restune.networks import zoo
from restune.networks.seeding import seeded
from restune.training.bench import Bench, measure

DEFAULT = ("resnet20", "resnet18", "resnet50")


def bench(
    models: Sequence[str] = DEFAULT,
    *,
    image_size: int | None = None,
    batch_size: int | None = None,
    seconds: float = 4.0,
    threads: int | None = None,
    device: str = "auto",
    compile: bool = False,
) -> Bench:
    """Measure this machine's matrix peak, and images per second of training and prediction with default settings.

    Args:
        models: names of the zoo.
        image_size: pixels, or the length of a series or text; by default each network's own.
        batch_size: images per step; by default 128 for small images, 16 for large ones (256 on a GPU).
        seconds: time per measurement; after a warm-up step, at least one step is timed.
        threads: compute threads; one per core by default.
        device: ``auto``, ``cpu`` or ``cuda``.
        compile: also time compiled training steps, and store their speed-up in the cache folder: later runs with the
            same network and batch shape on this machine compile if it pays.

    >>> restune.bench(["resnet8"], batch_size=8, seconds=0.01).precision in ("fp32", "bf16")
    True
    """
    if seconds <= 0:
        raise UserError("the measuring time must be above 0", where="--seconds", fix="use 1 or more")
    chosen = pick_device(device)
    cases = []
    for name in models:
        entry = zoo.find(name)
        size = image_size or entry.crop or entry.length
        small = bool(entry.spec.vocabulary) or (entry.spec.dims < 3 and size <= 128)
        usual = 256 if chosen.type == "cuda" else 128 if small else 4 if entry.spec.dims == 3 else 16
        cases.append((entry.name, size, batch_size or usual))
    with computing_threads(threads or cpu_count()), seeded(0, chosen):  # the input is drawn at random
        return measure(cases, chosen, seconds, compiles=compile)
