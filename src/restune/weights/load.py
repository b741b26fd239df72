"""Read weights of any form, infer the network they fit, and load them into it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from restune.core.errors import UserError, shorten
from restune.core.files import is_there, user_path
from restune.data.preprocess import Preprocess, preprocess_from_dict
from restune.networks.custom import CustomSpec
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, same_structure
from restune.networks.zoo import ZOO
from restune.weights import bundle, bundled, hub
from restune.weights.body import Found, find_network
from restune.weights.checkpoint import Checkpoint, read_checkpoint
from restune.weights.convert import StateDict, adapt_first_convolution, inflate
from restune.weights.suffixes import PICKLE_SUFFIXES, WEIGHT_SUFFIXES

_INFLATE = "inflate:"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights and their known properties.

    Args:
        state: tensors under our names, floating point as float32.
        source: their origin, for messages.
        model: the zoo's name for the network, if known.
        spec: the structure, if the file has it.
        classes: names in the order of the logits, if known.
        preprocess: the input they were trained on, if known; None for inflated weights, whose input differs.
        info: the header of a bundle.
        licence: of the weights, if known.
        found: the used and ignored tensors of a checkpoint.
        skipped: objects in a checkpoint that were not loaded, as ``args (argparse.Namespace)``.
        file: of a model file.
    """

    state: StateDict
    source: str
    model: str | None = None
    spec: ResNetSpec | None = None
    classes: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    info: bundle.BundleInfo | None = None
    licence: str | None = None
    found: Found | None = None
    skipped: tuple[str, ...] = ()
    file: Path | None = None

    @property
    def head_classes(self) -> int | None:
        """Number of classes of the file's head, also of one with several layers, which is not in `state`."""
        return self.num_classes or (None if self.found is None else self.found.head_classes)

    @property
    def num_classes(self) -> int | None:
        """Rows of the head; None without a head."""
        head = self.state.get("fc.weight")
        return None if head is None or head.ndim != 2 else head.shape[0]

    @property
    def in_channels(self) -> int | None:
        """Input channels of the first convolution, or a text network's embedding width."""
        if (table := self._embedding) is not None:
            return table.shape[1]
        first = [self.state[name] for name in _first_convolutions(self.state)]
        return first[0].shape[1] if first and first[0].ndim >= 2 else None

    @property
    def vocabulary(self) -> int:
        """Number of embedded tokens; 0 for networks without an embedding."""
        return 0 if (table := self._embedding) is None else table.shape[0]

    @property
    def _embedding(self) -> Tensor | None:
        table = self.state.get(_EMBEDDING)
        return None if table is None or table.ndim != 2 else table


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The outcome of loading weights into a network, by tensor.

    Args:
        matched: loaded unchanged.
        adapted: loaded after adapting the input channels.
        new: left as initialised: the head, if the number of classes differs.
        ignored: in the file, but not used: the old head, queues, projectors.
        skipped: objects in the file that were not loaded.
        place: the prefix of these weights' network in the file, if worth mentioning.
    """

    matched: tuple[str, ...]
    adapted: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    place: str = ""

    def __str__(self) -> str:
        text = f"{len(self.matched) + len(self.adapted)} tensors matched"
        if self.adapted:
            text += f" ({', '.join(self.adapted)} adapted to the input channels)"
        if self.place:
            text += f"; taken from {self.place}"
        if self.new:
            text += f"; new: {', '.join(self.new)}"
        if self.ignored:
            text += f"; ignored tensors: {shorten(_by_layer(self.ignored))}"
        if self.skipped:
            text += f"; skipped objects: {shorten(self.skipped)}"
        return text


def _by_layer(names: tuple[str, ...]) -> list[str]:
    """Weight and bias of one layer under the layer's name: ``fc.1, fc.4, queue``."""
    return list(dict.fromkeys(_LAYERS_OWN.sub("", name) for name in names))


_LAYERS_OWN = re.compile(r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$")


def read_weights(reference: str | Path) -> Weights:
    """Read weights: a bundled or published name, a model file, a run's folder or a local checkpoint.

    Any of these after ``inflate:`` is for a video network (see `convert.inflate`).

    A file or folder takes precedence over a published name. Raises UserError when none of them exists.
    """
    path = user_path(reference)
    if is_there(path):
        return _read_run(path) if path.is_dir() else _read_file(path)
    if str(reference).startswith(_INFLATE):
        return _inflated(str(reference).removeprefix(_INFLATE))
    if hub.is_published_reference(str(reference)):
        return _read_published(str(reference))
    if path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1:
        raise UserError("there is no such file", where=str(reference), fix="check the path")
    raise UserError(
        f"{str(reference)!r} is not the name of any weights",
        where="--weights",
        fix="give a file, or a published name such as resnet50:v2, ResNet50_Weights.IMAGENET1K_V2, "
        "timm:resnet50.a1_in1k or resnet20:cifar10; `restune models` lists them",
    )


def loaded_network(spec: ResNetSpec, weights: Weights) -> tuple[ResNet, LoadReport]:
    """Build the network of a spec with these weights; see `load_into`.

    Parameters that the weights replace are not initialised: that would take longer than reading them, and would draw
    from torch's generator. Only if they lack this head is the network initialised like a new one.
    """
    if any(stage.is_registered for stage in spec.stages):  # may have buffers that are not in the file
        network = ResNet(spec)
        return network, load_into(network, weights)
    with torch.device("meta"):
        network = ResNet(spec)
    head = network.fc.weight, network.fc.bias
    if all(_fits(weights.state.get(name), own) for name, own in zip(("fc.weight", "fc.bias"), head, strict=True)):
        network.load_state_dict({name: _unset(name, own) for name, own in network.state_dict().items()}, assign=True)
    else:
        network = ResNet(spec)
    return network, load_into(network, weights)


def _unset(name: str, like: Tensor) -> Tensor:
    """Allocate memory for a tensor to be loaded; counters, which old checkpoints lack, start at 0."""
    make = torch.zeros if name.endswith("num_batches_tracked") else torch.empty
    return make(like.shape, dtype=like.dtype)


def _fits(given: Tensor | None, own: Tensor) -> bool:
    return given is not None and given.shape == own.shape


def load_into(network: ResNet, weights: Weights) -> LoadReport:
    """Load weights into a network, in place, and report what matched.

    The head stays as initialised if its shape differs, and the first convolution is adapted to the number of input
    channels. Raises UserError if any other tensor is missing, unexpected, not finite or of another shape: the weights
    are then another network's.
    """
    own = network.state_dict()
    given = dict(weights.state)
    adapted = _adapt_input(own, given)
    new = [
        name for name in own if name.startswith("fc.") and (name not in given or given[name].shape != own[name].shape)
    ]
    ignored = [name for name in given if name in new or name not in own]
    wrong = [name for name in own if name in given and name not in new and given[name].shape != own[name].shape]
    counters = [name for name in own if name.endswith("num_batches_tracked") and name not in given]  # old checkpoints
    missing = [name for name in own if name not in given and name not in new and name not in counters]
    left_over = [
        name for name in ignored if name not in ("fc.weight", "fc.bias") and not name.endswith("num_batches_tracked")
    ]
    if missing or wrong or left_over:
        raise _other_network(weights.source, missing, wrong, left_over, own, given)
    matched = [name for name in own if name in given and name not in new]
    broken = [name for name in matched if not bool(torch.isfinite(given[name]).all())]
    broken += [name for name in matched if name.endswith("running_var") and bool((given[name] < 0).any())]
    if broken:
        raise UserError(f"these weights hold NaN or Inf in {shorten(broken)}", where=weights.source)
    network.load_state_dict({name: given.get(name, own[name]) if name in matched else own[name] for name in own})
    return LoadReport(
        matched=tuple(name for name in matched if name not in adapted),
        adapted=tuple(adapted),
        new=tuple(new),
        ignored=(*ignored, *(weights.found.ignored if weights.found is not None else ())),
        skipped=weights.skipped,
        place=_place(weights.found),
    )


def _place(found: Found | None) -> str:
    """Describe the chosen network of the file, unless it is the only one and has a usual prefix."""
    if found is None or (not found.others and set(found.place.split(".")) <= _USUAL_PLACES):
        return ""
    return found.place + (f" (not used: {shorten(found.others)})" if found.others else "")


_USUAL_PLACES = frozenset(("", "module", "_orig_mod", "model", "state_dict", "model_state_dict", "net", "model_ema"))


def reject_other_structure(weights: Weights, spec: ResNetSpec) -> None:
    """Raise UserError if a bundle's spec differs from the network's, even if every tensor fits.

    Strides, dilation and missing shortcuts have no tensors.
    """
    if weights.spec is None or same_structure(weights.spec, spec):
        return
    theirs, ours = asdict(weights.spec), asdict(spec)
    differing = [key for key in ours if ours[key] != theirs[key] and key not in ("num_classes", "in_channels")]
    raise UserError(
        f"these weights are of another network: {shorten(differing)} differ",
        where=weights.source,
        fix="load the bundle itself, or repeat its settings: "
        + shorten(f"{key}={theirs[key]!r}" for key in differing if key != "stages"),
    )


def infer_model(weights: Weights) -> str:
    """Return the zoo's name for the network that these weights fit. Raises UserError if there is none."""
    if weights.model in ZOO:
        return weights.model
    name = _fitting(weights)
    if name is not None:
        return name
    raise UserError(
        "these weights do not fit any network of the zoo",
        where=weights.source,
        fix="name the network they were made for, as in restune.create_model(NAME, weights=FILE, depths=...)",
    )


def _fitting(weights: Weights) -> str | None:
    given = _body_shapes(weights.state)
    blocks = len({tuple(name.split(".")[:2]) for name in given if name.startswith("layer")})
    for name, entry in ZOO.items():
        if sum(stage.depth for stage in entry.spec.stages) != blocks:  # rules out most without building them
            continue
        if bool(entry.spec.vocabulary) != bool(weights.vocabulary):
            continue
        with torch.device("meta"):
            changes = {"in_channels": weights.in_channels or 3, "vocabulary": weights.vocabulary}
            body = ResNet(entry.spec.override(**changes))
        if _body_shapes(body.state_dict()) == given:
            _reject_other_head(weights, body.spec)
            return name
    return None


def _reject_other_head(weights: Weights, spec: ResNetSpec) -> None:
    """Check that the head fits the network, since its rows give the number of classes."""
    head = weights.state.get("fc.weight")
    if head is not None and (head.ndim != 2 or head.shape[1] != spec.num_features):
        raise UserError(
            f"the head fc.weight is {list(head.shape)}, but the network has {spec.num_features} features",
            where=weights.source,
            fix="download or save it again",
        )


def _body_shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all tensors except the head and the counters."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def _read_run(folder: Path) -> Weights:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UserError(
            "this folder does not contain model.safetensors", where=str(folder), fix="give a finished run's folder"
        )
    return _read_file(path)


def _read_file(path: Path) -> Weights:
    if not path.is_file():
        raise UserError("this is not a regular file", where=str(path))
    if path.suffix.lower() == ".safetensors":
        info = bundle.read_info(path)
        if info is not None and isinstance(info.spec, CustomSpec):
            raise UserError(
                f"this model is a module of its owner's ({info.spec.custom}), whose code the file does not hold",
                where=str(path),
                fix="load it in Python: restune.load(PATH, module=MODULE)",
            )
        checkpoint = Checkpoint(bundle.read_tensors(path))
        if info is None:
            return _found_in(checkpoint, str(path))
        state = _found_in(checkpoint, str(path)).state
        assert isinstance(info.spec, ResNetSpec)
        _reject_lying_spec(info.spec, state, str(path))
        return Weights(
            state=state,
            source=str(path),
            model=info.name,
            spec=info.spec,
            classes=info.classes,
            preprocess=info.preprocess,
            info=info,
            licence=info.licence,
            file=path,
        )
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return _found_in(read_checkpoint(path), str(path))
    raise UserError(
        f"a file ending in {path.suffix!r} is not a weights file",
        where=str(path),
        fix=f"weights end in {', '.join(WEIGHT_SUFFIXES)}",
    )


def _found_in(checkpoint: Checkpoint, source: str) -> Weights:
    """Return the weights of the one network in a file. Raises UserError if there is none, or it is ambiguous."""

    def fits(state: StateDict) -> bool:
        try:
            return _fitting(Weights(state=state, source=source)) is not None
        except UserError:
            return False

    found = find_network(checkpoint.content, source, fits)
    state = _as_float32(found.state, source)
    return Weights(state=state, source=source, found=found, skipped=checkpoint.skipped)


def _read_published(reference: str) -> Weights:
    inside = bundled.file_of(reference)
    if inside is not None:
        return replace(_read_file(inside), source=f"{reference} (bundled with restune)")
    found = hub.fetch(reference)
    weights = _read_file(found.file)
    preprocess = None if found.preprocess is None else preprocess_from_dict(found.preprocess)
    return replace(
        weights,
        source=f"{reference} ({found.source})",
        model=found.model,
        classes=found.classes,
        preprocess=preprocess,
        licence=found.licence,
    )


def _inflated(reference: str) -> Weights:
    """Inflate a 2-D network's weights for its 3-D twin, see `convert.inflate`.

    Their preprocessing is dropped, since the input differs. Raises UserError for weights of a network that is not 2-D.
    """
    flat = read_weights(reference)
    spec = flat.spec
    if spec is None:
        changes = {"in_channels": flat.in_channels, "num_classes": flat.num_classes}
        entry = ZOO[infer_model(flat)]
        spec = entry.spec.override(**{name: value for name, value in changes.items() if value is not None})
    if spec.dims != 2:
        raise UserError(
            f"only weights of a 2-D network can be inflated; these have dims={spec.dims}",
            where=f"{_INFLATE}{reference}",
            fix="leave 'inflate:' out, or name weights of a 2-D network",
        )
    spec = spec.override(dims=3)
    with torch.device("meta"):
        twin = ResNet(spec).state_dict()
    return Weights(
        state=inflate(flat.state, twin),
        source=f"{flat.source}, inflated",
        spec=spec,
        classes=flat.classes,
        licence=flat.licence,
        found=flat.found,
        skipped=flat.skipped,
    )


def _reject_lying_spec(spec: ResNetSpec, state: StateDict, source: str) -> None:
    """Raise UserError if a header describes a network far larger than its file, before memory is allocated."""
    held = sum(tensor.numel() for tensor in state.values())
    described: float = math.inf
    if sum(stage.depth for stage in spec.stages) <= len(
        state
    ):  # else even building it on the meta device would take long
        with suppress(RuntimeError, ValueError, OverflowError), torch.device("meta"):  # sizes beyond torch's integers
            described = sum(tensor.numel() for tensor in ResNet(spec).state_dict().values())
    if described > 2 * held + 2**24:
        raise UserError(
            "this model's header describes a network that is far larger than the file",
            where=source,
            fix="download or save it again",
        )


def _as_float32(state: StateDict, source: str) -> StateDict:
    _reject_strange_tensors(state, source)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _reject_strange_tensors(given: StateDict, source: str) -> None:
    """Raise UserError for tensors that cannot be weights: sparse, quantised, complex, integer or empty.

    Also for expanded views (few values repeated to a large shape): networks are allocated by these shapes.
    """
    for name, tensor in given.items():
        counter = name.endswith("num_batches_tracked")
        if tensor.layout != torch.strided or tensor.is_meta or not (tensor.is_floating_point() or counter):
            raise UserError(f"{name} holds {tensor.dtype} ({tensor.layout}), not plain floats", where=source)
        if not 0 < tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes():
            raise UserError(f"{name} is {list(tensor.shape)}, which the file does not hold", where=source)


_EMBEDDING = "embedding.weight"
_FIRST = ("conv1.weight", "conv1.0.weight")
_FIRST_WITHOUT_STEM = tuple(
    f"layer1.0.{layer}.weight" for layer in ("conv1", "conv1.0", "downsample.0", "downsample.1")
)


def _first_convolutions(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the layers that read the input; none if it is tokens."""
    if _EMBEDDING in state:
        return []
    for name in _FIRST:
        if name in state:
            return [name]
    return [name for name in _FIRST_WITHOUT_STEM if name in state and state[name].ndim > 2]


def _adapt_input(own: dict[str, Tensor], given: StateDict) -> list[str]:
    adapted = []
    for name in _first_convolutions(own):
        if name in given and given[name].ndim == own[name].ndim and given[name].shape[1] != own[name].shape[1]:
            given[name] = adapt_first_convolution(given[name], own[name].shape[1])
            adapted.append(name)
    return adapted


def _other_network(
    source: str,
    missing: list[str],
    wrong: list[str],
    left_over: list[str],
    own: dict[str, Tensor],
    given: StateDict,
) -> UserError:
    parts = []
    if missing:
        parts.append(f"missing {shorten(missing, 4)}")
    if wrong:
        name = wrong[0]
        parts.append(f"{name} is {list(given[name].shape)}, the network's {list(own[name].shape)}")
    if left_over:
        parts.append(f"left over {shorten(left_over, 4)}")
    return UserError(
        "these weights are not this network's: " + "; ".join(parts),
        where=source,
        fix="name the network they were made for",
    )
