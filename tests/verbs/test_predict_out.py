"""predict --out: rows as they come, the same bytes after any kill, one file of several processes."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from PIL import Image

import restune
import restune.core.rowlog as rowlog
from restune.core.interrupt import Interrupted
from restune.data.targets import TargetScale
from restune.inference.model import Model
from restune.reporting.predictions.progress import PredictionProgress
from restune.verbs.predict import predict_to_file
from restune.weights.bundle import BundleInfo, write_bundle

COUNT, BATCH = 26, 4


class Killed(BaseException):
    """Ends a command as SIGKILL does: nothing handles it."""


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A kill loses nothing that the system holds; only a power cut would."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def model_file(tmp_path, randomize):
    network = randomize(restune.create_model("resnet8", num_classes=3))
    info = BundleInfo(spec=network.spec, classes=("cat", "=dog", "-1"), preprocess=restune.ImagePreprocess(crop=16))
    write_bundle(tmp_path / "model.safetensors", network.state_dict(), info)
    return tmp_path / "model.safetensors"


@pytest.fixture
def images(tmp_path):
    """Images in two folders, one of them broken, and one with a name that a spreadsheet would compute."""
    random = np.random.default_rng(0)
    for number in range(COUNT):
        path = tmp_path / "images" / str(number % 2) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (tmp_path / "images" / "1" / "13.png").write_bytes(b"broken")
    return tmp_path / "images"


@pytest.fixture
def write(model_file, images, tmp_path, monkeypatch):
    """Write predictions of the images to a file of this name; returns its bytes."""
    monkeypatch.chdir(tmp_path)
    model = restune.load(model_file)

    def call(name, inputs=images, **options):
        predict_to_file(model, [str(inputs)], name, batch_size=BATCH, topk=2, **options)
        return Path(name).read_bytes() if Path(name).exists() else None

    return call


@pytest.fixture
def killed(monkeypatch):
    """Make the n-th step (a batch appended, or a record written) end the process, in its middle."""

    real = {"append": rowlog.RowLog.append, "save": rowlog.RowLog.save}

    def arm(step=10**9, place="append"):
        left = [step]

        def append(log, content, **progress):
            left[0] -= 1
            if left[0] == 0:
                log.file.write(content[: len(content) // 2])
                raise Killed
            real["append"](log, content, **progress)

        def save(log, **progress):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            real["save"](log, **progress)

        monkeypatch.setattr(rowlog.RowLog, "append", append if place == "append" else real["append"])
        monkeypatch.setattr(rowlog.RowLog, "save", save if place == "save" else real["save"])

    return arm


def in_process(monkeypatch, rank, size):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(size))


def ids(content):
    return [row["input"] for row in csv.DictReader(io.StringIO(content.decode()))]


def expected(images):
    return [str(path) for path in sorted(images.glob("*/*.png"))]


def test_the_file_is_what_predict_prints(run, model_file, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = (model_file, images, "gone.png", "--topk", 2, "--batch-size", BATCH, "--threshold", "0.5")
    printed = run("predict", *options, "--csv")
    written = run("predict", *options, "--out", "a.csv")
    assert (printed.returncode, written.returncode) == (2, 2)
    assert "2 of 27 inputs could not be read" in written.stderr
    assert written.stderr.count("error: ") == 1
    assert Path("a.csv").read_text() == printed.stdout
    rows = list(csv.reader(io.StringIO(printed.stdout)))
    assert rows[0] == ["input", "label", "probability", "error", "label_2", "probability_2", "abstained"]
    assert [row[0] for row in rows[1:]] == [*expected(images), "gone.png"]
    assert rows[-1][3] == "there is no such file: gone.png"
    summary = json.loads(run("predict", *options, "--out", "a.parquet", "--json").stdout.splitlines()[0])
    assert summary == {"out": "a.parquet", "inputs": 27, "unreadable": 2}
    table = pyarrow.parquet.read_table("a.parquet")
    assert [str(kind) for kind in table.schema.types] == [
        "string",
        "string",
        "double",
        "string",
        "string",
        "double",
        "bool",
    ]
    for row, exact in zip(csv.DictReader(io.StringIO(printed.stdout)), table.to_pylist(), strict=True):
        assert row["probability"] == ("" if exact["probability"] is None else repr(exact["probability"]))
        assert row["label"].removeprefix("'") == (exact["label"] or "")
        assert row["abstained"] == ("" if exact["abstained"] is None else str(exact["abstained"]).lower())
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith((".", "a."))} == {
        "a.csv", "a.csv.restune.json", "a.parquet", "a.parquet.restune.json",
    }  # fmt: skip


def test_a_spreadsheet_computes_nothing(run, model_file, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+x.png", "-y.png", "@z.png", "a,b.png", 'c"d.png', "plain.png"]
    for name in names:
        Path(name).write_bytes((images / "0" / "00.png").read_bytes())
    for name in ("a.csv", "a.parquet"):
        run("predict", model_file, "--out", name, "--topk", "3", "--", *names)
    table = pandas.read_csv("a.csv", dtype=str, keep_default_na=False)
    assert list(table["input"]) == [f"'{name}" for name in names[:4]] + names[4:]
    labels = {label for column in ("label", "label_2", "label_3") for label in table[column]}
    assert labels == {"cat", "'=dog", "-1"}, "a number is no formula"
    assert pandas.read_parquet("a.parquet")["input"].tolist() == names
    assert "=dog" in pandas.read_parquet("a.parquet").iloc[0].tolist()


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("every", [0.0, 1e9], ids=["records after each batch", "records rarely"])
def test_killed_at_any_step_it_ends_with_the_same_bytes(write, killed, images, monkeypatch, form, every):
    whole = write(f"whole.{form}")
    for place, steps in (("append", (1, 2, 6)), ("save", (1, 2, 5))):
        for step in steps:
            name, ended = f"{place}{step}.{form}", 0
            with monkeypatch.context() as patch:
                patch.setattr(rowlog, "SAVE_SECONDS", every)
                killed(step, place)
                try:
                    write(name)
                except Killed:
                    ended = 1
                killed(2, "append")  # and once more, soon after it went on
                try:
                    write(name)
                except Killed:
                    ended += 1
                killed()
            assert write(name) == whole, (place, step, ended)
            assert not list(Path().glob(f"{name}.part*"))
    if form == "csv":
        assert ids(whole) == expected(images)


def test_it_goes_on_where_it_was(write, killed, monkeypatch, images, capsys):
    """Finished batches are not predicted again, nor is a finished file."""
    monkeypatch.setattr(rowlog, "SAVE_SECONDS", 0)
    killed(6)
    with pytest.raises(Killed):
        write("a.csv")
    half = Path("a.csv").read_text()
    killed()
    read = []
    real = restune.data.items.FileLocation.read
    monkeypatch.setattr(
        restune.data.items.FileLocation, "read", lambda self: (read.append(str(self.path)), real(self))[1]
    )
    whole = write("a.csv")
    finished = half.count("\n") - 1 - (half.count("\n") - 1) % BATCH
    assert finished == 4 * BATCH
    assert sorted(read) == sorted(expected(images)[finished:])
    assert f"continuing a.csv after {finished} inputs" in capsys.readouterr().err
    read.clear()
    assert write("a.csv") == whole
    assert read == []


def test_what_changed_is_refused_and_nothing_is_lost(write, killed, images, model_file, randomize, monkeypatch):
    monkeypatch.setattr(rowlog, "SAVE_SECONDS", 0)
    killed(5)
    with pytest.raises(Killed):
        write("a.csv")
    killed()
    begun = Path("a.csv").read_bytes()
    for options, named in (({"threshold": 0.9}, "--threshold None -> 0.9"), ({"image_size": 8}, "preprocessing\n")):
        with pytest.raises(restune.UserError, match=rf"other settings: {named}[\s\S]*delete it to start anew"):
            write("a.csv", **options)
    other = randomize(restune.create_model("resnet8", num_classes=3))
    other.fc.bias.data += 1
    info = restune.load(model_file).info
    write_bundle(Path("other.safetensors"), other.state_dict(), info)
    with pytest.raises(restune.UserError, match="other settings: MODEL"):
        predict_to_file("other.safetensors", [str(images)], "a.csv", batch_size=BATCH, topk=2)
    early = images / "0" / "-first.png"
    early.write_bytes(b"")
    with pytest.raises(restune.UserError, match=r"the first 12 inputs are not those[\s\S]*give the same inputs again"):
        write("a.csv")
    early.unlink()
    assert Path("a.csv").read_bytes() == begun[: json.loads(Path("a.csv.restune.json").read_text())["size"]]
    assert ids(write("a.csv")) == expected(images)
    (images / "1" / "99.png").write_bytes(b"")
    with pytest.raises(restune.UserError, match="more inputs than the 26"):
        write("a.csv")
    Path("a.csv").unlink()
    assert len(ids(write("a.csv"))) == COUNT + 1, "without its file, a record is void"


def test_one_engine_computes_all_rows(write, killed, monkeypatch):
    """Another engine rounds otherwise: none is chosen anew by a measurement, and another one is refused."""
    monkeypatch.setattr(rowlog, "SAVE_SECONDS", 0)
    for option in ("engine", "precision"):
        with pytest.raises(restune.UserError, match=f"needs one {option} from its first row to its last"):
            write("a.csv", **{option: "auto"})
    killed(5)
    with pytest.raises(Killed):
        write("a.csv")
    killed()
    record = Path("a.csv.restune.json")
    assert '"--engine": "torch"' in record.read_text()
    record.write_text(record.read_text().replace('"--engine": "torch"', '"--engine": "onnx"'))
    with pytest.raises(restune.UserError, match="other settings: --engine onnx -> torch"):
        write("a.csv")


def test_files_of_others_are_left_alone(write, killed, run, model_file, images, monkeypatch):
    monkeypatch.setattr(rowlog, "SAVE_SECONDS", 0)
    Path("mine.csv").write_text("precious\n")
    with pytest.raises(restune.UserError, match="this file exists already"):
        write("mine.csv")
    assert Path("mine.csv").read_text() == "precious\n"
    killed(5)
    with pytest.raises(Killed):
        write("a.csv")
    killed()
    Path("a.csv").write_text(Path("a.csv").read_text().replace(".png", ".PNG", 1))
    with pytest.raises(restune.UserError, match="was changed since its rows were written"):
        write("a.csv")
    for arguments, message in (
        (("--out", "a.txt"), "predictions are saved as .csv, .parquet"),
        (("--out", "b.csv", "--csv"), "--out and --csv cannot be combined"),
        (("--out", "b.csv", "--explain", "b"), "--out and --explain cannot be combined"),
        (("--out", "mine.csv"), "this file exists already"),
    ):
        done = run("predict", model_file, images, *arguments)
        assert (done.returncode, done.stderr.count("error: ")) == (2, 1)
        assert message in done.stderr


def test_two_commands_do_not_write_one_file(write):
    with rowlog.sole_writer(Path("a.csv")), pytest.raises(restune.UserError, match="another process writes this file"):
        write("a.csv")


def test_a_full_disk_is_one_message_and_space_lets_it_go_on(run, write, model_file, images, monkeypatch):
    whole = write("whole.csv")
    real = rowlog.RowLog.append

    def full(log, content, **progress):
        if log.finished.rows >= 8:
            monkeypatch.setattr(log, "file", _Full(log.file, left=50))
        real(log, content, **progress)

    monkeypatch.setattr(rowlog.RowLog, "append", full)
    command = ("predict", model_file, images, "--out", "a.csv", "--topk", 2, "--batch-size", BATCH)
    done = run(*command)
    assert done.returncode == 2
    assert "cannot write a.csv: No space left on device" in done.stderr
    assert done.stderr.count("error: ") == 1
    monkeypatch.setattr(rowlog.RowLog, "append", real)
    run(*command)
    assert Path("a.csv").read_bytes() == whole


class _Full:
    """A file on a disk with `left` free bytes: as the system does, it writes these first and fails then."""

    def __init__(self, file, left):
        self.file, self.left = file, left

    def write(self, content):
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(content[: self.left])
        self.left -= written
        return written

    def fileno(self):
        return self.file.fileno()


def test_interrupted_it_keeps_everything_and_prints_the_command(run, write, model_file, images, monkeypatch):
    whole = write("whole.parquet")
    real = PredictionProgress.advance

    def interrupt(progress, done):
        if done == 12:
            os.kill(os.getpid(), signal.SIGINT)
        real(progress, done)

    monkeypatch.setattr(PredictionProgress, "advance", interrupt)
    command = ("predict", model_file, images, "--out", "a.parquet", "--topk", "2", "--batch-size", str(BATCH))
    done = run(*command)
    assert done.returncode == 130
    assert "stopped by SIGINT; progress is saved in a.parquet" in done.stderr
    assert f"to resume: restune {' '.join(map(str, command))}" in done.stderr
    assert not Path("a.parquet").exists()
    assert json.loads(Path("a.parquet.part.restune.json").read_text())["rows"] == 12
    assert "continuing a.parquet after 12 inputs" in run(*command).stderr
    assert Path("a.parquet").read_bytes() == whole


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_processes_share_the_work_and_make_one_file(write, killed, monkeypatch, form):
    """The second process is killed in the middle; the first has ended and waits for it."""
    monkeypatch.setattr(rowlog, "SAVE_SECONDS", 0)
    whole = write(f"whole.{form}")
    in_process(monkeypatch, 2, 3)
    write(f"a.{form}")
    in_process(monkeypatch, 1, 3)
    killed(2)
    with pytest.raises(Killed):
        write(f"a.{form}")
    killed()
    assert write(f"a.{form}") is None, "the first process joins"
    in_process(monkeypatch, 0, 2)
    with pytest.raises(restune.UserError, match="was begun by 3 processes, not by 2"):
        write(f"a.{form}")
    in_process(monkeypatch, 0, 3)
    assert write(f"a.{form}") == whole
    assert sorted(path.name for path in Path().glob(f"a.{form}*")) == [f"a.{form}", f"a.{form}.restune.json"]
    for rank in range(3):
        in_process(monkeypatch, rank, 3)
        assert write(f"a.{form}") == whole


def test_the_first_process_waits_for_the_rows_of_the_same_inputs(write, images, monkeypatch):
    in_process(monkeypatch, 1, 2)
    write("a.csv")
    (images / "1" / "99.png").write_bytes(b"")
    waited = []

    def sleep(_seconds):
        waited.append(1)
        if len(waited) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("restune.reporting.predictions.writer.time.sleep", sleep)
    in_process(monkeypatch, 0, 2)
    with pytest.raises(Interrupted):
        write("a.csv")
    assert not Path("a.csv").exists()


@pytest.mark.parametrize("step", [4, None])
def test_a_file_that_was_replaced_under_its_name_is_named(write, images, killed, monkeypatch, capsys, step):
    """In a file of predictions that goes on (step 4 was the last) and in one that is complete."""
    monkeypatch.setattr(rowlog, "SAVE_SECONDS", 0)
    killed(step or 10**9)
    with pytest.raises(Killed) if step else nullcontext():
        write("a.csv")
    killed()
    capsys.readouterr()
    first, last = sorted(images.glob("*/*.png"))[:: COUNT - 1]
    for path in (first, last):
        path.write_bytes(path.read_bytes())
        os.utime(path, (path.stat().st_mtime + 100,) * 2)
    write("a.csv")
    errors = capsys.readouterr().err
    assert f"{1 if step else 2} of the " in errors
    assert f"{first.parent.name}/{first.name}" in errors
    assert "keeps the answers of before" in errors
    assert (f"{last.parent.name}/{last.name}" in errors) == (step is None), "the last file was not done yet"


def test_several_processes_need_a_file(run, model_file, images, monkeypatch):
    in_process(monkeypatch, 0, 2)
    done = run("predict", model_file, images, "--csv")
    assert done.returncode == 2
    assert "2 processes need one file to write to" in done.stderr
    assert "--out FILE.csv" in done.stderr


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks(randomize, images, tmp_path, run, task):
    network = randomize(restune.create_model("resnet8", num_classes=2))
    classes = ("cat", "dog") if task == "multi-label" else ("age", "input")
    scale = TargetScale((40.0, 2.0), (10.0, 0.5)) if task == "regression" else None
    preprocess = restune.ImagePreprocess(crop=16)
    info = BundleInfo(spec=network.spec, classes=classes, preprocess=preprocess, task=task, target_scale=scale)
    Model(module=network, info=info, source="test").save(tmp_path / "task.safetensors")
    out = tmp_path / "a.csv"
    run("predict", tmp_path / "task.safetensors", images, "--out", out)
    run("predict", tmp_path / "task.safetensors", images, "--out", tmp_path / "a.parquet")
    assert out.read_text() == run("predict", tmp_path / "task.safetensors", images, "--csv").stdout
    table = pandas.read_parquet(tmp_path / "a.parquet")
    middle = ["labels", "probability_cat", "probability_dog"] if task == "multi-label" else ["age", "value_input"]
    assert list(table) == ["input", *middle, "error"]
    numbers = pandas.read_csv(out)[middle[-1]]
    np.testing.assert_array_equal(numbers, table[middle[-1]])
    assert numbers.isna().sum() == 1


def test_names_that_are_not_utf_8(write, images, tmp_path):
    odd = os.fsdecode(b"\xff\xfe.png")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / odd).write_bytes((images / "0" / "00.png").read_bytes())
    assert "\\udcff\\udcfe.png" in ids(write("a.csv", inputs=tmp_path / "odd"))[0]
    write("a.parquet", inputs=tmp_path / "odd")
    assert pandas.read_parquet("a.parquet")["input"][0].endswith("\\udcff\\udcfe.png")


def test_progress_where_there_is_no_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("restune.reporting.predictions.progress.time.monotonic", lambda: now[0])
    progress = PredictionProgress(total=10_000)
    progress.begin(0.0)
    for seconds in (59, 61, 100, 122):
        now[0] = seconds
        progress.advance(20 * seconds)
    assert capsys.readouterr().err.splitlines() == [
        "1,220 of 10,000 inputs: 20/s, 7:19 left",
        "2,440 of 10,000 inputs: 20/s, 6:18 left",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_torchrun_and_real_kills(model_file, images, tmp_path, form):
    """Processes that torchrun starts; one of them is killed, then all of them."""
    inputs = [str(images)] * 40
    restune_command = ["-m", "restune", "predict", str(model_file), *inputs, "--batch-size", str(BATCH), "--quiet"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    out = f"a.{form}"
    subprocess.run([sys.executable, *restune_command, "--out", f"whole.{form}"], cwd=tmp_path, check=False)
    for victim in ("one", "all", "none"):
        process = subprocess.Popen(
            [*torchrun, *restune_command, "--out", out], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        if victim != "none":
            begun = {part: part.stat().st_size for part in tmp_path.glob(f"{out}.process-*.part")}
            while not any(part.stat().st_size > begun.get(part, 0) for part in tmp_path.glob(f"{out}.process-*.part")):
                assert process.poll() is None, process.communicate()[1]
            ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
            if victim == "one":  # torchrun then ends the other
                os.kill(int(ranks.stdout.split()[0]), signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGKILL)
        errors = process.communicate(timeout=240)[1]
        assert (process.returncode == 0) == (victim == "none"), errors
    assert "40 of 1040 inputs could not be read" in errors
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole.{form}").read_bytes()
