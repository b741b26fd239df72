"""Read a table with several label columns (labels of 0 and 1, or numbers) as a table with one column of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from restune.data.sources.label_forms import FIELD
from restune.data.sources.one_hot import LABEL, Reader


class JoinedLabels:
    """A table whose label columns are replaced by one, the last, of their fields joined by `FIELD`.

    Args:
        reader: the original table.
        columns: the names of its label columns.
        name: of the column that replaces them.
    """

    def __init__(self, reader: Reader, columns: Sequence[str], name: str = LABEL) -> None:
        self._reader = reader
        self.label_columns = [column.strip() for column in columns]
        positions = {column.strip(): place for place, column in reversed(list(enumerate(reader.names)))}
        self._positions = [positions[column] for column in self.label_columns]
        chosen = set(self._positions)
        self._others = [place for place in range(len(reader.names)) if place not in chosen]
        self.names = [*(reader.names[place] for place in self._others), name]

    def peek(self) -> list[list[Any]]:
        """Return the first values of each column; none for the labels."""
        columns = self._reader.peek()
        return [*(columns[place] for place in self._others), []]

    def batches(self, columns: list[int]) -> Iterator[dict[int, Any]]:
        """Yield Arrow arrays of these columns, by position."""
        import pyarrow.compute as pc

        from restune.data.sources.readers import as_text, trimmed

        label = len(self.names) - 1
        plain = {column: self._others[column] for column in columns if column != label}
        wanted = {*plain.values(), *(self._positions if label in columns else ())}
        for batch in self._reader.batches(sorted(wanted)):
            made = {column: batch[place] for column, place in plain.items()}
            if label in columns:
                fields = [trimmed(as_text(batch[place]).fill_null("")) for place in self._positions]
                made[label] = pc.binary_join_element_wise(*fields, FIELD)
            yield made


def label_columns_of(reader: Reader, label: str) -> list[str]:
    """Return the names of the original label columns of a table whose label column is `label`."""
    return list(getattr(reader, "label_columns", [label]))
