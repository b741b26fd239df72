"""Tables obey COLUMNS and never break a name."""

from __future__ import annotations

import pytest
from rich import box
from rich.table import Table
from rich.text import Text

from restune.evaluation.evaluation import Evaluation
from restune.reporting import tables
from restune.reporting.layout import prose, show

PATH = "photos/a folder with spaces/" + "long-name-" * 4 + "1.jpg"


def predictions() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("input", "label", "probability", "reason"):
        table.add_column(Text(header))
    table.add_row(Text(PATH), Text("great horned owl"), "93.1%", prose("not a word of it is longer than these"))
    table.add_row(Text("short.jpg"), Text("bee"), "50.0%", "")
    return table


@pytest.mark.parametrize("columns", ["40", "60", "90", "110", "200"])
def test_names_are_whole_and_columns_obeyed(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    show(predictions())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert all(any(name in line for line in lines) for name in (PATH, "great horned owl", "short.jpg", "93.1%"))
    for line in lines:
        assert len(line) <= int(columns) or line.strip() == PATH or line.strip().startswith("reason"), line


def test_a_wide_terminal_gets_a_table_and_a_narrow_one_blocks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show(predictions())
    assert capsys.readouterr().out.splitlines()[1].split() == ["input", "label", "probability", "reason"]
    monkeypatch.setenv("COLUMNS", "60")
    show(predictions())
    assert capsys.readouterr().out.splitlines()[:2] == [PATH, "  label great horned owl   probability 93.1%"]


@pytest.mark.parametrize("columns", ["", "0", "-3", "wide"])
def test_useless_columns_are_ignored(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    show(predictions())
    assert capsys.readouterr().out.splitlines()[1].split() == ["input", "label", "probability", "reason"]


def test_a_confusion_matrix_of_long_names_is_readable_in_60_columns(capsys, monkeypatch, tmp_path):
    import numpy as np

    names = tuple(f"species number {number} of the genus" for number in range(4))
    logits = np.eye(4, dtype=np.float32)
    evaluation = Evaluation(
        classes=names, ids=tuple("abcd"), targets=np.arange(4), logits=logits, predicted=np.arange(4),
        probabilities=logits.max(axis=1), top5_correct=None,
    )  # fmt: skip
    monkeypatch.setenv("COLUMNS", "60")
    show(*tables.evaluation_tables(evaluation))
    text = capsys.readouterr().out
    assert all(text.count(name) >= 2 for name in names)
    lines = text.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith(" "))
    assert max(map(len, lines[first:])) <= 60, "sentences above the tables wrap on the terminal, tables do not"


def test_cells_of_stacked_rows_keep_their_brackets(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text("input"))
    table.add_column(Text("[red] label"))
    table.add_row(Text("[bold]" + "x" * 40), Text("[blue]"))
    show(table)
    assert capsys.readouterr().out.splitlines() == ["[bold]" + "x" * 40, "  [red] label [blue]"]
