"""What a description of a network contains: parts, blocks, layers and shortcuts. Plain values, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer, as it ran: a module, or a function such as ``relu``.

    Args:
        name: the module's name in its block or network, such as ``conv1``; empty for a function.
        kind: ``conv``, ``linear``, ``norm``, ``activation``, ``pool``, ``zeros`` (shortcut A's slice and zero
            channels), ``attention``, ``embedding`` or ``other``.
        label: the module's class, or the function's name.
        shape: shape of its output, without the batch.
        parameters, flops, activations: as in `Part`.
        kernel, stride: per axis; empty where they do not apply.
        dilation, groups: of a convolution.
    """

    name: str
    kind: str
    label: str
    shape: Shape
    parameters: int = 0
    flops: int = 0
    activations: int = 0
    kernel: Shape = ()
    stride: Shape = ()
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Fork:
    """A branch and the shortcut around it, whose outputs are summed.

    Args:
        kind: what the shortcut does: ``identity``, ``A`` (slices and pads zeros), ``projection`` (option B), ``C``
            (projects although shapes agree), ``D`` (average-pools, then projects), ``norm``, or ``other``.
    """

    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]
    kind: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block: its layers and forks in the order of execution.

    Args:
        name: the module's name, such as ``layer1.0``.
        label: the module's class.
        input_shape, shape: without the batch.
        receptive_field: as in `Part`.
    """

    name: str
    label: str
    items: tuple[Layer | Fork, ...]
    input_shape: Shape
    shape: Shape
    parameters: int
    flops: int
    activations: int
    receptive_field: Shape

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers, a fork's shortcut after its branch."""
        return tuple(flattened(self.items))

    @property
    def shortcut(self) -> str:
        """Kind of the block's shortcut; ``none`` for a plain block."""
        return next((item.kind for item in self.items if isinstance(item, Fork)), "none")

    def looks_like(self, other: Block) -> bool:
        """Return whether both blocks have the same layers and shapes."""
        return (self.label, self.items, self.input_shape, self.shape) == (
            *(other.label, other.items),
            *(other.input_shape, other.shape),
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One row of a description.

    Args:
        name: ``stem``, ``stage1``, ..., ``head``.
        role: what it does, in a few words.
        shape: shape of its output for one input, without the batch.
        parameters: number of parameters.
        flops: multiply-adds for one input; one multiply-add counts as one, as in the papers and in torchvision.
        activations: output values of its convolutions and linear layers, for one input (Radosavovic et al. 2020,
            "Designing Network Design Spaces", section 3.3).
        receptive_field: extent of the input that one output position depends on, per axis; () for the head, which
            reads the whole input.
        blocks: of a stage; empty for stem and head.
        layers: of stem and head; empty for a stage.
    """

    name: str
    role: str
    shape: Shape
    parameters: int
    flops: int
    activations: int
    receptive_field: Shape
    blocks: tuple[Block, ...] = ()
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Description:
    """A network's parts and their totals.

    Args:
        input_shape: of one input, without the batch.
        sees_everything: whether a layer before the pool, such as squeeze-and-excitation, reads all positions; receptive
            fields are those of convolutions and pools alone.
    """

    input_shape: Shape
    parts: tuple[Part, ...]
    sees_everything: bool = False

    @property
    def parameters(self) -> int:
        """Total number of parameters."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Total multiply-adds of one forward pass on one input."""
        return sum(part.flops for part in self.parts)

    @property
    def activations(self) -> int:
        """Total output values of convolutions and linear layers, for one input."""
        return sum(part.activations for part in self.parts)

    @property
    def receptive_field(self) -> Shape:
        """Extent of the input that one position of the last stage depends on, per axis."""
        return self.parts[-2].receptive_field


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """A published accuracy, as a fraction, with its data set and where it is published."""

    accuracy: float
    data: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A network: its description, and what is published under its name.

    Args:
        name: the zoo's name, or the path of a bundle or run.
        kind: kind of input: ``image``, ``signal``, ``text`` or ``video``.
        source: the paper, or the file.
        image_size: side of the input of images and clips, pixels.
        weights: references of published weights.
        description: its parts.
        published: the best published accuracy of these weights; None if none is known.
        changes: spec overrides, as ``width=32``.
        header: of a model file, a run or bundled weights: ``scores``, ``data``, ``recipe``, ``seed``, ``epochs``,
            ``licence``, ``preprocess``, ``classes`` and ``bytes``; unknown ones are None.
    """

    name: str
    kind: str
    source: str
    image_size: int | None
    weights: tuple[str, ...]
    description: Description
    published: PublishedScore | None = None
    changes: tuple[str, ...] = ()
    header: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        """The name, with the overrides."""
        return f"{self.name} ({', '.join(self.changes)})" if self.changes else self.name

    def to_dict(self, *, blocks: bool = True) -> dict[str, Any]:
        """Return its entry in ``restune models --json``; without `blocks`, parts only."""
        described = self.description
        parts = [plain(part) for part in described.parts]
        if not blocks:
            parts = [{key: value for key, value in part.items() if key not in ("blocks", "layers")} for part in parts]
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "image_size": self.image_size,
            "input": list(described.input_shape),
            "parameters": described.parameters,
            "flops": described.flops,
            "activations": described.activations,
            "receptive_field": list(described.receptive_field),
            "published": plain(self.published),
            "weights": list(self.weights),
            "changes": list(self.changes),
            **({} if self.header is None else {"header": dict(self.header)}),
            "parts": parts,
        }


def plain(value: Any) -> Any:
    """Convert dataclasses and tuples to dictionaries and lists, for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def flattened(items: Sequence[Layer | Fork]) -> Iterator[Layer]:
    """Yield the layers of a block's items, a fork's shortcut after its branch."""
    for item in items:
        if isinstance(item, Fork):
            yield from item.branch
            yield from item.shortcut
        else:
            yield item


def runs_of_equal_blocks(blocks: Sequence[Block]) -> list[list[Block]]:
    """Group neighbouring blocks that have the same layers and shapes."""
    runs: list[list[Block]] = []
    for block in blocks:
        if runs and runs[-1][0].looks_like(block):
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs
