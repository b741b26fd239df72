"""The tokeniser beside a text model's graph: text to the same answer as in Python, without restune and torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import restune
from restune.data.preprocess.text import TextPreprocess
from restune.data.tokens import build_vocabulary
from restune.exporting.tokenizer import Tokenizer
from restune.exporting.tokenizer_files import write_tokenizer
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

TEXTS = [
    "FREE entry! Text WIN to 80086 now, it's yours: don't wait\u2019s",
    "ok",
    "",
    " \t\n",
    "zzz unseen WORDS, Xyz 123 and a_b",
    "Caf\u00e9 cafe\u0301 \u00c9T\u00c9 na\u00efve \u0130stanbul stra\u00dfe",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff01 GPT-4\u3002",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u3053\u3093\u306b\u3061\u306f \u1019\u103c\u1014\u103a\u1019\u102c",
    "\U0001f600\ufe0f \u200b\u00ad e\u0301\u0301 \u0643\u062a\u0627\u0628",
    "word " * 60,
]
WORDS = build_vocabulary([*TEXTS, *TEXTS, "rare RARE Rare 7 8 9"], min_count=2)
PREPROCESSES = {
    "words": TextPreprocess(tokens="words", vocabulary=WORDS, length=40),
    "bytes": TextPreprocess(tokens="bytes", length=64),
}
PROGRAM = """
import json, sys
import numpy as np, onnxruntime
from tokenizer import Tokenizer
listed, golden = json.load(open("golden.json", encoding="utf-8")), np.load("golden.npz")
session, tokenizer = onnxruntime.InferenceSession("model.onnx"), Tokenizer.read("tokenizer.json")
texts = [example["text"] for example in listed["examples"]]
(found,) = session.run(["probabilities"], {"tokens": tokenizer(texts)})  # shorter texts are padded
assert np.abs(found - golden["probabilities"]).max() < 1e-4
assert len(np.unique(found.round(4), axis=0)) > 5
assert not {"torch", "restune"} & set(sys.modules)
"""


def read(preprocess: TextPreprocess, folder: Path) -> Tokenizer:
    write_tokenizer(folder, preprocess)
    return Tokenizer.read(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("tokens", PREPROCESSES)
def test_tokens_are_those_of_training(tokens: str, tmp_path: Path) -> None:
    preprocess = PREPROCESSES[tokens]
    tokenizer = read(preprocess, tmp_path)
    for text in TEXTS:
        assert tokenizer.ids_of(text) == preprocess.apply(text).tolist(), text
    expected = preprocess.stack([preprocess.apply(text) for text in TEXTS]).long().numpy()
    assert tokenizer(TEXTS).dtype == np.int64
    np.testing.assert_array_equal(tokenizer(TEXTS), expected)


@pytest.mark.data
@pytest.mark.parametrize("tokens", PREPROCESSES)
def test_tokens_of_real_texts(tokens: str, tmp_path: Path, real_data: Path) -> None:
    texts = (real_data / "text/sms.tsv").read_text(encoding="utf-8").splitlines()
    texts += (real_data / "text/rt-polarity.all").read_text(encoding="latin-1").splitlines()
    preprocess = PREPROCESSES[tokens]
    if tokens == "words":
        preprocess = replace(preprocess, vocabulary=build_vocabulary(texts[::2], min_count=2))
    tokenizer = read(preprocess, tmp_path)
    assert len(texts) > 16_000
    assert all(tokenizer.ids_of(text) == preprocess.apply(text).tolist() for text in texts)


@pytest.mark.parametrize("tokens", ["words", pytest.param("bytes", marks=pytest.mark.slow)])
def test_text_to_answer_without_restune_and_torch(tokens: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    preprocess = PREPROCESSES[tokens]
    small = {"depths": (1, 1), "width": 16, "in_channels": 16, "vocabulary": preprocess.vocabulary_size}
    network = restune.create_model("textresnet", num_classes=3, **small).eval()
    torch.nn.init.normal_(network.fc.weight, std=0.5)
    info = BundleInfo(spec=network.spec, classes=("a", "b", "c"), preprocess=preprocess)
    data = tmp_path / "texts.csv"
    rows = [f'"{text}",{"ab"[number % 2]}' for number, text in enumerate(TEXTS) if text.strip()]
    data.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    out = restune.export(Model(module=network, info=info, source="test"), to="onnx", out=tmp_path / "out", data=data)
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
