"""What holds for images holds for every kind of data: one journey, parametrised over them all."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.data.sources import open_dataset
from restune.training.loop import Trainer
from restune.weights.bundle import read_info

KINDS = ("image", "signal", "uneven", "text", "words", "video")
"""``uneven``: series of many lengths; ``words``: texts as words, whose vocabulary comes from the training items."""
BASE = {"epochs": 3, "batch_size": 8, "threads": 1, "precision": "fp32"}
PLAIN = {"optimizer.lr": 0.05, "schedule.warmup_epochs": 0, "ema.decay": 0.5}
NETWORKS = {
    "image": ({"model": "resnet8", "image_size": 16}, {"spec.width": 4, "augment.policy": "none"}),
    "signal": ({"model": "resnet1d_ts"}, {"spec.width": 4, "augment.jitter": 0.1, "augment.window": 0.9}),
    "uneven": ({"model": "resnet1d18"}, {"spec.width": 4, "spec.depths": [1, 1], "augment.warp": 0.2}),
    "text": ({"model": "textresnet"}, {"text.tokens": "bytes", "augment.drop_tokens": 0.1}),
    "words": ({"model": "textresnet"}, {"text.tokens": "words"}),
    "video": (
        {"model": "r3d_18", "image_size": 16},
        {"spec.width": 4, "spec.depths": [1, 1], "video.frames": 4, "video.clips": 2},
    ),
}
SMALL_TEXT = {"spec.in_channels": 8, "spec.stem_width": 8, "spec.width": 8, "spec.depths": [1, 1]}
COUNT = 20
"""Items a class."""


def _series(random, label, length):
    steps = np.arange(length)
    return np.sin(steps / (2 if label == "fast" else 6) + random.random() * 6) + random.normal(0, 0.1, length)


def write(kind, folder):
    """Two classes that anything learns, as files of the kind; where they are."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "image":
        for name, least in (("bright", 120), ("dark", 0)):
            (folder / "data" / name).mkdir(parents=True)
            for number in range(COUNT):
                pixels = random.integers(least, least + 130, (18, 18, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "data" / name / f"{number:02d}.png")
        return folder / "data"
    if kind in ("signal", "uneven"):
        lines = ["@problemName test", "@univariate true", "@classLabel true fast slow", "@data"]
        for number in range(2 * COUNT):
            label = ("fast", "slow")[number % 2]
            length = 40 if kind == "signal" else 30 + number
            lines.append(",".join(f"{value:.4f}" for value in _series(random, label, length)) + f":{label}")
        (folder / "data.ts").write_text("\n".join(lines) + "\n")
        return folder / "data.ts"
    if kind in ("text", "words"):
        good, bad = ["fine", "lovely", "很好", "great"], ["poor", "awful", "糟糕", "dull"]
        rows = []
        for number in range(2 * COUNT):
            words = good if number % 2 else bad
            text = " ".join(random.choice([*words, "the", "film", "was"], random.integers(3, 9)))
            rows.append((f"{text} {number} {words[number % 4]}", "good" if number % 2 else "bad"))
        with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        return folder / "data.csv"
    for name, step in (("left", -2), ("right", 2)):
        for number in range(COUNT):
            clip = folder / "data" / name / f"{number:02d}"
            clip.mkdir(parents=True)
            start = int(random.integers(0, 20))
            for frame in range(6):
                pixels = np.full((20, 20), 30, np.uint8)
                pixels[6:14, (np.arange(5) + start + step * frame) % 20] = 220
                Image.fromarray(pixels).save(clip / f"frame_{frame}.png")
    return folder / "data"


def options(kind, **more):
    settings, changes = NETWORKS[kind]
    small = SMALL_TEXT if kind in ("text", "words") else {}
    extra = {"data_options": restune.DataOptions(kind="video")} if kind == "video" else {}
    return {**BASE, **settings, **extra, "set": {**PLAIN, **changes, **small}, **more}


def tensors(run):
    return {name: value.clone() for name, value in run.model.module.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """A kind, its data, and a run that learned it."""
    folder = tmp_path_factory.mktemp(request.param)
    data = write(request.param, folder)
    return request.param, data, restune.train(data, out=folder / "run", test=0.2, **options(request.param, epochs=6))


def test_a_run_learns_and_leaves_everything(trained):
    kind, _, run = trained
    assert run.result["test"]["n"] == 8
    assert run.result["val"]["accuracy"] > 0.6
    info = read_info(run.out / "model.safetensors")
    assert info.kind == {"uneven": "signal", "words": "text"}.get(kind, kind)
    assert info.preprocess == run.model.preprocess
    page = (run.out / "report.html").read_text()
    assert '<svg class="plot"' in page
    assert ("data:image/webp" in page) == (kind in ("image", "video"))
    assert ('<svg class="series"' in page) == (kind in ("signal", "uneven"))
    assert ("<blockquote>" in page) == (kind in ("words", "text"))
    assert ("clips" in run.result["test"]) == (kind == "video")
    if kind == "video":
        assert run.result["test"]["clips"]["n"] == 2 * 8
        assert "video accuracy" in page


def test_the_model_alone_predicts_as_it_was_scored(trained, tmp_path):
    kind, data, run = trained
    reading = options(kind).get("data_options")
    whole = restune.evaluate(run.out, data, data_options=reading, split="all", batch_size=3, workers=0)
    again = restune.evaluate(
        run.out / "model.safetensors", data, data_options=reading, split="all", batch_size=64, workers=2
    )
    assert np.array_equal(whole.confusion, again.confusion)
    assert np.allclose(whole.probabilities, again.probabilities, atol=1e-4)
    predictions = restune.predict(run.out, data, batch_size=5)
    assert len(predictions) == 2 * COUNT
    labels = dict(zip(whole.ids, whole.predicted, strict=True))
    for prediction in predictions:
        name = prediction.input.removeprefix(str(data))[1:]  # after a slash, or of a row after a space
        assert prediction.label == whole.classes[labels[name]]


def test_recipe_yaml_repeats_the_run_and_workers_change_nothing(trained, tmp_path):
    kind, data, run = trained
    reading = options(kind).get("data_options")
    for workers in (0, 3):
        again = restune.train(
            data,
            out=tmp_path / f"again{workers}",
            recipe=run.out / "recipe.yaml",
            workers=workers,
            data_options=reading,
        )
        assert equal(tensors(run), tensors(again))
        assert (run.out / "metrics.jsonl").read_bytes() == (again.out / "metrics.jsonl").read_bytes()


def test_a_stopped_run_goes_on_as_if_it_had_not(trained, tmp_path, monkeypatch):
    kind, data, run = trained
    with monkeypatch.context() as patch:
        original = Trainer._step

        def stop(self, *arguments, **more):
            if self.state.step == 5:
                raise KeyboardInterrupt
            original(self, *arguments, **more)

        patch.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            restune.train(data, out=tmp_path / "run", test=0.2, **options(kind, epochs=6))
    resumed = restune.train(data, out=tmp_path / "run", test=0.2, resume=True, **options(kind, epochs=6))
    assert resumed.result["resumed_from_step"] > 0
    assert equal(tensors(run), tensors(resumed))
    assert (run.out / "metrics.jsonl").read_bytes() == (resumed.out / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("freeze", ["all", 1, "auto", "none"])
def test_fine_tuning_and_what_is_frozen_stays(trained, tmp_path, freeze):
    kind, data, run = trained
    more = {} if freeze == "all" else {"epochs": 6, "batch_size": 8, "lr": 0.05}
    reading = options(kind).get("data_options")
    tuned = restune.finetune(
        data, weights=run.out, freeze=freeze, out=tmp_path / "tuned", precision="fp32", threads=1, data_options=reading,
        **more,
    )  # fmt: skip
    assert tuned.result["val"]["accuracy"] > 0.6
    assert tuned.model.preprocess == run.model.preprocess
    before, after = tensors(run), tensors(tuned)
    frozen = {"all": [name for name in before if not name.startswith("fc.")], "none": [], "auto": []}.get(freeze)
    if frozen is None:
        frozen = [name for name in before if name.startswith(("embedding", "conv1", "bn1", "layer1"))]
        assert any(name not in frozen and not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    if freeze == "all":
        again = restune.finetune(
            data, weights=run.out, freeze="all", out=tmp_path / "again", precision="fp32", data_options=reading
        )
        assert again.result["head"]["features_computed"] == 0
        assert equal(tensors(tuned), tensors(again))


def test_a_fine_tuned_run_is_repeated_and_gone_on_with(trained, tmp_path, monkeypatch):
    """Also of words, whose vocabulary is the weights' and in no recipe."""
    kind, data, run = trained
    settings = {"weights": run.out, "freeze": 1, "epochs": 3, "batch_size": 8, "precision": "fp32", "threads": 1}
    settings["data_options"] = options(kind).get("data_options")
    tuned = restune.finetune(data, out=tmp_path / "tuned", **settings)
    again = restune.finetune(
        data, out=tmp_path / "again", recipe=tuned.out / "recipe.yaml", data_options=settings["data_options"]
    )
    assert equal(tensors(tuned), tensors(again))
    with monkeypatch.context() as patch:
        original = Trainer._run_epoch

        def stop(self):
            if self.state.epoch == 2:
                raise KeyboardInterrupt
            original(self)

        patch.setattr(Trainer, "_run_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            restune.finetune(data, out=tmp_path / "stopped", **settings)
    resumed = restune.finetune(data, out=tmp_path / "stopped", resume=True, **settings)
    assert (resumed.out / "metrics.jsonl").read_bytes() == (tuned.out / "metrics.jsonl").read_bytes()


def test_embeddings(trained):
    kind, data, run = trained
    made = restune.embed(run.out, data, data_options=options(kind).get("data_options"), out=run.out / "features.npz")
    assert made.features.shape == (2 * COUNT, run.model.spec.num_features)
    assert np.isfinite(made.features).all()


def test_settings_of_other_kinds_are_refused(trained, tmp_path):
    kind, data, _ = trained
    foreign = "text.length" if kind not in ("text", "words") else "signal.length"
    made = options(kind)
    with pytest.raises(restune.UserError, match="has no effect here: the data is"):
        restune.train(data, out=tmp_path / "run", **{**made, "set": {**made["set"], foreign: 7}})
    if kind in ("text", "words"):
        with pytest.raises(restune.UserError, match="mixup has no effect here"):
            restune.train(data, out=tmp_path / "run", **{**made, "set": {**made["set"], "mixup": 0.2}})


def test_weights_of_another_kind_are_refused(trained, tmp_path):
    kind, _, run = trained
    other = write("image" if kind != "image" else "text", tmp_path)
    with pytest.raises(restune.UserError, match="the data is"):
        restune.finetune(other, weights=run.out, out=tmp_path / "run")
    with pytest.raises(restune.UserError, match="takes"):
        restune.train(other, model=run.model.info.name, out=tmp_path / "run2")


def test_uneven_series_are_not_mixed(tmp_path):
    data = write("uneven", tmp_path)
    made = options("uneven")
    with pytest.raises(restune.UserError, match="cannot be mixed"):
        restune.train(data, out=tmp_path / "run", **{**made, "set": {**made["set"], "mixup": 0.2}})
    cut = {**made["set"], "mixup": 0.2, "signal.length": 30}
    assert restune.train(data, out=tmp_path / "cut", **{**made, "set": cut}).result["epochs"] == 3


def test_a_text_is_given_or_in_a_file(tmp_path):
    data = write("words", tmp_path)
    run = restune.train(data, out=tmp_path / "run", **options("words", epochs=6))
    (tmp_path / "note.txt").write_text("lovely great fine 很好", encoding="utf-8")
    given = run.model.predict("lovely great fine 很好")[0]
    assert run.model.predict(tmp_path / "note.txt")[0].top == given.top
    first, second = restune.predict(run.out, [str(tmp_path / "note.txt"), "lovely great fine 很好"])
    assert dict(first.top) == pytest.approx(dict(second.top), abs=1e-6)
    assert "vocabulary" not in json.dumps(restune.load(run.out).info.training["recipe"]["preprocess"] or {})


def test_a_vocabulary_knows_words_of_training_items_only(tmp_path):
    """Each text holds a number of its own: those of held-out texts are in no vocabulary."""
    data = write("words", tmp_path)
    made = options("words")
    run = restune.train(data, out=tmp_path / "run", **{**made, "set": {**made["set"], "text.min_count": 1}})
    sides = {row["item"]: row["split"] for row in csv.DictReader((run.out / "split.csv").open())}
    words = set(run.model.preprocess.vocabulary)
    known = {"train": set(), "val": set()}
    for item in open_dataset(data).items:
        number = next(word for word in item.location.read().split() if word.isdigit())
        known[sides[item.id]].add(number in words)
    assert known == {"train": {True}, "val": {False}}


def test_equal_texts_are_on_one_side_of_a_split_and_spoken_of_only_where_one_is_made(tmp_path, capsys):
    data = write("words", tmp_path)
    lines = data.read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join([*lines, *lines[1:13]]) + "\n", encoding="utf-8")
    for seed in range(3):
        run = restune.train(data, out=tmp_path / f"run{seed}", seed=seed, **options("words", epochs=1))
        sides = {row["item"]: row["split"] for row in csv.DictReader((run.out / "split.csv").open())}
        of_text = {}
        for item in open_dataset(data).items:
            of_text.setdefault(item.location.read(), set()).add(sides[item.id])
        assert len(of_text) == 2 * COUNT
        assert all(len(found) == 1 for found in of_text.values())
        assert set(sides.values()) == {"train", "val"}
    assert "each such group goes into one split" in capsys.readouterr().err
    restune.evaluate(run.out, data)
    restune.predict(run.out, data)
    assert "each such group goes" not in capsys.readouterr().err
