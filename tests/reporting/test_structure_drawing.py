"""Drawings: nothing overlaps, nothing is cut, every edge meets its boxes, shortcuts go around their branches."""

from __future__ import annotations

import importlib.util
import random
import re
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from PIL import ImageFont

from restune.core.errors import UserError
from restune.networks.describe import describe, describe_entry
from restune.networks.spec import ATTENTIONS, ResNetSpec, StageSpec
from restune.networks.structure import ModelInfo
from restune.networks.zoo import ZOO
from restune.reporting.phrases import PAGES, PHRASES, phrases
from restune.reporting.structure import fonts
from restune.reporting.structure.draw import draw_svg, sheet, subjects
from restune.reporting.structure.figure import FOLDS, NARROW, WIDE, Subject, figure_panels, style_for
from restune.reporting.structure.page import structure_page
from restune.reporting.structure.terminal import difference_lines, terminal_lines

_location = Path(__file__).with_name("geometry_faults.py")
_spec = importlib.util.spec_from_file_location("geometry_faults", _location)
geometry = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(geometry)

DRAWN = ("resnet18", "resnet50", "resnet152", "resnet110", "r2plus1d_18", "vdcnn29")


def all_faults(subject, style, language, fold="grouped"):
    say = phrases(language)
    own = style_for(subject, style, say)
    panels = figure_panels(subject, own, say, fold=fold)
    found = geometry.ports_meet(panels)
    for panel in panels:
        found += geometry.faults(panel) + geometry.shortcut_faults(panel)
    return [f"{subject.title} {language} {fold} {fault}" for fault in found]


@pytest.fixture(scope="module")
def zoo():
    return {name: describe_entry(entry) for name, entry in ZOO.items()}


def info(name, described):
    return ModelInfo(
        name=name, kind=ZOO[name].kind, source=ZOO[name].source, image_size=None, weights=(), description=described
    )


def plain(name):
    return describe_entry(ZOO[name], spec=ZOO[name].spec.override(residual=False))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_zoo_is_drawn_without_a_fault(zoo, language):
    found = []
    for name, described in zoo.items():
        for style in (WIDE, NARROW):
            found += all_faults(Subject(name, described), style, language)
    assert not found, found[:5]
    assert len(zoo) == len(ZOO) >= 37


def test_every_way_of_folding(zoo):
    found = []
    for name in DRAWN:
        for fold in FOLDS:
            found += all_faults(Subject(name, zoo[name]), NARROW if fold == "each" else WIDE, "en", fold)
    assert not found, found[:5]


def test_plain_twins_have_no_shortcut():
    found = []
    for name in ZOO:
        if ZOO[name].spec.preact or "101" in name or "152" in name:
            continue
        subject = Subject(f"{name}, plain", plain(name))
        found += all_faults(subject, WIDE, "en")
        panels = figure_panels(subject, style_for(subject, WIDE, phrases("en")), phrases("en"))
        found += [f"{name}: a shortcut" for panel in panels for box in panel.boxes if box.kind in ("dot", "sum")]
    assert not found, found[:5]


def random_spec(draw):
    """Any valid structure, with small numbers: most combinations of blocks, stems, shortcuts, pools and attention."""
    dims = draw.choice([1, 2, 2, 3])
    preact = draw.random() < 0.2
    stages = []
    for number in range(draw.randint(1, 5)):
        block = draw.choice(["basic", "bottleneck"] + ([] if preact else ["triple"]))
        conv = draw.choice(["full", "2+1", "spatial"]) if dims == 3 else "full"
        groups = draw.choice([1, 1, 2, 32]) if block == "bottleneck" and conv != "2+1" else 1
        stages.append(
            StageSpec(
                block=block,
                depth=draw.randint(1, 3),
                width=draw.choice([8, 16, 64, 640]),
                stride=1 if number == 0 else draw.choice([1, 2]),
                dilation=draw.choice([1, 1, 2]) if conv == "full" else 1,
                groups=groups,
                conv=conv,
                downsample=draw.choice(["stride", "stride", "max-pool"]),
            )
        )
    tokens = dims == 1 and draw.random() < 0.5
    stems = ["imagenet", "deep", "small"] + (["clip"] if dims == 3 else []) + ([] if preact else ["none"])
    residual = draw.random() < 0.85
    return ResNetSpec(
        dims=dims,
        in_channels=draw.choice([1, 3, 12]),
        vocabulary=257 if tokens else 0,
        stem=draw.choice(stems),
        stem_width=draw.choice([8, 64]),
        stages=tuple(stages),
        shortcut=draw.choice(["A", "B", "C", "D"] + ([] if preact else ["norm"])),
        preact=preact,
        attention=draw.choice(ATTENTIONS),
        residual=residual,
        pool=draw.choice(["average", "max", "average+max", "k-max"]),
        hidden=draw.choice([(), (64,), (2048, 512)]),
        num_classes=draw.choice([2, 10, 21843]),
    )


def test_200_random_specs():
    draw, found, count = random.Random(8), [], 0
    while count < 200:
        try:
            spec = random_spec(draw)
        except UserError:  # shortcut A cannot narrow, and the like
            continue
        size = draw.choice([32, 224]) if spec.dims < 3 else 32
        try:
            described = describe(spec, size)
        except RuntimeError:
            continue
        count += 1
        style, language = draw.choice([WIDE, NARROW]), draw.choice(["en", "zh"])
        found += all_faults(Subject(f"{count}", described), style, language)
    assert not found, found[:5]


@pytest.mark.parametrize(("one", "two"), [("resnet18", "resnet50"), ("vdcnn29", "resnet1d_ts"), ("resnet20", "r3d_18")])
def test_comparisons_align_and_mark_the_differences(zoo, one, two):
    drawn = subjects([info(one, zoo[one]), info(two, zoo[two])])
    drawing = sheet(drawn, NARROW, phrases("zh")).drawing()
    assert not geometry.faults(drawing)
    columns = sheet(drawn, NARROW, phrases("en")).columns
    assert [panel.height for panel in columns[0]] == [panel.height for panel in columns[1]]
    assert any("differs" in label.kind for label in drawing.labels)


def test_what_is_alike_is_not_marked(zoo):
    drawn = subjects([info("resnet20", zoo["resnet20"]), info("resnet20", plain("resnet20"))])
    figure = sheet(drawn, NARROW, phrases("en"))
    marked = [
        label.text for column in figure.columns for panel in column for label in panel.labels if "differs" in label.kind
    ]
    assert marked == [], "option A has no parameters, so all figures agree"
    cards = [box for column in figure.columns for panel in column for box in panel.boxes if "card differs" in box.kind]
    assert len(cards) == 2 * 5, "all blocks differ: those of one network have shortcuts"
    assert "differs" not in draw_svg([info("resnet20", zoo["resnet20"])]).split("</style>")[1]


def test_the_geometry_test_finds_faults(zoo):
    say = phrases("en")
    panel = figure_panels(Subject("resnet18", zoo["resnet18"]), WIDE, say)[3]
    assert not geometry.faults(panel) + geometry.shortcut_faults(panel)
    label = panel.labels[-1]
    wrong = {
        "labels overlap": replace(panel, labels=(*panel.labels, replace(label, x=label.x + 5))),
        "cut by the canvas": replace(panel, width=panel.width / 2),
        "wider than its box": replace(panel, boxes=tuple(replace(box, width=box.width * 0.6) for box in panel.boxes)),
        "does not meet": replace(
            panel,
            edges=tuple(
                replace(edge, points=(*edge.points[:-1], (edge.points[-1][0] - 9, edge.points[-1][1])))
                for edge in panel.edges
            ),
        ),
    }
    for message, drawing in wrong.items():
        assert any(message in fault for fault in geometry.faults(drawing)), message
    low = replace(
        panel,
        edges=tuple(
            replace(edge, points=tuple((x, y + 80) for x, y in edge.points)) if edge.kind == "shortcut" else edge
            for edge in panel.edges
        ),
    )
    assert any("does not go around" in fault for fault in geometry.shortcut_faults(low))


@pytest.mark.parametrize(("file", "bold"), [("DejaVuSans.ttf", False), ("DejaVuSans-Bold.ttf", True)])
def test_widths_are_those_of_the_font(file, bold):
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file), 2048)
    for text in ("3×3 /2", "resnet50", "1.03 G multiply-adds · 64 – 128", *fonts._ASCII):
        ours = fonts.text_width(text, 2048, bold=bold)
        alone = sum(font.getlength(character) for character in text)
        assert abs(ours - alone) <= 0.5 * len(text)
    assert fonts.text_width("残差", 10) == 20


def test_phrases_are_complete_in_both_languages():
    fields = re.compile(r"{(\w+)}")
    for key, (english, chinese) in PHRASES.items():
        assert english, key
        assert sorted(fields.findall(english)) == sorted(fields.findall(chinese)), key
    assert len(PHRASES) == sum(map(len, PAGES)), "a key stands on two pages"
    with pytest.raises(UserError, match="there is no text in the language"):
        phrases("de")


def test_svg_is_one_file_that_follows_the_colour_scheme(zoo):
    text = draw_svg([info("resnet50", zoo["resnet50"])], "zh")
    root = xml.etree.ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    assert "max-aspect-ratio: 0.600" in text, "a telephone gets the narrow layout"
    assert re.findall(r"(?:href|src|url)\s*[=(]", text) == []
    assert "第 4 阶段" in text
    assert "layer4.0 Bottleneck: 1024×14×14 → 2048×7×7" in text, "hovering tells a block's layers"


def test_page_is_one_file_with_all_folds(zoo):
    page = structure_page([info("resnet50", zoo["resnet50"])], "restune models resnet50 --html x.html", "zh")
    assert 'lang="zh-CN"' in page
    assert re.findall(r'(?:href|src)="(?!data:)', page) == []
    assert page.count('data-fold="folded"') == page.count('data-fold="each"') == 2 * 4
    assert "25,557,032" in page
    both = structure_page([info(name, zoo[name]) for name in ("resnet18", "resnet50")], "", "en")
    assert "2.19 times the parameters" in both
    assert "<mark>256×56×56</mark>" in both


def test_terminal_drawing(zoo):
    lines = terminal_lines(info("resnet50", zoo["resnet50"]))
    text = "\n".join(lines)
    assert "25.6 M parameters  4.09 G multiply-adds  11.1 M activations" in text
    above = next(number for number, line in enumerate(lines) if "projection 1×1 /2, 512" in line)
    assert lines[above].index("┌") == lines[above + 1].index("┴")
    assert lines[above].index("┐") == lines[above + 1].index("⊕")
    assert "× 35" in "\n".join(terminal_lines(info("resnet152", zoo["resnet152"])))
    assert all(line.isascii() for line in terminal_lines(info("resnet50", zoo["resnet50"]), encoding="ascii"))
    assert "┌" not in "\n".join(terminal_lines(info("resnet20", plain("resnet20"))))
    compared = difference_lines([info("resnet18", zoo["resnet18"]), info("resnet50", zoo["resnet50"])])
    assert "stage 1: 148 K parameters | 216 K parameters" in compared
    assert not [line for line in compared if line.startswith("stem")]
