"""Hundreds of hostile files: what they are, and what may become of them. The same for the same seed, but for dates.

Nothing here imports restune.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hostile_files.archives import archives
from hostile_files.arrays import arrays
from hostile_files.images import (
    images,
    special_files,
)
from hostile_files.parts import Case, Content, encoded, photo
from hostile_files.recipes import recipes
from hostile_files.tables import tables
from hostile_files.weights import weights


def generate(folder: Path, seed: int = 0) -> list[Case]:
    """Make every file below `folder`, and ``cases.json`` which lists them."""
    random = np.random.default_rng(seed)
    cases: list[Case] = []
    families: dict[str, Callable[..., Iterator[Content]]] = {
        "image": images,
        "table": tables,
        "array": arrays,
        "archive": archives,
        "weights": weights,
        "recipe": recipes,
    }
    for family, make in families.items():
        place = folder / (f"{family}/hostile" if family == "image" else family)
        place.mkdir(parents=True)
        made = make(random, folder / "code ran") if family == "weights" else make(random)
        for kind, name, content, expected in made:
            path = place / name
            with path.open("xb") as file:
                file.write(content)
            cases.append(Case(family, kind, path.relative_to(folder).as_posix(), expected))
    cases += special_files(folder / "image" / "hostile", folder)
    for name in ("image/plain", "table/plain"):
        (folder / name).mkdir()
        for number in range(2):
            (folder / name / f"{number}.jpg").write_bytes(encoded(photo(random), "JPEG"))
    listed = [asdict(case) for case in cases]
    (folder / "cases.json").write_text(json.dumps(listed), encoding="ascii")
    return cases
