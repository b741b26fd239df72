"""The kinds of data, one `Kind` each: all differences between images, series, texts and videos but tensor code."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from restune.data.dataset import Dataset, Location
    from restune.data.preprocess.base import InputSettings, Preprocess
    from restune.networks.spec import ResNetSpec


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of data.

    Args:
        name: its name in model files, tables and ``--kind``.
        one: singular noun with its article, such as "an image".
        noun: plural noun of its items.
        sample_noun: plural noun of the samples in a training step.
        dims: dimensions of its networks' convolutions.
        has_tokens: whether its networks embed tokens.
        module: its preprocessing module, with the class `PREPROCESS` and the functions `default_preprocess` and
            `initial_preprocess`.
        recipes: the default recipe by verb, and by ``verb:form`` for a form of the kind such as sound.
        default_from_network: whether the network's zoo entry sets the input if the weights do not.
        pretrained: the network to fine-tune if neither network nor weights are named.
        augment_fields: the `Augment` fields that apply.
        recipe_fields: the other recipe settings that apply, of those that do not apply to every kind.
        section: the recipe section that only this kind has.
        spec_fields: the `ResNetSpec` fields that follow from the data and cannot be set.
        view_modes: names of its evaluation views; the first is the default, ``single`` is `Preprocess.apply`.
        view_noun: plural noun of its evaluation views if they are also scored one by one.
        validates: the views used in validation during training, if they are not the default ones.
        mirrors: whether horizontal flips are on by default, unless the classes are digits or letters.
        groups_duplicates: whether its source groups equal items, as texts that differ in white space and case only; of
            other kinds, items of exactly equal content are grouped.
        holds_folders: whether a folder may be one item, such as a video's frames.
        file_suffixes: suffixes of its files in an input folder; empty for images and videos, which have other rules.
        row_suffixes: suffixes of files that contain many items.
        rows_are_paths: whether the rows of such a file name files with one item each.
        accepts: types of one input from Python: ``str``, ``path``, ``bytes``, ``array``, ``pil``, ``text``.
        array_dims: maximum number of dimensions of an array that is one item.
        accepted: `accepts` in words.
    """

    name: str
    one: str
    noun: str
    sample_noun: str
    dims: int
    has_tokens: bool = False
    module: str
    recipes: Mapping[str, str]
    pretrained: str | None
    default_from_network: bool = False
    augment_fields: frozenset[str]
    recipe_fields: frozenset[str] = frozenset()
    section: str | None = None
    spec_fields: tuple[str, ...] = ()
    view_modes: tuple[str, ...] = ("single",)
    view_noun: str | None = None
    validates: str | None = None
    mirrors: bool = False
    groups_duplicates: bool = False
    holds_folders: bool = False
    file_suffixes: tuple[str, ...] = ()
    row_suffixes: tuple[str, ...] = ()
    rows_are_paths: bool = False
    accepts: frozenset[str] = field(default_factory=frozenset)
    array_dims: int = 0
    accepted: str = ""

    def recipe(self, verb: str, form: str | None = None) -> str:
        """Return the default recipe of ``train`` or ``finetune``."""
        return self.recipes.get(f"{verb}:{form}", self.recipes[verb])

    def fits(self, spec: ResNetSpec) -> bool:
        """Return whether a network of this structure can take such data."""
        return spec.dims == self.dims and bool(spec.vocabulary) == self.has_tokens

    def view_mode(self, name: str | None) -> str:
        """Return the name of the evaluation views, the default for None. Raises UserError for an unknown name."""
        if name is None:
            return self.view_modes[0]
        if name not in self.view_modes:
            known = ", ".join(self.view_modes)
            raise UserError(f"unknown views {name!r} of {self.noun}", where="--views", fix=f"use one of {known}")
        return name

    @property
    def preprocess_class(self) -> type[Any]:
        """Its preprocessing class."""
        preprocess_class: type[Any] = self._module().PREPROCESS
        return preprocess_class

    def default_preprocess(self, spec: ResNetSpec, crop: int | None, resize: int | None) -> Preprocess:
        """Return the preprocessing of a network whose weights do not include it.

        Args:
            crop, resize: those of the zoo entry, pixels.

        Raises UserError if there is no default.
        """
        preprocess: Preprocess = self._module().default_preprocess(spec, crop, resize)
        return preprocess

    def initial_preprocess(self, base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:
        """Return the preprocessing of a run's network before it is fitted to the training items.

        Args:
            base: the preprocessing of the weights, or the zoo's default; None if there is neither.
        """
        preprocess: Preprocess = self._module().initial_preprocess(base, dataset, settings)
        return preprocess

    def location(self, path: Path) -> Location:
        """Return the location of a file, or of a folder that is one item."""
        if self.holds_folders:
            from restune.data.sources.clips import ClipLocation

            return ClipLocation(path)
        from restune.data.items import FileLocation  # the readers of tables take longer to import than an image to read

        return FileLocation(path)

    def files_below(self, path: Path) -> Iterator[Path]:
        """Iterate over the items of this kind in a folder and its subfolders."""
        from restune.data.sources.clips import clips_below
        from restune.data.sources.folder import walk_images
        from restune.data.sources.walk import walk_files

        if self.file_suffixes:
            return walk_files(path, lambda name: name.lower().endswith(self.file_suffixes))
        return clips_below(path) if self.holds_folders else iter(walk_images(path))

    def _module(self) -> ModuleType:
        return importlib.import_module(self.module)


_PIXELS = frozenset(
    ("crop_scale", "crop_ratio", "shift", "border", "flip", "alternate_flip", "policy", "rand_ops", "rand_magnitude")
) | {"repeats"}

IMAGE = Kind(
    name="image",
    one="an image",
    noun="images",
    sample_noun="images",
    dims=2,
    module="restune.data.preprocess.image",
    recipes={"train": "default", "finetune": "finetune"},
    pretrained="resnet18",
    default_from_network=True,
    augment_fields=_PIXELS | {"erase"},
    recipe_fields=frozenset(("image_size", "image_sizes", "store_size", "mixup", "cutmix")),
    view_modes=("single", "flip", "five-crop"),
    mirrors=True,
    row_suffixes=(".csv", ".tsv", ".parquet"),
    rows_are_paths=True,
    accepts=frozenset(("str", "path", "bytes", "array", "pil")),
    array_dims=3,
    accepted="a path, bytes, an array, or a PIL image",
)
SIGNAL = Kind(
    name="signal",
    one="a series",
    noun="series",
    sample_noun="series",
    dims=1,
    module="restune.data.preprocess.signal",
    recipes={"train": "series", "train:sound": "sounds", "finetune": "finetune-series"},
    pretrained=None,
    augment_fields=frozenset(("jitter", "scaling", "warp", "window", "repeats")),
    recipe_fields=frozenset(("mixup",)),
    section="signal",
    spec_fields=("in_channels",),
    file_suffixes=(".wav", ".ts", ".tsv"),
    row_suffixes=(".ts", ".tsv", ".csv", ".parquet", ".npz", ".txt"),
    accepts=frozenset(("str", "path", "bytes", "array")),
    array_dims=2,
    accepted="an array, the path of a .wav file, or its bytes",
)
TEXT = Kind(
    name="text",
    one="a text",
    noun="texts",
    sample_noun="texts",
    dims=1,
    has_tokens=True,
    module="restune.data.preprocess.text",
    recipes={"train": "text", "finetune": "finetune-text"},
    pretrained=None,
    augment_fields=frozenset(("drop_tokens", "repeats")),
    section="text",
    spec_fields=("vocabulary",),
    groups_duplicates=True,
    file_suffixes=(".txt",),
    row_suffixes=(".tsv", ".csv", ".parquet"),
    accepts=frozenset(("text", "path", "bytes")),
    accepted="a str, which is a text, the Path of a file, or its bytes",
)
VIDEO = Kind(
    name="video",
    one="a video",
    noun="videos",
    sample_noun="clips",
    dims=3,
    module="restune.data.preprocess.video",
    recipes={"train": "video", "finetune": "finetune-video"},
    pretrained="r3d_18",
    default_from_network=True,
    augment_fields=_PIXELS,
    recipe_fields=frozenset(("image_size", "mixup")),
    section="video",
    view_modes=("spread", "single"),
    view_noun="clips",
    validates="centre clips",
    holds_folders=True,
    row_suffixes=(".csv", ".tsv", ".parquet"),
    rows_are_paths=True,
    accepts=frozenset(("str", "path", "bytes")),
    accepted="the path of a file or of a folder of frames, or a file's bytes",
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (IMAGE, SIGNAL, TEXT, VIDEO)}


def kind_of(name: str) -> Kind:
    """Return the kind of that name. Raises UserError for an unknown name."""
    if name not in KINDS:
        hint = did_you_mean(name, tuple(KINDS)) or f"use one of {', '.join(KINDS)}"
        raise UserError(f"unknown kind of data {name!r}", where="--kind", fix=hint)
    return KINDS[name]


def kind_of_network(spec: ResNetSpec) -> Kind:
    """Return the kind of data that a network takes, by its dimensions and vocabulary."""
    if spec.vocabulary:
        return TEXT
    return next(kind for kind in (IMAGE, SIGNAL, VIDEO) if kind.dims == spec.dims)
