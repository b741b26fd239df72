"""What a table's labels are: one class per item, several labels, or numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError, did_you_mean, shorten
from restune.data.class_names import class_order, clean_name, composites, reject_several_labels
from restune.data.dataset import DataOptions
from restune.data.sources.decimals import is_fraction, is_number
from restune.data.targets import TASKS

FIELD = "\x1f"
"""Joins the fields of several label columns to one text."""
ONES = ("1", "1.0", "true", "yes")
ZEROS = ("0", "0.0", "false", "no", "")
SEPARATOR = "|"
_LISTED = re.compile(r"\[.*\]", re.DOTALL)
_FEW, _MANY, _LEAST_OF_A_CLASS = 10, 20, 5
_CODED = re.compile(r"[+-]?0\d")
"""A whole number with leading zeros: a code."""
_CLASS_WORDS = frozenset(
    (
        *(
            "label",
            "labels",
            "class",
            "classes",
            "target",
            "category",
            "categories",
            "y",
            "tag",
            "species",
            "class_name",
        ),
        *("label_name", "category_name", "class_id", "label_id", "category_id", "class_label", "target_class"),
        *("ground_truth", "gt", "truth", "annotation", "标签", "类别", "分类"),
    )
)
"""Names of columns that hold classes."""


@dataclass(frozen=True)
class Labels:
    """The targets of a table's rows.

    Args:
        task: one of `TASKS`.
        classes: class names in order, names of labels, or names of the numbers.
        targets: class indices ``[N]``, or row numbers.
        values: target values ``[N, C]`` of multi-label data and regression.
    """

    task: str
    classes: tuple[str, ...]
    targets: NDArray[np.int32]
    values: NDArray[np.float32] | None = None


def reject_unknown_task(options: DataOptions) -> None:
    """Raise UserError for a task that does not exist, and for options that contradict each other."""
    if options.task is not None and options.task not in TASKS:
        hint = did_you_mean(options.task, TASKS) or f"use {', '.join(TASKS)}"
        raise UserError(f"unknown task {options.task!r}", where="--task", fix=hint)
    if options.label_separator is not None and options.task not in (None, "multi-label"):
        raise UserError(
            f"a separator of labels has no effect with --task {options.task}",
            where="--label-separator",
            fix="leave one of the two out",
        )
    if options.label_separator == "":
        raise UserError("the separator of labels is empty", where="--label-separator", fix="give a mark such as ';'")


def label_columns(names: Sequence[str], named: str | None) -> list[str]:
    """Return the columns that ``--label-column a,b,c`` names; none where it names one column.

    Raises UserError for a column that does not exist.
    """
    columns = [name.strip() for name in names]
    if named is None or named.strip() in columns or "," not in named:
        return []
    wanted = list(dict.fromkeys(part.strip() for part in named.split(",") if part.strip()))
    for name in wanted:
        if name not in columns:
            hint = did_you_mean(name, columns) or f"the columns are {shorten(map(repr, columns))}"
            raise UserError(f"there is no column {name!r}", where="--label-column", fix=hint)
    return wanted


def read_labels(
    texts: Sequence[str],
    codes: NDArray[np.int32],
    options: DataOptions,
    where: str,
    columns: Sequence[str],
    row: int = 0,
) -> Labels:
    """Decide what the labels are, and read them.

    Args:
        texts: the different labels, in order of first appearance; fields of several columns joined by `FIELD`.
        codes: index of each row's text.
        options: task, separator, and whether they are settled.
        where: for messages.
        columns: the label columns, or the one.
        row: the number of the first row, for messages.

    Raises UserError for labels that fit no task, and for whole numbers that may be classes or amounts.
    """
    if len(columns) > 1:
        return _several_columns(texts, codes, options, where, columns, row)
    task, name = options.task, columns[0]
    given = [text for text in texts if text] if options.missing_labels else texts
    if task == "regression":
        return _numbers(texts, codes, where, [name], row, keep_missing=options.missing_labels)
    mark = options.label_separator or SEPARATOR
    if task == "multi-label" or options.label_separator is not None:
        return _marked(texts, codes, mark, where)
    if task is None:
        if any(map(is_fraction, given)) and all(map(is_number, given)):
            note(f"the labels are numbers with fractions: regression of {name!r} (--task)")
            return _numbers(texts, codes, where, [name], row, keep_missing=options.missing_labels)
        if any(found == SEPARATOR for _, _, found in composites(given)):
            note(f"labels hold several names separated by {SEPARATOR!r}: multi-label (--task single-label: one name)")
            return _marked(texts, codes, SEPARATOR, where)
        reject_several_labels(given, where)
        counts = np.bincount(codes, minlength=len(texts))[[place for place, text in enumerate(texts) if text]]
        _ask_about_amounts(given, counts, where, name)
    classes = class_order(given)
    rank = {label: position for position, label in enumerate(classes)}
    return Labels("single-label", classes, np.array([rank.get(text, -1) for text in texts], np.int32)[codes])


def _several_columns(
    texts: Sequence[str],
    codes: NDArray[np.int32],
    options: DataOptions,
    where: str,
    columns: Sequence[str],
    row: int,
) -> Labels:
    """Read several columns: labels where all fields are 0 or 1, else numbers."""
    rows = [[field.strip().lower() for field in text.split(FIELD)] for text in texts]
    are_marks = all(field in ONES or field in ZEROS for fields in rows for field in fields)
    if options.task == "multi-label" or (options.task is None and are_marks):
        places = [(place, field) for place, fields in enumerate(rows) for field in fields]
        wrong = next((entry for entry in places if entry[1] not in ONES and entry[1] not in ZEROS), None)
        if wrong is not None:
            raise UserError(
                f"{wrong[1][:60]!r} is neither 0 nor 1 in a table of one column per label",
                where=_in_row(where, wrong[0], codes, row),
                fix="name columns of 0 and 1 with --label-column, or --task regression for numbers",
            )
        known = np.array([[field in ONES for field in fields] for fields in rows], np.float32)
        return _rows("multi-label", columns, known, codes)
    if options.task == "single-label":
        raise UserError(
            f"{len(columns)} label columns are not one class per item",
            where="--task single-label",
            fix="name the one column that holds the class with --label-column",
        )
    return _numbers(texts, codes, where, columns, row)


def _numbers(
    texts: Sequence[str],
    codes: NDArray[np.int32],
    where: str,
    columns: Sequence[str],
    row: int,
    *,
    keep_missing: bool = False,
) -> Labels:
    """Read numbers. Raises UserError for a text that is not a finite number.

    With `keep_missing` an empty text is an item without a label: its target is -1.
    """
    known = np.zeros((len(texts), len(columns)), np.float64)
    for number, text in enumerate(texts):
        if keep_missing and not text:
            continue
        for place, field in enumerate(text.split(FIELD)):
            value = float(field) if is_number(field) else np.nan
            known[number, place] = value
            if not np.isfinite(value) or abs(value) > np.finfo(np.float32).max:
                where = _in_row(where, number, codes, row)
                raise UserError(
                    f"{field[:60]!r} is not a number" if field.strip() else "a number is missing",
                    where=f"{where}, column {columns[place]!r}" if len(columns) > 1 else where,
                    fix="correct or remove this row, or name the columns of numbers with --label-column",
                )
    labels = _rows("regression", columns, known.astype(np.float32), codes)
    is_missing = np.array([keep_missing and not text for text in texts], bool)[codes]
    return replace(labels, targets=np.where(is_missing, -1, labels.targets).astype(np.int32))


def _in_row(where: str, text: int, codes: NDArray[np.int32], row: int) -> str:
    """Return the place of the first row that holds a text, given the text's number."""
    return f"{where}, row {row + int(np.flatnonzero(codes == text)[0])}"


def _marked(texts: Sequence[str], codes: NDArray[np.int32], mark: str, where: str) -> Labels:
    """Read labels separated by a mark, or lists in JSON notation; an empty text has none."""
    parts = [[name for name in map(clean_name, _parts(text, mark)) if name] for text in texts]
    names = class_order(name for row in parts for name in row)
    if not names:
        raise UserError("no item has a label", where=where, fix="name the column of labels with --label-column")
    place = {name: column for column, name in enumerate(names)}
    known = np.zeros((len(texts), len(names)), np.float32)
    for row, labels in enumerate(parts):
        known[row, [place[name] for name in labels]] = 1
    return _rows("multi-label", names, known, codes)


def _parts(text: str, mark: str) -> list[str]:
    if _LISTED.fullmatch(text.strip()):
        try:
            return [str(part) for part in json.loads(text)]
        except (ValueError, TypeError, RecursionError):
            return [part.strip(" \"'\n") for part in text.strip()[1:-1].split(",")]
    return text.split(mark)


def _rows(task: str, columns: Sequence[str], known: NDArray[np.float32], codes: NDArray[np.int32]) -> Labels:
    """Spread the values of the different texts ``[texts, C]`` over the rows."""
    return Labels(task, tuple(columns), np.arange(len(codes), dtype=np.int32), known[codes])


def _ask_about_amounts(texts: Sequence[str], counts: NDArray[np.int64], where: str, name: str) -> None:
    """Raise UserError for many different whole numbers that do not look like the numbers of classes.

    Numbers of classes are consecutive from 0 or 1 and each has some items; where the column's name does not say that it
    holds classes, these have similar counts, too.
    """
    if len(texts) <= _FEW or not all(map(is_number, texts)) or any(map(_CODED.match, texts)):
        return
    numbers = sorted(float(text) for text in texts)
    are_consecutive = numbers[0] in (0, 1) and numbers[-1] - numbers[0] == len(numbers) - 1
    says_class = re.sub(r"[\s\-]+", "_", name.strip().lower()) in _CLASS_WORDS
    if says_class and (len(texts) <= _MANY or (are_consecutive and float(np.median(counts)) >= _LEAST_OF_A_CLASS)):
        return
    if are_consecutive and counts.max() <= 3 * counts.min() and counts.min() >= _LEAST_OF_A_CLASS:
        return
    raise UserError(
        f"{name!r} has {len(texts):,} different whole numbers, from {numbers[0]:g} to {numbers[-1]:g}: they may be "
        "amounts or classes",
        where=where,
        fix="pass --task regression to predict the number, or --task single-label to take each number for a class",
    )
