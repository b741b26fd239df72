"""Find the network in a checkpoint's content: its tensors, its head, and the file's other tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from restune.core.errors import UserError, shorten
from restune.weights.convert import StateDict, is_beside, to_ours
from restune.weights.unpickle import StandIn

_WRAPPERS = ("model_ema", "state_dict_ema", "state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts store the weights; averaged weights first, since those are the published ones."""

_COPIES = frozenset(("k", "key", "teacher", "momentum", "target", "ema", "shadow"))
_TRAINED = frozenset(("q", "query", "student", "online"))
"""Words in the names of a momentum network, and of the one trained by backpropagation (MoCo, BYOL, DINO)."""

_ANCHOR = re.compile(r"(?:^|\.)(layer1\.0\.)")
"""Name of the first block of every residual network here; the text before it is the network's prefix."""
_BODY = re.compile(r"(conv1|bn1|norm|embedding|hidden|layer\d+)\.")
_HEAD = re.compile(r"(fc|linear|classifier|head|heads|cls|logits|output|last_linear|last_layer)\.")

_SEQUENTIAL = re.compile(r"(?:^|\.)(4\.0\.)")
_CHILDREN = {"0": "conv1", "1": "bn1", **{str(3 + stage): f"layer{stage}" for stage in range(1, 5)}}
"""Parts of an ImageNet network in ``nn.Sequential(*network.children())``, as in self-supervised training."""

_MAX_ENTRIES = 100_000
_MAX_DEPTH = 16


@dataclass(frozen=True, kw_only=True)
class Found:
    """A network's tensors in a file.

    Args:
        state: the body and, if it is one linear layer, the head, under our names.
        place: the prefix of its names in the file, such as ``module.encoder_q.``.
        others: prefixes of other, unused networks in the same file.
        ignored: other unused tensors: a head of several layers, queues, projectors.
        head_classes: rows of the last layer of a head of several layers.
    """

    state: StateDict
    place: str = ""
    others: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    head_classes: int | None = None


def find_network(content: Any, where: str, fits: Callable[[StateDict], bool] = lambda _: True) -> Found:
    """Find the one network in a checkpoint's content, by its structure.

    Args:
        content: a state dict, bare or nested in other containers, with any prefix; or a whole pickled module.
        where: the file, for messages.
        fits: whether tensors, under our names, fit a known network; called only if several networks are found.

    Raises UserError if there is no network, or several without a clearly trained one.
    """
    path, tensors = _descend(content, where)
    tensors = _with_stage_names(tensors)
    prefixes = list(dict.fromkeys(name[: match.start(1)] for name in tensors if (match := _ANCHOR.search(name))))
    if not prefixes:
        return _without_anchor(content, tensors, where)
    groups = {prefix: _below(tensors, prefix, prefixes) for prefix in prefixes}
    chosen = prefixes[0] if len(prefixes) == 1 else _choose(groups, where, fits)
    others = [prefix for prefix in prefixes if prefix != chosen]
    outside = [
        name for name in tensors if not name.startswith(chosen) and not any(name.startswith(other) for other in others)
    ]
    found = _split(_renamed(groups[chosen], where), {name: tensors[name] for name in outside}, chosen)
    return Found(
        state=found.state,
        place=path + chosen,
        others=tuple(path + other or "(no prefix)" for other in others),
        ignored=found.ignored,
        head_classes=found.head_classes,
    )


def _descend(content: Any, where: str) -> tuple[str, dict[str, Tensor]]:
    """Return the tensors below the usual wrappers, with dotted names, and the wrappers' path."""
    path, found = "", content
    for _ in range(4):  # no script nests deeper
        entries = _entries(found)
        inner = [key for key in _WRAPPERS if any(True for _ in _tensors(entries.get(key), where))]
        if not inner:
            break
        path, found = f"{path}{inner[0]}.", entries[inner[0]]
    tensors: dict[str, Tensor] = {}
    for name, tensor in _tensors(found, where):
        if name in tensors:
            raise UserError("two tensors in this file have the same name", where=where)
        tensors[name] = tensor
    return path, tensors


def _with_stage_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a network's numbered children to their names."""
    places = {name[: match.start(1)] for name in tensors if (match := _SEQUENTIAL.search(name))}
    places = {place for place in places if {f"{place}0.weight", f"{place}1.running_mean"} <= tensors.keys()}
    if not places:
        return tensors
    named = {}
    for name, tensor in tensors.items():
        place = next((place for place in places if name.startswith(place)), None)
        if place is not None:
            child, _, rest = name.removeprefix(place).partition(".")
            name = f"{place}{_CHILDREN.get(child, child)}.{rest}"
        named[name] = tensor
    return named


def _entries(value: Any) -> Mapping[Any, Any]:
    """Return a container's entries, also of a class that was not loaded and of a pickled module."""
    if isinstance(value, StandIn):
        state = value.state
        if type(state) is dict and type(state.get("_modules")) is dict:
            own = [state.get(key) for key in ("_parameters", "_buffers", "_modules")]
            hidden = state.get("_non_persistent_buffers_set")
            hidden = hidden if type(hidden) is set else set()
            return {k: v for part in own if type(part) is dict for k, v in part.items() if k not in hidden}
        return value.items or {}
    return value if isinstance(value, Mapping) else {}


def _tensors(content: Any, where: str) -> Iterator[tuple[str, Tensor]]:
    """Collect all tensors in nested containers, in order, with dotted names. Raises UserError for too many entries."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        seen += 1
        if isinstance(value, Tensor):
            yield name, value
            continue
        entries = _entries(value) if depth < _MAX_DEPTH else {}
        if seen + len(entries) + len(waiting) > _MAX_ENTRIES:
            raise UserError("this file has too many entries for a checkpoint", where=where)
        below = [(f"{name}.{key}" if name else str(key), inner, depth + 1) for key, inner in entries.items()]
        waiting += reversed(below)


def _without_anchor(content: Any, tensors: Mapping[str, Tensor], where: str) -> Found:
    """Return another network's state dict, so that the caller can report its mismatches."""
    if not tensors or len(tensors) * 2 < len(_entries(content)):
        have = f"it has {shorten(map(_printable, content))}" if isinstance(content, Mapping) else _kind(content)
        raise UserError(f"this file does not hold weights: {have}", where=where, fix="save the network's state_dict()")
    return Found(state=_renamed(tensors, where))


def _printable(key: object) -> str:
    return str(key)[:80] if isinstance(key, str | int | float) else type(key).__name__


def _kind(content: Any) -> str:
    return f"it is a {content.name if isinstance(content, StandIn) else type(content).__name__}"


def _below(tensors: Mapping[str, Tensor], prefix: str, prefixes: list[str]) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without those under a longer prefix of another network."""
    longer = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
    return {
        name[len(prefix) :]: tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not (longer and name.startswith(longer))
    }


def _choose(groups: Mapping[str, Mapping[str, Tensor]], where: str, fits: Callable[[StateDict], bool]) -> str:
    """Return the prefix of the trained network. Raises UserError if it is ambiguous."""

    def fitting(prefix: str) -> bool:
        return fits(_split(to_ours(groups[prefix]), {}, prefix).state)

    left = [prefix for prefix in groups if fitting(prefix)] or list(groups)
    left = [prefix for prefix in left if not _words(prefix) & _COPIES] or left
    if len(left) > 1:
        left = [prefix for prefix in left if _words(prefix) & _TRAINED] or left
    if len(left) == 1:
        return left[0]
    listed = shorten(prefix or "(no prefix)" for prefix in left)
    raise UserError(
        f"this file holds several networks: {listed}",
        where=where,
        fix="save the state_dict() of the one that you want in a separate file",
    )


def _words(prefix: str) -> frozenset[str]:
    return frozenset(re.split(r"[._]", prefix.lower()))


def _renamed(tensors: Mapping[str, Tensor], where: str) -> StateDict:
    state = to_ours(tensors)
    if len(state) < sum(not is_beside(name) for name in tensors):
        raise UserError("two tensors in this file have the same name without their prefixes", where=where)
    return state


def _split(group: StateDict, outside: Mapping[str, Tensor], prefix: str) -> Found:
    """Separate body and head from tensors that a classifier does not use.

    If the head is one linear layer under `fc`, any other layer beside the body stays in the state, to be rejected as
    another network's. Otherwise such layers are the old head, or needed only in training.
    """
    state = {name: tensor for name, tensor in group.items() if _BODY.match(name)}
    beside = {name: tensor for name, tensor in group.items() if name not in state}
    plain = "fc.weight" in beside
    around = {**beside, **{_relative(name, prefix): tensor for name, tensor in outside.items()}}
    head = {name: tensor for name, tensor in around.items() if _HEAD.match(name) and tensor.is_floating_point()}
    layers = {name.rpartition(".")[0] for name in head}
    classes = [tensor.shape[0] for tensor in head.values() if tensor.ndim == 2]
    if not plain and len(layers) == 1 and _is_linear(head, layer := next(iter(layers)), state):
        state |= {f"fc{name.removeprefix(layer)}": tensor for name, tensor in head.items()}
        beside = {name: tensor for name, tensor in beside.items() if name not in head}
        outside = {name: tensor for name, tensor in outside.items() if _relative(name, prefix) not in head}
    if plain:
        state |= {name: tensor for name, tensor in beside.items() if "." in name and not _is_counter(name, tensor)}
    ignored = [f"{prefix}{name}" for name in beside if name not in state] + list(outside)
    several = not plain and "fc.weight" not in state and bool(classes)
    return Found(state=state, ignored=tuple(ignored), head_classes=classes[-1] if several else None)


def _is_counter(name: str, tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and tensor.ndim <= 1 and not name.endswith((".weight", ".bias"))


def _relative(name: str, prefix: str) -> str:
    """Return a name outside the network relative to it: without their common ancestors."""
    own, base = name.split("."), prefix.split(".")
    common = 0
    while common < min(len(own) - 1, len(base)) and own[common] == base[common]:
        common += 1
    return ".".join(own[common:])


def _is_linear(head: Mapping[str, Tensor], layer: str, body: StateDict) -> bool:
    """Return whether a head is one linear layer on the pooled features (dropout has no tensors)."""
    if not set(head) <= {f"{layer}.weight", f"{layer}.bias"} or f"{layer}.weight" not in head:
        return False
    weight = head[f"{layer}.weight"]
    last = max((name.split(".")[0] for name in body if name.startswith("layer")), default="", key=_number)
    widths = {tensor.shape[0] for name, tensor in body.items() if name.startswith(f"{last}.") and tensor.ndim}
    return weight.ndim == 2 and weight.shape[1] in widths


def _number(stage: str) -> int:
    digits = stage.removeprefix("layer")
    return int(digits) if digits.isdecimal() and len(digits) < 6 else 0
