"""Make the pictures of both READMEs: a structure drawing, a run's curves, a lesson's plot.

    python docs/make_pictures.py [FOLDER]

FOLDER is docs/pictures by default. Takes about two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

import restune
import restune.reporting
from restune.core.files import write_text
from restune.reporting.curves import training_panels
from restune.reporting.plots import panel_svg, positions, row_svg
from restune.verbs.models import draw

MOST_BYTES = 150_000
NAMESPACES = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
PAGES = Path(restune.reporting.__file__).parent / "templates"
COLOURS = re.compile(r"^:root \{[^}]*\}|^@media screen and \(prefers-color-scheme: dark\) \{\n  :root \{[^}]*\}", re.M)


def structure(folder: Path) -> None:
    """Draw ResNet-18 in both languages."""
    draw(restune.models("resnet18"), svg=folder / "resnet18.svg", lang="en")
    draw(restune.models("resnet18"), svg=folder / "resnet18.zh.svg", lang="zh")


def run_curves(folder: Path) -> None:
    """Draw the curves of a report: ResNet-20, trained on handwritten digits."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        restune.train("digits", model="resnet20", image_size=16, epochs=12, out=out)
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    write_text(folder / "report.svg", standalone(row_svg(training_panels(records, "image"), "en"), wider=1.0))


def lesson_plot(folder: Path) -> None:
    """Draw the first plot of the lesson on gradients, at its greatest depth, in both languages.

    It shows networks at initialisation, so a short lesson is enough.
    """
    with tempfile.TemporaryDirectory() as place:
        result = restune.lesson("gradient-flow", effort=0.05, out=Path(place) / "lesson")
    panel = result.evidence.panels[0]
    depth = max(positions(panel), default=None)
    for language, name in (("en", "gradient-flow.svg"), ("zh", "gradient-flow.zh.svg")):
        write_text(folder / name, standalone(panel_svg(panel, language, at=depth)))
    print(panel.title.of("en"), depth)


def standalone(svg: str, wider: float = 1.4) -> str:
    """Return a page's plot as a document of its own, with the page's colours, light and dark.

    It is made wider for a legend that is wider than its plot: a page would show it, a picture cuts it.
    """
    text = (PAGES / "style.css").read_text(encoding="utf-8")
    rules = "\n".join(rule + ("\n}" if rule.startswith("@media") else "") for rule in COLOURS.findall(text))
    style = f"<style>{rules}\nsvg {{ background: var(--paper); font-family: sans-serif; }}</style>"
    opened = VIEW_BOX.sub(lambda box: _widened(box, wider), svg.replace("<svg ", NAMESPACES, 1), count=1)
    return re.sub(r"(<svg [^>]*>)", lambda found: found[1] + style, opened, count=1)


def _widened(view_box: re.Match[str], wider: float) -> str:
    """Make room on both sides."""
    width, height = float(view_box[1]), float(view_box[2])
    return f'viewBox="{(1 - wider) / 2 * width:.0f} 0 {wider * width:.0f} {height:.0f}"'


def main() -> None:
    """Make all pictures, and refuse those that are too large for the repository."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "pictures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    structure(options.folder)
    run_curves(options.folder)
    lesson_plot(options.folder)
    for path in sorted(options.folder.glob("*.svg")):
        size = path.stat().st_size
        print(f"{path.name}: {size:,} bytes")
        if size > MOST_BYTES:
            raise SystemExit(f"{path.name} is too large for the repository")


if __name__ == "__main__":
    main()
