"""Learning-rate schedules as functions of the share of the run that is done."""

from __future__ import annotations

import math

from restune.training.recipe import ScheduleRecipe


def multiplier(recipe: ScheduleRecipe, progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak.

    Args:
        recipe: the schedule.
        progress: share of the run that is done, 0 to 1.
        warmup: share of the run with linear warm-up, before the schedule itself begins (Goyal et al. 2017).
    """
    progress = min(1.0, max(0.0, progress))
    if recipe.name == "one-cycle":  # Smith and Topin 2018: linear up, linear down
        if progress < recipe.peak:
            return recipe.start + (1 - recipe.start) * progress / recipe.peak
        return recipe.final + (1 - recipe.final) * (1 - progress) / (1 - recipe.peak)
    if progress < warmup:
        return recipe.start + (1 - recipe.start) * progress / warmup
    if recipe.name == "constant":
        return 1.0
    if recipe.name == "step":
        return recipe.gamma ** sum(progress >= milestone for milestone in recipe.milestones)
    rest = (progress - warmup) / max(1e-12, 1 - warmup)
    if recipe.name == "linear":
        return recipe.final + (1 - recipe.final) * (1 - rest)
    return recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * rest))  # Loshchilov and Hutter 2017
