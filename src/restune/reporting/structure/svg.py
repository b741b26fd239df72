"""Write drawings as SVG. Colours follow the reader's light or dark scheme; a narrow screen gets a narrow layout."""

from __future__ import annotations

from html import escape

from restune.reporting.structure.geometry import Box, Drawing, Edge, Label

_FONT = "font-family: system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans', 'Noto Sans CJK SC', 'PingFang SC', sans-serif"

_COLOURS = {
    "paper": ("#ffffff", "#14181f"),
    "ink": ("#1c2430", "#e4e9f0"),
    "muted": ("#5b6675", "#9aa7b8"),
    "line": ("#6b7788", "#8b99ab"),
    "card": ("#f5f7fa", "#1d242e"),
    "edge": ("#d5dce5", "#364150"),
    "shortcut": ("#d6246e", "#ff6ba6"),
    "differs": ("#b34700", "#ffa94d"),
    "conv": ("#d6e4f9", "#234067"),
    "conv-edge": ("#3f78c9", "#6ea3ee"),
    "norm": ("#8d9db3", "#7f90a8"),
    "activation": ("#f3b02f", "#e0a12b"),
    "pool": ("#d9efd9", "#24472b"),
    "pool-edge": ("#4b9a55", "#6cc078"),
    "attention": ("#eee0f6", "#43305a"),
    "attention-edge": ("#8f55b8", "#bd8be2"),
    "linear": ("#fcecc4", "#4c3f1b"),
    "linear-edge": ("#bd9118", "#dcb54a"),
    "embedding": ("#ffe0dc", "#552c2a"),
    "embedding-edge": ("#c9564b", "#ef8b80"),
    "map-front": ("#bcd3f2", "#31568a"),
    "map-side": ("#8fb2e3", "#264673"),
    "map-top": ("#dbe8fa", "#41699f"),
}

_RULES = f"""
.structure text {{ {_FONT}; fill: {{ink}}; }}
.structure .muted, .structure .second {{ fill: {{muted}}; }}
.structure .badge {{ fill: {{conv-edge}}; }}
.structure text.shortcut {{ fill: {{shortcut}}; }}
.structure text.differs {{ fill: {{differs}}; text-decoration: underline; text-decoration-thickness: 1.5px; }}
.structure .paper {{ fill: {{paper}}; }}
.structure path.flow, .structure path.shortcut {{ fill: none; stroke: {{line}}; stroke-width: 1.6; }}
.structure path.shortcut {{ stroke: {{shortcut}}; stroke-width: 2.4; }}
.structure path.head-flow {{ fill: {{line}}; }}
.structure path.head-shortcut {{ fill: {{shortcut}}; }}
.structure rect.card {{ fill: {{card}}; stroke: {{edge}}; }}
.structure rect.card.differs {{ stroke: {{differs}}; stroke-width: 1.8; stroke-dasharray: 5 3; }}
.structure rect.pill {{ fill: {{card}}; stroke: {{line}}; }}
.structure rect.pill.quiet {{ stroke: {{edge}}; }}
.structure .dot {{ fill: {{shortcut}}; }}
.structure .sum {{ fill: {{paper}}; stroke: {{shortcut}}; stroke-width: 2; }}
.structure .chip {{ fill: {{card}}; stroke: {{line}}; }}
.structure .chip.conv, .structure .swatch.conv {{ fill: {{conv}}; stroke: {{conv-edge}}; }}
.structure .chip.pool, .structure .swatch.pool, .structure .chip.zeros {{ fill: {{pool}}; stroke: {{pool-edge}}; }}
.structure .chip.attention, .structure .swatch.attention {{ fill: {{attention}}; stroke: {{attention-edge}}; }}
.structure .chip.linear, .structure .swatch.linear {{ fill: {{linear}}; stroke: {{linear-edge}}; }}
.structure .chip.embedding, .structure .swatch.embedding {{ fill: {{embedding}}; stroke: {{embedding-edge}}; }}
.structure .stripe.norm, .structure .swatch.norm {{ fill: {{norm}}; }}
.structure .stripe.activation, .structure .swatch.activation {{ fill: {{activation}}; }}
.structure .swatch.shortcut {{ fill: {{shortcut}}; }}
.structure .swatch.differs {{ fill: {{paper}}; stroke: {{differs}}; stroke-width: 1.8; stroke-dasharray: 4 2; }}
.structure .front {{ fill: {{map-front}}; }} .structure .side {{ fill: {{map-side}}; }}
.structure .top {{ fill: {{map-top}}; }}
"""

_SOLID = "@media print { .structure .paper { fill: none; } }"


def style_rules() -> str:
    """Return the rules for both colour schemes."""
    light, dark = _RULES, _RULES
    for name, (by_day, by_night) in _COLOURS.items():
        light = light.replace(f"{{{name}}}", by_day)
        dark = dark.replace(f"{{{name}}}", by_night)
    return f"{light}@media screen and (prefers-color-scheme: dark) {{{dark}}}\n{_SOLID}"


def svg_document(wide: Drawing, narrow: Drawing, title: str) -> str:
    """Return a document of its own. Only a tall, narrow screen shows the narrow layout: other programs, which may not
    know media queries, show the wide one."""
    height = 100 * narrow.height / narrow.width
    # An image in a page has the wide drawing's proportions, whatever its size; a telephone's screen is taller.
    ratio = min(0.6, 0.9 * wide.width / wide.height)
    switch = (
        f"#narrow {{ display: none; }} @media (max-width: 1000px) and (max-aspect-ratio: {ratio:.3f}) {{"
        f" :root {{ width: 100vw; height: {height:.2f}vw; }} #wide {{ display: none; }}"
        " #narrow { display: inline; } }"
    )
    inner = "".join(
        f'<svg id="{name}" width="100%" height="100%" viewBox="0 0 {_n(drawing.width)} {_n(drawing.height)}">'
        f"{paper(drawing)}{shapes(drawing)}</svg>\n"
        for name, drawing in (("wide", wide), ("narrow", narrow))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="structure" width="{_n(wide.width)}" '
        f'height="{_n(wide.height)}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{style_rules()}{switch}</style>\n{inner}</svg>\n"
    )


def paper(drawing: Drawing) -> str:
    """Return the background."""
    return f'<rect class="paper" width="{_n(drawing.width)}" height="{_n(drawing.height)}"/>'


def shapes(drawing: Drawing) -> str:
    """Return a drawing's elements: containers, edges, boxes, labels."""
    containers = [box for box in drawing.boxes if "card" in box.kind]
    others = [box for box in drawing.boxes if "card" not in box.kind]
    return "\n".join(
        [
            *map(_box, containers),
            *map(_edge, drawing.edges),
            *map(_box, others),
            *map(_label, drawing.labels),
        ]
    )


def _box(box: Box) -> str:
    title = f"<title>{escape(box.title)}</title>" if box.title else ""
    if box.kind == "map":
        return _solid(box, title)
    if box.kind in ("dot", "sum"):
        x, y = box.middle
        return f'<circle class="{box.kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(box.width / 2)}">{title}</circle>'
    radius = {"card": 8, "pill": 14, "chip": 3}.get(box.kind.split()[0], 0)
    return (
        f'<rect class="{box.kind}" x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" '
        f'height="{_n(box.height)}" rx="{radius}">{title}</rect>'
    )


def _solid(box: Box, title: str) -> str:
    """A feature map: front, side and top."""
    d, rise = box.depth, box.depth * 0.6
    x, y, right, bottom = box.x, box.y + rise, box.x + box.width - d, box.y + box.height
    front = f"M{_n(x)} {_n(y)}H{_n(right)}V{_n(bottom)}H{_n(x)}Z"
    top = f"M{_n(x)} {_n(y)}l{_n(d)} {_n(-rise)}H{_n(right + d)}L{_n(right)} {_n(y)}Z"
    side = f"M{_n(right)} {_n(y)}l{_n(d)} {_n(-rise)}V{_n(bottom - rise)}L{_n(right)} {_n(bottom)}Z"
    return (
        f'<g>{title}<path class="front" d="{front}"/><path class="top" d="{top}"/><path class="side" d="{side}"/></g>'
    )


def _edge(edge: Edge) -> str:
    points = edge.points
    path = f"M{_n(points[0][0])} {_n(points[0][1])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        (ax, ay), (bx, by) = _towards(corner, before), _towards(corner, after)
        path += f"L{_n(ax)} {_n(ay)}Q{_n(corner[0])} {_n(corner[1])} {_n(bx)} {_n(by)}"
    path += f"L{_n(points[-1][0])} {_n(points[-1][1])}"
    drawn = f'<path class="{edge.kind}" d="{path}"/>'
    return drawn + (_arrow_head(edge) if edge.arrow else "")


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the point where the rounding of a corner begins."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = abs(dx) + abs(dy)
    reach = min(7.0, length / 2)
    return (corner[0] + dx / length * reach, corner[1] + dy / length * reach) if length else corner


def _arrow_head(edge: Edge) -> str:
    (x0, y0), (x, y) = edge.points[-2:]
    if abs(x - x0) + abs(y - y0) < 7:
        return ""
    right = (x > x0) - (x < x0)
    down = (y > y0) - (y < y0)
    back, wide = 7.0, 3.6
    ax, ay = x - right * back, y - down * back
    return (
        f'<path class="head-{edge.kind}" d="M{_n(x)} {_n(y)}L{_n(ax + down * wide)} {_n(ay + right * wide)}'
        f'L{_n(ax - down * wide)} {_n(ay - right * wide)}Z"/>'
    )


def _label(label: Label) -> str:
    bold = ' font-weight="bold"' if label.bold else ""
    anchor = "" if label.anchor == "start" else f' text-anchor="{label.anchor}"'
    return (
        f'<text class="{label.kind}" x="{_n(label.x)}" y="{_n(label.y)}" font-size="{_n(label.size)}"{anchor}{bold}>'
        f"{escape(label.text)}</text>"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
