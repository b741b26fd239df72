"""Every message of the source has a Chinese entry, and every entry is found from the message that it is for."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from templates import all_templates, templates_of

from restune.core.language import speaking, translated
from restune.core.translations import VERBATIM, entries, split_template, translate

CHINESE = re.compile(r"[\u4e00-\u9fff]")
AS_THEY_ARE = {
    # words of a command, an option or a call, which nobody translates
    "INPUT", "MODEL", "RUN RUN...", "--weights auto", "search", "pip install 'restune[search]'", "--engine torch",
    "MODEL {}", "--set mixup", "--set spec.{}", "--device cuda", "restune {}", "restune cache",
    "restune check", "pip install 'restune[check]'", "pip install 'restune[track]'",
    "pip install 'restune[serve]'", "serve", "threshold", "explain",
    "restune lesson", "restune lesson exercise", "restune {} --resume --out {}", "pip install 'restune[video]'",
    "torchrun", "torchrun --nproc-per-node", "restune train PHOTOS --model resnet18",
    "restune finetune PHOTOS --weights resnet18:v1", "restune predict runs/finetune-001 MORE_PHOTOS",
    # names of parameters and classes of the Python API
    "batch_size, workers", "preprocess", "channels", "device", "errors", "block", "depths", "depth", "seeds", "models",
    "StageSpec", "ResNetSpec", "{}.forward",
    # names of lessons
    "freeze", "transfer",
    "--to openvino", "--to torch", "--to html, --int8", "--to html", "--to timm", "--to torchvision",
    "pip install 'restune[export]'",
    "pip install timm",
    "val loss {}{}", "val loss {}{}  best",  # parts of lines that have entries
}  # fmt: skip
"""Templates that need no entry."""
SAMPLES = {
    "n": "7", "score": "81.5%", "low": "7.5%", "high": "9.5%", "row": "3", "line": "4", "number": "5",
    "s": "s", "suffix": ".xyz", "word": "Ab", "bracketed": "x, y", "clock": "3:20",
}  # fmt: skip
"""Values for fields that match only what looks like them."""


def shape(template: str) -> str:
    return re.sub(r"(?<!\{)\{\w+\}", "{}", template.strip())


def sample(field: str, place: int) -> str:
    return SAMPLES.get(field.rstrip("0123456789"), f"Q{place}q")


def test_every_message_has_an_entry():
    templates = all_templates()
    assert len(templates) > 1000, "the walk over the source finds the messages"
    have = {shape(entry.english) for entry in entries()}
    missing = [f"{template.place}: {template.text!r}" for template in templates
               if shape(template.text) not in have | AS_THEY_ARE]  # fmt: skip
    assert not missing, "add these to src/restune/core/translations/ROOM.po:\n" + "\n".join(missing)


def test_the_exceptions_are_needed():
    used = {shape(template.text) for template in all_templates()}
    assert not AS_THEY_ARE - used - {"restune cache"}


def test_the_walk_finds_what_a_message_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr("templates.SOURCE", tmp_path)
    path = tmp_path / "a.py"
    path.write_text(
        "def f(n, names, kind):\n"
        "    what = 'is gone' if n == 1 else f'{len(names)} are gone'\n"
        "    raise UserError(f'the file {kind!r} ' + what, where=f'row {n}', fix=_fix() or 'look again')\n"
        "def _fix() -> str:\n"
        "    return 'add it' if x else f\"{n} image{'s' if n > 1 else ''} in {'train' if n else 'test'}\"\n"
    )
    assert {template.text for template in templates_of(path)} == {
        "the file {kind} is gone", "the file {kind} {n} are gone", "row {n}", "look again", "add it",
        "{n} image{s} in train", "{n} image{s} in test",
    }  # fmt: skip


def test_fields_agree():
    listed = list(entries())
    assert len(listed) > 1300
    for entry in listed:
        before, after = (split_template(text)[1] for text in (entry.english, entry.translation))
        assert len(set(before)) == len(before), f"{entry.place}: a field occurs twice"
        assert sorted(set(before) - {"s"}) == sorted(set(after) - {"s"}), entry.place


def test_entries_are_chinese_and_occur_once():
    shapes = defaultdict(set)
    for entry in entries():
        literal = "".join(split_template(entry.translation)[0])
        assert CHINESE.search(literal) or re.search("[：（，]", literal), entry.place
        prose = literal.replace("(输入, 标签)", "")
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]", prose), f"{entry.place}: full-width marks"
        shapes[shape(entry.english)].add(shape(entry.translation))
    different = {english: found for english, found in shapes.items() if len(found) > 1}
    assert not different


@pytest.mark.parametrize("room", sorted({entry.place.partition(":")[0] for entry in entries()}))
def test_every_entry_is_found_from_its_message(room):
    for entry in entries():
        if entry.place.startswith(f"{room}:"):
            fields = split_template(entry.english)[1]
            values = {field: sample(field, place) for place, field in enumerate(fields)}
            message = entry.english.format(**values)
            assert translate(message) == entry.translation.format(**values), f"{entry.place}: {message!r}"


def test_what_belongs_to_the_user_stays():
    with speaking("zh"):
        assert translated("unknown network 'images'") == "没有名为 'images' 的网络"
        assert translated("there is no column 'texts'") == "没有列 'texts'"
        assert translated("class names from train/images.txt") == "类别名取自 train/images.txt"
        assert translated("a sentence that nobody has translated") == "a sentence that nobody has translated"
    assert translated("keep one of them") == "keep one of them"
    assert {"names", "path", "classes"} <= VERBATIM


def test_phrases_within_a_message_are_translated():
    assert translate("skipped 2 unreadable items: a/1.png (not an image in a known format); all are in split.csv") == (
        "跳过 2 个无法读取的样本：a/1.png（不是已知格式的图像）；全部列在 split.csv"
    )
    assert translate("epoch 3/20  loss 0.5123  val loss 0.4001  val accuracy 81.00%  120 images/s  3.1 s  best") == (
        "第 3/20 轮  损失 0.5123  验证损失 0.4001  验证准确率 81.00%  120 图像/s  3.1 s  最佳"
    )


def test_lists_are_translated_part_by_part():
    accuracy = "accuracy 81.00% (95% interval 70.00% to 90.00%, n = 50)"
    assert translate(f"seed 0: validation {accuracy}, test {accuracy}") == (
        "种子 0：验证集准确率 81.00%（95% 置信区间 70.00% 到 90.00%，n = 50），"
        "测试集准确率 81.00%（95% 置信区间 70.00% 到 90.00%，n = 50）"
    )
    assert translate("t.csv: texts from columns 'title' and 'body', joined by a space, labels from column 'topic'") == (
        "t.csv：文本取自列 'title' 和 'body'，以空格连接，标签取自列 'topic'"
    )


def test_keys_of_recipes_stay():
    assert translate("precision: bf16 (this processor multiplies bf16 in hardware)") == (
        "precision：bf16（这个处理器由硬件计算 bf16 乘法）"
    )
    assert translate("model: resnet8 (the usual size)") == "model：resnet8（通常的尺寸）"
    assert translate("stopped by SIGINT; progress is saved in runs/a") == "被 SIGINT 停止；进度保存在 runs/a"
