"""What the report draws."""

from __future__ import annotations

import inspect

import pytest

from restune.cli.options import on_training
from restune.reporting.curves import training_panels
from restune.training.recipe import shipped_recipes


@pytest.mark.parametrize(
    ("kind", "measured", "titles"),
    [
        ("image", True, ["loss", "validation accuracy, %", "learning rate of the epoch's last step"]),
        ("text", False, ["loss", "learning rate of the epoch's last step"]),
        ("video", True, ["loss", "validation accuracy, %, of centre clips", "learning rate of the epoch's last step"]),
    ],
)
def test_a_panel_for_what_was_measured_and_none_for_what_was_not(kind, measured, titles):
    scores = {"val_loss": 0.5, "val_accuracy": 0.8} if measured else {}
    records = [{"epoch": number, "train_loss": 1 / number, "lr": 0.1, **scores} for number in (1, 2, 3)]
    panels = training_panels(records, kind)
    assert [panel.title.en for panel in panels] == titles
    assert all(series.x == [1, 2, 3] for panel in panels for series in panel.series), "no panel is empty"
    assert len(panels[0].series) == 1 + measured


def test_help_names_every_shipped_recipe():
    help_text = inspect.signature(on_training).parameters["recipe"].annotation
    assert all(name in str(help_text) for name in shipped_recipes())
