"""Hostile tables."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from hostile_files.parts import EITHER, REFUSED, USED, Content, damaged, encoded, flipped, photo


def tables(random: np.random.Generator) -> Iterator[Content]:
    good = "file,label\nplain/0.jpg,a\nplain/1.jpg,b\n"
    yield "byte order mark", "bom.csv", b"\xef\xbb\xbf" + good.encode(), USED
    for name, mark in (("semicolon", ";"), ("tab", "\t"), ("bar", "|")):
        yield "another delimiter", f"{name}.csv", good.replace(",", mark).encode(), USED
    yield "another delimiter", "commas.tsv", good.encode(), REFUSED
    yield "another delimiter", "spaces.csv", good.replace(",", " ").encode(), REFUSED
    yield "line ends", "crlf.csv", good.replace("\n", "\r\n").encode(), USED
    yield "line ends", "cr.csv", good.replace("\n", "\r").encode(), EITHER
    yield "line ends", "blank lines.csv", good.replace("\n", "\n\n").encode(), EITHER
    yield "missing files", "missing.csv", b"file,label\nnot there.jpg,a\nplain/1.jpg,b\n", USED
    yield "missing files", "odd paths.csv", b'file,label\n/dev/zero,a\n../../..,b\n"a\0b.jpg",c\n~root/x,d\n', USED
    yield "missing files", "long path.csv", b"file,label\n" + b"x" * 100_000 + b",a\nplain/1.jpg,b\n", USED
    lines = {
        "duplicate columns": "file,label,file\na,b,c\n",
        "duplicate columns, spaces": "file,label, file\na,b,c\n",
        "ragged": "file,label\nplain/0.jpg,a\nplain/1.jpg,b,c,d\n",
        "ragged, short": "file,label\nplain/0.jpg,a\nplain/1.jpg\n",
        "header only": "file,label\n",
        "header only, no end": "file,label",
        "one column": "file\nplain/0.jpg\n",
        "no label": "file,label\nplain/0.jpg,a\nplain/1.jpg,\n",
        "no path": "file,label\nplain/0.jpg,a\n,b\n",
        "listed twice": good + "plain/1.jpg,b\n",
        "one class": "file,label\nplain/0.jpg,a\nplain/1.jpg,a\n",
        "fractions": "file,label\nplain/0.jpg,0.25\nplain/1.jpg,nan\n",
        "unknown split": "file,label,split\nplain/0.jpg,a,train\nplain/1.jpg,b,\0\n",
        "new lines only": "\n\n\n\n",
        "open quote": 'file,label\n"plain/0.jpg,a\nplain/1.jpg,b\n',
        "no names": ",,,\n,,,\n",
    }
    for kind, text in lines.items():
        yield kind, f"{kind}.csv", text.encode(), REFUSED
    yield "NUL bytes", "nul.csv", good.replace("a", "\0").encode(), EITHER
    yield "NUL bytes", "nul names.csv", b"\0,\0\0\na,b\n", REFUSED
    yield "NUL bytes", "zeros.csv", bytes(5000), REFUSED
    yield "empty", "empty.csv", b"", REFUSED
    yield "empty", "empty.parquet", b"", REFUSED
    yield "encoding", "utf-16.csv", good.encode("utf-16"), USED
    yield "encoding", "latin-1.csv", good.replace("b\n", "é\n").encode("latin-1"), REFUSED
    yield "one long line", "long line.csv", b"file,label\n" + b"x" * 3_000_000, REFUSED
    columns = ",".join(f"c{number}" for number in range(20_000))
    yield "many columns", "columns.csv", f"{columns}\n{columns}\n".encode(), REFUSED
    names = "".join(f"{number}.jpg,class {number}\n" for number in range(20_000))
    yield "many classes", "classes.csv", f"file,label\n{names}".encode(), USED
    yield "another format", "picture.csv", encoded(photo(random), "PNG"), REFUSED
    yield "another format", "gzip.csv", gzip.compress(good.encode()), REFUSED
    yield "another format", "text.parquet", good.encode(), REFUSED
    for number in range(6):
        yield "noise", f"noise {number}.csv", random.bytes(3000), REFUSED
    yield from damaged(good.encode() * 2, "table", "csv", random, each=6)
    table = pa.table({"file": ["plain/0.jpg", "plain/1.jpg"], "label": ["a", "b"], "split": ["train", None]})
    content = as_parquet(table)
    yield "whole", "whole.parquet", content, USED
    yield from damaged(content, "table", "parquet", random, each=10)
    for number in range(6):  # the footer, which describes all
        footer = flipped(content[-400:], random, 1 + number)
        yield "bits turned", f"footer {number}.parquet", content[:-400] + footer, EITHER
    typed = {
        "lists": pa.array([["a"], ["b"]]),
        "structs": pa.array([{"bytes": b"x", "path": "p"}, {"bytes": b"y", "path": "q"}]),
        "nulls": pa.nulls(2),
        "bytes": pa.array([b"\xff", b"\0"]),
        "times": pa.array([0, 2**60], pa.timestamp("ns")),
    }
    for name, column in typed.items():
        yield "odd types", f"{name}.parquet", as_parquet(table.set_column(1, "label", column)), EITHER
        yield "odd types", f"{name} as paths.parquet", as_parquet(table.set_column(0, "file", column)), EITHER
    same = pa.table({"file": pa.array(["plain/0.jpg"] * 3_000_000).dictionary_encode(), "label": [0] * 3_000_000})
    yield "bomb", "rows.parquet", as_parquet(same), REFUSED


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()
