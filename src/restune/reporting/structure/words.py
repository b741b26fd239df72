"""What a drawing says: shapes, counts, kernels, and the role of each part in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

from restune.networks.structure import Block, Description, Fork, Layer, Part, Shape

Say = Callable[..., str]


def shape_text(shape: Shape) -> str:
    """Format ``256×56×56``."""
    return "×".join(map(str, shape))


def count_text(number: int) -> str:
    """Format a count with three digits: ``4.09 G``, ``25.6 M``, ``9.41 K``, ``640``."""
    for power, unit in ((9, "G"), (6, "M"), (3, "K")):
        if number >= 0.9995 * 10**power:
            scaled = number / 10**power
            return f"{scaled:.{max(0, 2 - int(math.log10(scaled * 1.0005)))}f} {unit}"
    return str(number)


def field_text(extent: Shape) -> str:
    """Format a receptive field: one number where all axes agree."""
    return str(extent[0]) if len(set(extent)) == 1 else shape_text(extent)


def part_name(part: Part, say: Say) -> str:
    """Name a part."""
    return say("stage", n=part.name[5:]) if part.name.startswith("stage") else say(part.name)


def figures(part: Part, say: Say) -> list[str]:
    """Return a part's parameters, multiply-adds, activations and receptive field, one text each."""
    field = field_text(part.receptive_field)
    return [
        say("parameters", n=count_text(part.parameters)),
        say("flops", n=count_text(part.flops)),
        say("activations", n=count_text(part.activations)),
        say("receptive_field", n=field) if part.receptive_field else say("whole_input"),
    ]


def total_line(described: Description, say: Say) -> list[str]:
    """Return a network's totals, one text each."""
    return [
        say("parameters", n=count_text(described.parameters)),
        say("flops", n=count_text(described.flops)),
        say("activations", n=count_text(described.activations)),
    ]


def kernel_text(layer: Layer) -> str:
    """Format a layer's kernel and stride: ``3×3 /2``."""
    size = shape_text(layer.kernel) if len(layer.kernel) > 1 else f"conv {layer.kernel[0]}"
    return size + stride_text(layer)


def stride_text(layer: Layer) -> str:
    """Format a stride other than 1: `` /2``."""
    stride = max(layer.stride, default=1)
    return f" /{stride}" if stride > 1 else ""


_SHORT = {"SqueezeExcitation": "SE", "EfficientChannelAttention": "ECA"}


def layer_lines(layer: Layer, say: Say) -> list[str]:
    """Return the lines in a layer's box."""
    if layer.kind == "conv":
        lines = [kernel_text(layer), str(layer.shape[0])]
        lines += [say("groups", n=layer.groups)] if layer.groups > 1 else []
        return lines + ([say("dilation", n=layer.dilation)] if layer.dilation > 1 else [])
    if layer.kind == "pool" and not layer.kernel:
        return [say("pool_" + layer.label), str(math.prod(layer.shape))]
    if layer.kind == "pool":
        is_max = "max" in layer.label.lower()
        return [say("max_pool" if is_max else "average_pool"), f"{shape_text(layer.kernel)}{stride_text(layer)}"]
    if layer.kind == "zeros":
        return [say("zeros") + stride_text(layer), str(layer.shape[0])]
    if layer.kind == "attention":
        return [_SHORT.get(layer.label, layer.label), say("gate")]
    if layer.kind in ("embedding", "linear"):
        return [say(layer.kind), str(layer.shape[-1])]
    return [layer.label if len(layer.label) < 22 else layer.label[:20] + "…", str(layer.shape[0])]


def layer_title(layer: Layer, say: Say) -> str:
    """Describe a layer in full, for hovering."""
    text = f"{layer.name} {layer.label}".strip()
    if layer.kernel and layer.kind != "attention":
        text += say("hover_kernel", kernel=shape_text(layer.kernel), stride=shape_text(layer.stride))
    text += say("hover_dilation", n=layer.dilation) if layer.dilation > 1 else ""
    text += say("hover_groups", n=layer.groups) if layer.groups > 1 else ""
    text += f" → {shape_text(layer.shape)}"
    costs = [say("parameters", n=f"{layer.parameters:,}")] if layer.parameters else []
    costs += [say("flops", n=f"{layer.flops:,}")] if layer.flops else []
    return f"{text} ({', '.join(costs)})" if costs else text


def block_title(block: Block, say: Say) -> str:
    """Describe a block and its layers in order, a line each, for hovering."""
    lines = [f"{block.name} {block.label}: {shape_text(block.input_shape)} → {shape_text(block.shape)}"]
    for item in block.items:
        if isinstance(item, Fork):
            lines += [say("hover_branch", layer=layer_title(layer, say)) for layer in item.branch]
            around = [layer_title(layer, say) for layer in item.shortcut] or [say(item.kind)]
            lines += [say("hover_shortcut", layer=layer) for layer in around]
        else:
            lines.append(layer_title(item, say))
    return "\n".join(lines)


def role(part: Part, before: Shape, say: Say, known: frozenset[str] = frozenset()) -> str:
    """Return what a part is for, in one to three sentences; `before` is the shape of its input, `known` the kinds of
    shortcuts that earlier parts have explained."""
    if part.name == "stem":
        return _stem_role(part, before, say)
    if part.name == "head":
        averages = any(layer.kind == "pool" and "average" in layer.label for layer in part.layers)
        return say("role_head_average" if averages else "role_head_max")
    sentences = [_scale(part, before, say)]
    kinds = {block.shortcut for block in part.blocks}
    for kind, key in (
        *(("none", "role_plain"), ("C", "role_project_all"), ("norm", "role_normed"), ("identity", "role_identity")),
        *(("A", "role_zeros"), ("projection", "role_projection"), ("D", "role_projection")),
    ):
        if kind in kinds - known:
            sentences.append(say(key))
    return _sentences(sentences)


def _sentences(sentences: list[str]) -> str:
    return "".join(sentences) if sentences[0][-1] == "。" else " ".join(sentences)


def _stem_role(part: Part, before: Shape, say: Say) -> str:
    embedding = [layer for layer in part.layers if layer.kind == "embedding"]
    if embedding:
        return say("role_stem_embedding", channels=embedding[0].shape[-1])
    if not part.layers:
        return say("role_stem_none")
    stride = round(before[-1] / part.shape[-1])
    return say("role_stem_full" if stride == 1 else "role_stem_pool", channels=part.shape[0], stride=stride)


def _scale(part: Part, before: Shape, say: Say) -> str:
    if before[-1] != part.shape[-1]:
        stride = max(round(a / b) for a, b in zip(before[1:], part.shape[1:], strict=True))
        return say("role_down", stride=stride, before=before[0], after=part.shape[0])
    return say("role_same") if before[0] == part.shape[0] else say("role_wider", before=before[0], after=part.shape[0])
