"""Texts: decode, cut into tokens, number them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from restune.core.console import note
from restune.core.errors import UserError, did_you_mean
from restune.data.preprocess.settings import is_whole, named_changes

if TYPE_CHECKING:
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Dataset, Item
    from restune.data.preprocess.base import InputSettings, Preprocess
    from restune.networks.spec import ResNetSpec

TOKENS = ("bytes", "words")
PADDING, UNKNOWN = 0, 1
_FIRST_WORD = 2
MAX_LENGTH = 1_000_000
MAX_WORDS = 200_000
"""Words of the largest vocabulary, which must fit into the header of a model's file."""
_SHOWN = 60
_LENGTHS = {"words": 128, "bytes": 1024}


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

    def views(self, content: str | bytes, mode: str) -> Tensor:  # noqa: ARG002
        """int32 ``[1, L]``: the one view there is. Raises DecodeError."""
        return self.apply(content).unsqueeze(0)

    def cost(self, mode: str) -> int:  # noqa: ARG002
        """One view per text."""
        return 1

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """`whole` where so many bytes fit; else None. Raises DecodeError."""
        whole = self.whole(content)
        return whole if fits(whole.nbytes) else None

    def whole(self, content: str | bytes) -> Tensor:
        """The same: views of a text are made of what the network sees. Raises DecodeError."""
        return self.apply(content)

    def view(self, whole: Tensor) -> Tensor:
        """The tokens, cut to the length."""
        return whole[: self.length]

    @property
    def image_size(self) -> None:
        """Texts have no image size."""
        return None

    @property
    def has_fixed_shape(self) -> bool:
        """Texts have different lengths."""
        return False

    def needs_wholes(self, augment: Augment) -> bool:  # noqa: ARG002
        """Never: views of a text are made of its tokens."""
        return False

    def training_source(
        self,
        kept: Tensor | None,
        read: Callable[[], Tensor],
        content: Callable[[], Any],  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> Tensor:
        """The tokens, from memory or read."""
        return read() if kept is None else kept

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """int32 ``[N, L]`` with some tokens made unknown."""
        from restune.data.augment_series import drop_tokens

        return self.stack(drop_tokens(sources, augment.drop_tokens, key))

    def fit(self, items: Sequence[Item], settings: InputSettings) -> TextPreprocess:
        """With a vocabulary from the training items, where tokens are words and there is none."""
        from restune.data.tokens import build_vocabulary

        if self.tokens != "words" or self.vocabulary:
            return self
        texts = (self.text_of(item.location.read()) for item in items)
        words = build_vocabulary(texts, min_count=settings.section["min_count"], most=settings.section["vocabulary"])
        note(f"vocabulary: {len(words):,} words of the training items; others become the unknown token")
        return replace(self, vocabulary=words)

    def spec_fields(self) -> dict[str, Any]:
        """The rows of the network's embedding."""
        return {"vocabulary": self.vocabulary_size}

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
        """Plain values; `stored.preprocess_from_dict` is its inverse."""
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


PREPROCESS = TextPreprocess


def default_preprocess(spec: ResNetSpec, crop: int | None, resize: int | None) -> TextPreprocess:  # noqa: ARG001
    """Bytes. Raises UserError for a network with another vocabulary, whose words nobody knows."""
    made = TextPreprocess(tokens="bytes")
    if spec.vocabulary != made.vocabulary_size:
        raise UserError(
            "these weights do not include the vocabulary (which token stands for which word)",
            where="MODEL",
            fix="use the model that restune saved: it holds its vocabulary",
        )
    return made


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:  # noqa: ARG001
    """The weights', else the recipe's tokens and length."""
    length, tokens = settings.section.get("length"), settings.section.get("tokens", "bytes")
    made = base.override(length=length) if base else TextPreprocess(tokens=tokens, length=length or _LENGTHS[tokens])
    return made if settings.encoding is None else made.override(encoding=settings.encoding)
