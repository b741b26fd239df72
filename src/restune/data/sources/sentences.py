"""Texts: lines of "label text", tables with a column of texts, folders of .txt files."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.core.machine import memory_bytes
from restune.data import plausibility
from restune.data.class_names import class_order
from restune.data.dataset import DataOptions, Dataset, Location
from restune.data.duplicates import group_equal, repeated
from restune.data.encodings import decode_text, file_encoding, head_encoding
from restune.data.items import FilePlaces, Rows, locations_of
from restune.data.sources import table
from restune.data.sources.folder import from_names
from restune.data.sources.joined_labels import label_columns_of
from restune.data.sources.readers import as_text, open_reader, table_errors
from restune.data.sources.reading import labels_from
from restune.data.sources.values import marked, without_labels
from restune.data.sources.walk import suffix_of, walk_names
from restune.data.string_array import StringArray

TEXT_NAMES = (
    "text",
    "sentence",
    "review",
    "message",
    "content",
    "body",
    "question",
    "comment",
    "tweet",
    "sms",
    "document",
    "description",
    "headline",
    "title",
    "query",
    "utterance",
    "文本",
    "内容",
    "评论",
    "句子",
)
MAX_LINE = 64 * 2**20
"""Maximum characters of a line that is read as a text."""
LABEL_MARK = "__label__"
"""The prefix of a label in fastText files."""
_MARKED = re.compile(rf"{LABEL_MARK}((?:(?!{LABEL_MARK})[^\s,;|])*)[,;|]?")
_LONGEST_LABEL = 40
_LONGEST_MARKED = 200
_SEEN = 2000
_HEAD = 2**18
_HEAD_LINES = 400
_BATCH = 4096
_ITEM_BYTES = 64
"""Bytes per item besides its text."""


@dataclass(frozen=True, slots=True)
class TextLocation:
    """A text, by its index in the file."""

    texts: StringArray
    index: int

    def read(self) -> str:
        return self.texts[self.index]

    def signature(self) -> str:
        return hashlib.sha256(self.texts[self.index].encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TextPlaces:
    """Texts by row."""

    texts: StringArray

    def __getitem__(self, row: int) -> TextLocation:
        return TextLocation(self.texts, row)


class _Room:
    """The memory budget for the texts of one source."""

    def __init__(self, source: str) -> None:
        self._left = memory_bytes() // 2
        self._source = source

    def take(self, texts: Any) -> None:
        """Reserve memory for an Arrow array of texts. Raises UserError if there is not enough."""
        self._left -= texts.nbytes + _ITEM_BYTES * len(texts)
        if self._left < 0:
            raise UserError(
                "these texts take more than half of this machine's memory",
                where=self._source,
                fix="use fewer texts, or one file per text in class folders",
            )


def open_lines(path: Path, options: DataOptions) -> Dataset:
    """Open lines of label, space or tab, and text. Raises UserError with the line number."""
    import pyarrow as pa

    encoding = file_encoding(path, options.encoding)
    separator = _separator([line for line, _ in zip(_lines(path, encoding), range(_HEAD_LINES), strict=False)])
    texts, numbers, room = StringArray(), array("i"), _Room(str(path))
    known: dict[str, int] = {}
    labels = array("i")  # each text's index among the labels in `known`
    batch: list[str] = []
    has_marks = _has_label_marks(path, encoding)
    if has_marks:
        _reject_several_labels(path, encoding)
    for number, line in enumerate(_lines(path, encoding), 1):
        if not line.strip():
            continue
        if "\0" in line:
            raise UserError("this line holds zero bytes, so it is not text", where=f"{path}, line {number}")
        label, text = _marked_line(line) if has_marks else line.partition(separator)[::2]
        if not label or len(label) > (_LONGEST_MARKED if has_marks else _LONGEST_LABEL):
            fix = f"write '{LABEL_MARK}NAME text'" if has_marks else "write 'label text'"
            raise UserError("this line has no label", where=f"{path}, line {number}", fix=fix)
        labels.append(known.setdefault(label, len(known)))
        numbers.append(number)
        batch.append(text.strip())
        if len(batch) == _BATCH:
            _extend(texts, pa.array(batch, pa.string()), room)
            batch.clear()
    _extend(texts, pa.array(batch, pa.string()), room)
    classes = class_order(known)
    if len(classes) > table.MAX_LABELS or (len(classes) > 2 and 2 * len(classes) > len(labels)):
        raise UserError(
            f"these lines begin with {len(classes):,} different words, which are not classes",
            where=str(path),
            fix="each line must be a label, a space and a text",
        )
    rank = {name: place for place, name in enumerate(classes)}
    ranks = np.array([rank[label] for label in known], np.int32)
    digits = len(str(max(numbers, default=0)))
    items = Rows(
        names=StringArray(f"{number:0{digits}d}" for number in numbers),
        places=TextPlaces(texts),
        targets=ranks[np.array(labels, np.int32)] if labels else np.zeros(0, np.int32),
    )
    note_empty(texts, path, numbers)
    dataset = Dataset(items=items, classes=classes, source=str(path), kind="text")
    form = f"one per line after its {LABEL_MARK} label" if has_marks else "one per line after its label"
    return replace(dataset, reading=_text_line(dataset, texts, form))


def looks_like_lines(path: Path, options: DataOptions) -> bool:
    """Return whether most lines of a file start with a short, repeating word, as labels are, and continue."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    text = head.decode(options.encoding or head_encoding(head, len(head) == _HEAD), "replace")
    if len(head) == _HEAD:  # the last line may be truncated
        text = text[: text.rfind("\n") + 1]
    lines = [line for line in text.split("\n")[:_HEAD_LINES] if line.strip()]
    if not lines or "\0" in text:
        return False
    if _are_marked(lines):
        return True
    separator = _separator(lines)
    parts = [line.partition(separator) for line in lines]
    counts = Counter(label for label, _, _ in parts)
    good = sum(
        bool(rest.strip()) and 0 < len(label) <= _LONGEST_LABEL and counts[label] > 1 for label, _, rest in parts
    )
    return good >= 0.8 * len(lines) and len(counts) <= max(2, len(lines) // 4)


def open_text_table(path: Path, options: DataOptions) -> Dataset:
    """Open a table of texts and labels. Raises UserError with the row number for a row without a label."""
    with table_errors(path):
        table.reject_empty(path)
        is_parquet = path.suffix.lower() == ".parquet"
        encoding = "utf-8" if is_parquet else file_encoding(path, options.encoding)
        reader = open_reader(path, options, encoding=encoding, long_rows=True)
        names = table.column_names(reader, path)
        texts_in = table.text_columns(names, options.text_column, TEXT_NAMES, path)
        chosen = table.mark_columns(names, path, options) if options.labelled else {}
        if chosen.get("label") in texts_in:
            raise UserError("the texts and the labels are the same column", where=str(path), fix="name the other")
        table.say_columns(path, {"text": texts_in, **chosen})
        columns = {role: names.index(name) for role, name in chosen.items()}
        text_columns = [names.index(name) for name in texts_in]
        start = table.first_row(path, options)
        columns_of_labels = label_columns_of(reader, chosen.get("label", ""))
        marks = table.Marks(path, chosen, start, options, columns_of_labels)
        texts, room = StringArray(), _Room(str(path))
        for batch in reader.batches(sorted({*columns.values(), *text_columns})):
            if options.labelled:
                marks.extend({role: batch[position] for role, position in columns.items()})
            _extend(texts, table.joined([as_text(batch[column]) for column in text_columns]), room)
    note_empty(texts, path, range(start, start + len(texts)), "rows")
    locations = TextPlaces(texts)
    if not options.labelled:
        return without_labels(locations, start, len(texts), "text", str(path))
    dataset = marked(marks, locations, start, "text", str(path))
    _reject_joined_marks(dataset.classes, path, chosen["label"])
    return replace(dataset, reading=_text_line(dataset, texts, _columns_line(texts_in), chosen["label"]))


def open_text_folder(folder: Path) -> Dataset:
    """Open ``folder/[split/]class/**/text.txt``. Raises UserError on other layouts."""
    names = StringArray(walk_names(folder, is_text_name))
    if not len(names):
        raise UserError(
            "there are no texts here",
            where=str(folder),
            fix="restune reads class folders of .txt files, such as DATA/good/1.txt and DATA/bad/2.txt",
        )
    return replace(from_names(names, FilePlaces(folder, names), source=str(folder), noun="texts"), kind="text")


def is_text_name(name: str) -> bool:
    """Return whether a name has a text suffix."""
    return suffix_of(name) == ".txt"


def group_duplicates(dataset: Dataset, encoding: str | None = None) -> Dataset:
    """Group items with the same text, ignoring white space and case, so that a split keeps them together.

    Existing groups that share a text are merged. `encoding` is that of the text files, None to detect it for each.
    """
    keys = np.zeros(len(dataset), np.uint64)
    is_known = np.zeros(len(dataset), bool)
    for row, location in enumerate(locations_of(dataset.items)):
        key = _key(location, encoding)
        if key is not None:
            keys[row], is_known[row] = int.from_bytes(key, "big"), True
    rows = repeated(keys, is_known)
    if not len(rows):
        return dataset
    texts = np.unique(keys[rows])
    note(f"{len(rows)} items repeat the text of another ({len(texts)} texts): each such group goes into one split")
    return group_equal(dataset, rows, keys, "text")


def _key(location: Location, encoding: str | None) -> bytes | None:
    """Return a key that equal texts share; None for an unreadable or empty text."""
    try:
        content = location.read()
        text = content if isinstance(content, str) else decode_text(content, encoding)
    except (OSError, ValueError, LookupError):
        return None
    words = " ".join(text.split()).casefold()
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:8] if words else None


def _extend(texts: StringArray, batch: Any, room: _Room) -> None:
    room.take(batch)
    texts.extend(batch)


def note_empty(texts: StringArray, path: Path, numbers: Sequence[int], noun: str = "lines") -> None:
    """Note the empty texts, such as those of lines with only a label."""
    empty = [numbers[row] for row, text in enumerate(texts) if not text or text.isspace()]
    if empty:
        note(f"{path.name}: {len(empty)} texts are empty ({noun} {shorten(empty, 5)}); they are kept")


def _text_line(dataset: Dataset, texts: StringArray, form: str, label: str = "") -> str:
    """Describe texts, ``5,452 texts, column text, labels from column label``, and warn if that is implausible."""
    plausibility.warn_of_words(
        [texts[row] for row in range(0, len(texts), max(1, len(texts) // _SEEN))], dataset.source
    )
    return ", ".join([f"{len(dataset):,} texts", form, *([labels_from(label)] if label else [])])


def _columns_line(names: Sequence[str]) -> str:
    return f"column{'s' * (len(names) > 1)} {' + '.join(names)}"


def _are_marked(lines: Sequence[str]) -> bool:
    """Return whether lines have fastText labels."""
    return sum(LABEL_MARK in line for line in lines) >= 0.8 * len(lines) > 0


def _has_label_marks(path: Path, encoding: str) -> bool:
    lines = (line for line in _lines(path, encoding) if line.strip())
    return _are_marked(list(islice(lines, _HEAD_LINES)))


def _labels_of(line: str) -> list[str]:
    return [label for label in _MARKED.findall(line) if label]


def _marked_line(line: str) -> tuple[str, str]:
    """Split a fastText line into its label, without prefix, and text; the label is empty if there is none."""
    found = _labels_of(line)
    return (found[0] if found else ""), " ".join(_MARKED.sub(" ", line).split())


def _reject_several_labels(path: Path, encoding: str) -> None:
    """Raise UserError if lines have several labels: the others would leak the answer into the text."""
    count = total = 0
    first = ""
    for number, line in enumerate(_lines(path, encoding), 1):
        total += bool(line.strip())
        labels = _labels_of(line)
        if len(labels) > 1:
            count += 1
            first = first or f"line {number} has {len(labels)}: {shorten([LABEL_MARK + label for label in labels], 4)}"
    if count:
        raise UserError(
            f"{count:,} of {total:,} texts have several labels; {first}",
            where=str(path),
            fix="give each text one label; several labels per text (multi-label) are read from a table of texts",
        )


def _reject_joined_marks(labels: Iterable[str], path: Path, column: str) -> None:
    several = next((label for label in labels if label.count(LABEL_MARK) > 1), None)
    if several is not None:
        raise UserError(
            f"some texts have several labels, such as {several[:100]!r}",
            where=f"{path}, column {column!r}",
            fix="give each text one label; several labels per text (multi-label) are read from a table of texts",
        )


def _separator(lines: Iterable[str]) -> str:
    """Return a tab if every line has one, else a space."""
    return "\t" if all("\t" in line for line in lines if line.strip()) else " "


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield lines without line breaks; only a line feed ends a line, since texts may contain other breaks."""
    with path.open(encoding=encoding, newline="\n") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                raise UserError("this line is too long", where=f"{path}, line {number}")
            yield line.removesuffix("\n").removesuffix("\r").removeprefix("\ufeff" if number == 1 else "")
