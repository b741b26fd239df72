"""How to use a run's model, repeat the run and draw its report again: commands and a few lines of Python."""

from __future__ import annotations

import shlex

from restune.data.kinds import kind_of
from restune.reporting.run_files import RunFiles

_CALLS = {
    "image": '"photo.jpg"',
    "signal": "series",
    "text": '"a text to label"',
    "video": '"clip.mp4"',
}


def usage_of(run: RunFiles) -> dict[str, str]:
    """Return the commands ``command``, ``python``, ``repeat`` and ``redraw``."""
    folder = str(run.folder)
    noun = kind_of(run.result["kind"]).noun.upper()
    held_out = next(
        (run.settings[name] for name in ("test", "val") if isinstance(run.settings.get(name), str)), run.data
    )
    evaluate = shlex.join(["restune", "evaluate", folder, held_out, *run.reading_for_evaluation])
    return {
        "command": f"restune predict {shlex.quote(folder)} YOUR_{noun}\n{evaluate}",
        "python": python_lines(run.result["kind"], f"{folder}/model.safetensors", run.task),
        "repeat": run.repeating,
        "redraw": shlex.join(["restune", "report", folder]),
    }


_ANSWERS = {
    "single-label": "prediction.label, prediction.probability",
    "multi-label": "prediction.labels, prediction.probabilities",
    "regression": "prediction.values",
}
"""What a prediction holds, by the model's task."""


def python_lines(kind: str, model: str, task: str = "single-label") -> str:
    """Return Python that loads a model file and predicts one input."""
    series = 'import numpy as np\n\nseries = np.load("series.npy")  # [channels, length]\n' if kind == "signal" else ""
    return (
        f"import restune\n{series}\nmodel = restune.load({model!r})\n"
        f"prediction = model.predict({_CALLS[kind]})[0]\nprint({_ANSWERS[task]})"
    )
