"""The feature cache can be done without: whatever is wrong with its folder, one warning, and the same results."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import restune
from restune.core import console, rowstore
from restune.core.files import cache_folder
from restune.core.rowstore import RowStore, StoreFullError
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset
from restune.inference import features
from restune.inference.features import FeatureCache
from restune.training import compile_gains, feature_batches
from restune.verbs.cache import cached_features, prune_features

PREPROCESS = ImagePreprocess(crop=32)
TRAINED = {"epochs": 4, "batch_size": 8, "image_size": 16, "threads": 1, "precision": "fp32", "workers": 0}


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch):
    monkeypatch.setattr(console, "_warned", set())


@pytest.fixture(scope="module")
def start(tmp_path_factory, write_noise):
    """Data, and a run to fine-tune."""
    folder = tmp_path_factory.mktemp("start")
    data = write_noise(folder / "data", bright=(120, 24), dark=(0, 24))
    settings = {"spec.width": 4, "spec.depths": [1, 1]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTUNE_CACHE", str(folder / "cache"))
        run = restune.train(data, model="resnet8", out=folder / "run", set=settings, **{**TRAINED, "epochs": 1})
    return data, run.out


def tuned(start, out, freeze="all", **more):
    data, weights = start
    settings = {} if freeze == "all" else {**TRAINED, **more}
    if freeze == "all":
        settings = {"threads": 1, "precision": "fp32", "workers": 0}
    return restune.finetune(data, weights=weights, freeze=freeze, out=out, **settings)


@pytest.fixture(scope="module")
def good(start, tmp_path_factory):
    """A run whose cache works, and the folder of that cache: one run for each number of frozen stages."""
    made = {}

    def of(freeze):
        if freeze not in made:
            folder = tmp_path_factory.mktemp("good")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RESTUNE_CACHE", str(folder / "cache"))
                made[freeze] = tuned(start, folder / "run", freeze), folder / "cache"
            assert list((folder / "cache" / "features").glob("*/*.safetensors"))
        return made[freeze]

    return of


def tensors(run):
    return run.model.module.state_dict()


def assert_equal(one, other):
    assert all(torch.equal(value, tensors(other)[name]) for name, value in tensors(one).items())
    assert (one.out / "metrics.jsonl").read_bytes() == (other.out / "metrics.jsonl").read_bytes()


def warnings(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]


def full_disk(*_arguments, **_more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def file_in_its_place(monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "a file"))


def read_only(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTUNE_CACHE", "/proc/1/restune")


def full(monkeypatch, tmp_path):
    monkeypatch.setattr(rowstore, "save_file", full_disk)


def full_as_safetensors_says_it(monkeypatch, tmp_path):
    """A limit on the size of files, which the system enforces as it does a full disk, below torch and Python."""
    original = rowstore.save_file

    def limited(*arguments, **more):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            original(*arguments, **more)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(rowstore, "save_file", limited)


def no_home(monkeypatch, tmp_path):
    """Neither HOME nor an entry of this user in the passwd file."""
    for name in ("RESTUNE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567)


def no_such_home(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTUNE_CACHE", "~nobody-of-that-name/cache")


FAULTS = (file_in_its_place, read_only, full, full_as_safetensors_says_it, no_home, no_such_home)


@pytest.mark.parametrize("freeze", ["all", 1])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_run_without_a_folder_is_the_same_run_with_one_warning(
    start, good, tmp_path, monkeypatch, capsys, fault, freeze
):  # fmt: skip
    expected, _ = good(freeze)
    assert not warnings(capsys)
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "empty"))
    fault(monkeypatch, tmp_path)
    bad = tuned(start, tmp_path / "bad", freeze)
    (said,) = warnings(capsys)
    assert "RESTUNE_CACHE" in said
    assert "held in memory" in said
    assert_equal(expected, bad)


def test_a_read_only_cache_is_still_read(start, good, tmp_path, monkeypatch, capsys):
    expected, cache = good("all")
    shutil.copytree(cache, cache_folder(), dirs_exist_ok=True)
    monkeypatch.setattr(rowstore, "save_file", full_disk)
    bad = tuned(start, tmp_path / "bad")
    assert not warnings(capsys), "there was nothing to write"
    assert bad.result["head"]["features_computed"] == 0
    assert_equal(expected, bad)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[-5] ^= 255
    elif how == "header":
        content[12] ^= 255
    elif how == "length":
        content[:8] = (2**40).to_bytes(8, "little")
    elif how == "keys":
        start = 8 + int.from_bytes(content[:8], "little")
        content[start] ^= 1
    path.write_bytes({"cut": content[:-40], "empty": b"", "header only": content[:20]}.get(how, content))


@pytest.mark.parametrize("how", ["cut", "empty", "header only", "flipped", "header", "length", "keys"])
def test_damaged_segments_are_computed_again(start, good, tmp_path, capsys, how):
    expected, cache = good(1)
    shutil.copytree(cache, cache_folder(), dirs_exist_ok=True)
    segments = list((cache_folder() / "features").glob("*/*.safetensors"))
    assert len(segments) > 1
    for path in segments:
        damage(path, how)
    assert all(store.folder.is_dir() for store in cached_features()), "listing takes no harm"
    bad = tuned(start, tmp_path / "bad", 1)
    (said,) = warnings(capsys)
    assert "damaged" in said
    assert "RESTUNE_CACHE" in said
    assert_equal(expected, bad)
    again = tuned(start, tmp_path / "again", 1)
    assert not warnings(capsys), "what was damaged has been replaced"
    assert_equal(expected, again)


def test_large_segments_are_checked_to_the_last_byte_too(tmp_path):
    """As large as those that tables of many items are written in."""
    store = RowStore(tmp_path / "store", {})
    store.add([bytes(16)], np.ones((1, 257 * 2**18), np.float32))
    (path,) = tmp_path.glob("store/*.safetensors")
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"?")
    assert not RowStore(tmp_path / "store", {}).places


def test_a_segment_of_another_shape_is_damage(tmp_path, capsys):
    store = RowStore(tmp_path / "store", {})
    store.add([bytes(16)], np.ones((1, 4), np.float32))
    RowStore(tmp_path / "other", {}).add([b"1" * 16], np.ones((1, 5), np.float32))
    (foreign,) = tmp_path.glob("other/*.safetensors")
    shutil.copy(foreign, tmp_path / "store" / "zz.safetensors")
    assert set(RowStore(tmp_path / "store", {}).places) == {bytes(16)}
    assert len(warnings(capsys)) == 1


def table(photos, cache=None):
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=2).eval()
    cache = cache or FeatureCache(network, PREPROCESS)
    return cache, cache.of(open_dataset(photos).items)


def test_pruning_does_not_take_features_out_of_use(photos, capsys):
    cache, first = table(photos)
    expected = first.rows[0:6].clone()
    assert len(prune_features(to=0)) == 1
    assert torch.equal(first.rows[0:6], expected)
    _, again = table(photos, cache)
    assert again.computed == 0, "what this process has mapped is still there"
    assert torch.equal(again.rows[0:6], expected)
    assert table(photos)[1].computed == 6, "another process computes them again"
    assert not warnings(capsys)


def test_features_that_are_pruned_as_soon_as_they_are_written(photos, monkeypatch, capsys):
    expected = table(photos)[1].rows[0:6].clone()
    prune_features(to=0)
    original = rowstore.written_whole

    def pruned(path):
        return _then(original(path), lambda: shutil.rmtree(path.parent))

    monkeypatch.setattr(rowstore, "written_whole", pruned)
    _, found = table(photos)
    assert torch.equal(found.rows[0:6], expected)
    (said,) = warnings(capsys)
    assert "another process removed cached features" in said
    assert "RESTUNE_CACHE" in said


def test_a_segment_that_goes_between_listing_and_opening(photos, monkeypatch, capsys):
    expected = table(photos)[1].rows[0:6].clone()
    original = rowstore._open_segment
    monkeypatch.setattr(rowstore, "_open_segment", lambda path: (path.unlink(missing_ok=True), original(path))[1])
    _, found = table(photos)
    assert found.computed == 6
    assert torch.equal(found.rows[0:6], expected)
    (said,) = warnings(capsys)
    assert "RESTUNE_CACHE" in said


class _then:  # noqa: N801  # reads as a word
    """A context manager, and what comes after it."""

    def __init__(self, manager, action):
        self.manager, self.action = manager, action

    def __enter__(self):
        return self.manager.__enter__()

    def __exit__(self, *error):
        self.manager.__exit__(*error)
        self.action()


def _write_and_read(folder, pruned):
    """Write half of the rows, and the rest once a process has pruned."""
    store = RowStore(Path(folder), {"what": "a test"})
    keys = [[bytes([start, row] + [0] * 14) for row in range(50)] for start in range(40)]
    for start, part in enumerate(keys):
        if start == 20:
            assert pruned.wait(240)
        store.add(part, np.full((50, 8), start, np.float32))
    rows = store.rows([key for part in keys for key in part]).take(slice(None))
    assert rows[:, 0].tolist() == [start for start in range(40) for _ in range(50)]


def test_two_write_while_a_third_prunes(tmp_path):
    context = multiprocessing.get_context("spawn")
    pruned = context.Event()
    writers = [context.Process(target=_write_and_read, args=(str(tmp_path / "store"), pruned)) for _ in range(2)]
    for writer in writers:
        writer.start()
    limit = time.monotonic() + 240
    while any(writer.is_alive() for writer in writers) and time.monotonic() < limit:
        is_there = (tmp_path / "store").is_dir()
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        if is_there:
            pruned.set()
        time.sleep(0.01)
    assert pruned.is_set()
    assert [writer.exitcode for writer in writers] == [0, 0]


def test_what_fits_neither_on_disk_nor_in_memory_is_computed_in_each_epoch(start, tmp_path, monkeypatch, capsys):
    file_in_its_place(monkeypatch, tmp_path)
    monkeypatch.setattr(feature_batches, "memory_bytes", lambda: 1000)
    run = tuned(start, tmp_path / "run", 1)
    (said,) = warnings(capsys)
    assert "the frozen layers are computed again in each epoch" in said
    assert "does not fit in memory" in said
    assert "RESTUNE_CACHE" in said
    plain = tuned(start, tmp_path / "plain", 1, set={"cache": False})
    assert_equal(run, plain)


def test_a_disk_that_fills_up_amid_a_table_larger_than_memory(start, tmp_path, monkeypatch, capsys):
    """Which no look at the free space could tell before."""
    monkeypatch.setattr(rowstore, "save_file", full_disk)
    monkeypatch.setattr(features, "memory_bytes", lambda: 1000)
    run = tuned(start, tmp_path / "run", 1)
    first, second = warnings(capsys)
    assert "cannot be written (No space left on device)" in first
    assert "computed again in each epoch" in second
    assert run.result["epochs"] == 4
    with pytest.raises(StoreFullError, match=r"neither on the disk nor in memory[\s\S]*RESTUNE_CACHE"):
        tuned(start, tmp_path / "head")


def test_little_of_the_disk_is_free(start, good, tmp_path, monkeypatch, capsys):
    expected, _ = good(1)
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "small"))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(feature_batches.shutil, "disk_usage", lambda _folder: usage)
    bad = tuned(start, tmp_path / "bad", 1)
    (said,) = warnings(capsys)
    assert "held in memory" in said
    assert "RESTUNE_CACHE" in said
    assert not list((tmp_path / "small").rglob("*.safetensors"))
    assert_equal(expected, bad)


@pytest.mark.parametrize("fault", [file_in_its_place, no_home], ids=lambda fault: fault.__name__)
def test_what_compiling_gains_is_not_remembered(tmp_path, monkeypatch, capsys, fault):
    spec = restune.create_model("resnet8").spec
    fault(monkeypatch, tmp_path)
    for _ in range(2):
        compile_gains.record_compile_gain(spec, (2, 3, 32, 32), "fp32", torch.device("cpu"), 1.5)
    assert compile_gains.known_compile_gain(spec, (2, 3, 32, 32), "fp32", torch.device("cpu")) is None
    (said,) = warnings(capsys)
    assert "RESTUNE_CACHE" in said


def test_the_cache_verb_names_what_it_cannot_do(photos, tmp_path, monkeypatch, capsys, run):
    table(photos)
    monkeypatch.setattr(shutil, "rmtree", lambda *_a, **_k: None)
    assert prune_features(to=0) == []
    (said,) = warnings(capsys)
    assert "cannot be removed" in said
    assert "RESTUNE_CACHE" in said
    monkeypatch.setattr(Path, "is_dir", lambda path: full_disk() if path.name == "features" else path.exists())
    with pytest.raises(restune.UserError, match=r"cannot be read[\s\S]*RESTUNE_CACHE"):
        cached_features()
    monkeypatch.undo()
    no_home(monkeypatch, tmp_path)
    done = run("cache")
    assert done.returncode == 2
    assert "RESTUNE_CACHE" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_of_a_user_without_a_home(photos, tmp_path):
    """In a process of its own, without HOME, on a uid that has no passwd entry."""
    torch.save(restune.create_model("resnet8", num_classes=2).state_dict(), tmp_path / "weights.pth")
    model = restune.load("resnet8", weights=tmp_path / "weights.pth").save(tmp_path / "model.safetensors")
    script = (
        "import os, sys; os.getuid = lambda: 1234567\n"
        f"sys.argv = ['restune', 'embed', {str(model)!r}, {str(photos)!r}, '--out', {str(tmp_path / 'f.npz')!r}, "
        "'--json']\n"
        "from restune.cli import main; main()"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "RESTUNE_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == 6
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert "RESTUNE_CACHE" in said
