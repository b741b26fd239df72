"""Rows of a table: measure what is missing, one value after another, and store every value at once.

A table is a module of this package with a `TABLE`. `python -m benchmarks.tables.NAME` measures its rows and stores them
in `results/NAME.json`; `python -m benchmarks.tables` makes docs/results.md from the stored rows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Text:
    """A sentence in both languages of the documentation."""

    en: str
    zh: str

    def stored(self) -> dict[str, str]:
        return {"en": self.en, "zh": self.zh}


def same(text: str) -> Text:
    """Return a text that both languages share, such as the name of a data set."""
    return Text(text, text)


NO_DATA = Text("data not on this machine", "本机没有这份数据")
NO_GPU = Text("no GPU on this machine", "本机没有 GPU")


def gpu_name() -> str | None:
    """Return the name of the first NVIDIA GPU, without importing torch; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    named = subprocess.run(asked, capture_output=True, text=True, check=False)
    return (named.stdout.splitlines() or [None])[0] if named.returncode == 0 else None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measured value.

    Args:
        value: the figure, in the row's unit.
        n: number of items that it was measured on (test items of an accuracy); None where there are none.
        extra: further figures of the same run, by the keys of the table's `columns` (or others, stored only).
    """

    value: float
    n: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line asks of a measurement: the data's folder, and whether a minute must do."""

    data: Path
    quick: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: how it is called, and how one of its values is measured.

    Args:
        key: unique in the table; `--only` selects by it.
        label: the first column.
        measure: called with a seed and the settings; None where the row is computed from others (`minus`).
        seeds: one value per seed.
        protocol: everything that the value depends on besides the code; values of another protocol are discarded.
        minutes: expected minutes per value on 2 cores.
        needs: called with the settings; returns why the row cannot be measured here, or None.
        reference: a published value in the row's unit, and its source.
        peers: packages whose versions are stored besides restune, torch and Python.
        minus: keys of two rows: this row holds their paired differences, first minus second, with a 95% t interval.
    """

    key: str
    label: Text
    measure: Callable[[int, Settings], Measured] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    minutes: float = 1.0
    needs: Callable[[Settings], Text | None] = lambda _settings: None
    reference: tuple[float, str] | None = None
    peers: tuple[str, ...] = ()
    minus: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A further column of the document: the median over the seeds of `extra[key]`."""

    key: str
    title: Text
    form: str = "{:.0f} s"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of the document: its file in docs/pictures, its alternative text, and the file's content."""

    file: str
    alternative: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Args:
        name: of the module and of the stored file.
        order: position in the document.
        title, text: heading, and what was measured, with its limits; Markdown.
        value: what a value is, such as "test accuracy".
        unit: of every value: ``%``, ``s``, ``images/s`` or ``points``.
        rows: in the document's order.
        columns: further columns.
        digits: decimals in the document.
        picture: draws the document's picture from the stored rows, per language; None where there is nothing to draw.
    """

    name: str
    order: int
    title: Text
    text: Text
    value: Text
    unit: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = ()
    digits: int = 2
    picture: Callable[[dict[str, Any], str], Picture | None] | None = None


def load(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Read a table's stored rows, by key; none where nothing is stored."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    return {row["key"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def save(table: Table, rows: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write all rows of a table, in its order, by one rename; differences follow from the rows that they compare."""
    rows = rows | {row.key: difference(row, rows) for row in table.rows if row.minus}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table.name}.json"
    stored = {"table": table.name, "unit": table.unit, "rows": [rows[row.key] for row in table.rows]}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and standard deviation (ddof=1; None for one value)."""
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def t_interval(values: Sequence[float]) -> list[float] | None:
    """Return the 95% t interval of the mean; None for one value."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return [statistics.fmean(values) - half, statistics.fmean(values) + half]


def difference(row: Row, rows: dict[str, Any]) -> dict[str, Any]:
    """Store the paired differences of two stored rows, over the seeds that both have."""
    assert row.minus is not None
    first, second = (rows[key] for key in row.minus)
    seeds = [seed for seed in first["values"] if seed in second["values"]]
    if not seeds:
        return _unmeasured(row, Text("its two rows are not measured", "所比较的两行未测量"))
    values = {seed: first["values"][seed] - second["values"][seed] for seed in seeds}
    kept = {key: first[key] for key in ("n", "machine", "versions", "command", "date")}
    listed = list(values.values())
    return _blank(row) | kept | {"values": values, "interval": t_interval(listed), "reason": None} | summary(listed)


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, AVX-512 bf16 and VNNI, memory, GPU."""
    from restune.core.machine import cpu_count, memory_bytes, processor_name

    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
    return {
        "processor": processor_name(), "cores": cpu_count(), "memory_gib": round(memory_bytes() / 2**30),
        "avx512_bf16": "avx512_bf16" in flags, "avx512_vnni": "avx512_vnni" in flags, "gpu": gpu_name(),
        "system": platform.system(),
    }  # fmt: skip


@cache
def _commit() -> str:
    """Return the commit of this source tree, and whether the package differs from it; empty outside git."""
    git = ["git", "-C", str(ROOT)]
    asked = [*git, "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if commit and subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], check=False).returncode:
        commit += " with changes"
    return commit


def versions(peers: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python, restune (with its commit), torch and the peers."""
    import restune

    found = {"python": platform.python_version(), "restune": f"{restune.__version__} {_commit()}".strip()}
    for name in ("torch", *peers):
        try:
            found[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main(table: Table) -> None:
    """Measure a table's missing values; store each at once, so that an interrupted command loses at most one."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.tables.{table.name}", description=table.title.en)
    parser.add_argument("--data", type=Path, default=_default_data(), help="real data sets")
    parser.add_argument("--only", default="", help="rows whose key contains this; several: separated by commas")
    parser.add_argument("--seeds", default="", help="only these of the rows' seeds; several: separated by commas")
    parser.add_argument("--again", action="store_true", help="measure the selected rows anew")
    parser.add_argument("--limit", type=float, default=math.inf, metavar="MINUTES", help="start no value after this")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that everything works")
    parser.add_argument("--results", type=Path, default=None, help="folder of the stored rows")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FOLDER",
        help="take over the values stored in these folders, of one machine; measure nothing",
    )  # fmt: skip
    options = parser.parse_args()
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    settings = Settings(data=options.data.resolve(), quick=options.quick)
    command = shlex.join(["python", "-m", f"benchmarks.tables.{table.name}"])
    command += "".join(f" --only {options.only}" if options.only else "") + (" --quick" if options.quick else "")
    rows = _stored_or_blank(table, folder, settings)
    if options.merge:
        save(table, merged(table, rows, [load(table.name, other) for other in options.merge]), folder)
        return
    asked = [part for part in options.only.split(",") if part] or [""]
    chosen = [row for row in table.rows if row.measure and any(part in row.key for part in asked)]
    if options.again:
        rows |= {row.key: _blank(row) for row in chosen}
    deadline = time.monotonic() + 60 * options.limit
    for row in chosen:
        if time.monotonic() < deadline:
            picked = replace(row, seeds=_picked(row.seeds, options.seeds))
            _measure_row(table, picked, rows, settings, folder, command, deadline)
    save(table, rows, folder)
    print(f"{folder / table.name}.json")


def _picked(seeds: tuple[int, ...], asked: str) -> tuple[int, ...]:
    return tuple(seed for seed in seeds if not asked or str(seed) in asked.split(","))


def merged(table: Table, rows: dict[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rows with the values of others by the same protocol; they replace values of another machine."""
    rows = dict(rows)
    for row in table.rows:
        for other in others:
            new, known = other.get(row.key), rows[row.key]
            if row.measure is None or new is None or not new["values"] or new["protocol"] != _stored(row.protocol):
                continue
            if known["machine"] != new["machine"]:
                known = _blank(row)
            values = known["values"] | _of_seeds(new["values"], row)
            extra = {key: known["extra"].get(key, {}) | _of_seeds(each, row) for key, each in new["extra"].items()}
            of_run = {key: new[key] for key in ("n", "machine", "versions", "command", "date")}
            rows[row.key] = known | summary(list(values.values())) | of_run | {
                "values": values, "extra": known["extra"] | extra, "reason": None,
            }  # fmt: skip
    return rows


def _of_seeds(values: Mapping[str, Any], row: Row) -> dict[str, Any]:
    return {seed: value for seed, value in values.items() if int(seed) in row.seeds}


def _stored(protocol: Mapping[str, Any]) -> Any:
    """Return a protocol as JSON gives it back."""
    return json.loads(json.dumps(dict(protocol)))


def complete(table: Table, folder: Path = RESULTS) -> None:
    """Store a blank row for each row of a table that is not stored, with the reason; remove those it lost."""
    stored = [(key, row["label"]) for key, row in load(table.name, folder).items()]
    if stored != [(row.key, row.label.stored()) for row in table.rows]:
        rows = _stored_or_blank(table, folder, Settings(data=_default_data().resolve(), quick=False))
        save(table, rows, folder)


def _default_data() -> Path:
    return Path(os.environ.get("RESTUNE_TEST_DATA", "data"))


def record(table: Table, key: str, seed: int, measured: Measured, command: str, used: dict[str, str]) -> None:
    """Store a value that another command has measured on this machine with the versions `used`."""
    rows = _stored_or_blank(table, RESULTS, Settings(data=_default_data(), quick=False))
    rows[key] = _with_value(rows[key], seed, measured, command, used)
    save(table, rows)
    print(f"{key}, seed {seed}: {measured.value:.4g} {table.unit}")


def _measure_row(
    table: Table, row: Row, rows: dict[str, Any], settings: Settings, folder: Path, command: str, deadline: float
) -> None:
    assert row.measure is not None
    missing = row.needs(settings)
    if missing:
        if not rows[row.key]["values"]:
            rows[row.key] = _unmeasured(row, missing)
            save(table, rows, folder)
        print(f"{row.key}: not measured: {missing.en}", flush=True)
        return
    seeds = [str(seed) for seed in (row.seeds[:1] if settings.quick else row.seeds)]
    known = rows[row.key]
    if known["values"] and not set(seeds) <= set(known["values"]) and known["machine"] != machine():
        rows[row.key] = _blank(row)  # the values of a row come from one machine
    for seed in map(int, seeds):
        if str(seed) in rows[row.key]["values"] or time.monotonic() > deadline:
            continue
        began = time.monotonic()
        measured = row.measure(seed, settings)
        rows[row.key] = _with_value(rows[row.key], seed, measured, command, versions(row.peers))
        save(table, rows, folder)
        took = time.monotonic() - began
        print(f"{row.key}, seed {seed}: {measured.value:.4g} {table.unit} ({took:.0f} s)", flush=True)


def _with_value(
    stored: dict[str, Any], seed: int, measured: Measured, command: str, used: dict[str, str]
) -> dict[str, Any]:
    values = stored["values"] | {str(seed): float(measured.value)}
    extras = {"commit": used["restune"], **measured.extra}
    extra = {key: stored["extra"].get(key, {}) | {str(seed): value} for key, value in extras.items()}
    return stored | summary(list(values.values())) | {
        "values": values, "n": measured.n, "extra": stored["extra"] | extra, "reason": None, "machine": machine(),
        "versions": used, "command": command, "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def _stored_or_blank(table: Table, folder: Path, settings: Settings) -> dict[str, Any]:
    """Return the stored rows whose protocol still holds; blank rows, with a reason, for the others."""
    stored, rows = load(table.name, folder), {}
    for row in table.rows:
        known = stored.get(row.key)
        blank = _blank(row)
        same_protocol = known is not None and known["protocol"] == _stored(row.protocol)
        if known is not None and known["values"] and same_protocol:
            rows[row.key] = {**known, "label": blank["label"], "reference": blank["reference"]}
        else:
            missing = row.needs(settings)
            rows[row.key] = _unmeasured(row, missing) if missing else blank
    return rows


def _blank(row: Row) -> dict[str, Any]:
    minutes = row.minutes * len(row.seeds)
    spent = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    reason = Text(f"takes about {spent} on 2 cores", f"在 2 个核心上约需 {spent}")
    reference = {"value": row.reference[0], "source": row.reference[1]} if row.reference else None
    return {
        "key": row.key, "label": row.label.stored(), "protocol": dict(row.protocol), "values": {}, "mean": None,
        "std": None, "n": None, "extra": {}, "reference": reference, "reason": reason.stored(), "machine": None,
        "versions": None, "command": None, "date": None,
    }  # fmt: skip


def _unmeasured(row: Row, why: Text) -> dict[str, Any]:
    return _blank(row) | {"reason": why.stored()}
