"""Texts: decode, cut into tokens, number them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from restune.core.errors import UserError, did_you_mean
from restune.data.preprocess.settings import is_whole, named_changes

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = ("bytes", "words")
PADDING, UNKNOWN = 0, 1
_FIRST_WORD = 2
MAX_LENGTH = 1_000_000
MAX_WORDS = 200_000
"""Words of the largest vocabulary, which must fit into the header of a model's file."""
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class TextPreprocess:
    """Cut a text into tokens and number them; 0 is padding.

    Args:
        tokens: ``bytes``: the UTF-8 bytes, each 1 more than its value, so that any language needs no vocabulary;
            ``words``: see `tokens.words`.
        vocabulary: the words, the first of which has the number 2; 1 is a word that is not among them, nor what
            stands for it (`tokens.pieces`).
        length: most tokens of a text; of longer ones the beginning is kept.
        encoding: of text files; None finds each one's.
    """

    tokens: str = "bytes"
    vocabulary: tuple[str, ...] = ()
    length: int = 1024
    encoding: str | None = None
    kind: str = "text"

    def __post_init__(self) -> None:
        from restune.data.encodings import check_encoding

        if self.tokens not in TOKENS:
            hint = did_you_mean(str(self.tokens), TOKENS) or f"one of {', '.join(TOKENS)}"
            raise UserError(f"unknown tokens {self.tokens!r}", where="--tokens", fix=hint)
        if not is_whole(self.length, 1, MAX_LENGTH):
            raise UserError(f"the length must be 1 to {MAX_LENGTH:,} tokens, not {self.length}", where="--length")
        if self.tokens == "bytes" and self.vocabulary:
            raise UserError("tokens that are bytes have no vocabulary", where="preprocess")
        if not isinstance(self.vocabulary, tuple) or not all(isinstance(word, str) for word in self.vocabulary):
            raise UserError("a vocabulary is a list of words", where="preprocess")
        if len(self.vocabulary) > MAX_WORDS:
            raise UserError(f"a vocabulary has at most {MAX_WORDS:,} words", where="preprocess")
        if len(set(self.vocabulary)) < len(self.vocabulary):
            raise UserError("a word stands twice in the vocabulary", where="preprocess")
        if self.encoding is not None:
            check_encoding(str(self.encoding))

    @property
    def channels(self) -> int:
        """A text has one."""
        return 1

    @property
    def vocabulary_size(self) -> int:
        """How many different tokens there are, padding among them: the rows of an embedding."""
        from restune.data.tokens import BYTE_VOCABULARY

        return BYTE_VOCABULARY if self.tokens == "bytes" else _FIRST_WORD + len(self.vocabulary)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.vocabulary, _FIRST_WORD)}

    def apply(self, content: str | bytes) -> Tensor:
        """int32 tokens ``[L]`` of a text, or of a text file's bytes; at least one. Raises DecodeError."""
        import torch

        from restune.data.decode import DecodeError
        from restune.data.tokens import byte_tokens, pieces

        text = self.text_of(content)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DecodeError("the text holds half a character (a lone surrogate)") from error
        if self.tokens == "words":
            numbers = self._numbers
            known = (
                numbers.get(word, numbers.get(rare, UNKNOWN)) for word, rare in pieces(text) if word in numbers or rare
            )
            found = islice(known, self.length)
            tokens = np.fromiter(found, np.int32)
            return torch.from_numpy(tokens if len(tokens) else np.array([UNKNOWN], np.int32))
        tokens = byte_tokens(text[: self.length] or " ")  # a character is a byte or more
        return torch.from_numpy(tokens[: self.length])

    def text_of(self, content: str | bytes) -> str:
        """The text itself, of a file's bytes decoded. Raises DecodeError."""
        return content if isinstance(content, str) else self._decoded(content)

    def whole(self, content: str | bytes) -> Tensor:
        """The same: views of a text are made of what the network sees. Raises DecodeError."""
        return self.apply(content)

    def view(self, whole: Tensor) -> Tensor:
        """The tokens, cut to the length."""
        return whole[: self.length]

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """int32 ``[N, L]``: shorter texts end in 0."""
        import torch

        return torch.nn.utils.rnn.pad_sequence(list(samples), batch_first=True, padding_value=PADDING)

    def inputs(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens int64 ``[N, L]``, and where they are no padding: bool ``[N, L]``."""
        mask = batch != PADDING
        return batch.long(), None if bool(mask.all()) else mask

    def override(self, **changes: Any) -> TextPreprocess:
        """A copy with `length` or `encoding` changed. Raises UserError for a setting that texts do not have."""
        return replace(self, **named_changes(changes, ("length", "encoding"), self.kind))

    def with_channels(self, channels: int) -> TextPreprocess:
        """The same: a text has one channel. Raises UserError for more."""
        if channels != 1:
            raise UserError(f"a text has one channel, not {channels}", where="channels")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `base.from_dict` is its inverse."""
        return {
            "tokens": self.tokens,
            "vocabulary": list(self.vocabulary),
            "length": self.length,
            "encoding": self.encoding,
            "kind": self.kind,
        }

    def __str__(self) -> str:
        what = "bytes" if self.tokens == "bytes" else f"words out of {len(self.vocabulary):,}"
        encoding = f", files in {self.encoding}" if self.encoding else ""
        return f"at most {self.length} {what}{encoding}"

    def __repr__(self) -> str:
        shown = repr(self.vocabulary[:3])[:_SHOWN]
        words = f"{shown}... ({len(self.vocabulary)})" if len(self.vocabulary) > 3 else repr(self.vocabulary)
        return (
            f"TextPreprocess(tokens={self.tokens!r}, vocabulary={words}, length={self.length}, "
            f"encoding={self.encoding!r})"
        )

    def _decoded(self, content: bytes) -> str:
        from restune.data.dataset import MAX_BYTES
        from restune.data.decode import DecodeError
        from restune.data.encodings import decode_text

        if len(content) > MAX_BYTES:
            raise DecodeError(f"the file has {len(content) / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}")
        try:
            text = decode_text(content, self.encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            byte = content[error.start]
            raise DecodeError(
                f"the byte 0x{byte:02x} in line {line} is no {self.encoding or error.encoding}"
            ) from error
        except ValueError as error:
            raise DecodeError(f"not in {self.encoding}") from error
        if "\0" in text:
            raise DecodeError("not a text (it holds zero bytes)")
        return text
