"""What the report draws."""

from __future__ import annotations

import inspect

import pytest

from restune.cli.options import on_training
from restune.reporting.report import curves
from restune.training.recipe import shipped_recipes


@pytest.mark.parametrize(
    ("kind", "measured", "titles"),
    [
        ("image", True, ["loss", "validation accuracy, %", "learning rate at the epoch's end"]),
        ("text", False, ["loss", "learning rate at the epoch's end"]),
        ("video", True, ["loss", "validation accuracy, %, of centre clips", "learning rate at the epoch's end"]),
    ],
)
def test_a_panel_for_what_was_measured_and_none_for_what_was_not(kind, measured, titles):
    scores = {"val_loss": 0.5, "val_accuracy": 0.8} if measured else {}
    records = [{"epoch": number, "train_loss": 1 / number, "lr": 0.1, **scores} for number in (1, 2, 3)]
    panels = curves(records, kind).axes
    assert [axes.get_title() for axes in panels] == titles
    assert all(axes.lines for axes in panels), "no panel is empty"
    assert len(panels[0].lines) == 1 + measured


def test_help_names_every_shipped_recipe():
    help_text = inspect.signature(on_training).parameters["recipe"].annotation
    assert all(name in str(help_text) for name in shipped_recipes())
