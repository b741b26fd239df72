"""Preprocess texts: decode, tokenise, map tokens to ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from restune.core.errors import UserError, did_you_mean
from restune.data.preprocess.settings import is_whole, named_changes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Dataset, Item
    from restune.data.preprocess.base import InputSettings, Preprocess
    from restune.data.preprocess.text_draft import TextDraft
    from restune.networks.spec import ResNetSpec

TOKENS = ("bytes", "words")
PADDING, UNKNOWN = 0, 1
_FIRST_WORD = 2
MAX_LENGTH = 1_000_000
MAX_WORDS = 200_000
"""Words of the largest vocabulary: it must fit into the header of a model's file."""
_SHOWN = 60
_LENGTHS = {"words": 128, "bytes": 1024}


@dataclass(frozen=True, kw_only=True)
class TextPreprocess:
    """Tokenise a text and map its tokens to ids; id 0 is padding.

    Args:
        tokens: ``bytes``: the UTF-8 bytes, with id = byte + 1, for any language without a vocabulary; ``words``: see
            `tokens.words`.
        vocabulary: the words in the order of their ids, from 2 on; id 1 is an unknown word, one that is not in the
            vocabulary and whose substitute (`tokens.pieces`) is not either.
        length: maximum number of tokens; longer texts are truncated.
        encoding: encoding of text files; None: detected for each file.
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
            raise UserError("byte tokens do not use a vocabulary", where="preprocess")
        if not isinstance(self.vocabulary, tuple) or not all(isinstance(word, str) for word in self.vocabulary):
            raise UserError("a vocabulary must be a list of words", where="preprocess")
        if len(self.vocabulary) > MAX_WORDS:
            raise UserError(f"a vocabulary must have at most {MAX_WORDS:,} words", where="preprocess")
        if len(set(self.vocabulary)) < len(self.vocabulary):
            raise UserError("the vocabulary lists a word twice", where="preprocess")
        if self.encoding is not None:
            check_encoding(str(self.encoding))

    @property
    def channels(self) -> int:
        """1: texts have a single channel."""
        return 1

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids including padding: the rows of the embedding."""
        from restune.data.tokens import BYTE_VOCABULARY

        return BYTE_VOCABULARY if self.tokens == "bytes" else _FIRST_WORD + len(self.vocabulary)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.vocabulary, _FIRST_WORD)}

    def apply(self, content: str | bytes) -> Tensor:
        """Convert a text, or the bytes of a text file, to int32 tokens ``[L]``, at least one. Raises DecodeError."""
        import torch

        return torch.from_numpy(self.token_ids(content))

    def token_ids(self, content: str | bytes) -> NDArray[np.int32]:
        """Return the array of `apply`, without torch. Raises DecodeError."""
        from restune.data.tokens import byte_tokens, written_words

        text = self.checked_text(content)
        if self.tokens == "words":
            found = chain.from_iterable(map(self._known.__getitem__, written_words(text)))
            tokens = np.fromiter(islice((token for token in found if token >= 0), self.length), np.int32)
            return tokens if len(tokens) else self.no_tokens()
        tokens = byte_tokens(text[: self.length] or " ")  # each character is at least one byte
        return tokens[: self.length]

    def spans(self, content: str | bytes) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Return a text, with composed accents if tokens are words, and the start and end in it of each of `apply`'s
        tokens. A case mark has its word's; a byte, its character's. Raises DecodeError."""
        from restune.data.tokens import normalized, written_spans

        text = self.checked_text(content)
        if self.tokens == "words":
            text = normalized(text)
            found = ((span, self._known[text[slice(*span)]]) for span in written_spans(text))
            each = (span for span, tokens in found for token in tokens if token >= 0)
            return text, tuple(islice(each, self.length)) or ((0, len(text)),)
        characters = enumerate(text[: self.length] or " ")
        each = ((place, place + 1) for place, sign in characters for _ in sign.encode())
        return text, tuple(islice(each, self.length))

    @cached_property
    def _known(self) -> _Tokens:
        return _Tokens(self)

    def tokens_of(self, written: str) -> tuple[int, int]:
        """Return the tokens of a written word's case mark and of the word; -1 for a mark that is not there."""
        from restune.data.tokens import piece

        mark, word, rare = piece(written)
        return self._ids.get(mark, -1) if mark else -1, self._ids.get(word, self._ids.get(rare, UNKNOWN))

    @staticmethod
    def no_tokens() -> NDArray[np.int32]:
        """Return the tokens of a text without words: one unknown token."""
        return np.array([UNKNOWN], np.int32)

    def checked_text(self, content: str | bytes) -> str:
        """Return the text, as `text_of`. Raises DecodeError for half a character, too."""
        from restune.data.pixels import DecodeError

        text = self.text_of(content)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DecodeError("the text contains half a character (a lone surrogate)") from error
        return text

    def text_of(self, content: str | bytes) -> str:
        """Return the text, decoded if it is the bytes of a file. Raises DecodeError."""
        return content if isinstance(content, str) else self._decoded(content)

    def views(self, content: str | bytes, mode: str) -> Tensor:  # noqa: ARG002
        """Return the only view, int32 ``[1, L]``. Raises DecodeError."""
        return self.apply(content).unsqueeze(0)

    def cost(self, mode: str) -> int:  # noqa: ARG002
        """Return 1: a text has one view."""
        return 1

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """Return `whole` if its size in bytes fits, else None. Raises DecodeError."""
        whole = self.whole(content)
        return whole if fits(whole.nbytes) else None

    def whole(self, content: str | bytes) -> Tensor:
        """Return the same as `apply`: training views start from the inference tokens. Raises DecodeError."""
        return self.apply(content)

    def view(self, whole: Tensor) -> Tensor:
        """Truncate the tokens to the length."""
        return whole[: self.length]

    @property
    def image_size(self) -> None:
        """None: texts do not have an image size."""
        return None

    @property
    def has_fixed_shape(self) -> bool:
        """False: texts have different lengths."""
        return False

    def needs_wholes(self, augment: Augment) -> bool:  # noqa: ARG002
        """Return False: training views are made from the inference tokens."""
        return False

    def training_source(
        self,
        cached: Tensor | None,
        read: Callable[[], Tensor],
        content: Callable[[], Any],  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> Tensor:
        """Return the tokens, from memory or read."""
        return read() if cached is None else cached

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """Return the batch, int32 ``[N, L]``, with random tokens replaced by the unknown token."""
        from restune.data.augment_series import drop_tokens

        return self.stack(drop_tokens(sources, augment.drop_tokens, key))

    def fit(self, items: Sequence[Item], settings: InputSettings) -> TextPreprocess:
        """Build the vocabulary from the training items, if tokens are words and there is none yet."""
        from restune.data.by_id import RowsById, Samples

        draft = self.draft()
        return self if draft is None else draft.fit(Samples(RowsById(())), items, settings)

    def draft(self) -> TextDraft | None:
        """Return what tokenises texts until there is a vocabulary; None if none is needed, or there is one."""
        from restune.data.preprocess.text_draft import TextDraft

        return TextDraft(self) if self.tokens == "words" and not self.vocabulary else None

    def spec_fields(self) -> dict[str, Any]:
        """Return the number of rows of the network's embedding."""
        return {"vocabulary": self.vocabulary_size}

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """Stack samples to int32 ``[N, L]``; shorter texts are padded with 0."""
        import torch

        return torch.nn.utils.rnn.pad_sequence(list(samples), batch_first=True, padding_value=PADDING)

    def inputs(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the tokens, int64 ``[N, L]``, and their mask, bool ``[N, L]``: False for padding."""
        mask = batch != PADDING
        return batch.long(), None if bool(mask.all()) else mask

    def override(self, **changes: Any) -> TextPreprocess:
        """Return a copy with `length` or `encoding` changed. Raises UserError for a setting that texts do not have."""
        return replace(self, **named_changes(changes, ("length", "encoding"), self.kind))

    def with_channels(self, channels: int) -> TextPreprocess:
        """Return this preprocessing unchanged. Raises UserError for more than one channel."""
        if channels != 1:
            raise UserError(f"a text has one channel, not {channels}", where="channels")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `stored.preprocess_from_dict` is the inverse."""
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
        from restune.data.encodings import decode_text
        from restune.data.pixels import DecodeError

        if len(content) > MAX_BYTES:
            raise DecodeError(f"the file has {len(content) / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}")
        try:
            text = decode_text(content, self.encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            byte = content[error.start]
            raise DecodeError(
                f"the byte 0x{byte:02x} in line {line} is not valid {self.encoding or error.encoding}"
            ) from error
        except ValueError as error:
            raise DecodeError(f"the file is not encoded in {self.encoding}") from error
        if "\0" in text:
            raise DecodeError("not a text (it contains zero bytes)")
        return text


class _Tokens(dict[str, tuple[int, int]]):
    """The tokens of written words (`TextPreprocess.tokens_of`), of as many as memory should hold."""

    def __init__(self, preprocess: TextPreprocess) -> None:
        super().__init__()
        self._preprocess = preprocess

    def __missing__(self, written: str) -> tuple[int, int]:
        tokens = self._preprocess.tokens_of(written)
        if len(self) < MAX_WORDS and len(written) <= _SHOWN:
            self[written] = tokens
        return tokens


PREPROCESS = TextPreprocess


def default_preprocess(spec: ResNetSpec, crop: int | None, resize: int | None) -> TextPreprocess:  # noqa: ARG001
    """Return byte tokens. Raises UserError for a network of words, since its weights do not include the vocabulary."""
    preprocess = TextPreprocess(tokens="bytes")
    if spec.vocabulary != preprocess.vocabulary_size:
        raise UserError(
            "these weights do not include the vocabulary (the word of each token id)",
            where="MODEL",
            fix="use the model that restune saved: it includes its vocabulary",
        )
    return preprocess


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:  # noqa: ARG001
    """Return the preprocessing of the weights, else one with the recipe's tokens and length."""
    length, tokens = settings.section.get("length"), settings.section.get("tokens", "bytes")
    initial = base.override(length=length) if base else TextPreprocess(tokens=tokens, length=length or _LENGTHS[tokens])
    return initial if settings.encoding is None else initial.override(encoding=settings.encoding)
