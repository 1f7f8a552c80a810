"""A module's file -> what it defines and imports at its top, as text; nothing is run."""

import ast
import importlib.util
import re
import symtable
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bnas.errors import ExportError


class Import(NamedTuple):
    """One imported name: `import module as alias`, or with an attribute `from module import attribute as alias`."""

    module: str
    attribute: str | None
    alias: str

    @property
    def package(self) -> str:
        """The first part of the module's name; empty for a relative import."""
        return self.module.partition(".")[0]

    def line(self) -> str:
        """Return it as Python writes it."""
        if self.attribute is not None:
            return f"from {self.module} import {self.named()}"
        return f"import {self.module}" + ("" if self.alias == self.package else f" as {self.alias}")

    def named(self) -> str:
        """Return the part behind `from module import`."""
        return str(self.attribute) if self.alias == self.attribute else f"{self.attribute} as {self.alias}"


POSTPONED = Import("__future__", "annotations", "annotations")


class Source(NamedTuple):
    """The top of one module: names in the module's order, each with its lines, the comment above included."""

    definitions: dict[str, str]
    imports: dict[str, list[Import]]

    @property
    def postpones(self) -> bool:
        """Whether its annotations are never evaluated."""
        return POSTPONED in self.imports.get(POSTPONED.alias, ())


def read_source(module: str) -> Source:
    """Return the source of a module.

    Args:
        module: a dotted name, or the path of a `.py` file.
    Raises:
        ExportError: it is no Python source.
    """
    try:
        text = _path(module).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError) as problem:
        raise ExportError(f"{module}: cannot be read as Python source: {problem}; give a .py module") from problem
    source, lines = Source({}, {}), text.splitlines()
    for node in tree.body:
        for found in _imports(node):
            source.imports.setdefault(found.alias, []).append(found)
        for name in _defined(node):
            source.definitions[name] = _lines_of(node, lines)
    return source


def global_names(text: str, *, postponed: bool = False) -> set[str]:
    """Return the names that a definition takes from around it: neither local to its functions nor attributes.

    Args:
        postponed: whether its annotations are never evaluated, so that names in them are not needed.
    """
    return set(_globals(symtable.symtable(f"{POSTPONED.line()}\n{text}" if postponed else text, "<text>", "exec")))


def imports_within(text: str) -> list[Import]:
    """Return what a definition imports when it runs."""
    return [found for node in ast.walk(ast.parse(text)) for found in _imports(node)]


def renamed(text: str, old: str, new: str) -> str:
    """Return a definition with one global name changed, where it is defined and wherever it is used.

    Raises:
        ExportError: the name is that of a local value too.
    """
    if any(_is_local(table, old) for table in symtable.symtable(text, "<text>", "exec").get_children()):
        raise ExportError(f"{old!r}: is the name of a local value and of something at the top; rename one of them")
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    for node in sorted(_mentions(ast.parse(text), old), key=lambda node: (node.lineno, -node.col_offset)):
        before, after = lines[node.lineno - 1][: node.col_offset], lines[node.lineno - 1][node.col_offset :]
        lines[node.lineno - 1] = before + re.sub(rb"\b%s\b" % old.encode(), new.encode(), after, count=1)
    return b"".join(lines).decode()


def import_block(imports: Iterable[Import]) -> str:
    """Return import lines, those of one module merged, the standard library's before torch's."""
    sections: dict[str, list[str]] = {"__future__": [], "": [], "torch": []}
    for section, lines in sections.items():
        chosen = [found for found in imports if section == (found.package if found.package in sections else "")]
        lines += sorted({found.line() for found in chosen if found.attribute is None})
        for module in sorted({found.module for found in chosen if found.attribute is not None}):
            names = sorted({found.named() for found in chosen if found.attribute and found.module == module})
            lines.append(f"from {module} import {', '.join(names)}")
    return "\n\n".join("\n".join(lines) for lines in sections.values() if lines)


def _mentions(tree: ast.Module, name: str) -> Iterator[ast.Name | ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name:
            yield node
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and statement.name == name:
            yield statement


def _is_local(table: symtable.SymbolTable, name: str) -> bool:
    if table.get_type() == "function" and name in table.get_identifiers() and table.lookup(name).is_local():
        return True
    return any(_is_local(child, name) for child in table.get_children())


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)


def _path(module: str) -> Path:
    if module.endswith(".py"):
        return Path(module)
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError("there is no such file")
    return Path(spec.origin)


def _imports(node: ast.AST) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for name in node.names:
            yield Import(name.name, None, name.asname or name.name.partition(".")[0])
    elif isinstance(node, ast.ImportFrom):
        for name in node.names:
            yield Import("." * node.level + (node.module or ""), name.name, name.asname or name.name)


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name) and _is_set(name))


def _is_set(name: ast.Name) -> bool:
    """Return whether the name itself gets a value, and not a part of what it names."""
    return isinstance(name.ctx, ast.Store)


def _lines_of(node: ast.stmt, lines: list[str]) -> str:
    """Return whole lines: the comment right above, the decorators, the definition."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])
