"""Recognise long tables (one row per time step) and their columns of series ids and times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, did_you_mean, shorten
from restune.data.dataset import DataOptions
from restune.data.encodings import likely_encoding
from restune.data.plausibility import (
    COUNTS,
    ENTITIES,
    SERIES_WORDS,
    is_identifier_name,
    is_time_name,
    word_set,
    words_of,
)
from restune.data.sources import table
from restune.data.sources.decimals import is_fraction
from restune.data.sources.folder import is_image_name
from restune.data.sources.readers import LABEL_NAMES, Codes, as_text, first_rows, open_columns, usual_column
from restune.data.sources.series import MISSING, is_value
from restune.data.sources.times import parse_times

_VARIABLES = word_set("dim dimension kind variable var channel sensor axis feature signal 通道 变量")
_MOST_ROWS = 2_000_000
_MOST_NUMBERED = 10
"""Rows per series from which even numbered columns (t0, t1, ...) are channels, not the values of one series."""
_FEW_COLUMNS = 8
_FEWEST_STEPS = 5
_MOST_VARIABLES = 1000
_ALMOST_ALL = 0.95


@dataclass(frozen=True, slots=True)
class LongColumns:
    """The columns of a long table.

    Args:
        case: the columns that together identify a row's series.
        time: the time of a row; None to use the order of the rows.
        variable: the channel name of a row's value; None if each channel is a column.
    """

    case: tuple[str, ...]
    time: str | None = None
    variable: str | None = None


def find_long_columns(path: Path, options: DataOptions) -> LongColumns | None:
    """Return the roles of columns in a table with one row per time step; None for other tables.

    A column identifies series if its name says so and its values repeat; a column holds times if no series repeats
    a time. Raises UserError for a table of time steps without a column that identifies series.
    """
    encoding = likely_encoding(path, options.encoding)
    rows = first_rows(path, encoding)
    has_names = table.has_names(path, options)
    if not rows or not (has_names or options.case_column) or options.kind not in (None, "signal"):
        return None
    names = [name.strip() for name in rows[0]] if has_names else [str(place) for place in range(len(rows[0]))]
    look = _Look(path, options, names, rows[1:] if has_names else rows, encoding)
    if options.case_column:
        return look.named()
    if look.is_of_files() or look.numbers == [] or len(look.rows) < 2:
        return None
    found = look.recognised()
    if found is None and options.time_column:
        raise _no_case(path, options.time_column)
    if found is None:
        look.reject_steps_without_series()
    return found


def case_columns(named: str, names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the columns named by ``--case-column``. Raises UserError for an unknown one."""
    wanted = (named,) if named in names else tuple(part.strip() for part in named.split(","))
    for one in wanted:
        if one not in names:
            hint = did_you_mean(one, names) or f"the columns are {shorten(map(repr, names))}"
            raise UserError(f"there is no column {one!r}", where=f"{path}, --case-column", fix=hint)
    return wanted


class _Look:
    """A table's column names, first rows and candidate columns."""

    def __init__(
        self, path: Path, options: DataOptions, names: list[str], rows: list[list[str]], encoding: str
    ) -> None:
        self.path, self.options, self.names, self.rows = path, options, names, rows
        self._encoding = encoding
        self._places = {name: place for place, name in enumerate(names)}
        label = options.label_column or usual_column(without_axes(names), LABEL_NAMES)
        split = options.split_column or usual_column(names, table.SPLIT_NAMES)
        self.label = label
        self._taken = {name for name in (label, split) if name is not None}

    def named(self) -> LongColumns:
        """Return the columns named by the options; the time column by its usual name if not named."""
        assert self.options.case_column is not None
        case = case_columns(self.options.case_column, self.names, self.path)
        time = table.choose_column(self.names, self.options.time_column, (), "time", self.path)
        if time is None:
            time = next((name for name in self._free() if is_time_name(name) and name not in case), None)
        columns = self._codes([*case, *([time] if time else []), *self._variables()])
        if time is None or _once(_joint([columns[name] for name in case]), columns[time]) > _ALMOST_ALL:
            return LongColumns(case, time)
        return LongColumns(case, time, self._variable(columns, _joint([columns[name] for name in case]), time))

    def is_of_files(self) -> bool:
        """Return whether a column names files; one called ``recording`` may also identify series."""
        named = usual_column(self.names, table.PATH_NAMES)
        columns = ([row[place] for row in self.rows if place < len(row)] for place in range(len(self.names)))
        return (named is not None and not _is_case_name(named)) or any(
            2 * sum(map(is_image_name, column)) > len(column) for column in columns if column
        )

    @cached_property
    def numbers(self) -> list[str]:
        """Return the numeric columns without another role by name."""
        free = [name for name in self._free() if not is_time_name(name) and not is_identifier_name(name)]
        return [name for name in free if all(map(is_value, self._head(name)))]

    def recognised(self) -> LongColumns | None:
        """Return matching columns of series ids and times, or None."""
        times = [self.options.time_column] if self.options.time_column else list(filter(is_time_name, self._free()))
        cases = [name for name in self._free() if name not in times and _is_case_name(name)]
        if not cases and not times:
            return self._unnamed()
        columns = self._codes([*cases, *times, *self._variables(), *([self.label] if self.label else [])])
        cases = [name for name in cases if _rows_per(columns[name]) >= 2]
        if not cases:
            cases = self._unnamed_cases(times)
            columns |= self._codes(cases)
        for chosen in _choices(cases, columns):
            if chosen == (self.options.group_column,):  # rows with a group are items, not time steps
                continue
            case = _joint([columns[name] for name in chosen])
            is_wide = self._is_numbered() and _rows_per(case) < _MOST_NUMBERED
            if is_wide:
                continue
            for time in times:
                once = _once(case, columns[time])
                if once > _ALMOST_ALL:
                    return LongColumns(chosen, time)
                variable = self._variable(columns, case, time)
                if variable is not None:
                    return LongColumns(chosen, time, variable)
            if not times and self._is_in_blocks(columns, chosen, case):
                return LongColumns(chosen, self._unnamed_time(chosen))
        return None

    def reject_steps_without_series(self) -> None:
        """Raise UserError if rows are time steps but no column identifies their series."""
        times = list(filter(is_time_name, self._free()))
        if len(times) != 1 or self._is_numbered() or len(self.numbers) >= _FEW_COLUMNS or self.options.kind:
            return
        try:
            moments = parse_times(self._head(times[0]), str(self.path), 1).astype(np.float64)
        except UserError:
            return
        runs = 1 + int((np.diff(moments) <= 0).sum())
        if len(moments) >= 10 and len(moments) / runs >= 5:
            raise _no_case(self.path, times[0])

    def _free(self) -> list[str]:
        return [name for name in self.names if name not in self._taken]

    def _head(self, name: str) -> list[str]:
        place = self._places[name]
        return [row[place].strip() for row in self.rows if place < len(row)]

    def _variables(self) -> list[str]:
        known = _VARIABLES | COUNTS | {"name"}
        return [
            name
            for name in self._free()
            if set(words_of(name)) <= known
            and set(words_of(name)) & _VARIABLES
            and not all(map(is_fraction, self._head(name)))
        ]

    def _variable(self, columns: Mapping[str, NDArray[np.int32]], case: NDArray[np.int64], time: str) -> str | None:
        """Return the column that names the channel of rows with the same series and time."""
        for name in self._variables():
            many = len(np.unique(columns[name])) <= _MOST_VARIABLES
            is_alone = len([one for one in self.numbers if one != name]) == 1
            if many and is_alone and _once(_joint([case, columns[name]]), columns[time]) > _ALMOST_ALL:
                return name
        return None

    def _unnamed(self) -> LongColumns | None:
        """Find series and times in a table that names neither.

        Series ids form blocks of rows; times increase within each block and restart at the next.
        """
        free = [
            name
            for name in self._free()
            if name != self.options.group_column and len(self._head(name)) == len(self.rows)
        ]
        blocks = {name: _blocks(self._head(name)) for name in free if are_whole(self._head(name), texts=True)}
        for case, lengths in blocks.items():
            if len(lengths) < 2 or len(self.rows) < _FEWEST_STEPS * len(lengths) or self._is_numbered():
                continue
            for time in free:
                column = self._head(time)
                if time == case or not all(map(is_value, column)) or any(map(_is_missing, column)):
                    continue
                runs = np.split(np.array(list(map(float, column))), np.cumsum(lengths)[:-1])
                if len({run[0] for run in runs}) == 1 and all((np.diff(run) > 0).all() for run in runs):
                    return LongColumns((case,), time)
        return None

    def _unnamed_cases(self, times: Sequence[str]) -> list[str]:
        """Return a column with repeating values at whose changes the times restart, whatever its name."""
        if not times:
            return []
        others = [
            name
            for name in self._free()
            if name not in (*times, self.options.group_column)
            and are_whole(self._head(name), texts=True)
            and not is_identifier_name(name)
        ]
        columns = self._codes([*others, *times])
        fitting = [
            name
            for name in others
            if _rows_per(columns[name]) >= 2
            and len(np.unique(columns[name])) > 1
            and len(np.unique(columns[times[0]])) < len(columns[name])
            and _once(columns[name], columns[times[0]]) == 1
        ]
        return fitting[:1]

    def _unnamed_time(self, case: Sequence[str]) -> str | None:
        """Return a column that counts the rows of each series."""
        others = [
            name
            for name in self._free()
            if name not in case and all(part.lstrip("+-").isdigit() for part in self._head(name))
        ]
        columns = self._codes([*case, *others], numbers=others)
        series = _joint([columns[name] for name in case])
        for name in others:
            order = np.lexsort((columns[name], series))
            inside = np.diff(series[order]) == 0
            if (np.diff(columns[name][order])[inside] == 1).all():
                return name
        return None

    def _is_numbered(self) -> bool:
        """Return whether the columns are numbered like the values of one series: t0, t1, ..."""
        numbered = [words for words in map(words_of, self.numbers) if words and words[-1].isdigit()]
        return len(numbered) >= _FEW_COLUMNS and len({tuple(words[:-1]) for words in numbered}) <= 2

    def _is_in_blocks(
        self, columns: Mapping[str, NDArray[np.int32]], chosen: Sequence[str], case: NDArray[np.int64]
    ) -> bool:
        """Return whether rows without times are time steps.

        They are if each series' rows are contiguous with one label, and the id column's name means a series.
        """
        blocks = 1 + int((np.diff(case) != 0).sum())
        if blocks != len(np.unique(case)) or self.label is None or self._is_numbered():
            return False
        has_one_label = len(np.unique(_joint([case, columns[self.label]]))) == blocks
        return has_one_label and any(set(words_of(name)) & SERIES_WORDS for name in chosen)

    def _codes(self, wanted: Sequence[str], numbers: Sequence[str] = ()) -> dict[str, NDArray[np.int32]]:
        """Return each column's values as codes, or as integers if they are."""
        places = {name: self.names.index(name) for name in dict.fromkeys(wanted)}
        collected = {name: Codes() for name in places}
        for batch in self._batches(sorted(places.values())):
            for name, place in places.items():
                collected[name].extend(as_text(batch[place]).fill_null(""))
        return {
            name: codes.numbered(
                [int(float(value or 0)) for value in codes.values] if name in numbers else range(len(codes.values))
            )
            for name, codes in collected.items()
        }

    def _batches(self, places: list[int]) -> Iterator[dict[int, object]]:
        reader = open_columns(self.path, self.options, encoding=self._encoding, long_rows=True)
        rows = 0
        for batch in reader.batches(places) if places else ():
            yield batch
            rows += len(next(iter(batch.values())))
            if rows >= _MOST_ROWS:
                return


def without_axes(names: Sequence[str]) -> list[str]:
    """Return the names without a y beside an x: y is then a channel, not a label."""
    lowered = [name.lower() for name in names]
    return [name for name in names if not (name.lower() == "y" and "x" in lowered)]


def are_whole(column: Sequence[str], *, texts: bool = False) -> bool:
    """Return whether a column has no fractions; with `texts` it may also hold words."""
    return not any(map(is_fraction, column)) and (texts or all(map(is_value, column)))


def _is_missing(field: str) -> bool:
    return field.lower() in MISSING


def _blocks(column: Sequence[str]) -> list[int]:
    """Return the run length of each value of a column; empty if a value recurs after its run."""
    groups = [(value, sum(1 for _ in rows)) for value, rows in groupby(column)]
    return [length for _, length in groups] if len({value for value, _ in groups}) == len(groups) else []


def _choices(cases: Sequence[str], columns: Mapping[str, NDArray[np.int32]]) -> Iterator[tuple[str, ...]]:
    """Yield all columns combined, if series of several rows remain, then each column, the finest first."""
    if len(cases) > 1 and _rows_per(_joint([columns[name] for name in cases])) >= 2:
        yield tuple(cases)
    yield from ((name,) for name in sorted(cases, key=lambda name: _rows_per(columns[name])))


def _joint(columns: Sequence[NDArray[np.int32] | NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return one code per combination of codes."""
    joint = columns[0].astype(np.int64)
    for column in columns[1:]:
        _, joint = np.unique(joint * (int(column.max(initial=0)) + 1) + column, return_inverse=True)
    return joint


def _once(case: NDArray[np.int64] | NDArray[np.int32], time: NDArray[np.int32]) -> float:
    """Return the share of rows that remain after duplicates of series and time are dropped."""
    return len(np.unique(_joint([case, time]))) / max(1, len(time))


def _rows_per(case: NDArray[np.int32] | NDArray[np.int64]) -> float:
    return len(case) / max(1, len(np.unique(case)))


def _is_case_name(name: str) -> bool:
    parts = words_of(name)
    known = ENTITIES | SERIES_WORDS | {"id"}
    return any(part in known for part in parts) and all(part in known | COUNTS | {"name"} for part in parts)


def _no_case(path: Path, time: str) -> UserError:
    return UserError(
        f"the rows of this table are time steps (column {time!r}), and no column says which series a row belongs to",
        where=str(path),
        fix="name that column with --case-column, or add one; if each row is a series of its own, remove the time "
        "column, or pass --kind signal",
    )
