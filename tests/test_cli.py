"""The command line as a stranger meets it: results on standard output, messages on standard error, statuses."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

import restune
import restune.cli


def run_process(*arguments, stdin=""):
    """As a stranger does, in a process of its own: takes seconds to import torch."""
    command = [sys.executable, "-m", "restune", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=os.environ, check=False)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(restune.create_model("resnet8", num_classes=2).state_dict(), path)
    model = restune.load("resnet8", weights=path).with_classes(["blue", "red"])
    return model.save(tmp_path / "model.safetensors")


def test_evaluate_prints_a_table(model, photos):
    done = run_process("evaluate", model, photos)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "95% interval" in done.stdout
    assert "n = 6" in done.stdout
    assert "true \\ predicted" in done.stdout


def test_json_is_the_last_line_and_alone(run, model, photos):
    done = run("evaluate", model, photos, "--json")
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["n"] == 6
    assert len(result["interval"]) == 2
    assert set(result["per_class"]) == {"blue", "red"}
    assert result["top5"] is None
    assert sum(map(sum, result["confusion"])) == 6
    assert result["accuracy"] == restune.evaluate(str(model), photos).accuracy


def test_quiet_says_nothing_but_the_result(run, model, photos):
    assert run("evaluate", model, photos, "--quiet").stderr == ""


def test_predict_table_csv_and_json(run, model, photos):
    (photos / "red" / "1.jpg").write_bytes(b"broken")
    table = run("predict", model, photos)
    assert "unreadable" in table.stdout
    assert "runner-up" in table.stdout
    rows = list(csv.DictReader(io.StringIO(run("predict", model, photos, "--csv").stdout)))
    assert [row["input"] for row in rows] == [str(path) for path in sorted(photos.glob("*/*.jpg"))]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True, False]
    predictions = json.loads(run("predict", model, photos, "--json", "--topk", "1").stdout)["predictions"]
    assert set(predictions[0]) == {"input", "label", "probability", "top"}
    assert len(predictions[0]["top"]) == 1
    assert set(predictions[4]) == {"input", "error"}


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",)])
def test_unreadable_inputs_are_counted_and_are_status_2(run, model, photos, form):
    assert run("predict", model, photos, *form).returncode == 0
    for name in ("0", "1", "2"):
        (photos / "red" / f"{name}.jpg").write_bytes(b"broken")
    done = run("predict", model, photos, "gone.jpg", *form)
    assert done.returncode == 2
    assert "4 of 7 inputs could not be read" in done.stderr
    assert done.stderr.count("error") == 1
    assert all(name in done.stdout for name in ("0.jpg", "1.jpg", "2.jpg", "gone.jpg"))


def test_csv_lists_more_classes_where_they_are_asked_for(run, model, photos):
    (photos / "red" / "1.jpg").write_bytes(b"broken")
    plain = list(csv.reader(io.StringIO(run("predict", model, photos, "--csv").stdout)))
    assert plain[0] == ["input", "label", "probability", "error"]
    listed = list(csv.DictReader(io.StringIO(run("predict", model, photos, "--csv", "--topk", 9).stdout)))
    columns = ["input", "label", "probability", "error", "label_2", "probability_2"]
    assert list(listed[0]) == columns, "the network has two classes"
    for row, short in zip(listed, plain[1:], strict=True):
        assert list(row.values())[:4] == short
        if row["error"]:
            assert (row["label_2"], row["probability_2"]) == ("", "")
        else:
            assert {row["label"], row["label_2"]} == {"blue", "red"}
            assert float(row["probability"]) + float(row["probability_2"]) == pytest.approx(1)


def test_csv_rows_are_written_as_they_come(model, photos, tmp_path):
    """Interrupted within a long list, the command leaves what it has predicted."""
    (tmp_path / "list").mkdir()
    for number in range(40):
        (tmp_path / "list" / f"{number:03d}.jpg").write_bytes((photos / "red" / "0.jpg").read_bytes())
    code = (  # a shell's background processes ignore SIGINT
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom restune.cli import main; main()"
    )
    options = ("--csv", "--batch-size", "4", "--workers", "1")
    command = [sys.executable, "-c", code, "predict", str(model), "-", *options]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, env=buffered)
    limit = threading.Timer(120, process.kill)
    limit.start()
    for path in sorted((tmp_path / "list").iterdir()):
        process.stdin.write(f"{path}\n")
    process.stdin.flush()
    first = [process.stdout.readline() for _ in range(37)]  # all but the last batch, while the input is still open
    assert first[0] == "input,label,probability,error\n"
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    limit.cancel()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    rows = list(csv.reader([*first, *rest.splitlines()]))
    assert all(len(row) == 4 for row in rows)
    assert [row[0] for row in rows[1:]] == [str(tmp_path / "list" / f"{n:03d}.jpg") for n in range(len(rows) - 1)]


def test_predict_reads_a_list_from_standard_input(run, model, photos):
    files = [str(photos / "red" / "0.jpg"), str(photos / "blue" / "0.jpg"), "gone.jpg"]
    done = run("predict", model, "-", "--json", stdin="\n".join(files) + "\n\n")
    predictions = json.loads(done.stdout)["predictions"]
    assert [prediction["input"] for prediction in predictions] == files
    assert predictions[2]["error"] == "there is no such file: gone.jpg"
    assert run("predict", model, "gone.jpg", "--json").returncode == 2  # nothing could be read
    assert run("predict", model, "-").returncode == 2


def test_names_with_brackets_and_emoji_are_printed_as_they_are(run, model, photos):
    name = "[red] 🐝 ünïcode.jpg"
    (photos / "red" / "0.jpg").rename(photos / "red" / name)
    assert name in run("predict", model, photos).stdout


def test_names_that_are_no_utf8(model, photos):
    (photos / "red" / "0.jpg").rename(photos / "red" / os.fsdecode(b"\xff.jpg"))
    names = os.fsencode(photos / "red") + b"/\xff.jpg\n"
    for form in ("--json", "--csv", "--quiet"):
        command = [sys.executable, "-m", "restune", "predict", str(model), "-", form]
        done = subprocess.run(command, input=names, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert b"\\udcff.jpg" in done.stdout


def test_models(run):
    table = run("models").stdout
    assert all(name in table for name in restune.list_models())
    one = run("models", "resnet50").stdout
    assert "25,557,032" in one
    assert "stage4" in one
    assert "2048x7x7" in one
    listed = json.loads(run("models", "resnext*_32x*", "--json").stdout)["models"]
    assert [model["name"] for model in listed] == ["resnext50_32x4d", "resnext101_32x8d"]


MISTAKES = {
    "mistyped path": (["evaluate", "{model}", "{photos}x"], "no such data"),
    "empty folder": (["evaluate", "{model}", "{empty}"], "no images"),
    "one class": (["evaluate", "{model}", "{single}"], "only one class"),
    "wrong classes": (["evaluate", "{model}", "{wrong}"], "'green' that the model does not know"),
    "unknown model": (["evaluate", "resnet5", "{photos}", "--weights", "x.pth"], "no such file"),
    "unknown network": (["evaluate", "resnet51", "{photos}", "--weights", "{model}"], "Did you mean 'resnet"),
    "model without weights": (["evaluate", "resnet50", "{photos}"], "--weights"),
    "unknown published weights": (["evaluate", "resnet50", "{photos}", "--weights", "resnet50:v3"], "resnet50:v"),
    "another network's weights": (["evaluate", "resnet20", "{photos}", "--weights", "{weights}"], "missing layer1.1"),
    "no cuda": (["evaluate", "{model}", "{photos}", "--device", "cuda"], "no CUDA device"),
    "mean of two": (["evaluate", "{model}", "{photos}", "--mean", "0.5,0.5"], "--mean"),
    "mean of letters": (["evaluate", "{model}", "{photos}", "--mean", "half"], "not a list of numbers"),
    "crop of 2": (["evaluate", "{model}", "{photos}", "--crop", "2"], "share from 0 to 1"),
    "no split": (["evaluate", "{model}", "{photos}", "--split", "val"], "no 'val' split"),
    "unknown zoo entry": (["models", "resnet49"], "Did you mean"),
    "two forms at once": (["predict", "{model}", "{photos}", "--json", "--csv"], "choose one"),
    "nan": (["evaluate", "{model}", "{photos}", "--mean", "nan"], "finite"),
    "unknown option": (["evaluate", "{model}", "{photos}", "--bach-size", "3"], "--bach-size"),
    "unknown verb": (["evalute"], "evalute"),
    "bad choice": (["evaluate", "{model}", "{photos}", "--on-corrupt", "ignore"], "ignore"),
    "missing argument": (["evaluate", "{model}"], "DATA"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_and_status_2(run, mistake, model, photos, tmp_path):
    if mistake == "no cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device on this machine")
    places = {"model": model, "photos": photos, "weights": tmp_path / "weights.pth"}
    for name, classes in (("empty", []), ("single", ["red"]), ("wrong", ["green", "red"])):
        places[name] = tmp_path / name
        places[name].mkdir()
        for folder in classes:
            (places[name] / folder).mkdir()
            (places[name] / folder / "0.jpg").write_bytes((photos / "red" / "0.jpg").read_bytes())
    arguments, message = MISTAKES[mistake]
    done = run(*(argument.format(**places) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "--json" in arguments or done.stdout == ""


def test_a_mistake_in_a_process_of_its_own(model, photos):
    done = run_process("evaluate", model, f"{photos}x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no such data")
    assert len(done.stderr.splitlines()) == 3


def test_a_fault_of_ours_is_status_1_with_a_traceback(model, photos):
    code = (
        "import sys; import restune.verbs.evaluate as e\n"
        "def broken(*a, **k): raise ZeroDivisionError('deep inside')\n"
        f"e.evaluate = broken; sys.argv = ['restune', 'evaluate', {str(model)!r}, {str(photos)!r}]\n"
        "from restune.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "deep inside" in done.stderr
    assert "bug in restune" in done.stderr


def test_a_small_image_warning_is_one_line(run, photos, tmp_path):
    torch.save(restune.create_model("resnet18", width=4, num_classes=2).state_dict(), tmp_path / "w.pth")
    model = restune.load("resnet8", weights=_saved(restune.create_model("resnet8", num_classes=2), tmp_path / "v.pth"))
    assert model.spec.stem == "small"
    network = restune.create_model("resnet18", width=4, num_classes=2)
    from restune.weights.bundle import BundleInfo, write_bundle

    info = BundleInfo(spec=network.spec, classes=("blue", "red"), preprocess=restune.ImagePreprocess(crop=32))
    write_bundle(tmp_path / "small.safetensors", network.state_dict(), info)
    done = run("evaluate", tmp_path / "small.safetensors", photos)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert 'stem="small"' in line


def _saved(network, path):
    torch.save(network.state_dict(), path)
    return path


def test_version(run):
    assert run("--version").stdout.strip() == f"restune {restune.__version__}"


def test_help_names_every_verb(run):
    text = run("--help").stdout
    assert all(verb in text for verb in ("quickstart", "train", "finetune", "evaluate", "predict", "models"))


def test_train_finetune_evaluate_and_predict_from_the_command_line(run, tmp_path, photos, monkeypatch):
    """The journey of a newcomer, in a folder of its own; and that what is printed to do next works."""
    monkeypatch.chdir(tmp_path)
    for name in ("blue", "red"):
        for number in range(3, 8):
            (photos / name / f"{number}.jpg").write_bytes((photos / name / f"{number % 3}.jpg").read_bytes())
    small = ("--image-size", 16, "--epochs", 2, "--batch-size", 4, "--set", "spec.width=4", "--set", "spec.depths=[1]")
    done = run("train", photos, "--model", "resnet8", "--val", "0.25", *small)
    assert done.returncode == 0, done.stderr
    assert "validation accuracy" in done.stdout
    commands = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [command[:2] for command in commands] == [
        ["open", "runs/train-001/report.html"],
        ["restune", "evaluate"],
        ["restune", "predict"],
    ]
    assert run(*commands[1][1:]).returncode == 0
    assert run(*commands[2][1:-1], photos / "red").returncode == 0
    tuned = run(
        "finetune", photos, "--weights", "runs/train-001", "--freeze", "1", "--epochs", 1, "--batch-size", 4, "--json"
    )
    assert tuned.returncode == 0, tuned.stderr
    result = json.loads(tuned.stdout)
    assert result["verb"] == "finetune"
    assert result["model"] == "resnet8"
    again = run("train", photos, "--resume", "--out", "runs/train-001", "--model", "resnet8", "--val", "0.25", *small)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert run("train", photos, "--set", "optimizer.rl=1").returncode == 2
    assert run("finetune", photos, "--weights", "runs/train-001", "--freeze", "9", "--epochs", 1).returncode == 2


def test_quickstart_json(run, tmp_path, monkeypatch):
    """The journey at full length is README's first command; here its shape, on fewer epochs and views."""
    import restune.verbs.quickstart as quickstart

    monkeypatch.chdir(tmp_path)
    original, fewer = quickstart._run, {"train": {"epochs": 2}, "finetune": {"views": 1}}
    monkeypatch.setattr(quickstart, "_run", lambda verb, *a, **k: original(verb, *a, **{**k, **fewer[verb]}))
    done = run("quickstart", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= {"train", "finetune", "report", "predicted"}
    assert result["predicted"] in list("0123456789")
    assert (tmp_path / result["report"]).exists()
