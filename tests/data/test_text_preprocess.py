"""Tokens of texts in any language, against hand computation."""

from __future__ import annotations

import pickle
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import restune
from restune.data import tokens
from restune.data.dataset import Item
from restune.data.decode import DecodeError
from restune.data.preload import preload
from restune.data.preprocess import InputSettings, preprocess_from_dict, text_draft
from restune.data.preprocess.text import TextPreprocess
from restune.data.tokens import build_vocabulary, byte_tokens, pieces, words, written_words

CHINESE = "我爱PyTorch 2.5，你呢？"
BYTES = TextPreprocess()


def of(*vocabulary, **settings):
    return TextPreprocess(tokens="words", vocabulary=vocabulary, **settings)


def test_bytes():
    for text in ("abc", CHINESE, "😀👩‍💻", "a\tb\0\x07", "é" * 5):
        assert byte_tokens(text).tolist() == [byte + 1 for byte in text.encode()]
        assert bytes(token - 1 for token in BYTES.apply(text).tolist()) == text.encode()
    assert BYTES.apply("abc").dtype == torch.int32
    assert BYTES.apply("").tolist() == [33]  # one space
    assert BYTES.vocabulary_size == 257
    assert TextPreprocess(length=4).apply("我爱").tolist() == [byte + 1 for byte in "我爱".encode()[:4]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP, it's 3.5km!", ["don't", "stop", ",", "it's", "3", ".", "5km", "!"]),
        ("the ' quoted ' dogs' ‘word’", ["the", "'", "quoted", "'", "dogs", "'", "‘", "word", "'"]),
        ("it’s snake_case", ["it's", "snake", "_", "case"]),
        (CHINESE, ["我", "爱", "pytorch", "2", ".", "5", "，", "你", "呢", "？"]),
        ("𠮷野家でカレー", ["𠮷", "野", "家", "で", "カ", "レー"]),
        ("ﾃﾞｰﾀとデータ、ゃ", ["ﾃﾞｰ", "ﾀ", "と", "デー", "タ", "、", "ゃ"]),
        ("ง่ายน้ำ ๑๒๓ abcไทย", ["ง่", "า", "ย", "น้ำ", "๑๒๓", "abc", "ไ", "ท", "ย"]),
        ("ດີນ້ຳ", ["ດີ", "ນ້ຳ"]),
        ("ខ្មែរ ពិបាក។", ["ខ្មែ", "រ", "ពិ", "បា", "ក", "។"]),
        ("မြန်မာ မန္တလေး", ["မြ", "န်", "မာ", "မ", "န္တ", "လေး"]),
        ("সংস্কৃতি தமிழ் ሰላም", ["সংস্কৃতি", "தமிழ்", "ሰላም"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Straße, ÉTÉ e\u0301te\u0301", ["straße", ",", "été", "été"]),
        ("😀❤️ ok\x00\x07\u200b!", ["😀", "❤", "ok", "!"]),
        (" \t\n\u3000", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_words_of_plain_english_against_an_expression():
    text = "The quick brown fox; it jumps over 13 lazy dogs (twice)."
    assert words(text) == re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower())


def test_texts_of_a_script_without_spaces_share_tokens():
    thai = ["อาหารอร่อยมาก", "อาหารไม่อร่อย", "มากไม่อร่อย"]
    japanese = ["とてもおいしかった", "おいしくなかった", "まったくおいしくない"]
    for texts in (thai, japanese):
        vocabulary = build_vocabulary(texts[:2], min_count=2)
        assert len(vocabulary) > 4
        known = of(*vocabulary).apply(texts[2]).tolist()
        assert sum(token > 1 for token in known) > len(known) / 2


def test_the_vocabulary_is_sorted_by_count_then_text():
    texts = ["b a a c", "a b d", "e \ud800"]
    assert build_vocabulary(texts) == ("a", "b", "c", "d", "e")
    assert build_vocabulary(texts, min_count=2) == ("a", "b", "<x>")
    assert build_vocabulary(texts, most=3) == ("a", "b", "c", "<x>")
    assert build_vocabulary([]) == ()


def test_words_are_numbered():
    preprocess = of("我", "爱", "pytorch", length=5)
    assert preprocess.vocabulary_size == 5
    assert preprocess.apply(CHINESE).tolist() == [2, 3, 4, 1, 1]
    assert preprocess.apply("").tolist() == preprocess.apply("\n").tolist() == [1]
    assert preprocess.apply("pyTorch").dtype == torch.int32
    assert preprocess.view(preprocess.whole("我 我 我 我 我 我 我")).tolist() == [2] * 5
    assert of().apply("nothing is known").tolist() == [1, 1, 1]


def test_rare_words_and_capitals_are_marked():
    texts = ["We met Ada and Bob in NATO", "we saw 1984 and Eve in UNESCO", "we ran 42"]
    vocabulary = build_vocabulary(texts, min_count=2)
    assert vocabulary == ("<Xx>", "we", "<XX>", "and", "in", "<9>", "<x>")
    tokens = of(*vocabulary).apply("We and Grace saw 7up at NASA")
    named = [vocabulary[token - 2] for token in tokens.tolist()]
    assert named == ["<Xx>", "we", "and", "<Xx>", "<x>", "<x>", "<9>", "<x>", "<XX>", "<x>"]
    assert of("we").apply("we grace").tolist() == [2, 1], "what is not in the vocabulary at all is unknown"
    assert of("i", "<Xx>").apply("I").tolist() == [3, 2], "one letter is a capital, not capitals"
    assert of("i").apply("I").tolist() == [2], "a mark that is not known is left out"
    assert words("< X x >") == ["<", "x", "x", ">"], "no text has these words"


def test_padding_is_masked():
    batch = BYTES.stack([BYTES.apply("ab"), BYTES.apply("c")])
    x, mask = BYTES.inputs(batch)
    assert x.dtype == torch.int64
    assert x.tolist() == [[98, 99], [100, 0]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert BYTES.inputs(batch[:1])[1] is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_files_in_several_encodings(encoding):
    text = "今天天气很好，我们去公园散步吧。"
    assert torch.equal(BYTES.apply(text.encode(encoding)), BYTES.apply(text))
    if encoding != "utf-8-sig":
        assert torch.equal(TextPreprocess(encoding=encoding).apply(text.encode(encoding)), BYTES.apply(text))


@pytest.mark.parametrize(
    ("preprocess", "content", "message"),
    [
        (BYTES, "half \ud83d a character", "lone surrogate"),
        (of("a"), "a \ud83d", "lone surrogate"),
        (TextPreprocess(encoding="utf-8"), b"one\ntwo \xff", "0xff in line 2 is not valid utf-8"),
        (TextPreprocess(encoding="gb18030"), b"\xff", "not valid gb18030"),
        (BYTES, bytes(range(256)), "zero bytes"),
        (BYTES, "x".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_broken_texts(preprocess, content, message):
    with pytest.raises(DecodeError, match=message):
        preprocess.apply(content)


def test_a_very_long_word_is_rare_and_no_word_of_a_vocabulary():
    longest, longer = "a" * 64, "b" * 65
    vocabulary = build_vocabulary([f"{longest} {longer} {longest} {longer}"], min_count=2)
    assert vocabulary == (longest, "<x>")
    assert of(*vocabulary).apply(f"{longer} {longest}").tolist() == [3, 2]


def test_a_vocabulary_has_an_end():
    assert of(*map(str, range(200_000))).vocabulary_size == 200_002
    with pytest.raises(restune.UserError, match="at most 200,000 words"):
        of(*map(str, range(200_001)))


def test_long_texts_are_quick():
    long = "word " * 5_000_000
    assert of("word", length=10).apply(long).tolist() == [2] * 10
    assert len(TextPreprocess(length=10).apply(long)) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": "word"}, "Did you mean 'words'"),
        ({"length": 0}, "1 to 1,000,000"),
        ({"length": True}, "1 to 1,000,000"),
        ({"vocabulary": ("a",)}, "do not use a vocabulary"),
        ({"tokens": "words", "vocabulary": ("a", "a")}, "twice"),
        ({"tokens": "words", "vocabulary": ("a", 1)}, "list of words"),
        ({"tokens": "words", "vocabulary": "abc"}, "list of words"),
        ({"encoding": "rot13"}, "no encoding 'rot13'"),
        ({"encoding": "a\0b"}, "no encoding"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(restune.UserError, match=message):
        TextPreprocess(**changes)


def test_settings_are_changed_stored_and_shown():
    preprocess = of("我", "b", length=7, encoding="gb18030")
    preprocess.apply("b")
    assert preprocess_from_dict(preprocess.to_dict()) == preprocess
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess
    assert str(preprocess) == "at most 7 words out of 2, files in gb18030"
    assert str(BYTES) == "at most 1024 bytes"
    assert preprocess.override(length=9, encoding=None).length == 9
    assert preprocess.with_channels(1) is preprocess
    assert preprocess.channels == 1
    with pytest.raises(restune.UserError, match="--image-size does not apply to text"):
        preprocess.override(image_size=32)
    with pytest.raises(restune.UserError, match="one channel"):
        preprocess.with_channels(3)
    assert "('a0', 'a1', 'a2')... (9)" in repr(of(*(f"a{n}" for n in range(9))))


def everything():
    """Texts of many scripts, and random ones."""
    random = np.random.default_rng(0)
    latin = [chr(code) for code in range(32, 0x250)] + list("\u2019\u2014\u0301") + ["'", "A", "b", "0", " "] * 8
    cut = [*latin, *"ก\u0e48ำກ\u0eb3က\u1039កក\u17d2あー々ｱﾞ〇一\U00020000\ufe0f\u200b\ud800ǅİß"]
    yield from ("", "Don't STOP", "it’s l’été", CHINESE, "สวัสดีครับ AB", "こんにちは、World", "Привет, Мир!")
    for signs in (latin, cut):
        for _ in range(2000):
            yield "".join(signs[place] for place in random.integers(0, len(signs), random.integers(0, 14)))


def test_short_patterns_find_what_the_whole_pattern_finds():
    for text in everything():
        whole = unicodedata.normalize("NFC", text).replace("\u2019", "'")
        assert written_words(text) == tokens._pattern().findall(whole), ascii(text)


@dataclass(frozen=True)
class Text:
    text: str

    def read(self):
        return self.text


def test_drafts_become_the_vocabulary_and_tokens_of_the_texts(monkeypatch):
    texts = [text for text in everything() if "\ud800" not in text] + ["A " * 40, "é" * 70]
    items = [Item(str(row), Text(text), 0) for row, text in enumerate(texts)]
    settings = InputSettings(section={"min_count": 2, "vocabulary": 300})
    draft = TextPreprocess(tokens="words", length=9).draft()
    preloaded = preload(items, draft.preprocess, store_size=None, as_seen=True, draft=draft)
    with monkeypatch.context() as patch:
        patch.setattr(text_draft, "written_words", None)  # no text is cut into words again
        fitted = draft.fit(preloaded.kept, items[::2], settings)
        samples = draft.finished(preloaded.kept, fitted)
    assert fitted.vocabulary == build_vocabulary(texts[::2], min_count=2, most=300)
    assert len(samples) == len(texts)
    ids = {word: number for number, word in enumerate(fitted.vocabulary, 2)}
    for item, text in zip(items, texts, strict=True):
        expected = [ids.get(word, ids.get(rare, 1)) for word, rare in pieces(text) if word in ids or rare][:9]
        assert samples[item.id].tolist() == fitted.apply(text).tolist() == (expected or [1]), ascii(text)
