"""Transfer in equal time: restune and fastai fine-tune the same weights for the same seconds on three real sets.

Command: python -m benchmarks.tables.transfer --data DATA, in an environment with fastai, without other work.
Each run is a process of its own. The clock starts after the imports and ends with the saved model. fastai trains in
epochs: the number that fits the budget is found beforehand. Test items are seen by neither.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from benchmarks.tables.common import NO_DATA, ROOT, Column, Measured, Row, Settings, Table, Text, main

BUDGET = 20
QUICK_BUDGET = 5
WEIGHTS = "weights/resnet56-4bfd9763.th"
NO_FASTAI = Text("fastai is not installed", "未安装 fastai")


@dataclass(frozen=True)
class Set:
    """A data set: its folder, its name, and the side of its images in pixels for the network."""

    folder: str
    label: Text
    size: int


SETS = {
    "hymenoptera": Set("hymenoptera", Text("ants and bees, 64 pixels", "蚂蚁与蜜蜂，64 像素"), 64),
    "sign-digits": Set("sign-digits/Dataset", Text("hand signs, 32 pixels", "手势数字，32 像素"), 32),
    "mnist": Set("mnist", Text("1,000 images of MNIST, 32 pixels", "MNIST 的 1,000 张图像，32 像素"), 32),
}


def measure(contender: str, name: str, seed: int, settings: Settings) -> Measured:
    """Prepare the folders, let one contender train within the budget, and score the test items."""
    budget = QUICK_BUDGET if settings.quick else BUDGET
    with tempfile.TemporaryDirectory() as scratch:
        data = prepare(name, settings, Path(scratch) / "data")
        work = {"contender": contender, "data": str(data), "size": SETS[name].size, "seed": seed, "budget": budget,
                "weights": str(settings.data / WEIGHTS), "out": f"{scratch}/out", "epochs": 0}  # fmt: skip
        if contender == "fastai":
            work["epochs"] = _fitting_epochs(name, settings)
        found = _in_process(work)
    extra = {"seconds": found["seconds"], "epochs": work["epochs"] or None}
    return Measured(value=100 * found["correct"] / found["n"], n=found["n"], extra=extra)


def prepare(name: str, settings: Settings, target: Path) -> Path:
    """Lay out class folders in train, val and test: the same for both contenders and all seeds."""
    import numpy as np

    source = settings.data / SETS[name].folder
    random = np.random.default_rng(0)
    if name == "mnist":
        return _mnist_folders(source, target)
    for folder in sorted(path for path in (source / "train" if name == "hymenoptera" else source).iterdir()):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
        files = [files[int(index)] for index in random.permutation(len(files))]
        if name == "hymenoptera":
            test = sorted((source / "val" / folder.name).glob("*.jpg"))
        else:
            test, files = files[: len(files) // 5], files[len(files) // 5 :]
        held = len(files) // 5
        for split, listed in (("val", files[:held]), ("train", files[held:]), ("test", test)):
            place = target / split / folder.name
            place.mkdir(parents=True)
            for number, file in enumerate(listed):
                (place / f"{number}{file.suffix.lower()}").symlink_to(file.resolve())
    return target


def _mnist_folders(source: Path, target: Path) -> Path:
    """Write the first 80, the next 20 and the test split's first 100 images of each class as PNG."""
    import numpy as np
    from PIL import Image

    for file, parts in (("train", {"train": (0, 80), "val": (80, 100)}), ("test", {"test": (0, 100)})):
        with np.load(min(source.glob(f"*{file}*.npz"))) as stored:
            images, labels = stored["images"], stored["labels"]
        for split, (first, last) in parts.items():
            for label in range(10):
                place = target / split / str(label)
                place.mkdir(parents=True)
                for number, pixels in enumerate(images[labels == label][first:last]):
                    Image.fromarray(pixels).convert("RGB").save(place / f"{number}.png")
    return target


@lru_cache
def _fitting_epochs(name: str, settings: Settings) -> int:
    """Return the number of epochs after the frozen one that fastai finishes within the budget; at least 1."""
    budget = QUICK_BUDGET if settings.quick else BUDGET
    with tempfile.TemporaryDirectory() as scratch:
        data = prepare(name, settings, Path(scratch) / "data")
        work = {"contender": "calibrate", "data": str(data), "size": SETS[name].size, "seed": 0, "budget": budget,
                "weights": str(settings.data / WEIGHTS), "out": f"{scratch}/out", "epochs": 2}  # fmt: skip
        found = _in_process(work)
    return max(1, int((budget - found["fixed"]) / found["epoch"]))


def _in_process(work: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.tables.transfer", "--work", json.dumps(work)]
    with tempfile.TemporaryDirectory() as cache:  # no run finds another's features
        environment = os.environ | {"RESTUNE_CACHE": cache}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode:
        raise SystemExit(f"{work['contender']}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _worker(work: dict[str, Any]) -> dict[str, Any]:
    data, out = Path(work["data"]), Path(work["out"])
    out.mkdir(parents=True)
    files = sorted(path for path in (data / "test").rglob("*") if path.is_file())
    train = _restune if work["contender"] == "restune" else _fastai
    found, labels = train(work, data, out, files)
    hits = [label == path.parent.name for label, path in zip(labels, files, strict=True)]
    return {**found, "correct": sum(hits), "n": len(hits)}


def _restune(work: dict[str, Any], data: Path, out: Path, files: list[Path]) -> tuple[dict[str, float], list[str]]:
    import restune

    for module in (
        "restune.verbs.finetune",
        "restune.reporting.report",
        "matplotlib.figure",
        "sklearn.model_selection",
    ):
        importlib.import_module(module)
    both = out / "data"
    both.mkdir()
    for split in ("train", "val"):
        (both / split).symlink_to(data / split)
    started = time.perf_counter()
    run = restune.finetune(
        both, weights=work["weights"], model="resnet56", image_size=work["size"], time=f"{work['budget']}s",
        seed=work["seed"], out=out / "run",
    )  # fmt: skip
    seconds = time.perf_counter() - started
    return {"seconds": seconds}, [prediction.label for prediction in run.model.predict(files)]


def _fastai(work: dict[str, Any], data: Path, out: Path, files: list[Path]) -> tuple[dict[str, float], list[str]]:
    from benchmarks.contenders import MEAN, STD, Case, _learner
    from fastai.vision import all as fastai

    case = Case(
        name="resnet56", weights=Path(work["weights"]), data=data, size=work["size"], epochs=work["epochs"], batch=32,
        freeze=False, out=out,
    )  # fmt: skip
    ends: list[float] = []

    class Clock(fastai.Callback):
        def after_epoch(self) -> None:
            ends.append(time.perf_counter())

    started = time.perf_counter()
    fastai.set_seed(work["seed"])
    loaders = fastai.ImageDataLoaders.from_folder(
        data, train="train", valid="val", item_tfms=fastai.Resize(case.size), bs=case.batch,
        batch_tfms=fastai.Normalize.from_stats(MEAN, STD),
    )  # fmt: skip
    learner = _learner(fastai, loaders, case, True)
    learner.path = out
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(case.epochs, cbs=[Clock()])
    learner.save("model")
    seconds = time.perf_counter() - started
    with learner.no_bar(), learner.no_logging():
        scores, _ = learner.get_preds(dl=loaders.test_dl(files))
    labels = [str(loaders.vocab[int(index)]) for index in scores.argmax(1)]
    epoch = ends[-1] - ends[-2]
    return {"seconds": seconds, "epoch": epoch, "fixed": seconds - case.epochs * epoch}, labels


def _rows(name: str) -> tuple[Row, Row, Row]:
    def needs(settings: Settings) -> Text | None:
        if not (settings.data / SETS[name].folder).is_dir() or not (settings.data / WEIGHTS).is_file():
            return NO_DATA
        return None if importlib.util.find_spec("fastai") else NO_FASTAI

    label, protocol = SETS[name].label, {"budget": BUDGET, "size": SETS[name].size}
    ours, theirs = (
        Row(
            key=f"{name}/{contender}", label=Text(f"{label.en}: {contender}", f"{label.zh}：{contender}"),
            measure=partial(measure, contender, name), protocol=protocol, needs=needs, peers=("fastai",),
        )
        for contender in ("restune", "fastai")
    )  # fmt: skip
    gain = Row(
        key=f"{name}/difference", label=Text(f"{label.en}: difference", f"{label.zh}：差值"), protocol=protocol,
        minus=(ours.key, theirs.key),
    )  # fmt: skip
    return ours, theirs, gain


TABLE = Table(
    name="transfer",
    order=50,
    title=Text("Transfer in equal time, against fastai", "相同时间内的迁移学习：与 fastai 对照"),
    text=Text(
        f"ResNet-56 with published CIFAR-10 weights, fine-tuned for {BUDGET} s from the call to the saved model "
        "(imports excluded), with nothing else running. Both use the same training and validation files, image size "
        "and weights; test items are seen by neither. restune: "
        f"`restune finetune DATA --weights FILE --time {BUDGET}s`. fastai: `fine_tune` with its defaults, with as "
        "many epochs as fit in the time (found beforehand, not counted), batches of 32 and no augmentation; it "
        "trains in float32, restune in bf16. The difference is restune minus fastai, per seed.",
        f"ResNet-56，使用已发表的 CIFAR-10 权重，从调用到保存模型共微调 {BUDGET} 秒（不含导入），其间机器上没有其他工"
        "作。两者使用相同的训练与验证文件、图像尺寸和权重；测试样本两者都未见过。restune："
        f"`restune finetune DATA --weights FILE --time {BUDGET}s`。fastai：`fine_tune` 及其默认设置，轮数取时间内能完"
        "成的最多轮数（事先测得，不计时间），批大小 32，不做增强；它用 float32 训练，restune 用 bf16。差值为 restune "
        "减 fastai，按种子计算。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(row for name in SETS for row in _rows(name)),
    columns=(
        Column(key="seconds", title=Text("time", "用时"), form="{:.1f} s"),
        Column(key="epochs", title=Text("epochs after the frozen one", "冻结轮之后的轮数"), form="{:.0f}"),
    ),
)

if __name__ == "__main__":
    if "--work" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--work", type=json.loads)
        print(json.dumps(_worker(parser.parse_args().work)))
    else:
        main(TABLE)
