"""Find what is wrong with a drawing: overlaps, cut text, edges that do not meet their boxes."""

from __future__ import annotations

from itertools import pairwise

SLACK = 0.01


def overlap(one, two):
    return min(one[2], two[2]) - max(one[0], two[0]) > SLACK and min(one[3], two[3]) - max(one[1], two[1]) > SLACK


def within(inner, outer):
    return (
        inner[0] >= outer[0] - SLACK
        and inner[1] >= outer[1] - SLACK
        and inner[2] <= outer[2] + SLACK
        and inner[3] <= outer[3] + SLACK
    )


def on_border(point, box):
    (x, y), (left, top, right, bottom) = point, box.bounds
    inside = left - SLACK <= x <= right + SLACK and top - SLACK <= y <= bottom + SLACK
    return inside and min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) <= 4.01


def faults(drawing):
    """Return every fault of a panel or figure, as text."""
    boxes = {box.name: box for box in drawing.boxes}
    found = [] if len(boxes) == len(drawing.boxes) else ["two boxes of one name"]
    canvas = (0, 0, drawing.width, drawing.height)
    for thing in (*drawing.boxes, *drawing.labels):
        if not within(thing.bounds, canvas):
            found.append(f"cut by the canvas: {thing}")
        if thing.inside and not within(thing.bounds, boxes[thing.inside].bounds):
            found.append(f"wider than its box: {thing}")
    found += [f"labels overlap: {a.text!r}, {b.text!r}" for a, b in close_pairs(drawing.labels)]
    solid = [box for box in drawing.boxes if "card" not in box.kind and "stripe" not in box.kind]
    found += [f"boxes overlap: {a.name}, {b.name}" for a, b in close_pairs(solid)]
    cards = [box for box in drawing.boxes if "card" in box.kind]
    found += [f"cards overlap: {a.name}, {b.name}" for a, b in close_pairs(cards)]
    texts = [(label, label.bounds) for label in drawing.labels]
    for box in solid:
        found += [
            f"{label.text!r} is on {box.name}"
            for label, bounds in texts
            if label.inside != box.name and overlap(bounds, box.bounds)
        ]
    for edge in drawing.edges:
        found += edge_faults(edge, boxes, solid, texts, drawing)
    return found


def close_pairs(things):
    """Pairs that overlap; only neighbours in height are compared."""
    ordered = sorted(things, key=lambda thing: thing.bounds[1])
    bounds = [thing.bounds for thing in ordered]
    for position, one in enumerate(bounds):
        for other in range(position + 1, len(bounds)):
            if bounds[other][1] >= one[3]:
                break
            if overlap(one, bounds[other]):
                yield ordered[position], ordered[other]


def edge_faults(edge, boxes, solid, texts, drawing):
    where = f"edge {edge.source} to {edge.target}"
    found = []
    for end, name in ((edge.points[0], edge.source), (edge.points[-1], edge.target)):
        if name.endswith(("top", "bottom")) and name not in boxes:
            level = 0 if name == "top" else drawing.height
            if name in ("top", "bottom") and abs(end[1] - level) > SLACK:
                found.append(f"{where} does not reach the border")
        elif not on_border(end, boxes[name]):
            found.append(f"{where} does not meet {name}")
    for (x0, y0), (x1, y1) in pairwise(edge.points):
        if min(abs(x0 - x1), abs(y0 - y1)) > SLACK:
            found.append(f"{where} is slanted")
        line = (min(x0, x1) - 0.5, min(y0, y1) - 0.5, max(x0, x1) + 0.5, max(y0, y1) + 0.5)
        if not within(line, (-0.5, -0.5, drawing.width + 0.5, drawing.height + 0.5)):
            found.append(f"{where} leaves the canvas")
        found += [f"{where} crosses {label.text!r}" for label, bounds in texts if overlap(line, bounds)]
        for box in solid:
            shrunk = (box.x + 0.6, box.y + 0.6, box.x + box.width - 0.6, box.y + box.height - 0.6)
            if box.name not in (edge.source, edge.target) and overlap(line, shrunk):
                found.append(f"{where} crosses {box.name}")
    return found


def shortcut_faults(drawing):
    """Every path from a dot to its sum along shortcut edges stays above all boxes of the branch between them."""
    found = []
    for dot in (box for box in drawing.boxes if box.kind == "dot"):
        total = next(box for box in drawing.boxes if box.name == dot.name.removesuffix("dot") + "sum")
        stem = dot.name.removesuffix("dot")
        branch = [box for box in drawing.boxes if box.name.startswith(f"{stem}branch") and "chip" in box.kind]
        around = [edge for edge in drawing.edges if edge.kind == "shortcut" and edge.source.startswith(stem)]
        if not around or around[0].source != dot.name or around[-1].target != total.name:
            starts = {edge.source for edge in around}
            ends = {edge.target for edge in around}
            if dot.name not in starts or total.name not in ends:
                found.append(f"{dot.name}: no way around")
        levels = [min(y for _, y in edge.points) for edge in around]
        if branch and max(levels) >= min(box.y for box in branch):
            found.append(f"{dot.name}: the shortcut does not go around its branch")
    return found


def ports_meet(panels):
    """Neighbouring panels' edges meet at their common border."""
    found = []
    for above, below in pairwise(panels):
        ends = [edge.points[-1][0] for edge in above.edges if edge.target == "bottom"]
        starts = [edge.points[0][0] for edge in below.edges if edge.source == "top"]
        if len(ends) != 1 or ends != starts:
            found.append(f"ports {ends} and {starts}")
    return found
