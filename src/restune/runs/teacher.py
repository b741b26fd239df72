"""The teacher of a run: loaded, and checked against the data before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass
class CheckedTeacher:
    """A loaded teacher until `fit` takes it: its memory is free once its outputs are computed.

    Args:
        model: None without a teacher, and after it was taken.
    """

    model: Model | None = None

    def take(self, recipe: Recipe) -> Model:
        """Return the teacher, loaded again where it was taken before. Raises UserError."""
        model, self.model = self.model, None
        return load_teacher(recipe) if model is None else model


def checked_teacher(recipe: Recipe, dataset: Dataset) -> CheckedTeacher:
    """Load the recipe's teacher, if it has one.

    Raises UserError for a teacher that cannot be loaded, or that has other classes or another kind of data.
    """
    if recipe.teacher.model is None:
        return CheckedTeacher()
    teacher = load_teacher(recipe)
    rows_of_classes(teacher, dataset)
    return CheckedTeacher(teacher)
