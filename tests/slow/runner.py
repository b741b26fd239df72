"""A process that starts training runs as its children, so that each need not import torch anew.

Reads a line of JSON a run, `run`'s arguments and the cache folder; answers with the child's process id. A run notes in
its log when training begins, each step it has taken, and when training ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

CASES = {
    "ema, mixing": {"ema.decay": 0.9, "mixup": 0.4, "cutmix": 0.4, "label_smoothing": 0.1},
    "accumulation, adamw": {"optimizer.name": "adamw", "optimizer.accumulate": 3, "optimizer.lr": 0.01,
                            "optimizer.nesterov": None, "optimizer.clip_norm": 1.0},
    "repeats, erasing": {"augment.repeats": 2, "augment.erase": 0.5, "augment.policy": "trivial"},
    "balance, early stopping": {"sampling": "balanced", "class_weights": "balanced", "early_stopping.patience": 4,
                                "schedule.name": "one-cycle"},
    "dropout, drop path, steps": {"spec.dropout": 0.3, "spec.drop_path": 0.2, "schedule.name": "step"},
    "frozen stage": {"freeze": 1, "ema.decay": 0.9},
    "thawing": {"freeze": "auto", "ema.decay": 0.9, "augment.crop_scale": [0.5, 1.0]},
}  # fmt: skip
AMID = "amid a checkpoint"
EVERY = 4
"""Steps between checkpoints, which do not divide an epoch's."""
COMMON = {"spec.width": 6, "spec.depths": [1, 1], "checkpoint.every_steps": EVERY, "checkpoint.every_minutes": None}
OPTIONS = {"model": "resnet8", "image_size": 16, "epochs": 10, "batch_size": 8, "threads": 1, "val": 0.2, "seed": 3}


def run(
    folder: str, data: str, case: str, log: str, weights: str | None = None, test: float | None = None,
    stays: int | None = None,
) -> None:  # fmt: skip
    """One run, from wherever it stands to its end.

    Args:
        stays: the first checkpoint of this step or a later one is begun, noted in the log, and never finished.
    """
    import restune
    from restune.training import checkpoint
    from restune.training.loop import Trainer

    def note(text: object) -> None:
        with Path(log).open("a") as file:
            file.write(f"{text}\n")

    step, whole, resume = Trainer._step, Trainer.run, Trainer.resume

    def logged_step(self: Trainer, *arguments: object, **more: object) -> float:
        rate = step(self, *arguments, **more)  # type: ignore[arg-type]
        note(self.state.step)
        return rate

    def logged_run(self: Trainer) -> object:
        note("begin")
        finished = whole(self)
        note("end")
        return finished

    def logged_resume(self: Trainer, **more: bool) -> bool:
        found = resume(self, **more)
        note(f"resumed {self.state.step}")
        return found

    write = checkpoint.write_text

    def staying_write(path: Path, text: str) -> None:
        if stays is not None and path.name == "manifest.json":
            step_of_it = int(path.parent.name.removesuffix(".tmp").rpartition("-")[2])
            if step_of_it >= stays:
                note(AMID)
                time.sleep(3600)
        write(path, text)

    checkpoint.write_text = staying_write
    Trainer._step, Trainer.run, Trainer.resume = logged_step, logged_run, logged_resume  # type: ignore[method-assign]
    settings = {key: value for key, value in CASES[case].items() if value is not None}
    if "freeze" in settings:
        assert weights is not None
        freeze = settings.pop("freeze")
        settings |= {key: value for key, value in COMMON.items() if not key.startswith("spec.")}
        options = {key: value for key, value in OPTIONS.items() if key != "model"}
        restune.finetune(data, weights=weights, freeze=freeze, out=folder, resume=True, set=settings, **options)
    else:
        restune.train(data, out=folder, resume=True, test=test, set={**COMMON, **settings}, **OPTIONS)


def main() -> None:
    import torch

    import restune.verbs.train  # noqa: F401  # what every child needs, before any thread is started

    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.environ["RESTUNE_CACHE"] = asked.pop("cache")
                with Path(asked["log"]).with_suffix(".err").open("a") as errors:
                    os.dup2(errors.fileno(), 2)
                run(**asked)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
