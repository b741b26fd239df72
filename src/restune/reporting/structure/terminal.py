"""Draw a network's structure with characters: parts below each other, blocks with their shortcuts above them."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence

from restune.networks.structure import Block, Description, Fork, Layer, ModelInfo, Part, runs_of_equal_blocks
from restune.reporting.phrases import phrases
from restune.reporting.structure.fonts import wrapped
from restune.reporting.structure.words import (
    Say,
    figures,
    layer_lines,
    part_name,
    role,
    shape_text,
    total_line,
)

_PLAIN = str.maketrans(dict(zip("─│┌┐┴×·–", "-|+++x,-", strict=True)) | {"⊕": "(+)", "▶": ">"})
INDENT = "    "
_LINE = 560  # about 100 cells, at 10 pixels per em


def terminal_lines(model: ModelInfo, language: str = "en", encoding: str | None = None) -> list[str]:
    """Return a network's drawing, line by line, in characters that `encoding` has (that of standard output).

    Stages fold equal blocks to one with ``× n``. A shortcut is drawn above its branch, with its kind on it.
    """
    say = phrases(language)
    described = model.description
    lines = [model.title, "  ".join(total_line(described, say)), say("input", shape=shape_text(described.input_shape))]
    before, known = described.input_shape, frozenset[str]()
    for part in described.parts:
        sentences = wrapped(role(part, before, say, known), _LINE, 10)
        lines += ["", *_part_lines(part, say), *(INDENT + line for line in sentences)]
        before, known = part.shape, known | {block.shortcut for block in part.blocks}
    if described.sees_everything:
        lines += ["", say("gates_see_all")]
    return [_encodable(line, encoding or sys.stdout.encoding or "utf-8") for line in lines]


def difference_lines(models: Sequence[ModelInfo], language: str = "en") -> list[str]:
    """Return what differs between two networks, a line per figure of a part: ``stage 1  parameters  147 K  215 K``."""
    say = phrases(language)
    parts = [{part.name: part for part in model.description.parts} for model in models]
    names = list(dict.fromkeys([*parts[0], *parts[1]]))
    names.sort(key=lambda name: name == "head")
    lines = []
    for name in names:
        a, b = (of_one.get(name) for of_one in parts)
        for left, right in zip(_facts(a, say), _facts(b, say), strict=True):
            if left != right:
                known = a or b
                assert known is not None
                lines.append(f"{part_name(known, say)}: {left or '–'} | {right or '–'}")
    return lines


def _facts(part: Part | None, say: Say) -> list[str]:
    """Return what a comparison compares: the figures, the output's shape and the blocks."""
    if part is None:
        return [""] * 6
    runs = runs_of_equal_blocks(part.blocks)
    blocks = ", ".join(f"{len(run)} × {run[0].label} ({say(run[0].shortcut)})" for run in runs)
    return [*figures(part, say), shape_text(part.shape), blocks]


def _part_lines(part: Part, say: Say) -> list[str]:
    lines = [f"{part_name(part, say)}  {shape_text(part.shape)}  ({' · '.join(figures(part, say))})"]
    if part.layers:
        lines.append(f"{INDENT}── {_chain(part.layers, say)} ──▶")
    for run in runs_of_equal_blocks(part.blocks):
        lines += _block_lines(run[0], say("times", n=len(run)), say)
    return lines


def _block_lines(block: Block, times: str, say: Say) -> list[str]:
    """Draw a block: the branch in one line, and in the line above the shortcuts that go around it."""
    below = f"{INDENT}{times:<5}── "
    above = " " * _cells(below)
    straight: list[Layer] = []
    for item in (*block.items, None):
        if isinstance(item, Layer):
            straight.append(item)
            continue
        if straight:
            below += _chain(straight, say) + " ── "
            above += " " * (_cells(below) - _cells(above))
            straight = []
        if isinstance(item, Fork):
            around = " ".join([say(item.kind), *(", ".join(layer_lines(each, say)) for each in _drawn(item.shortcut))])
            branch = f"┴─ {_chain(item.branch, say)} ─" if item.branch else "┴──"
            room = max(_cells(branch), _cells(around) + 6)
            branch += "─" * (room - _cells(branch))
            spare = room - 3 - _cells(around)
            above += f"┌{'─' * (spare // 2)} {around} {'─' * (spare - spare // 2)}┐"
            below += f"{branch}⊕ ── "
    lines = [f"{below.removesuffix(' ── ')} ──▶"]
    return [above.rstrip(), *lines] if block.shortcut != "none" else lines


def _drawn(layers: tuple[Layer, ...]) -> list[Layer]:
    """Leave out norms and activations, unless there is nothing else."""
    return [layer for layer in layers if layer.kind not in ("norm", "activation")]


def _chain(layers: tuple[Layer, ...] | list[Layer], say: Say) -> str:
    texts = []
    for layer in layers:
        if layer.kind == "norm":
            texts.append(say("legend_norm"))
        elif layer.kind == "activation":
            texts.append("ReLU" if layer.label.lower() == "relu" else layer.label)
        else:
            texts.append(", ".join(layer_lines(layer, say)))
    return " ─ ".join(texts)


def _cells(text: str) -> int:
    """Return the width of a text on a terminal, where Chinese characters take two cells."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _encodable(line: str, encoding: str) -> str:
    try:
        line.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return line.translate(_PLAIN)
    return line


def totals_ratio(one: Description, two: Description) -> dict[str, str]:
    """Return how many times as large the second network's totals are, as text."""
    pairs = {
        "parameters": (one.parameters, two.parameters),
        "flops": (one.flops, two.flops),
        "activations": (one.activations, two.activations),
    }
    return {name: f"{second / first:.3g}" if first else "–" for name, (first, second) in pairs.items()}
