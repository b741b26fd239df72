"""Calling restune from a program changes nothing there: no generator, thread, filter, handler or allocation."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import sklearn.model_selection
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.io import wavfile

import restune
from restune.core import allocator
from restune.core.shared_setting import SharedSetting
from restune.data.ahead import ahead
from restune.data.decode import decode_image
from restune.data.threads import computing_threads
from restune.data.wav import decode_wav
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.networks.zoo import find

IMPORTED = (scipy.optimize, sklearn.model_selection)
"""What these set at their first import (filters, KMP_* in the environment, a draw) is theirs, whoever imports them."""

SETTINGS: dict[str, Any] = {"model": "resnet8", "epochs": 1, "batch_size": 4, "image_size": 16, "seed": 3}
DROPOUT = {"spec.dropout": 0.2, "spec.drop_path": 0.1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_noise) -> Path:
    return write_noise(tmp_path_factory.mktemp("guest") / "photos", bright=(120, 12), dark=(0, 12))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, photos) -> Path:
    os.environ.setdefault("RESTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return restune.train(photos, out=tmp_path_factory.mktemp("run") / "run", **SETTINGS).out


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def program_state() -> dict[str, Any]:
    """Everything of a program that a library could change under its hands."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": (kind, keys.tolist(), *rest),
        "random's generator": random.getstate(),
        "threads here": torch.get_num_threads(),
        "threads of a new thread": threads_of_a_new_thread(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "precision": torch.get_float32_matmul_precision(),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


CALLS = ("load", "predict", "Model.predict", "evaluate", "embed", "create_model", "train", "finetune", "bench")


def call(name: str, photos: Path, bundle: Path, out: Path) -> object:
    """One public function, called as a program does."""
    calls: dict[str, Callable[[], object]] = {
        "load": lambda: restune.load(bundle),
        "predict": lambda: restune.predict(bundle, photos),
        "Model.predict": lambda: restune.load(bundle).predict(np.zeros((20, 20, 3), np.uint8)),
        "evaluate": lambda: restune.evaluate(bundle, photos),
        "embed": lambda: restune.embed(bundle, photos),
        "create_model": lambda: restune.create_model("resnet8", weights=bundle),
        "train": lambda: restune.train(photos, out=out, **SETTINGS, set=DROPOUT),
        "finetune": lambda: restune.finetune(photos, weights=bundle, out=out, epochs=2, batch_size=4, threads=1),
        "bench": lambda: restune.bench(["resnet8"], batch_size=2, seconds=0.01, threads=1),
    }
    return calls[name]()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_program_as_it_was(name, photos, bundle, tmp_path):
    torch.manual_seed(5)
    before = program_state()
    call(name, photos, bundle, tmp_path / "out")
    after = program_state()
    assert {key for key in before if before[key] != after[key]} == set()


FIRST_USE = """
import os, signal, sys, warnings
import PIL.Image, sklearn.model_selection, scipy.io.wavfile, scipy.optimize, torch, torchvision, matplotlib.figure
def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return list(warnings.filters), warnings.showwarning, handlers, dict(os.environ), torch.get_rng_state().tolist()
before = state()
import restune
from restune.data import decode, wav
restune.evaluate(sys.argv[1], sys.argv[2])
restune.train(sys.argv[2], out=sys.argv[3], model="resnet8", epochs=1, batch_size=4, image_size=16)
names = ("filters", "showwarning", "handlers", "environment", "generator")
print([name for name, old, new in zip(names, before, state()) if old != new])
"""


def test_the_first_use_leaves_the_program_as_it_was(photos, bundle, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE, bundle, photos, tmp_path / "out"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_loading_draws_nothing_and_gives_the_weights(bundle):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    loaded = restune.load(bundle).module.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    file = load_file(bundle / "model.safetensors")
    assert set(loaded) == set(file)
    assert all(torch.equal(loaded[name], file[name]) for name in file)


def test_counters_that_old_checkpoints_lack_start_at_zero(tmp_path):
    state = {key: value for key, value in ResNet(find("resnet8").spec).state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    made = restune.create_model("resnet8", weights=tmp_path / "old.pth").state_dict()
    assert {int(value) for name, value in made.items() if "num_batches" in name} == {0}
    assert all(torch.equal(made[name], value) for name, value in state.items())


def test_a_fresh_head_is_what_a_fresh_network_has(bundle):
    torch.manual_seed(7)
    fresh = ResNet(find("resnet8").spec.override(num_classes=5))
    torch.manual_seed(7)
    made = restune.create_model("resnet8", weights=bundle, num_classes=5)
    assert torch.equal(made.fc.weight, fresh.fc.weight)


def test_a_seeded_block_draws_as_manual_seed_does_and_restores_the_generator():
    torch.manual_seed(11)
    expected = torch.randn(4)
    torch.manual_seed(5)
    following = torch.randn(4)
    torch.manual_seed(5)
    with seeded(11):
        assert torch.equal(torch.randn(4), expected)
    assert torch.equal(torch.randn(4), following)


def test_a_number_of_threads_concerns_one_thread():
    here, other = torch.get_num_threads(), 1 if torch.get_num_threads() > 1 else 2
    ready, done = threading.Event(), threading.Event()
    seen: list[int] = []

    def bystander() -> None:
        seen.append(torch.get_num_threads())
        ready.wait(60)
        seen.append(torch.get_num_threads())
        done.set()

    thread = threading.Thread(target=bystander)
    thread.start()
    with computing_threads(other):
        assert torch.get_num_threads() == other
        newcomer = threads_of_a_new_thread()
        ready.set()
        assert done.wait(60)
    thread.join()
    assert (torch.get_num_threads(), newcomer, seen) == (here, here, [here, here])


def test_the_number_of_threads_decides_matrix_products_too():
    """MKL keeps a number of its own for each thread, once ``torch.set_num_threads`` has been called in it."""
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL")
    script = """
import torch
from restune.data.threads import computing_threads
def used():
    return [line for line in torch.__config__.parallel_info().splitlines() if "mkl_get_max" in line]
torch.set_num_threads(3)
before = used()
with computing_threads(2):
    print(used()[0].split()[-1], torch.get_num_threads())
print(used() == before, torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "2", "True", "3"]


def test_workers_compute_with_one_thread_each():
    torch.get_num_threads()
    assert set(ahead(lambda _: torch.get_num_threads(), range(8), workers=2, depth=4)) == {1}


def test_eight_threads_that_predict_get_what_each_gets_alone(bundle):
    model = restune.load(bundle)
    inputs = [list(np.random.default_rng(seed).integers(0, 255, (9, 24, 24, 3), np.uint8)) for seed in range(8)]
    alone = [[answer.top for answer in model.predict(images)] for images in inputs]

    def predict(images: list[Any]) -> tuple[int, list[Any], int]:
        before = torch.get_num_threads()
        answers = [answer.top for answer in model.predict(images, batch_size=4)]
        return before, answers, torch.get_num_threads()

    whole = [[answer.top for answer in model.predict(images, batch_size=4)] for images in inputs]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(predict, inputs))
    assert [answers for _, answers, _ in results] == whole
    assert [[top[0][0] for top in answers] for answers in whole] == [[top[0][0] for top in tops] for tops in alone]
    assert {count for before, _, after in results for count in (before, after)} == {torch.get_num_threads()}


@pytest.mark.slow
def test_runs_in_threads_give_what_one_alone_gives(photos, tmp_path):
    def digest(number: int) -> str:
        settings = SETTINGS | {"threads": 1, "workers": 1}
        run = restune.train(photos, out=tmp_path / str(number), **settings, set=DROPOUT)
        tensors = load_file(run.out / "model.safetensors")
        return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()

    alone = digest(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(digest, range(1, 9))) == {alone}


def test_a_shared_setting_is_restored_by_the_last_block():
    value = ["usual"]

    def change() -> Callable[[], None]:
        before, value[0] = value[0], "changed"
        return lambda: value.__setitem__(0, before)

    setting = SharedSetting(change)
    first, second = setting.wanted(), setting.wanted()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert value == ["changed"]
    second.__exit__(None, None, None)
    assert value == ["usual"]


ALLOCATION = """
import ctypes, resource, sys, time
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def faults(size):
    "Pages that the kernel clears for one allocation, as large as the one before it."
    counts = []
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        place = library.malloc(size)
        ctypes.memset(place, 1, size)
        library.free(place)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return sorted(counts)[4]
import numpy as np, restune
from restune.core.allocator import freed_memory_kept
model = restune.load(sys.argv[1])
faults(2**25 - 2**20)
before = [faults(2**20), faults(24 * 2**20)]
images = list(np.zeros((40, 20, 20, 3), np.uint8))
model.predict(images, batch_size=4)
with freed_memory_kept():
    faults(80 * 2**20)
    inside = faults(80 * 2**20)
after = [faults(2**20), faults(24 * 2**20)]
started = time.perf_counter()
for _ in range(500):
    np.ones(2**17)
print(inside, *before, *after, round(1e6 * (time.perf_counter() - started) / 500))
"""


@pytest.mark.skipif(allocator._glibc() is None, reason="only glibc is set, and this is another C library")
def test_the_callers_large_allocations_cost_what_they_did(bundle):
    done = subprocess.run([sys.executable, "-c", ALLOCATION, bundle], capture_output=True, text=True, check=True)
    inside, small_before, large_before, small, large, fill = map(int, done.stdout.split())
    print(
        f"pages cleared for 1 and 24 MiB: {small_before}, {large_before} before; {small}, {large} after; fill {fill} us"
    )
    assert inside < 80 * 256 / 10  # within the block nothing is given back
    assert small <= small_before + 256 / 10
    assert large <= large_before + 24 * 256 / 10


def test_thresholds_that_the_environment_sets_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_set", lambda *_: pytest.fail("the C library was set"))
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000000")
    with allocator.freed_memory_kept():
        pass
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    with allocator.freed_memory_kept():
        pass


def test_one_batch_leaves_the_c_library_alone(bundle, monkeypatch):
    monkeypatch.setattr(allocator, "_set", lambda *_: pytest.fail("the C library was set"))
    restune.load(bundle).predict(np.zeros((20, 20, 3), np.uint8))


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_recording_with_chunks_of_other_programs_is_read_without_a_warning(order):
    samples = (np.arange(-500, 500) * 30).astype("<i2" if order == "little" else ">i2").tobytes()
    form = b"".join(
        value.to_bytes(size, order) for value, size in ((1, 2), (1, 2), (8000, 4), (16000, 4), (2, 2), (16, 2))
    )

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + len(content).to_bytes(4, order) + content

    def file(*chunks: bytes) -> bytes:
        return chunk(b"RIFF" if order == "little" else b"RIFX", b"WAVE" + b"".join(chunks))

    plain = file(chunk(b"fmt ", form), chunk(b"data", samples))
    notes = chunk(b"bext", b"notes!")
    other = file(notes, chunk(b"fmt ", form), notes, chunk(b"data", samples), notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode_wav(other, None), decode_wav(plain, None))
    with pytest.warns(wavfile.WavFileWarning):
        wavfile.read(io.BytesIO(other))


def test_a_jpeg_is_read_where_warnings_are_errors():
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30), "red").save(buffer, "JPEG", quality=95)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(buffer.getvalue()).shape == (3, 30, 20)
