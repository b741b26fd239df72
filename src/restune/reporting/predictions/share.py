"""Which inputs a process predicts, in which batches, and a hash of all of them, by which changed inputs are noticed."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from restune.core.console import warn
from restune.core.errors import UserError, shorten
from restune.core.rowlog import ANEW
from restune.data.dataset import FileLocation, Item
from restune.data.sources.clips import ClipLocation


@dataclass(frozen=True)
class Group:
    """A batch that this process predicts.

    Args:
        items: number of items in it.
        listed: number of inputs up to its end, of all processes.
        inputs: hash of these.
    """

    items: int
    listed: int
    inputs: str


@dataclass
class Share:
    """Every `size`-th batch of the inputs, which are listed lazily.

    Args:
        rank, size: of the process, and the number of processes.
        batch: items per batch; set before the first item is taken.
        groups: batches that were taken and are not predicted yet; the consumer removes them.
        listed: number of inputs that were listed so far.

    >>> from pathlib import Path
    >>> share = Share(rank=1, size=2, batch=2)
    >>> items = [Item(id=name, location=FileLocation(Path(name)), target=-1) for name in "abcdefg"]
    >>> [item.id for item in share.take(iter(items))]
    ['c', 'd', 'g']
    >>> [(group.items, group.listed) for group in share.groups]
    [(2, 4), (1, 7)]
    """

    rank: int
    size: int
    batch: int = 1
    groups: deque[Group] = field(default_factory=deque)
    listed: int = 0
    _source: Iterator[Item] = field(default_factory=lambda: iter(()), repr=False)
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16), repr=False)

    @property
    def inputs(self) -> str:
        """Hash of the inputs that were listed so far."""
        return str(self._digest.hexdigest())

    def take(self, items: Iterator[Item]) -> Iterator[Item]:
        """Return this process's items of all `items`; they are listed when they are needed."""
        self._source = items
        return self._taken()

    def skip(self, listed: int, inputs: str, where: str, since: float = math.inf) -> None:
        """Pass over the inputs that are finished. Raises UserError unless they are those of this hash.

        Args:
            where: the file of predictions, for messages.
            since: time of its last record; a warning names files that were written later.
        """
        newer: list[str] = []
        for item in islice(self._source, listed):
            self._note(item)
            if since < math.inf and _written(item) > since:
                newer.append(item.id)
        if listed and (self.listed, self.inputs) != (listed, inputs):
            raise _changed(f"the first {listed:,} inputs are not those that this file was begun with", where)
        if newer:
            warn(
                f"{len(newer):,} of the {listed:,} inputs that were done are files written since: {shorten(newer, 3)}; "
                f"{where} keeps the answers of before: {ANEW}"
            )

    def reject_more(self, where: str) -> None:
        """Raise UserError if there are inputs that were not listed yet."""
        if next(self._source, None) is not None:
            raise _changed(f"there are more inputs than the {self.listed:,} that this finished file holds", where)

    def _taken(self) -> Iterator[Item]:
        while group := list(islice(self._source, self.batch)):
            is_own = self.listed // self.batch % self.size == self.rank
            for item in group:
                self._note(item)
            if is_own:
                self.groups.append(Group(len(group), self.listed, self.inputs))
                yield from group

    def _note(self, item: Item) -> None:
        """Count an input and hash its name and, unless it is a file of its own, its content."""
        is_file = isinstance(item.location, FileLocation | ClipLocation)
        text = f"{item.id}\0{'' if is_file else item.location.signature()}\0"
        self._digest.update(text.encode("utf-8", "surrogatepass"))
        self.listed += 1


def _written(item: Item) -> float:
    """Return when an input that is a file of its own was written; long ago for any other."""
    if not isinstance(item.location, FileLocation):
        return -math.inf
    try:
        return item.location.path.stat().st_mtime
    except OSError:
        return -math.inf


def _changed(what: str, where: str) -> UserError:
    return UserError(what, where=where, fix=f"give the same inputs again; {ANEW}")
