"""Widths of text: the advance widths of DejaVu Sans, in which Linux browsers render sans-serif. Other usual fonts are
narrower, so text that fits in these widths fits in theirs."""

from __future__ import annotations

from functools import lru_cache

_ASCII = "".join(map(chr, range(32, 127)))
_MORE = "×·–…→⊕≠½éµ±▾▸"
_UNITS = 2048
_CJK = 1.0  # Chinese characters and punctuation are one em wide in every font

_REGULAR = (
    *(651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303, 1303, 1303, 1303),
    *(1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048, 1401, 1405, 1430, 1577, 1294, 1178),
    *(1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251),
    *(1403, 799, 690, 799, 1716, 1024, 1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995),
    *(1298, 1253, 1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716),
    *(1716, 651, 1024, 2048, 1716, 1716, 1716, 1985, 1260, 1303, 1716, 1028, 1028),
)
_BOLD = (
    *(713, 934, 1067, 1716, 1425, 2052, 1786, 627, 936, 936, 1071, 1716, 778, 850, 778, 748, 1425, 1425, 1425, 1425),
    *(1425, 1425, 1425, 1425, 1425, 1425, 819, 819, 1716, 1716, 1716, 1188, 2048, 1585, 1561, 1503, 1700, 1399, 1399),
    *(1681, 1714, 762, 762, 1587, 1305, 2038, 1714, 1741, 1501, 1741, 1577, 1475, 1397, 1663, 1585, 2259, 1579, 1483),
    *(1485, 936, 748, 936, 1716, 1024, 1024, 1382, 1466, 1214, 1466, 1389, 891, 1466, 1458, 702, 702, 1362, 702, 2134),
    *(1458, 1407, 1466, 1466, 1010, 1219, 979, 1458, 1335, 1892, 1321, 1335, 1192, 1458, 748, 1458, 1716),
    *(1716, 778, 1024, 2048, 1716, 1716, 1716, 2120, 1389, 1507, 1716, 1028, 1028),
)
_WIDTHS = {
    False: dict(zip(_ASCII + _MORE, _REGULAR, strict=True)),
    True: dict(zip(_ASCII + _MORE, _BOLD, strict=True)),
}
ASCENT, DESCENT = 0.90, 0.24
"""Extent of a line above and below its baseline, in em."""


@lru_cache(maxsize=16384)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line of text of this font size.

    >>> round(text_width("3×3", 14), 1)
    29.5
    """
    widths = _WIDTHS[bold]
    return sum(widths[c] / _UNITS if c in widths else _CJK for c in text) * size


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Break text into lines of at most `width`: between words, and between Chinese characters."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and text_width((line + piece).rstrip(), size) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()] if line.strip() else lines


def shortened(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Cut text to `width`, with an ellipsis in its middle."""
    if text_width(text, size, bold=bold) <= width:
        return text
    keep = len(text) - 1
    while keep > 2 and text_width(_cut(text, keep), size, bold=bold) > width:
        keep -= 1
    return _cut(text, keep)


def _cut(text: str, keep: int) -> str:
    return text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :]


def _pieces(text: str) -> list[str]:
    """Split into words with the space after them, and single Chinese characters with the punctuation after them."""
    pieces: list[str] = []
    for character in text:
        wide = character not in _WIDTHS[False]
        if pieces and (character in "，。；：、）" or not (wide or _ends(pieces[-1]))):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _ends(piece: str) -> bool:
    return piece[-1] == " " or piece[-1] not in _WIDTHS[False]
