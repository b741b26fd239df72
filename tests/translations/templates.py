"""Find the templates of all messages in the source: literals and f-strings that reach a user, fields by name."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import restune

SOURCE = Path(restune.__file__).parent
SHOWN: dict[str, tuple[int, ...]] = {
    "note": (0,), "warn": (0,), "warn_once": (0,), "say": (0,), "progress": (0,), "UserError": (0,),
    "SharedError": (0,), "ChoiceError": (0,), "DecodeError": (0,), "UnpickleError": (0,), "_UnusableError": (0,),
    "StoreFullError": (0,), "plain_table": tuple(range(12)), "_table": tuple(range(12)),
}  # fmt: skip
"""Calls that show text, and which of their arguments are shown."""
_KEYWORDS = ("what", "where", "fix", "otherwise", "message", "description")
_MOST = 24
"""Alternatives of one expression that are followed."""


@dataclass(frozen=True)
class Template:
    """A message in the source, such as ``{count} images``, and where it is."""

    text: str
    place: str


@dataclass
class _Scope:
    """What the names in a function were assigned, and the functions of its module."""

    assigned: dict[str, list[ast.expr]] = field(default_factory=dict)
    functions: dict[str, list[ast.expr]] = field(default_factory=dict)
    depth: int = 0

    def deeper(self) -> _Scope:
        return _Scope(self.assigned, self.functions, self.depth + 1)


@cache
def all_templates() -> list[Template]:
    """Return the templates of all messages of the source, each text once, in the order of files and lines."""
    found: dict[str, Template] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parent.name == "structure":  # pages and drawings: reporting/phrases.py
            continue
        for template in templates_of(path):
            found.setdefault(template.text, template)
    return list(found.values())


def templates_of(path: Path) -> Iterator[Template]:
    """Yield the templates of one file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: _returned(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for holder in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
        scope = _Scope(_assigned(tree) | _assigned(holder), functions)
        for call in _own_calls(holder):
            for argument in _shown(call, path):
                for text in alternatives(argument, scope):
                    if text is not None and _has_words(text):
                        yield Template(text.removeprefix(">"), f"{path.relative_to(SOURCE)}:{argument.lineno}")


def alternatives(node: ast.expr, scope: _Scope) -> list[str | None]:
    """Return the templates that an expression may have; None stands for text that another place makes."""
    if isinstance(node, ast.Constant):
        return [node.value.replace("{", "{{").replace("}", "}}") if isinstance(node.value, str) else None]
    if isinstance(node, ast.IfExp):
        return [*alternatives(node.body, scope), *alternatives(node.orelse, scope)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in alternatives(value, scope)]
    if isinstance(node, ast.JoinedStr):
        return _joined([_part(value, scope) for value in node.values])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([_or_field(node.left, scope), _or_field(node.right, scope)])
    if isinstance(node, ast.NamedExpr):
        return alternatives(node.value, scope)
    if scope.depth < 3:
        if isinstance(node, ast.Name) and node.id in scope.assigned:
            return [t for value in scope.assigned[node.id] for t in alternatives(value, scope.deeper())]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in scope.functions:
            returned = scope.functions[node.func.id]
            return [t for value in returned for t in alternatives(value, _Scope({}, scope.functions, scope.depth + 1))]
    return [None]


def _part(value: ast.expr, scope: _Scope) -> list[str]:
    """Return the alternatives of a piece of an f-string: a literal, or a field."""
    if isinstance(value, ast.Constant):
        return [str(value.value).replace("{", "{{").replace("}", "}}")]
    assert isinstance(value, ast.FormattedValue)
    chosen = _choices(value.value)
    if chosen is not None:
        return chosen
    return [f"{{{field_name(value.value)}}}"]


def _choices(node: ast.expr) -> list[str] | None:
    """Return the words that an ``a if b else c`` chooses from; None for other expressions and for plurals."""
    if not isinstance(node, ast.IfExp):
        return None
    words = [branch.value for branch in (node.body, node.orelse) if isinstance(branch, ast.Constant)]
    texts = [word for word in words if isinstance(word, str)]
    if len(texts) != 2 or field_name(node) == "s" or not any(any(c.isalpha() for c in word) for word in texts):
        return None
    return texts


def _or_field(node: ast.expr, scope: _Scope) -> list[str]:
    texts = alternatives(node, scope)
    return [f"{{{field_name(node)}}}" if text is None else text for text in texts]


def _joined(parts: list[list[str]]) -> list[str | None]:
    return [_distinct("".join(chosen)) for chosen in itertools.islice(itertools.product(*parts), _MOST)]


def _distinct(text: str) -> str:
    """Number fields of the same name: ``{n} of {n2}``."""
    seen: dict[str, int] = {}
    pieces = []
    for piece in _split(text):
        if piece.startswith("{") and not piece.startswith("{{"):
            name = piece[1:-1].rstrip("0123456789") or "value"
            seen[name] = seen.get(name, 0) + 1
            piece = f"{{{name}}}" if seen[name] == 1 else f"{{{name}{seen[name]}}}"
        pieces.append(piece)
    return "".join(pieces)


def _split(text: str) -> list[str]:
    import re

    return [piece for piece in re.split(r"(\{\{|\}\}|\{\w+\})", text) if piece]


def field_name(node: ast.expr) -> str:
    """Name a field after its expression: the last name in it; ``s`` for the ending of a plural."""
    if isinstance(node, ast.Name):
        return node.id.lstrip("_").lower()
    if isinstance(node, ast.Attribute):
        return node.attr.lstrip("_").lower() if node.attr != "name" else field_name(node.value)
    if isinstance(node, ast.IfExp | ast.BinOp):
        literals = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        if "s" in literals or "es" in literals or _is_plural(literals):
            return "s"
        if isinstance(node, ast.IfExp) and literals:
            return (
                "".join(c for c in max(literals, key=len).split()[0].lower() if c.isalpha())
                if any(c.isalpha() for c in max(literals, key=len))
                else "value"
            )
        return field_name(node.left if isinstance(node, ast.BinOp) else node.body)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ("len", "sum", "round", "int", "abs"):
            return "n"
        if node.args and not isinstance(node.args[0], ast.GeneratorExp | ast.ListComp | ast.Starred):
            return field_name(node.args[0])
        return field_name(node.func)
    if isinstance(node, ast.Subscript):
        return field_name(node.value)
    return "value"


def _is_plural(words: list[str]) -> bool:
    """Return whether two words are a noun's singular and plural, or a verb's."""
    if len(words) != 2 or not all(word.strip().isalpha() for word in words):
        return False
    short, long = sorted((word.strip() for word in words), key=len)
    return long in (f"{short}s", f"{short}es", f"{short[:-1]}ies") or {short, long} in ({"is", "are"}, {"has", "have"})


def _own_calls(holder: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in a function or module, without those in its inner functions."""
    for child in ast.iter_child_nodes(holder):
        if isinstance(child, ast.Call):
            yield child
        if not isinstance(child, ast.FunctionDef):
            yield from _own_calls(child)


def _shown(call: ast.Call, path: Path) -> Iterator[ast.expr]:
    """Yield the arguments of a call that are shown. In the room of pages, `say` takes keys of phrases instead."""
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    if name in SHOWN and not (name == "say" and path.parent.name == "reporting"):
        yield from (call.args[place] for place in SHOWN[name] if place < len(call.args))
        yield from (keyword.value for keyword in call.keywords if keyword.arg in _KEYWORDS)


def _assigned(holder: ast.AST) -> dict[str, list[ast.expr]]:
    """Return what each name is assigned directly within a function or module."""
    found: dict[str, list[ast.expr]] = {}
    for child in ast.iter_child_nodes(holder):
        if isinstance(child, ast.Assign) and len(child.targets) == 1:
            target, value = child.targets[0], child.value
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(value)
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                for one, two in zip(target.elts, value.elts, strict=True):
                    if isinstance(one, ast.Name):
                        found.setdefault(one.id, []).append(two)
        elif isinstance(child, ast.AugAssign) and isinstance(child.target, ast.Name):
            found.setdefault(child.target.id, []).append(child.value)
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            for name, values in _assigned(child).items():
                found.setdefault(name, []).extend(values)
    return found


def _returned(function: ast.FunctionDef) -> list[ast.expr]:
    """Return what a function that returns text returns."""
    if not isinstance(function.returns, ast.Name | ast.BinOp) or "str" not in ast.unparse(function.returns):
        return []
    return [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]


def _has_words(text: str) -> bool:
    """Return whether a template has words of its own, not only fields, options, paths and signs."""
    literal = " ".join(piece for piece in _split(text) if not piece.startswith("{"))
    words = [word.strip(".,;:()'\"") for word in literal.split()]
    return any(word.isalpha() and len(word) > 1 for word in words)
