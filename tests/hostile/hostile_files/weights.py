"""Hostile weights, among them pickles that would run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from hostile_files.archives import member, tar
from hostile_files.parts import EITHER, REFUSED, USED, Content, damaged, flipped


class RunsCode:
    """What a pickle does that makes a folder when it is read."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.makedirs, (str(self.proof),))


def network_state() -> dict[str, torch.Tensor]:
    """The tensors of the CIFAR ResNet-8 with two classes, from torchvision's parts alone."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, norm: str, inputs: int, outputs: int, size: int = 3) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=generator) * 0.1
        for part, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{norm}.{part}"] = torch.full((outputs,), value)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)

    convolution("conv1", "bn1", 3, 16)
    for stage, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
        convolution(f"layer{stage}.0.conv1", f"layer{stage}.0.bn1", inputs, outputs)
        convolution(f"layer{stage}.0.conv2", f"layer{stage}.0.bn2", outputs, outputs)
    state["fc.weight"] = torch.randn(2, 64, generator=generator) * 0.1
    state["fc.bias"] = torch.zeros(2)
    return state


def torch_file(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def lying_safetensors(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same file with its header changed and its length set right."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    changed = json.dumps(change(header) or header).encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + size :]


def bundle_header(**changes: Any) -> str:
    """What restune writes into a bundle's header, with something changed."""
    stages = [{"block": "basic", "depth": 1, "width": width, "stride": 1 + (width > 16)} for width in (16, 32, 64)]
    spec = {"stem": "small", "stem_width": 16, "stages": stages, "shortcut": "A", "num_classes": 2}
    preprocess = {"kind": "image", "crop": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    header = {"schema_version": 1, "kind": "image", "task": "single-label", "dtype": "float32", "name": "resnet8"}
    header |= {"spec": spec, "classes": ["a", "b"], "preprocess": preprocess, "calibration": None, "training": {}}
    header |= {"scores": [], "licence": None}
    for key, value in changes.items():
        place, *inner = key.split("__")
        if inner:
            header[place] = {**header[place], inner[0]: value}
        else:
            header[place] = value
    return json.dumps(header)


def weights(random: np.random.Generator, proof: Path) -> Iterator[Content]:
    state = network_state()
    file = safetensors.torch.save(state)
    zipped, legacy = torch_file(state), torch_file(state, _use_new_zipfile_serialization=False)
    yield "whole", "whole.safetensors", file, USED
    yield "whole", "whole.pth", zipped, USED
    yield "whole", "legacy.pth", legacy, USED
    yield from damaged(file, "safetensors", "safetensors", random, each=12)
    yield from damaged(zipped, "zip", "pth", random, each=12)
    yield from damaged(legacy, "legacy", "pth", random, each=8)
    for number in range(8):  # the pickle inside, which says what all the rest is
        place = zipped.index(b"\x80\x02")
        turned = flipped(zipped[place : place + 2000], random, 1 + number)
        yield "bits turned", f"pickle {number}.pth", zipped[:place] + turned + zipped[place + 2000 :], EITHER
    for suffix in ("pth", "pt", "ckpt", "bin"):
        for protocol in (2, 4):
            payload = {**state, "payload": RunsCode(proof)}
            yield "code", f"code {protocol}.{suffix}", torch_file(payload, pickle_protocol=protocol), REFUSED
    yield "code", "code, legacy.pth", torch_file(RunsCode(proof), _use_new_zipfile_serialization=False), REFUSED
    yield "code", "bare pickle.pth", pickle.dumps(RunsCode(proof)), REFUSED
    yield "code", "text pickle.pth", f"cos\nmkdir\n(V{proof}\ntR.".encode(), REFUSED
    yield "code", "code.safetensors", pickle.dumps(RunsCode(proof)), REFUSED
    yield "code", "builtins.pth", b"cbuiltins\neval\n(V__import__('os').getcwd()\ntR.", REFUSED

    fc = state["fc.weight"]
    wrong: dict[str, dict[str, torch.Tensor]] = {
        "nan": {"fc.weight": torch.full_like(fc, torch.nan)},
        "infinite": {"layer1.0.bn1.weight": torch.full((16,), torch.inf)},
        "negative variance": {"bn1.running_var": torch.full((16,), -1.0)},
        "shape": {"layer2.0.conv1.weight": torch.zeros(32, 16, 5, 5)},
        "scalar": {"conv1.weight": torch.tensor(1.0)},
        "vector": {"conv1.weight": torch.zeros(9)},
        "head of one dimension": {"fc.weight": torch.zeros(9)},
        "head of another network": {"fc.weight": torch.zeros(2, 99)},
        "head of a million classes": {"fc.weight": torch.zeros(1_000_000, 1), "fc.bias": torch.zeros(1_000_000)},
        "whole numbers": {"layer1.0.bn1.weight": torch.ones(16, dtype=torch.int64)},
        "truth values": {"layer1.0.bn1.weight": torch.ones(16, dtype=torch.bool)},
        "complex": {"layer1.0.bn1.weight": torch.ones(16, dtype=torch.complex64)},
        "nothing": {"layer1.0.bn1.weight": torch.zeros(0)},
        "nothing, but wide": {"conv1.weight": torch.zeros(0, 10**12, 3, 3)},
        "head of nothing": {"fc.weight": torch.zeros(10**9, 0)},
        "left over": {"extra.weight": torch.zeros(3)},
        "one input channel more": {"conv1.weight": torch.zeros(16, 99_999, 1, 1)},
    }
    for name, changes in wrong.items():
        changed = {**state, **changes}
        yield "wrong tensors", f"{name}.pth", torch_file(changed), REFUSED
        yield "wrong tensors", f"{name}.safetensors", safetensors.torch.save(changed), REFUSED
    only_torch = {
        "sparse": {"fc.weight": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**9, 64))},
        "repeated": {"fc.weight": torch.zeros(1).expand(10**9, 64)},
        "repeated, half": {"fc.weight": torch.zeros(1, dtype=torch.half).expand(10**9, 64)},
        "wide input": {"conv1.weight": torch.zeros(1).expand(16, 10**9, 3, 3)},
        "meta": {"fc.weight": torch.empty(10**9, 64, device="meta")},
        "quantised": {"fc.weight": torch.quantize_per_tensor(fc, 0.1, 0, torch.qint8)},
    }
    for name, changes in only_torch.items():
        yield "wrong tensors", f"{name}.pth", torch_file({**state, **changes}), REFUSED
    yield "other precision", "half.pth", torch_file({k: v.half() for k, v in state.items() if v.ndim}), EITHER
    yield "other precision", "double.pth", torch_file({k: v.double() for k, v in state.items() if v.ndim}), EITHER
    for name, content in {
        "number": 1,
        "none": None,
        "empty mapping": {},
        "list": [fc],
        "nested": {"model": {"a": {}}},
    }.items():
        yield "no weights", f"{name}.pth", torch_file(content), REFUSED
    deep: Any = state
    for _ in range(300):
        deep = {"model": deep}
    yield "no weights", "deep.pth", torch_file(deep), REFUSED
    bomb = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipped)) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        new.writestr("archive/data/9999", bytes(100_000_000))
    yield "bomb", "bomb.pth", bomb.getvalue(), REFUSED

    name = "layer1.0.conv1.weight"
    headers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "overlapping": lambda h: h[name].update(data_offsets=h["conv1.weight"]["data_offsets"]),
        "backwards": lambda h: h[name].update(data_offsets=h[name]["data_offsets"][::-1]),
        "beyond": lambda h: h[name].update(data_offsets=[10**12, 10**12 + 9216]),
        "negative offsets": lambda h: h[name].update(data_offsets=[-9216, 0]),
        "negative shape": lambda h: h[name].update(shape=[-16, -16, 3, 3]),
        "huge shape": lambda h: h[name].update(shape=[2**32, 2**32, 2**32]),
        "shape of text": lambda h: h[name].update(shape="many"),
        "fraction": lambda h: h[name].update(shape=[16.5, 16, 3, 3]),
        "unknown type": lambda h: h[name].update(dtype="F99"),
        "another type": lambda h: h[name].update(dtype="F64"),
        "no offsets": lambda h: h[name].pop("data_offsets"),
        "a list": lambda _: [1, 2, 3],
        "text": lambda _: "header",
        "metadata of numbers": lambda h: h.update(__metadata__={"restune": 1}),
        "metadata of lists": lambda h: h.update(__metadata__=[]),
        "a thousand dimensions": lambda h: h[name].update(shape=[16, 16, 3, 3] + [1] * 1000),
        "no tensors": lambda _: {"__metadata__": {}},
    }
    for kind, change in headers.items():
        yield "lying header", f"header, {kind}.safetensors", lying_safetensors(file, change), REFUSED
    for size in (0, 1, 10**6, 2**40, 2**63, 2**64 - 1):
        content = size.to_bytes(8, "little") + file[8:]
        yield "lying header", f"length {size}.safetensors", content, REFUSED
    nested = b'{"__metadata__":' + b'{"a":' * 100_000
    yield "lying header", "deep.safetensors", len(nested).to_bytes(8, "little") + nested, REFUSED
    yield "lying header", "spaces.safetensors", (50_000_000).to_bytes(8, "little") + b" " * 50_000_000, REFUSED

    big, stage = 10**400, {"block": "basic", "depth": 1, "width": 16}
    bundles: dict[str, Any] = {
        "no JSON": "{",
        "a list": "[]",
        "a number": "7",
        "deep": "[" * 100_000,
        "digits": "9" * 10_000,
        "version": bundle_header(schema_version=[]),
        "width": bundle_header(spec__stem_width=10**6),
        "width beyond": bundle_header(spec__stem_width=big),
        "blocks": bundle_header(spec__stages=[{**stage, "depth": 9_999}] * 4),
        "blocks beyond": bundle_header(spec__stages=[{**stage, "depth": 10**9}]),
        "blocks without end": bundle_header(spec__stages=[{**stage, "width": big}]),
        "stages": bundle_header(spec__stages=[stage] * 50_000),
        "wide stage": bundle_header(spec__stages=[{**stage, "width": 10_000}]),
        "classes": bundle_header(spec__num_classes=10**7),
        "classes beyond": bundle_header(spec__num_classes=2**62),
        "inputs": bundle_header(spec__in_channels=10**6),
        "name": bundle_header(name=["resnet8"]),
        "class names": bundle_header(classes={"a": 1, "b": 2}),
        "crop": bundle_header(preprocess__crop=10**9),
        "crop beyond": bundle_header(preprocess__crop=big),
        "resize": bundle_header(preprocess__resize=10**6),
        "resize beyond": bundle_header(preprocess__resize=32_768),
        "mean": bundle_header(preprocess__mean=["a", "b", "c"]),
        "mean nan": bundle_header(preprocess__mean=[float("nan")] * 3),
        "std zero": bundle_header(preprocess__std=[0.0] * 3),
        "channels": bundle_header(preprocess__mean=[0.5], preprocess__std=[0.5]),
        "interpolation": bundle_header(preprocess__interpolation=["bilinear"]),
        "spec": bundle_header(spec=None),
        "training": bundle_header(training=[]),
        "scores": bundle_header(scores=[1]),
    }
    yield "whole", "bundle.safetensors", safetensors.torch.save(state, {"restune": bundle_header()}), USED
    large = safetensors.torch.save(state, {"restune": bundle_header(preprocess__resize=8192, preprocess__crop=32)})
    yield "whole", "bundle large resize.safetensors", large, USED
    for kind, text in bundles.items():
        content = safetensors.torch.save(state, {"restune": text})
        yield "lying bundle", f"bundle {kind}.safetensors", content, REFUSED
    for suffix in ("pth", "safetensors"):
        yield "empty", f"empty.{suffix}", b"", REFUSED
        yield "another format", f"zeros.{suffix}", bytes(5000), REFUSED
        yield "another format", f"noise.{suffix}", b"\x01" + random.bytes(5000), REFUSED
        yield "another format", f"html.{suffix}", b"<!DOCTYPE html><html>404</html>", REFUSED
        yield "another format", f"lfs.{suffix}", b"version https://git-lfs.github.com/spec/v1\nsize 9\n", REFUSED
    yield "another format", "archive.tar", tar((member("tensors"), b"x"), (member("pickle"), b"x")), REFUSED
