"""Checkpoints that hold more than tensors: the tensors are read, nothing runs, and no file takes long or much."""

from __future__ import annotations

import argparse
import collections
import copyreg
import datetime
import enum
import io
import pathlib
import pickle
import sys
import time
import types
import zipfile

import numpy as np
import pytest
import torch

import restune
from restune.weights import unpickle as module
from restune.weights.checkpoint import read_checkpoint
from restune.weights.load import read_weights
from restune.weights.unpickle import StandIn

MARK = "what is replaced"
SECONDS = 30
"""Processor time that a reader takes at most; where it grows with the square of the size, it takes many minutes."""


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return restune.create_model("resnet8").state_dict()


def text(value):
    content = str(value).encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def write(path, content, payload=None, zipped=True):
    """What torch.save writes, with the text MARK in its pickle replaced by opcodes that leave one object."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    saved = buffer.getvalue()
    if payload is not None and zipped:
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(saved)) as old, zipfile.ZipFile(changed, "w") as new:
            for info in old.infolist():
                held = old.read(info)
                if info.filename.endswith("data.pkl"):
                    assert held.count(text(MARK)) == 1
                    held = held.replace(text(MARK), payload)
                new.writestr(info.filename, held)
        saved = changed.getvalue()
    elif payload is not None:
        assert saved.count(text(MARK)) == 1
        saved = saved.replace(text(MARK), payload)
    path.write_bytes(saved)
    return path


def missing_class(module_name, name, *bases):
    """A class that was there when the file was written and is not when it is read."""
    made = type(name, bases or (object,), {"__module__": module_name, "__qualname__": name})
    parts = module_name.split(".")
    for length in range(1, len(parts) + 1):
        sys.modules[".".join(parts[:length])] = types.ModuleType(".".join(parts[:length]))
    setattr(sys.modules[module_name], name, made)
    return made


def forget(module_name):
    parts = module_name.split(".")
    for length in range(1, len(parts) + 1):
        del sys.modules[".".join(parts[:length])]


class Colour(enum.Enum):
    RED = 1


class Settings:
    def __init__(self):
        self.rate = 0.1


BENIGN = {
    "namespace": (lambda: argparse.Namespace(lr=0.1, data="/imagenet"), "argparse.Namespace"),
    "number": (lambda: np.float64(76.1), "numpy number"),
    "array": (lambda: np.arange(6).reshape(2, 3), "numpy array"),
    "objects": (lambda: np.array([{}, None], dtype=object), "numpy array"),
    "path": (lambda: pathlib.PosixPath("/imagenet"), "pathlib.PosixPath"),
    "date": (lambda: datetime.datetime(2020, 1, 1), "datetime.datetime"),
    "enumeration": (lambda: Colour.RED, "Colour"),
    "own class": (lambda: [{"inner": (Settings(),)}], "Settings"),
    "default": (lambda: collections.defaultdict(list, a=[1]), "collections.defaultdict"),
    "class": (lambda: argparse.Namespace, "argparse.Namespace"),
    "method": (lambda: [].append, "builtins.getattr"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", BENIGN)
def test_what_training_scripts_store_is_skipped_and_named(state, tmp_path, kind, zipped):
    make, name = BENIGN[kind]
    path = tmp_path / "weights.pth"
    torch.save({"model": state, "epoch": 3, "extra": make()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    weights = read_weights(path)
    assert equal(weights.state, state)
    (skipped,) = weights.skipped
    assert skipped.startswith("extra (")
    assert skipped.endswith(f"{name})")


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_of_either_major_version(state, tmp_path, zipped):
    for path, name in ((tmp_path / "2.ckpt", b"cnumpy._core."), (tmp_path / "1.ckpt", b"cnumpy.core.")):
        scalar = pickle.dumps(np.float32(0.5), protocol=2)
        assert b"cnumpy._core.multiarray\n" in scalar
        payload = scalar[2:-1].replace(b"cnumpy._core.", name)
        write(path, {"state_dict": state, "best_acc1": MARK}, payload, zipped)
        assert equal(read_weights(path).state, state)
        assert read_weights(path).skipped == ("best_acc1 (numpy number)",)


def test_a_lightning_checkpoint(state, tmp_path, capsys):
    place = "lightning_like.utilities.data"
    attributes = missing_class(place, "AttributeDict", dict)
    config = missing_class("omegaconf_like.dictconfig", "DictConfig")
    stored = config()
    stored._content = {"lr": 0.1}
    content = {
        "epoch": 9,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": collections.OrderedDict((f"model.{key}", value) for key, value in state.items()),
        "loops": {"fit_loop": {"epoch_progress": {"total": {"ready": 10}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": np.float32(0.9), "best_k_models": {}}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}],
        "hparams_name": "kwargs",
        "hyper_parameters": attributes(lr=0.1, path=pathlib.PosixPath("/data"), config=stored),
    }
    torch.save(content, tmp_path / "last.ckpt")
    forget(place)
    forget("omegaconf_like.dictconfig")
    network = restune.create_model("resnet8", weights=tmp_path / "last.ckpt")
    assert equal(dict(network.state_dict()), dict(state))
    said = capsys.readouterr().err
    assert "skipped objects: callbacks (numpy number), hyper_parameters (lightning_like.utilities.data" in said
    assert said.count("skipped") == 1


@pytest.mark.parametrize("zipped", [True, False])
def test_the_same_tensors_as_torch(tmp_path, zipped):
    """Views, shared storages, orders and types, by torch's own reader with everything allowed."""
    base = torch.arange(24.0)
    tensors = {
        "view": base[4:10],
        "transposed": base.view(4, 6).T,
        "strided": base[::5],
        "parameter": torch.nn.Parameter(torch.ones(2, 3)),
        "buffer": torch.nn.Buffer(torch.ones(3)),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 5),
        "expanded": torch.ones(1, 3).expand(4, 3),
        "bool": torch.tensor([True, False]),
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.half, torch.bfloat16, torch.double, torch.complex64)},
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.int8, torch.uint8, torch.int16, torch.int32)},
    }
    with_attribute = torch.ones(2)
    with_attribute.mark = "x"
    tensors["attribute"] = with_attribute
    path = tmp_path / "weights.pth"
    torch.save({**tensors, "args": argparse.Namespace()}, path, _use_new_zipfile_serialization=zipped)
    content = read_checkpoint(path).content
    expected = torch.load(path, weights_only=False)
    assert isinstance(content.pop("args"), StandIn)
    assert set(content) == set(tensors)
    for name, tensor in content.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name
        assert tensor.stride() == expected[name].stride(), name
        assert type(tensor) is torch.Tensor
    assert content["view"].untyped_storage().data_ptr() == content["strided"].untyped_storage().data_ptr()


def test_a_whole_network_gives_its_state_dict(tmp_path):
    network = torch.nn.DataParallel(restune.create_model("resnet8"))
    network.module.register_buffer("scratch", torch.zeros(3), persistent=False)
    for content in (network, {"epoch": 1, "model": network}):
        for zipped in (True, False):
            torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
            weights = read_weights(tmp_path / "weights.pth")
            assert equal(weights.state, network.module.state_dict())
            assert "torch.nn.parallel.data_parallel.DataParallel" in weights.skipped[0]


# Hostile files: opcodes that leave one object. Where `logging.FileHandler` is called, a file appears at the proof.

HANDLER = b"clogging\nFileHandler\n"
CALLS = {
    "reduce": lambda p: HANDLER + text(p) + b"\x85R",
    "reduce, mark": lambda p: HANDLER + b"(" + text(p) + b"tR",
    "inst": lambda p: b"(" + text(p) + b"ilogging\nFileHandler\n",
    "obj": lambda p: b"(" + HANDLER + text(p) + b"o",
    "stack global": lambda p: text("logging") + text("FileHandler") + b"\x93" + text(p) + b"\x85R",
    "partial": lambda p: b"cfunctools\npartial\n(" + HANDLER + text(p) + b"tR)R",
    "partial, built": lambda p: (
        b"cfunctools\npartial\n(" + b"cbuiltins\nint\ntR(" + HANDLER + text(p) + b"\x85}NtbN0)R"
    ),
    "method": lambda p: (
        b"coperator\nmethodcaller\n(" + text("touch") + b"tR(cpathlib\nPosixPath\n(" + text(p) + b"tRtR"
    ),
    "getattr": lambda p: b"cbuiltins\ngetattr\n(cpathlib\nPosixPath\n(" + text(p) + b"tR" + text("touch") + b"tR)R",
    "map": lambda p: b"cbuiltins\nlist\n(cbuiltins\nmap\n(" + HANDLER + b"(" + text(p) + b"ttRtR",
    "in an array of objects": lambda p: pickle.dumps(np.array([Handler(p)], dtype=object), protocol=2)[2:-1],
    "in a tensor's bytes": lambda p: b"ctorch.storage\n_load_from_bytes\n(" + packed(p) + b"tR",
    "in a dictionary's factory": lambda p: (
        b"coperator\ngetitem\n(ccollections\ndefaultdict\n(cfunctools\npartial\n(" + HANDLER + text(p) + b"tRtRNtR"
    ),
    "extension 1": lambda p: b"\x82\xf1" + text(p) + b"\x85R",
    "extension 2": lambda p: b"\x83\xf1\x00" + text(p) + b"\x85R",
    "extension 4": lambda p: b"\x84\xf1\x00\x00\x00" + text(p) + b"\x85R",
}


class Handler:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        import logging

        return logging.FileHandler, (str(self.proof),)


def packed(proof):
    buffer = io.BytesIO()
    torch.save(Handler(proof), buffer)
    content = buffer.getvalue()
    return b"B" + len(content).to_bytes(4, "little") + content


@pytest.fixture
def extension():
    copyreg.add_extension("logging", "FileHandler", 0xF1)
    yield
    copyreg.remove_extension("logging", "FileHandler", 0xF1)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", CALLS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_calls_are_inert(state, tmp_path, form, zipped, extension):
    path, proof = tmp_path / "weights.pth", tmp_path / "code ran"
    write(path, {"state_dict": state, "payload": MARK}, CALLS[form](proof), zipped)
    weights = read_weights(path)
    assert not proof.exists()
    assert equal(weights.state, state)
    assert weights.skipped[0].startswith("payload (")
    content = read_checkpoint(path).content["payload"]
    assert type(content) is StandIn
    torch.load(path, weights_only=False)  # the file is indeed dangerous
    assert proof.exists()


NAMESPACE = b"cargparse\nNamespace\n)\x81"
INERT = {
    "class by state": NAMESPACE + b"}" + text("__class__") + HANDLER + b"sb",
    "class by slots": NAMESPACE + b"N}" + text("__class__") + HANDLER + b"s\x86b",
    "reduce by state": NAMESPACE + b"}(" + text("__reduce_ex__") + HANDLER + text("__setstate__") + HANDLER + b"ub",
    "state of a function": b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__code__") + HANDLER + b"s\x86b",
    "state of a dictionary": b"ccollections\nOrderedDict\n)R}" + text("__class__") + HANDLER + b"sb",
    "new with keywords": HANDLER + b")}" + text("filename") + text("code ran") + b"s\x92",
    "call of a stand-in": NAMESPACE + b")R)R)R",
    "call of a number": b"K\x01)R",
    "call without a tuple": HANDLER + b"K\x01R",
    "items of a stand-in": NAMESPACE + b"(" + text("a") + b"K\x01u",
    "elements of a stand-in": NAMESPACE + b"(K\x01K\x02e",
    "itself as its state": NAMESPACE + b"2b",
    "array of objects": b"cnumpy\ndtype\n(" + text("O8") + b"\x89\x88tR",
    "large byte array": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR",
    "large range": b"cbuiltins\nset\n(cbuiltins\nrange\n(J\xff\xff\xff\x7ftRtR",
    "codec": b"c_codecs\nencode\n(" + text("aa") + text("zip") + b"tR",
}


@pytest.mark.parametrize("form", INERT)
def test_misuse_of_stand_ins(state, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "weights.pth", {"state_dict": state, "args": MARK}, INERT[form])
    before = module._OPERATIONS["torch._utils._rebuild_tensor_v2"].run.__code__
    assert equal(read_weights(path).state, state)
    assert module._OPERATIONS["torch._utils._rebuild_tensor_v2"].run.__code__ is before
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize(
    "name",
    ["torch.hub load", "torch.ops load_library", "torch.jit load", "torch.package PackageImporter", "torch.hub list"],
)
def test_functions_of_torch_are_not_called(state, tmp_path, monkeypatch, name):
    called = []
    owner, function = name.split()
    for part in owner.split(".")[1:]:
        target = getattr(torch, part)
    monkeypatch.setattr(target, function, lambda *arguments: called.append(arguments))
    payload = b"c" + name.replace(" ", "\n").encode() + b"\n" + text("x") + b"\x85R"
    path = write(tmp_path / "weights.pth", {"state_dict": state, "payload": MARK}, payload)
    weights = read_weights(path)
    assert not called
    assert weights.skipped == (f"payload ({name.replace(' ', '.')})",)
    torch.load(path, weights_only=False)
    assert called


def test_what_only_an_attack_needs_is_refused(state, tmp_path):
    for name in ("posix system", "os system", "builtins eval", "__builtin__ execfile", "subprocess Popen", "nt system"):
        payload = b"c" + name.replace(" ", "\n").encode() + b"\n" + text("touch 'code ran'") + b"\x85R"
        for zipped in (True, False):
            path = write(tmp_path / "weights.pth", {"state_dict": state, "payload": MARK}, payload, zipped)
            with pytest.raises(
                restune.UserError, match=f"would run {name.replace(' ', '.').replace('__builtin__', 'builtins')}"
            ):
                read_weights(path)


def storage(key="0", size=4, kind=b"ctorch\nFloatStorage\n", word="storage"):
    return b"(" + text(word) + kind + text(key) + text("cpu") + b"J" + size.to_bytes(4, "little") + b"tQ"


def tensor(held, offset=b"K\x00", shape=b"K\x04\x85", stride=b"K\x01\x85"):
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + held
        + offset
        + shape
        + stride
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


LONG = b"\x8a\x09" + bytes(7) + b"\x40\x00"
LYING = {
    "beyond the archive": tensor(storage("../data.pkl")),
    "not there": tensor(storage("999")),
    "absolute": tensor(storage("/etc/passwd")),
    "larger than its storage": tensor(storage(size=10**6), shape=b"J\x40\x42\x0f\x00\x85"),
    "beyond its storage": tensor(storage(), shape=b"K\x05\x85"),
    "offset": tensor(storage(), offset=b"K\x02"),
    "negative offset": tensor(storage(), offset=b"J\xff\xff\xff\xff"),
    "negative shape": tensor(storage(), shape=b"J\xff\xff\xff\xff\x85"),
    "negative stride": tensor(storage(), stride=b"J\xff\xff\xff\xff\x85"),
    "long stride": tensor(storage(), stride=LONG + b"\x85"),
    "huge shape": tensor(storage(), shape=LONG + b"\x85", stride=b"K\x00\x85"),
    "two shapes": tensor(storage(), shape=b"K\x02K\x02\x86"),
    "shape of text": tensor(storage(), shape=text("4") + b"\x85"),
    "no storage": tensor(b"N"),
    "a class for a storage": tensor(NAMESPACE),
    "another identity": storage(word="module"),
    "identity of text": text("0") + b"Q",
    "identity of a number": b"K\x00Q",
    "identity of a dictionary": b"}Q",
    "type of text": tensor(storage(kind=text("FloatStorage"))),
    "type of another": tensor(storage(kind=NAMESPACE)),
    "text identity": b"Px\n",
    "buffer": b"\x97",
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", LYING)
def test_lying_tensors(state, tmp_path, form, zipped):
    content = {"payload": MARK, "args": argparse.Namespace(), "state_dict": {"fc.bias": torch.zeros(4), **state}}
    path = write(tmp_path / "weights.pth", content, LYING[form], zipped)
    with pytest.raises(restune.UserError, match="not a readable checkpoint") as caught:
        read_weights(path)
    assert "\n" not in caught.value.what


def tower(empty, level):
    """Forty containers, each of which holds the one before ten times; `level` gives one's opcodes."""
    return empty + b"q\x00" + b"".join(level(b"h" + bytes([n])) + b"q" + bytes([n + 1]) for n in range(40))


TUPLES = tower(b")", lambda before: b"(" + before * 10 + b"t")
LARGE = {
    "lists": tower(b"]", lambda before: b"](" + before * 10 + b"e"),
    "tuples": TUPLES,
    "dictionaries": tower(b"}", lambda before: b"}(" + b"".join(b"K%c" % k + before for k in range(10)) + b"u"),
    "tuples as keys": TUPLES + b"0}h\x28K\x01s",
    "tuples in a set": TUPLES + b"0\x8f(h\x28\x90",
    "deep tuples": b")" + b"\x85" * 400_000,
    "deep lists": b"]" * 1 + b"".join(b"q\x000]h\x00a" for _ in range(100_000)),
    "keys of one hash": b"}("
    + b"".join(b"\x8a\x0c" + (n * (2**61 - 1)).to_bytes(12, "little") + b"N" for n in range(1, 100_000))
    + b"u",
    "memo far away": b"Nr\xff\xff\xff\xff",
    "large memo": b"N" + b"".join(b"r" + n.to_bytes(4, "little") for n in range(300_000)),
}
TOO_LARGE = {
    "opcodes": b"N0" * 600_000 + b"N",
    "marks": b"(" * 5_000,
    "memo": b"N" + b"".join(b"r" + n.to_bytes(4, "little") for n in range(1_100_000)),
    "copies": text("a" * 10**6) + b"q\x000" + b"c_codecs\nencode\nq\x01(h\x00tR" + b"0h\x01(h\x00tR" * 400,
    "containers": b"](" + b"N" * 100_000 + b"eq\x000" + b"cbuiltins\nset\nq\x01(h\x00tR" + b"0h\x01(h\x00tR" * 5_000,
    "length": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x3f",
    "digits": b"L" + b"9" * 10_000_000 + b"L\n",
    "empty stack": b"0" * 50,
    "nothing to get": b"h\xfe",
}


@pytest.mark.parametrize("form", [*LARGE, *TOO_LARGE])
def test_large_pickles_end_soon(state, tmp_path, form):
    payload = (LARGE | TOO_LARGE)[form]
    path = write(tmp_path / "weights.pth", {"args": NAMED, "payload": MARK, "state_dict": state}, payload)
    started = time.thread_time()
    if form in LARGE:
        assert equal(read_weights(path).state, state)
    else:
        with pytest.raises(restune.UserError, match="not a readable checkpoint"):
            read_weights(path)
    assert time.thread_time() - started < SECONDS


NAMED = argparse.Namespace()


def test_a_pickle_of_a_gigabyte_is_not_read(state, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PICKLE", 10_000)
    monkeypatch.setattr("restune.weights.checkpoint.MAX_PICKLE", 10_000)
    for zipped in (True, False):
        path = write(tmp_path / "weights.pth", {"args": NAMED, "payload": "x" * 20_000, **state}, zipped=zipped)
        with pytest.raises(restune.UserError, match="too large"):
            read_weights(path)


def test_legacy_storages_are_no_larger_than_the_file(state, tmp_path):
    """Nothing is allocated that the file could not fill, and what is cut off is missed."""
    huge = tensor(storage("77", size=2**31 - 1))
    path = write(tmp_path / "weights.pth", {"args": NAMED, "payload": MARK, **state}, huge, zipped=False)
    with pytest.raises(restune.UserError, match="larger than the file"):
        read_weights(path)
    write(path, {"args": NAMED, **state}, zipped=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(restune.UserError, match="ends too early"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_pickles_end_in_one_message(state, tmp_path, zipped):
    random = np.random.default_rng(5)
    payload = CALLS["reduce"](tmp_path / "code ran")
    few = dict(list(state.items())[:9])
    path = write(tmp_path / "weights.pth", {"args": NAMED, "payload": MARK, **few}, payload, zipped)
    whole = path.read_bytes()
    start = whole.index(b"argparse")
    outcomes = collections.Counter()
    for _ in range(300):
        changed = bytearray(whole)
        for place in random.integers(start - 40, start + 1500, random.integers(1, 6)).tolist():
            changed[place] ^= 1 << int(random.integers(8))
        if zipped:  # with the sums set right, or the archive is refused before its pickle is read
            fixed = io.BytesIO()
            begin = whole.index(b"\x80\x02}")
            with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(fixed, "w") as new:
                for info in old.infolist():
                    held = old.read(info)
                    if info.filename.endswith("data.pkl"):
                        held = bytes(changed[begin : begin + len(held)])
                    new.writestr(info.filename, held)
            changed = bytearray(fixed.getvalue())
        path.write_bytes(changed)
        try:
            read_checkpoint(path)
            outcomes["read"] += 1
        except restune.UserError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pth"]
