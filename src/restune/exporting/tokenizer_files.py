"""Write the tokeniser beside the graph of a text model: its vocabulary, and the program that applies it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from restune.core.files import write_text
from restune.data.preprocess import Preprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.tokens import word_pattern


def write_tokenizer(folder: Path, preprocess: Preprocess) -> list[Path]:
    """Write ``tokenizer.json`` and ``tokenizer.py`` (`exporting.tokenizer` as it is); of other kinds nothing."""
    if not isinstance(preprocess, TextPreprocess):
        return []
    content = {
        "tokens": preprocess.tokens,
        "length": preprocess.length,
        "vocabulary": list(preprocess.vocabulary),
        "word_pattern": word_pattern() if preprocess.tokens == "words" else "",
    }
    write_text(folder / "tokenizer.json", json.dumps(content, ensure_ascii=False) + "\n")
    program = (files("restune.exporting") / "tokenizer.py").read_text(encoding="utf-8")
    write_text(folder / "tokenizer.py", program)
    return [folder / "tokenizer.json", folder / "tokenizer.py"]
