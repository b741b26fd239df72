"""Translate messages: templates with named fields, in one ``.po`` file per room of the program.

Messages are written in English where they arise. The place that shows a message looks for the template that it was
made from, takes the fields' values out and puts them into the translation. Values that are phrases themselves are
translated, too. What has no translation stays English.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
_VERBATIM = """
address archive class classes column columns custom data destination example examples file filename files folder found
from have house ids key keys label labels largest marks model name named names opts option path place prefix repr
requested role shape smallest source stem suffix suffixes table text unknown verb word
"""
VERBATIM = frozenset(_VERBATIM.split())
"""Fields that hold what is the user's own or an identifier: never translated."""
_NUMBER = r"[-+]?[\d.,/e-]*\d(?:%|k|M)?"
_SHAPES = {"n": _NUMBER, "score": _NUMBER, "row": _NUMBER, "line": _NUMBER, "number": _NUMBER, "s": "[a-z]*",
           "suffix": r"'?\.\w+'?", "word": r"\S+", "bracketed": "[^()]*", "clock": r"[\d:]+(?: s)?"}  # fmt: skip
"""What the values of some fields look like, by the field's name without its number; others are any text."""
_SETTING = re.compile(r"[a-z][a-z0-9_.]*: ")
"""How a line on a setting of a recipe begins; its key stays."""
_STRONG = 10
"""Letters of literal text with which a template is looked for before a message is taken apart."""
_SEPARATORS = ((": ", "："), ("; ", "；"), (", ", "，"))


class Entry(NamedTuple):
    """A message in both languages.

    Args:
        english: the template, with `str.format` fields.
        translation: the same fields, in any order; a field ``s``, a plural's ending, may be left out.
        place: file and line of the entry.
    """

    english: str
    translation: str
    place: str


class _Pattern(NamedTuple):
    """What a template needs to be found: its literal pieces, the names of its fields, and its translation."""

    pieces: tuple[str, ...]
    fields: tuple[str, ...]
    translation: str

    @property
    def is_strong(self) -> bool:
        """Whether the literal text is enough to be sure of the template."""
        return sum(character.isalpha() for piece in self.pieces for character in piece) >= _STRONG

    def values(self, message: str) -> dict[str, str] | None:
        """Return the fields' values where the message was made from this template, else None."""
        if "\n" in message and not any("\n" in piece for piece in self.pieces):
            return None
        start = 0
        if not message.startswith(self.pieces[0]):
            return None
        for piece in self.pieces:  # far cheaper than the expression, and nearly always enough
            start = message.find(piece, start)
            if start < 0:
                return None
            start += len(piece)
        found = _expression(self.pieces, self.fields).fullmatch(message)
        return None if found is None else dict(zip(self.fields, found.groups(), strict=True))


@lru_cache(maxsize=4096)
def translate(message: str) -> str:
    """Return a message in Chinese; what is not in the catalogue stays as it is.

    >>> translate("this run does not have a valid checkpoint to continue from")
    '这次运行没有可用的检查点，无法续训'
    """
    text = message.strip()
    found = _translated(text) if text else None
    return message if found is None else message.replace(text, found, 1)


def entries(folder: Path = FOLDER) -> Iterator[Entry]:
    """Yield the entries of all files, those of a file in its order. Raises ValueError for a malformed file."""
    for path in sorted(folder.glob("*.po")):
        yield from read_entries(path)


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a ``.po`` file: ``msgid`` and ``msgstr`` with quoted strings, comments after ``#``."""
    texts: dict[str, str] = {}
    name = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        word, _, rest = line.partition(" ")
        if word in ("msgid", "msgstr"):
            name, line = word, rest
            texts[name] = ""
        elif not line.startswith('"'):
            if line and not line.startswith("#"):
                raise ValueError(f"{path.name}, line {number}: neither msgid, msgstr, a string nor a comment")
            continue
        texts[name] += str(ast.literal_eval(line))
        if name == "msgstr" and "msgid" in texts:
            yield Entry(texts.pop("msgid"), texts["msgstr"], f"{path.name}:{number}")


def _translated(text: str) -> str | None:
    """Return the translation of a whole message, or of its parts; None where nothing in it is known."""
    exact, strong, weak = _catalogue()
    if text in exact:
        return exact[text]
    return _matched(text, strong) or _in_parts(text) or _matched(text, weak) or _in_halves(text)


def _matched(text: str, patterns: list[_Pattern]) -> str | None:
    """Translate a text by the first template that it was made from."""
    for pattern in patterns:
        values = pattern.values(text)
        if values is not None:
            shown = {name: value if _base(name) in VERBATIM else _value(value) for name, value in values.items()}
            return pattern.translation.format(**shown)
    return None


def _base(field: str) -> str:
    """Return a field's name without its number."""
    return field.rstrip("0123456789")


def _value(text: str) -> str:
    """Translate a field's value where it is a phrase, with the spaces around it."""
    bare = text.strip()
    if re.fullmatch(r"[^a-zA-Z]*|'[^']*'|\"[^\"]*\"", bare):
        return text
    found = _translated(bare) or _reason(bare)
    return text if found is None else text.replace(bare, found, 1)


def _reason(text: str) -> str | None:
    """Translate the reason in brackets why a name is in a list; the name stays."""
    for form in (r"(.*?\S {1,2})\((.+)\)", r"(.*\S {1,2})\(([^()]+)\)"):
        found = re.fullmatch(form, text)
        if found is not None and (reason := _translated(found[2])):
            return f"{found[1].rstrip()}（{reason}）"
    return None


def _in_parts(text: str) -> str | None:
    """Translate a text line by line, else sentence by sentence, else by its clauses, all of which must be known."""
    if "\n" in text:
        lines = [_value(line) for line in text.split("\n")]
        return "\n".join(lines) if lines != text.split("\n") else None
    sentences = re.split(r"(?<=[a-z0-9)'?])[.]? (?=[A-Z][a-z]+ )", text)
    if len(sentences) > 1 and any(known := [_known(sentence) for sentence in sentences]):
        return "。".join(part or sentence for part, sentence in zip(known, sentences, strict=True)).replace(
            "？。", "？"
        )
    for separator, mark in _SEPARATORS:
        parts = _split(text, separator)
        if separator == ": " and _SETTING.match(text):
            continue
        if len(parts) > 1 and all(known := [_known(part) for part in parts]):
            return mark.join(part or "" for part in known)
    bracket = re.fullmatch(r"(.+?) \((.+)\)", text, re.DOTALL)
    if bracket is not None and not _SETTING.match(text) and (head := _known(bracket[1])):
        return f"{head}（{_value(bracket[2])}）"
    return None


def _in_halves(text: str) -> str | None:
    """Translate what is known of the two sides of a semicolon or colon, such as a file's name and what is wrong."""
    for separator, mark in _SEPARATORS[:2]:
        head, *rest = _split(text, separator, most=1)
        is_key = mark == "：" and _SETTING.match(text) is not None
        if rest and ((not is_key and _known(head)) or _known(rest[0])):
            return f"{head if is_key else _value(head)}{mark}{_value(rest[0])}"
    return None


def _split(text: str, separator: str, most: int = -1) -> list[str]:
    """Split a text at a separator outside brackets and quotes."""
    parts: list[str] = []
    start, depth, quoted = 0, 0, False
    for place, character in enumerate(text):
        quoted ^= character == "'"
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and not quoted and text.startswith(separator, place) and len(parts) != most:
            parts.append(text[start:place])
            start = place + len(separator)
    return [*parts, text[start:]]


def _known(text: str) -> str | None:
    """Return the translation of a part; None if there is none. Numbers and quoted names are their own."""
    bare = text.strip()
    if re.fullmatch(r"[\d.,%x×/ -]+|[^' ]*'[^']*'", bare):
        return bare
    return _translated(bare) if bare else None


@lru_cache(maxsize=1)
def _catalogue() -> tuple[dict[str, str], list[_Pattern], list[_Pattern]]:
    """Return the messages without fields, and strong and weak templates, those with the most literal text first."""
    exact: dict[str, str] = {}
    patterns = []
    for entry in entries():
        pieces, fields = split_template(entry.english)
        if fields:
            patterns.append(_Pattern(pieces, fields, entry.translation))
        else:
            exact[entry.english.format()] = entry.translation.format()
    patterns.sort(key=lambda pattern: -sum(map(len, pattern.pieces)))
    strong = [pattern for pattern in patterns if pattern.is_strong]
    return exact, strong, [pattern for pattern in patterns if not pattern.is_strong]


def split_template(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the literal pieces around the fields, one more than fields, and the fields' names.

    >>> split_template("{n} of {total} items")
    (('', ' of ', ' items'), ('n', 'total'))
    """
    pieces, fields = [""], []
    for literal, name, _, _ in string.Formatter().parse(template):
        pieces[-1] += literal
        if name is not None:
            fields.append(name)
            pieces.append("")
    return tuple(pieces), tuple(fields)


@lru_cache(maxsize=4096)
def _expression(pieces: tuple[str, ...], fields: tuple[str, ...]) -> re.Pattern[str]:
    shapes = [f"({_SHAPES.get(_base(field), '.*?')})" for field in fields]
    text = "".join(re.escape(piece) + shape for piece, shape in zip(pieces, [*shapes, ""], strict=True))
    return re.compile(text, re.DOTALL)
