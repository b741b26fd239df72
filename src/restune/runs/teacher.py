"""The teacher of a run: loaded, and checked against the data before anything is written."""

from __future__ import annotations

from restune.core.console import quiet
from restune.data.dataset import Dataset
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.training.recipe import Recipe
from restune.training.teacher import rows_of_classes


def load_teacher(recipe: Recipe) -> Model:
    """Load the model that the recipe names as teacher. Raises UserError."""
    assert recipe.teacher.model is not None
    with quiet():
        return load_model(recipe.teacher.model, device=recipe.device)


def check_teacher(recipe: Recipe, dataset: Dataset) -> None:
    """Raise UserError for a teacher that cannot be loaded, or that has other classes or another kind of data."""
    if recipe.teacher.model is not None:
        rows_of_classes(load_teacher(recipe), dataset)
