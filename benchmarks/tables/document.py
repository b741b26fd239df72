"""Make docs/results.md and docs/zh/results.md from the stored rows."""

from __future__ import annotations

import importlib
import pkgutil
import re
import statistics
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.tables.common import RESULTS, ROOT, Column, Picture, Row, Table, Text, load

TITLE = Text("Results", "结果")
HEAD = Text(
    "Every figure of this page comes from the values stored in `benchmarks/tables/results/`. "
    "`python -m benchmarks.tables.NAME` measures a table (options: `--help`; after an interruption the same command "
    "continues), `python -m benchmarks.tables` writes this page. Means are over seeds, ± is the standard deviation "
    "over seeds (n - 1 in the denominator), n the number of test items. A row without values says why.",
    "本页的所有数字都由 `benchmarks/tables/results/` 中保存的数值生成。`python -m benchmarks.tables.NAME` 测量一张表"
    "（选项见 `--help`；中断后再次运行会继续），`python -m benchmarks.tables` 生成本页。均值按随机种子计算，"
    "± 为各种子之间的标准差（分母为 n - 1），n 为测试样本数。没有数值的行会说明原因。",
)
WORDS = {
    "mean": Text("mean", "均值"),
    "values": Text("per seed", "各种子"),
    "n": Text("n", "n"),
    "published": Text("published", "已发表"),
    "not measured": Text("not measured", "未测量"),
    "interval": Text("95% interval {low} to {high}", "95% 区间 {low} 至 {high}"),
    "separator": Text(": ", "："),
    "comma": Text(", ", "，"),
    "rows": Text("rows", "行"),
}


HELPERS = ("__main__", "common", "document", "curves", "independent_cifar")
"""Modules of this package that are not tables."""


def tables() -> list[Table]:
    """Return all tables of this package, in the document's order."""
    package = importlib.import_module("benchmarks.tables")
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPERS:
            table = getattr(importlib.import_module(f"benchmarks.tables.{module.name}"), "TABLE", None)
            found += [table] if table is not None else []
    return sorted(found, key=lambda table: table.order)


def page(lang: str, folder: Path = RESULTS) -> str:
    """Return the whole page in one language."""
    sections = [_section(table, load(table.name, folder), lang) for table in tables()]
    return "\n".join([f"# {getattr(TITLE, lang)}\n", _wrapped(getattr(HEAD, lang), lang), *sections])


def write(docs: Path = ROOT / "docs", folder: Path = RESULTS) -> None:
    """Write the page in both languages."""
    for lang, path in (("en", docs / "results.md"), ("zh", docs / "zh" / "results.md")):
        path.write_text(page(lang, folder), encoding="utf-8")
        for picture in pictures(lang, folder):
            (docs / "pictures" / picture.file).write_text(picture.svg, encoding="utf-8")


def pictures(lang: str, folder: Path = RESULTS) -> list[Picture]:
    """Return all pictures of the page in one language."""
    drawn = [table.picture(load(table.name, folder), lang) for table in tables() if table.picture]
    return [picture for picture in drawn if picture is not None]


def _wrapped(text: str, lang: str) -> str:
    """Break English paragraphs into lines; Chinese ones stay whole, since a line break would show as a space."""
    if lang == "zh":
        return text.strip() + "\n"
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text.strip())  # no line break within code
    filled = textwrap.fill(whole, 120, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ") + "\n"


def word(name: str, lang: str) -> str:
    return str(getattr(WORDS[name], lang))


def _section(table: Table, rows: dict[str, Any], lang: str) -> str:
    shown = [(row, rows[row.key]) for row in table.rows if row.key in rows]
    parts = [f"## {getattr(table.title, lang)}\n", _wrapped(getattr(table.text, lang), lang)]
    if table.picture is not None and (drawn := table.picture(rows, lang)):
        prefix = "" if lang == "en" else "../"
        parts.append(f"![{drawn.alternative}]({prefix}pictures/{drawn.file})\n")
    parts.append("\n".join(_grid(table, shown, lang)) + "\n")
    parts.append("\n".join(_origins(shown, lang)) + "\n")
    return "\n".join(part for part in parts if part.strip())


def _grid(table: Table, shown: list[tuple[Row, Any]], lang: str) -> list[str]:
    references = any(stored["reference"] for _, stored in shown)
    heads = [f"{getattr(table.value, lang)} ({table.unit})", word("mean", lang), word("values", lang), word("n", lang)]
    heads += [word("published", lang)] if references else []
    heads += [getattr(column.title, lang) for column in table.columns]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row, stored in shown:
        cells = [stored["label"][lang], *_figures(table, row, stored, lang)]
        cells += [_published(stored)] if references else []
        cells += [_column(column, stored) for column in table.columns]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _figures(table: Table, row: Row, stored: dict[str, Any], lang: str) -> list[str]:
    if not stored["values"]:
        return [word("not measured", lang) + word("separator", lang) + stored["reason"][lang], "", ""]
    signed = "+" if row.minus else ""

    def figure(value: float, sign: str = signed) -> str:
        return f"{value:{sign}.{table.digits}f}"

    mean = figure(stored["mean"]) + ("" if stored["std"] is None else f" ± {figure(stored['std'], '')}")
    if stored.get("interval"):
        low, high = (figure(value) for value in stored["interval"])
        mean += "; " + word("interval", lang).format(low=low, high=high)
    listed = ", ".join(figure(value) for _, value in sorted(stored["values"].items(), key=lambda pair: int(pair[0])))
    return [mean, listed, "" if stored["n"] is None else f"{stored['n']:,}"]


def _published(stored: dict[str, Any]) -> str:
    reference = stored["reference"]
    return f"{reference['value']:g} ({reference['source']})" if reference else ""


def _column(column: Column, stored: dict[str, Any]) -> str:
    values = [value for value in stored["extra"].get(column.key, {}).values() if value is not None]
    if not values:
        return ""
    if isinstance(values[0], str):
        return str(values[0])
    return column.form.format(statistics.median(values))


def _origins(shown: list[tuple[Row, Any]], lang: str) -> list[str]:
    """Say command, machine, versions and date, once for all rows that share them."""
    groups: dict[str, list[str]] = {}
    for row, stored in shown:
        if stored["values"] and not row.minus:
            groups.setdefault(_origin(stored, lang), []).append(stored["label"][lang])
    if len(groups) == 1:
        return [f"- {origin}" for origin in groups]
    comma, colon = word("comma", lang), word("separator", lang)
    return [f"- {comma.join(labels)}{colon}{origin}" for origin, labels in groups.items()]


def _origin(stored: dict[str, Any], lang: str) -> str:
    machine, versions = stored["machine"], stored["versions"]
    cores = Text("{} cores", "{} 核")
    memory = Text("{} GiB", "{} GiB 内存")
    has = [name for key, name in (("avx512_bf16", "AVX-512 BF16"), ("avx512_vnni", "AVX-512 VNNI")) if machine[key]]
    parts = [machine["processor"], getattr(cores, lang).format(machine["cores"])]
    parts += [getattr(memory, lang).format(machine["memory_gib"]), *has]
    parts.append(machine["gpu"] or getattr(Text("no GPU", "无 GPU"), lang))
    listed = [f"{name} {version}" for name, version in versions.items()]
    comma = word("comma", lang)
    return f"`{stored['command']}`{comma}{stored['date']}; {comma.join(parts)}; {comma.join(listed)}"
