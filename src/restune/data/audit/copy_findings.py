"""Findings about copies: repeated items, leaks between splits, copies with different labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from restune.data.audit.audit import Audit
from restune.data.audit.copies import Copies
from restune.data.audit.findings import Finding
from restune.data.items import SPLITS, splits_of, targets_of

_TRAIN = SPLITS.index("train")
_RELATED = 20
"""Other members of a group that a finding names."""


def find_copies(audit: Audit) -> Iterator[Finding]:
    """Report repeated items, held-out copies of training items, and copies with different labels.

    The number of findings is at most three per item, however large the groups are.
    """
    if audit.copies is None:
        return
    splits, targets = splits_of(audit.dataset.items), targets_of(audit.dataset.items)
    for rows in audit.copies.members():
        group = _Group(audit, rows, splits[rows], targets[rows])
        yield from group.repeated()
        yield from group.leaked()
        if audit.dataset.task == "single-label":
            yield from group.conflicting()


class _Group:
    """One group of copies: the first item is kept, training items come first."""

    def __init__(
        self, audit: Audit, rows: NDArray[np.int64], splits: NDArray[np.int8], targets: NDArray[np.int32]
    ) -> None:
        assert audit.copies is not None
        order = np.lexsort((rows, np.where(splits < 0, _TRAIN, splits)))
        self.rows, self.splits, self.targets = rows[order], splits[order], targets[order]
        self.ids: Sequence[str] = [audit.dataset.items[row].id for row in self.rows.tolist()]
        self.copies: Copies = audit.copies
        self.classes = audit.dataset.classes
        self.are_images = audit.images is not None
        self.exact = self.copies.exact[self.rows]

    def repeated(self) -> Iterator[Finding]:
        """Report each item but the first."""
        seen: dict[int, int] = {}
        for place, number in enumerate(self.exact.tolist()):
            first = seen.setdefault(number, place)
            if first != place:
                twin = self.ids[first]
                yield Finding(self.ids[place], "duplicate", "warning", 1.0, f"drop: equal to {twin}", (twin,))
            elif place:
                twin, words, score = self._near(place)
                suggestion = f"group: {words} {twin}"
                yield Finding(
                    self.ids[place], "near-duplicate", "warning", score, suggestion, self._others(place, twin)
                )

    def leaked(self) -> Iterator[Finding]:
        """Report held-out items with a copy among the training items."""
        trained = np.flatnonzero(self.splits == _TRAIN)
        if not len(trained):
            return
        first_of = {number: place for place, number in reversed([(p, self.exact[p]) for p in trained.tolist()])}
        for place in np.flatnonzero(self.splits > _TRAIN).tolist():
            name = SPLITS[self.splits[place]]
            equal = first_of.get(self.exact[place])
            if equal is not None:
                twin, words, score = self.ids[equal], "equal to", 1.0
            else:
                twin, words, score = self._near(place, among=set(trained.tolist()))
            suggestion = f"drop: {name} item, {words} {twin} (train)"
            severity = "serious" if score == 1.0 or self.are_images else "warning"
            yield Finding(self.ids[place], "leak", severity, score, suggestion, (twin,))

    def conflicting(self) -> Iterator[Finding]:
        """Report items with a copy of another label."""
        labelled = np.flatnonzero(self.targets >= 0)
        if len(np.unique(self.targets[labelled])) < 2:
            return
        for place in labelled.tolist():
            others = labelled[self.targets[labelled] != self.targets[place]]
            equal = others[self.exact[others] == self.exact[place]]
            other = int((equal if len(equal) else others)[0])
            own, theirs = self.classes[self.targets[place]], self.classes[self.targets[other]]
            words, score = ("equal to", 1.0) if len(equal) else ("a near copy of", self._score(place))
            suggestion = f"look: labelled {own!r}, {words} {self.ids[other]}, labelled {theirs!r}"
            severity = "serious" if len(equal) else "warning"
            yield Finding(self.ids[place], "conflicting-duplicate", severity, score, suggestion, (self.ids[other],))

    def _near(self, place: int, among: set[int] | None = None) -> tuple[str, str, float]:
        """Return an item's nearest copy that is not equal to it, the words between them, and their similarity."""
        row = int(self.copies.twins[self.rows[place]])
        places = np.flatnonzero(self.rows == row)
        if len(places) and (among is None or int(places[0]) in among):
            change = self.copies.names[int(self.copies.changes[self.rows[place]])]
            return self.ids[int(places[0])], f"a copy ({change}) of", self._score(place)
        return self.ids[min(among) if among else 0], "a near copy of", self._score(place)

    def _score(self, place: int) -> float:
        return float(self.copies.scores[self.rows[place]])

    def _others(self, place: int, twin: str) -> tuple[str, ...]:
        names = [twin, *(name for name in self.ids[: _RELATED + 2] if name not in (self.ids[place], twin))]
        return tuple(names[:_RELATED])
