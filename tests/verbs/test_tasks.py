"""Multi-label classification and regression from a table to predictions, through every verb."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import restune
from restune.data.dataset import DataOptions
from restune.evaluation.evaluation import load_evaluation
from restune.evaluation.multilabel import MultiLabelEvaluation
from restune.evaluation.regression import RegressionEvaluation
from restune.weights.bundle import read_info

SMALL = {
    "model": "resnet8", "image_size": 16, "epochs": 12, "batch_size": 16, "lr": 0.02, "test": 0.2, "precision": "fp32",
}  # fmt: skip
"""In bf16, which some processors choose, an epoch's validation is rounded otherwise than the final scores."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """120 images of noise: a red or a blue cast, both or neither; the table has these labels and two numbers."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    rows = []
    for number in range(120):
        red, blue, level = random.random() < 0.5, random.random() < 0.3, random.integers(0, 100)
        image = random.integers(0, 60, (16, 16, 3)) + np.array([150 * red, level, 150 * blue])
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
        marks = "|".join(name for name, held in (("red", red), ("blue", blue)) if held)
        rows.append((f"{number}.png", int(red), int(blue), marks, level / 10, 1000 + 30 * level))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "red", "blue", "marks", "level", "height"), *rows])
    return folder


def options(**named):
    return DataOptions(kind="image", **named)


@pytest.fixture(scope="module")
def labels_run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "labels"
    return restune.train(photos / "table.csv", data_options=options(label_column="red,blue"), out=out, **SMALL)


@pytest.fixture(scope="module")
def numbers_run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "numbers"
    return restune.train(photos / "table.csv", data_options=options(label_column="level,height"), out=out, **SMALL)


def test_labels_are_learnt(labels_run, photos):
    val, test = labels_run.result["val"], labels_run.result["test"]
    assert (labels_run.result["task"], test["metric"]) == ("multi-label", "map")
    assert test["map"] > 0.9
    assert test["interval"][0] <= test["map"] <= test["interval"][1]
    assert val["n"] == labels_run.result["items"]["val"]
    lines = [json.loads(line) for line in (labels_run.out / "metrics.jsonl").read_text().splitlines()]
    assert max(line["val_map"] for line in lines) == pytest.approx(val["map"], abs=1e-6)
    recipe = (labels_run.out / "recipe.yaml").read_text()
    assert "loss: binary-cross-entropy" in recipe
    assert "monitor: val_map" in recipe


def test_thresholds_of_validation_items_are_in_the_model(labels_run, photos):
    info = read_info(labels_run.out / "model.safetensors")
    saved = load_evaluation(labels_run.out / "evaluation" / "val.npz")
    assert isinstance(saved, MultiLabelEvaluation)
    assert (info.task, info.thresholds) == ("multi-label", saved.with_best_thresholds().thresholds)
    assert load_evaluation(labels_run.out / "evaluation" / "test.npz").thresholds == info.thresholds
    predictions = restune.predict(labels_run.out, [photos / f"{n}.png" for n in range(20)])
    for one in predictions:
        over = {name for name, t in zip(info.classes, info.thresholds, strict=True) if one.probabilities[name] >= t}
        assert set(one.labels) == over
        assert (one.label, one.values) == (None, None)
        assert one.top[0][1] == max(one.probabilities.values())


def test_evaluate_finds_the_labels_columns_by_the_models_names(labels_run, photos):
    again = restune.evaluate(labels_run.out, photos / "table.csv", data_options=options())
    assert again.map == pytest.approx(labels_run.result["test"]["map"], abs=1e-6)
    assert again.to_dict()["per_label"]["red"]["n"] == int(again.targets[:, 0].sum())
    by_marks = options(label_column="marks", task="multi-label")
    other = restune.evaluate(labels_run.out, photos / "table.csv", data_options=by_marks)
    assert other.map == pytest.approx(again.map, abs=1e-6)
    level = options(label_column="level", task="regression")
    with pytest.raises(restune.UserError, match="regression"):
        restune.evaluate(labels_run.out, photos / "table.csv", data_options=level)


def test_numbers_are_learnt_in_their_own_units(numbers_run, photos):
    test = numbers_run.result["test"]
    assert (numbers_run.result["task"], test["metric"]) == ("regression", "r2")
    assert test["r2"] > 0.8
    height = test["per_target"]["height"]
    assert height["mae"] < 0.5 * height["baseline"]["mae"]
    assert height["mae"] == pytest.approx(300 * test["per_target"]["level"]["mae"], rel=0.5)
    saved = load_evaluation(numbers_run.out / "evaluation" / "test.npz")
    assert isinstance(saved, RegressionEvaluation)
    assert 900 < saved.values[:, 1].mean() < 4100
    (one,) = restune.predict(numbers_run.out, photos / saved.ids[0])
    assert [*one.values.values()] == pytest.approx(saved.values[0].tolist(), rel=1e-3)
    again = restune.evaluate(numbers_run.out, photos / "table.csv", data_options=options())
    assert again.mae == pytest.approx(saved.mae, rel=1e-4)


def test_a_model_without_its_scale_is_refused(numbers_run, tmp_path):
    from safetensors.torch import load_file, save_file

    info = read_info(numbers_run.out / "model.safetensors")
    header = json.loads(info.to_json())
    tensors = load_file(numbers_run.out / "model.safetensors")
    for name, wrong in (
        ("none", None),
        ("short", {"mean": [0.0], "std": [1.0]}),
        ("zero", {"mean": [0, 0], "std": [1, 0]}),
    ):
        changed = {**header, "target_scale": wrong}
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"restune": json.dumps(changed)})
        with pytest.raises(restune.UserError):
            restune.load(tmp_path / f"{name}.safetensors")


def test_reports_show_the_scores_of_the_task(labels_run, numbers_run):
    page = (labels_run.out / "report.html").read_text()
    assert "mean average precision" in page
    assert f"{100 * labels_run.result['test']['map']:.2f}%" in page
    page = (numbers_run.out / "report.html").read_text()
    assert "regression of level, height" in page
    assert page.count('class="plot"') >= 4
    assert "MAE of the mean" in page


def test_resuming_gives_the_same_weights(photos, labels_run, tmp_path):
    half = {**SMALL, "epochs": 4}
    wanted = options(label_column="red,blue")
    straight = restune.train(photos / "table.csv", data_options=wanted, out=tmp_path / "one", **half)

    def stop(record):
        if record.epoch == 2:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        restune.train(photos / "table.csv", data_options=wanted, out=tmp_path / "two", on_epoch=stop, **half)
    resumed = restune.train(resume=True, out=tmp_path / "two")
    assert resumed.result["val"] == straight.result["val"]
    table = photos / "table.csv"
    text = table.read_text()
    table.write_text(
        text.replace("0.png,0,", "0.png,1,", 1) if "0.png,0," in text else text.replace("0.png,1,", "0.png,0,", 1)
    )
    try:
        with pytest.raises(restune.UserError, match="target values"):
            restune.train(table, data_options=wanted, resume=True, out=tmp_path / "two", epochs=6)
    finally:
        table.write_text(text)


@pytest.mark.parametrize("freeze", ["all", "auto", pytest.param("1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("columns", ["red,blue", "level"])
def test_fine_tuning_with_frozen_layers(photos, labels_run, tmp_path, freeze, columns):
    run = restune.finetune(
        photos / "table.csv", weights=labels_run.out, freeze=freeze, data_options=options(label_column=columns),
        test=0.2, out=tmp_path / "run", epochs=None if freeze == "all" else 4,
    )  # fmt: skip
    test = run.result["test"]
    if columns == "level":
        assert test["mae"] < 0.8 * test["per_target"]["level"]["baseline"]["mae"]
    else:
        assert test["map"] > 0.9
    if freeze == "all":
        assert run.result["head"]["tried"]


def test_mixup_and_settings_of_other_tasks(photos, tmp_path):
    table, wanted = photos / "table.csv", options(label_column="red,blue")
    short = {**SMALL, "epochs": 1}
    run = restune.train(table, data_options=wanted, out=tmp_path / "mixed", set={"mixup": 0.4}, **short)
    assert run.result["val"]["map"] > 0
    for key, value in (("class_weights", "balanced"), ("loss", "huber"), ("monitor", "val_accuracy")):
        with pytest.raises(restune.UserError, match=key):
            restune.train(table, data_options=wanted, out=tmp_path / "no", set={key: value}, **short)
    level = options(label_column="level")
    with pytest.raises(restune.UserError, match="label_smoothing"):
        restune.train(table, data_options=level, out=tmp_path / "no", set={"label_smoothing": 0.1}, **short)


def test_rare_labels_are_named(photos, tmp_path):
    rows = (photos / "table.csv").read_text().splitlines()
    table = photos / "rare.csv"
    marked = [f"{line.partition(',')[0]},{int(n < 60)},{int(n < 2)}" for n, line in enumerate(rows[1:])]
    table.write_text("\n".join(["path,half,rare", *marked]))
    with pytest.raises(restune.UserError, match=r"'rare' \(2 of 120\)"):
        restune.train(table, data_options=options(label_column="half,rare"), out=tmp_path / "run", **SMALL)


@pytest.mark.slow
def test_the_command_line_prints_labels_and_numbers(labels_run, numbers_run, photos):
    def command(*words):
        done = subprocess.run([sys.executable, "-m", "restune", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    rows = list(csv.reader(command("predict", labels_run.out, photos / "3.png", "--csv").splitlines()))
    assert rows[0] == ["input", "labels", "probability_red", "probability_blue", "error"]
    (one,) = restune.predict(labels_run.out, photos / "3.png")
    assert rows[1][1] == "|".join(one.labels)
    told = json.loads(command("predict", numbers_run.out, photos / "3.png", "--json").splitlines()[-1])
    assert sorted(told["predictions"][0]["values"]) == ["height", "level"]
    assert "level" in command("predict", numbers_run.out, photos / "3.png")
    shown = command("evaluate", numbers_run.out, photos / "table.csv", "--kind", "image")
    assert "R2" in shown
    assert "MAE of the mean" in shown
    listed = command("runs", numbers_run.out.parent)
    assert "R2" in listed


@pytest.mark.slow
def test_several_seeds(photos, tmp_path):
    runs = restune.train(
        photos / "table.csv", data_options=options(label_column="level"), out=tmp_path / "seeds", seeds=2,
        **{**SMALL, "epochs": 1},
    )  # fmt: skip
    assert sorted(runs.result["val"]) == ["mae", "r2", "rmse"]


def test_embeddings_do_not_need_the_task(labels_run, photos):
    found = restune.embed(labels_run.out, [photos / "1.png", photos / "2.png"])
    assert found.features.shape[0] == 2


@pytest.mark.slow
def test_series_and_their_numbers(tmp_path):
    """The slope and level of noisy lines, learnt from a table of one series per row, and predicted for its rows."""
    random = np.random.default_rng(0)
    names = [f"t{step}" for step in range(24)]
    lines = [",".join([*names, "slope", "level"])]
    for _ in range(120):
        slope, level = random.uniform(-2, 2), random.uniform(50, 60)
        steps = slope * np.arange(24) / 10 + level + 0.1 * random.normal(size=24)
        lines.append(",".join(f"{value:.4f}" for value in (*steps, slope, level)))
    table = tmp_path / "lines.csv"
    table.write_text("\n".join(lines))
    run = restune.train(
        table, model="resnet1d_ts", epochs=15, batch_size=16, out=tmp_path / "run", test=0.2,
        data_options=DataOptions(kind="signal", label_column="slope,level"),
        set={"signal.normalization": "channel", "spec.width": 8},
    )  # fmt: skip
    assert run.result["test"]["r2"] > 0.5
    again = restune.evaluate(run.out, table, data_options=DataOptions(kind="signal"))
    assert again.mae == pytest.approx(run.result["test"]["mae"], rel=1e-3)
    predictions = restune.predict(run.out, table)
    assert len(predictions) == 120
    assert sorted(predictions[0].values) == ["level", "slope"]


@pytest.mark.slow
def test_texts_with_several_labels(tmp_path):
    words = {"sad": "tears grief loss", "long": "endless hours waiting", "loud": "drums noise shouting"}
    random, lines = np.random.default_rng(1), ["text,mood"]
    for _ in range(160):
        held = [name for name in words if random.random() < 0.4]
        said = " ".join([random.choice(words[name].split()) for name in held] + ["the day was"])
        lines.append(f"{said},{';'.join(held)}")
    table = tmp_path / "texts.csv"
    table.write_text("\n".join(lines))
    wanted = DataOptions(label_column="mood", label_separator=";")
    run = restune.train(table, data_options=wanted, epochs=12, test=0.2, out=tmp_path / "run", batch_size=16)
    assert run.result["test"]["map"] > 0.8
    (one,) = restune.predict(run.out, "drums and tears")
    assert set(one.probabilities) == set(words)
