"""Convert texts to the tokens that the graph in this folder takes. Needs only Python and NumPy.

from tokenizer import Tokenizer
tokens = Tokenizer.read("tokenizer.json")(["a text", "another one"])  # int64 [N, L]
session.run(["probabilities"], {"tokens": tokens})
"""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2


class Tokenizer:
    """Tokens of a text: its UTF-8 bytes plus 1, or the ids of its words; id 0 pads shorter texts.

    Args:
        tokens: ``bytes`` or ``words``.
        length: maximum number of tokens.
        vocabulary: words in the order of their ids, from 2 on.
        word_pattern: regular expression that finds a word.
    """

    def __init__(self, tokens: str, length: int, vocabulary: list[str], word_pattern: str) -> None:
        self.tokens, self.length = tokens, length
        self.ids = {word: place for place, word in enumerate(vocabulary, FIRST_WORD)}
        self.pattern = re.compile(word_pattern)

    @classmethod
    def read(cls, path: str) -> "Tokenizer":
        """Read tokenizer.json."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    def __call__(self, texts: list[str]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        """Return the tokens of texts, int64 ``[N, L]``."""
        rows = [self.ids_of(text) for text in texts]
        tokens = np.full((len(rows), max(map(len, rows))), PADDING, np.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return tokens

    def ids_of(self, text: str) -> list[int]:
        """Return the tokens of one text, at least one."""
        if self.tokens == "bytes":
            return [byte + 1 for byte in (text or " ").encode()[: self.length]]
        text = unicodedata.normalize("NFC", text).replace("\u2019", "'")
        ids: list[int] = []
        for match in self.pattern.finditer(text):
            ids += self.word_ids(match.group())
            if len(ids) >= self.length:
                break
        return ids[: self.length] or [UNKNOWN]

    def word_ids(self, written: str) -> list[int]:
        """Return the id of a word's case mark, if there is one in the vocabulary, and the id of the word."""
        word, ids = written.lower(), []
        if written != word and written[0].isupper():
            mark = "<XX>" if len(written) > 1 and written.isupper() else "<Xx>"
            ids = [self.ids[mark]] if mark in self.ids else []
        rare = "<9>" if any(sign.isdigit() for sign in word) else "<x>"
        return [*ids, self.ids.get(word, self.ids.get(rare, UNKNOWN))]
