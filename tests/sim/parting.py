"""Modules in two parts: the records, whose fields msgspec lays out, stay for the interpreter; all the rest is compiled.

A record takes along whatever of its module it names, and what that names in turn; the rest imports them all.
"""

import ast
import re
from dataclasses import dataclass
from typing import Final

_FOREIGN_BASES: Final = frozenset({"Struct", "NamedTuple"})
PART: Final = "_records"
"""What the name of a module's first part ends in."""


@dataclass(frozen=True)
class Parted:
    """Sources. `rest` names `records`, which is beside it."""

    records: str
    rest: str


def has_records(source: str) -> bool:
    """Whether a module defines classes that are laid out by others than the compiler."""
    return any(_is_record(each) for each in ast.walk(ast.parse(source)))


def part(source: str, module: str) -> Parted | None:
    """The two parts of a module of that full name; None: it can't be parted, or nothing would be left to compile."""
    body = ast.parse(source).body
    defined = {name: node for node in body for name in _names(node)}
    records = [node for node in body if _is_record(node)]
    if not records or any(_is_record(each) for node in body for each in ast.walk(node) if each is not node):
        return None
    taken = _closure(records, defined)
    moved = [name for name, node in defined.items() if node in taken]
    if not any(isinstance(node, ast.FunctionDef | ast.ClassDef) and node not in taken for node in body):
        return None
    lines = source.splitlines()
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Expr)]
    first = "\n".join(_text(lines, node) for node in body if node in imports or node in taken)
    last = max((index for index, node in enumerate(body) if isinstance(node, ast.Import | ast.ImportFrom)), default=-1)
    named = f"from {module}{PART} import {', '.join(f'{name} as {name}' for name in moved)}"
    rest = [_text(lines, node) for node in body[: last + 1] if node not in taken]
    rest += [named, *(_text(lines, node) for node in body[last + 1 :] if node not in taken)]
    return Parted(first + "\n", "\n".join(rest) + "\n")


def _is_record(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and (
        bool(node.keywords) or any(isinstance(base, ast.Name) and base.id in _FOREIGN_BASES for base in node.bases)
    )


def _names(node: ast.stmt) -> list[str]:
    """What a statement of a module defines, imports aside."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def _closure(records: list[ast.stmt], defined: dict[str, ast.stmt]) -> set[ast.stmt]:
    taken: set[ast.stmt] = set()
    waiting = [*records]
    while waiting:
        node = waiting.pop()
        if node not in taken:
            taken.add(node)
            waiting += [defined[name] for name in _used(node) if name in defined]
    return taken


def _used(node: ast.stmt) -> set[str]:
    """Names in it, those in annotations that are written as text among them."""
    used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    for each in ast.walk(node):
        annotation = getattr(each, "annotation", None) or getattr(each, "returns", None)
        if annotation is not None:
            for text in ast.walk(annotation):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    used |= set(re.findall(r"\w+", text.value))
    return used


def _text(lines: list[str], node: ast.stmt) -> str:
    decorators = node.decorator_list if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
    begin = min([node.lineno, *(each.lineno for each in decorators)])
    return "\n".join(lines[begin - 1 : node.end_lineno])
