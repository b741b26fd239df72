"""Read and write bundles: one .safetensors file whose header holds everything needed to use the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from restune.core.errors import UserError
from restune.core.files import written_whole
from restune.data.kinds import KINDS
from restune.data.preprocess import Preprocess, preprocess_from_dict
from restune.data.targets import TASKS, Outputs, TargetScale
from restune.networks.custom import CustomSpec
from restune.networks.registry import known_blocks
from restune.networks.spec import ResNetSpec
from restune.weights.calibration import KEYS as CALIBRATION_KEYS
from restune.weights.calibration import Calibration
from restune.weights.novelty import REFERENCE, Novelty, novelty_from_bundle

SCHEMA_VERSION = 1
MAX_HEADER = 16 * 2**20
"""Maximum bytes of a safetensors header: a hundred times the need of a network of a thousand tensors."""
HEADER_KEY = "restune"
_KEYS = frozenset(
    "schema_version kind task dtype name spec classes preprocess calibration novelty training scores licence".split()  # noqa: SIM905
)
_TASK_KEYS: Mapping[str, frozenset[str]] = {
    "multi-label": frozenset({"thresholds"}),
    "regression": frozenset({"target_scale"}),
}
"""Keys of the header that only bundles of some tasks have."""


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """Describe a bundle's model; its header is this as canonical JSON.

    Args:
        spec: the network's structure; of a module of one's own what is known of it.
        classes: names, in the order of the logits: of classes, of labels, or of the numbers that regression predicts.
        preprocess: converts an item to the network's input.
        name: the zoo's name for the structure, or None for a home-made one.
        task: ``single-label``, ``multi-label`` or ``regression``.
        dtype: of the floating-point tensors in the file.
        calibration: temperature, abstention and conformal thresholds, fitted on validation items; None without any.
        novelty: tells inputs that are unlike the training data; its embeddings are a tensor of the file.
        training: how it was trained: verb, recipe, initial weights.
        scores: its scores, with the data (by fingerprint).
        licence: of the weights.
        thresholds: of multi-label networks: the probability from which an item has each label; None: 0.5.
        target_scale: of regression: turns outputs into numbers of the targets' units.
    """

    spec: ResNetSpec | CustomSpec
    classes: tuple[str, ...]
    preprocess: Preprocess
    name: str | None = None
    task: str = "single-label"
    dtype: str = "float32"
    calibration: Calibration | None = None
    novelty: Novelty | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[Mapping[str, Any], ...] = ()
    licence: str | None = None
    thresholds: tuple[float, ...] | None = None
    target_scale: TargetScale | None = None

    @property
    def outputs(self) -> Outputs:
        """What the network's outputs mean."""
        return Outputs(self.task, self.thresholds, self.target_scale)

    @property
    def kind(self) -> str:
        """Kind of input: ``image``, ``signal``, ``text`` or ``video``."""
        return self.preprocess.kind

    def to_json(self) -> str:
        """Serialise as canonical JSON: sorted keys, no spaces, UTF-8."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "task": self.task,
            "dtype": self.dtype,
            "name": self.name,
            "spec": self.spec.to_dict(),
            "classes": list(self.classes),
            "preprocess": self.preprocess.to_dict(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "training": dict(self.training),
            "scores": [dict(score) for score in self.scores],
            "licence": self.licence,
            **({} if self.thresholds is None else {"thresholds": list(self.thresholds)}),
            **({} if self.target_scale is None else {"target_scale": self.target_scale.to_dict()}),
            **({} if self.novelty is None else {"novelty": self.novelty.to_dict()}),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_bundle(path: Path, state: Mapping[str, Tensor], info: BundleInfo) -> None:
    """Write the file atomically."""
    known = {} if info.novelty is None else {REFERENCE: info.novelty.reference}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in {**state, **known}.items()}
    try:
        header = info.to_json()
        header.encode()
    except UnicodeEncodeError:
        raise UserError("a class name is not valid UTF-8", where=str(path), fix="rename the class") from None
    with written_whole(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER_KEY: header})


def read_info(path: Path) -> BundleInfo | None:
    """Read the header; None for a safetensors file that is not a bundle. Raises UserError for a damaged file."""
    _reject_huge_header(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
            reference = file.get_tensor(REFERENCE) if text is not None and _has_reference(file) else None
    except (safetensors.SafetensorError, OSError) as error:
        raise _broken(path, error) from error
    return None if text is None else _parse(text, path, reference)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights in a safetensors file, not a bundle's embeddings. Raises UserError for a damaged file."""
    _reject_huge_header(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            is_bundle = HEADER_KEY in (file.metadata() or {})
        tensors = safetensors.torch.load_file(path)
        if is_bundle:
            tensors.pop(REFERENCE, None)
        return tensors
    except Exception as error:  # shapes and types unsupported by torch raise arbitrary exceptions
        raise _broken(path, error) from error


def _reject_huge_header(path: Path) -> None:
    """Check the header's length, stored in the first eight bytes; parsing takes many times as much memory."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise _broken(path, error) from error
    if size > MAX_HEADER:
        raise _broken(path, ValueError(f"its header would be {size:,} bytes long"))


def _has_reference(file: Any) -> bool:
    """Return whether the file has a table of embeddings; any other tensor of this name is not read."""
    if REFERENCE not in file.keys():  # noqa: SIM118 (not a dict)
        return False
    stored = file.get_slice(REFERENCE)
    return len(stored.get_shape()) == 2 and stored.get_dtype() == "F16"


def _parse(text: str, path: Path, reference: Tensor | None) -> BundleInfo:
    try:
        content = json.loads(text)
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise UserError(
                f"this model was saved with schema {version!r}; this version of restune reads {SCHEMA_VERSION}",
                where=str(path),
                fix="upgrade restune" if isinstance(version, int) and version > SCHEMA_VERSION else None,
            )
        _reject_unknown(content, path)
        _reject_unregistered(content["spec"], path)
        spec = _spec(content["spec"])
        info = BundleInfo(
            spec=spec,
            classes=tuple(str(name) for name in content["classes"]),
            preprocess=preprocess_from_dict(content["preprocess"]),
            name=content["name"],
            task=content["task"],
            dtype=content["dtype"],
            calibration=_calibration(content),
            novelty=_novelty(content.get("novelty"), reference, spec),
            training=content["training"],
            scores=tuple(content["scores"]),
            licence=content["licence"],
            thresholds=_thresholds(content),
            target_scale=_target_scale(content),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"this model's header cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            fix="save the model again, or give its weights with --weights and name the network",
        ) from error
    if content["kind"] != info.kind:
        raise UserError(
            f"this model's header says that it reads {content['kind']!r}, its preprocessing {info.kind!r}",
            where=str(path),
        )
    if len(info.classes) != info.spec.num_classes:
        raise UserError(
            f"this model's header names {len(info.classes)} classes, its network has {info.spec.num_classes}",
            where=str(path),
        )
    if len(set(info.classes)) != len(info.classes):
        raise UserError("this model's header names a class twice", where=str(path))
    return info


def _thresholds(content: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return the thresholds of a multi-label network. Raises ValueError for those that do not fit its labels."""
    if content.get("thresholds") is None:
        return None
    values = tuple(float(value) for value in content["thresholds"])
    if len(values) != len(content["classes"]) or not all(0 <= value <= 1 for value in values):
        raise ValueError("the thresholds are not one probability per label")
    return values


def _target_scale(content: Mapping[str, Any]) -> TargetScale | None:
    """Return the scale of a regression network's targets. Raises ValueError where it is missing or does not fit."""
    if content["task"] != "regression":
        return None
    scale = TargetScale.from_dict(content["target_scale"])
    if len(scale.mean) != len(content["classes"]):
        raise ValueError("the scale of the targets is not one mean and one std per target")
    return scale


def _spec(content: Any) -> ResNetSpec | CustomSpec:
    return CustomSpec.from_dict(content) if "custom" in content else ResNetSpec.from_dict(content)


def _novelty(content: Any, reference: Tensor | None, spec: ResNetSpec | CustomSpec) -> Novelty | None:
    if content is None:
        return None
    if isinstance(spec, CustomSpec):
        raise TypeError("embeddings of a module of one's own are not known")
    return novelty_from_bundle(content, reference, spec.num_features)


def _knows(calibration: Any) -> bool:
    return calibration is None or (isinstance(calibration, dict) and set(calibration) == CALIBRATION_KEYS)


def _calibration(content: Mapping[str, Any]) -> Calibration | None:
    stored = content["calibration"]
    return None if stored is None else Calibration.from_dict(stored, len(content["classes"]))


def _reject_unregistered(spec: Any, path: Path) -> None:
    """Raise UserError for blocks that a program must register before it loads the model."""
    stages = spec.get("stages", ())
    for name in (stage.get("block") for stage in (stages if isinstance(stages, list) else ()) if "block" in stage):
        if isinstance(name, str) and name not in known_blocks():
            raise UserError(
                f"this model is built from blocks named {name[:100]!r}, which are not registered",
                where=str(path),
                fix="first call restune.register_block(NAME, CLASS) with that name and the class of these blocks",
            )


def _reject_unknown(content: Mapping[str, Any], path: Path) -> None:
    """Raise UserError for anything in the header that this version does not support."""
    unknown = [key for key in content if key not in _KEYS | _TASK_KEYS.get(content["task"], frozenset())]
    wrong = {
        "a setting": unknown[0] if unknown else None,
        "a kind": content["kind"] if content["kind"] not in KINDS else None,
        "a task": content["task"] if content["task"] not in TASKS else None,
        "a calibration": None if _knows(content["calibration"]) else content["calibration"],
    }
    for what, value in wrong.items():
        if value is not None:
            raise UserError(
                f"this model has {what}, {value!r}, that this version of restune does not know",
                where=str(path),
                fix="upgrade restune",
            )
    kinds = {"classes": list, "scores": list, "training": dict, "name": str, "licence": str, "dtype": str}
    for key, kind in kinds.items():
        optional = key in ("name", "licence")
        if not (isinstance(content[key], kind) or (optional and content[key] is None)):
            raise TypeError(f"{key} is not a {kind.__name__}")
    if not all(isinstance(score, dict) for score in content["scores"]):
        raise TypeError("a score is not a dict")


def _broken(path: Path, error: Exception) -> UserError:
    reason = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
    return UserError(
        f"this safetensors file is damaged or not a safetensors file: {reason}",
        where=str(path),
        fix="download or save it again",
    )
