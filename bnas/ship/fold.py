"""A definition's source and what is known of its arguments -> the source without the branches that are never taken."""

import ast
import itertools
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Facts = Mapping[str, Collection[Any]]  # argument -> every value it takes


def fold(text: str, facts: Facts, *, function: str) -> str:
    """Return `text` with each `if` of one function replaced by the branch that `facts` decide on.

    Comments and layout of what stays are kept. A test is decided when all its names are in `facts` and it comes out the
    same for all their values; so `facts` may only hold names that the function does not assign to.

    Args:
        text: the source of a top-level function or class.
        function: the name of the function, or of the method of the class.
    """
    while (shorter := _fold_once(text.encode(), facts, function)) is not None:
        text = shorter.decode()
    return text.rstrip("\n")


def _fold_once(source: bytes, facts: Facts, function: str) -> bytes | None:
    """Return the source with the first such place folded, or None where there is none left."""
    tree = ast.parse(source)
    (place,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function)
    lines = _Lines(source)
    for body in _statement_lists(place):
        for index, node in enumerate(body):
            if isinstance(node, ast.Return | ast.Raise) and index + 1 < len(body):  # nothing after it runs
                return lines.without(_last(node) + 1, _last(body[-1]))
            if isinstance(node, ast.If) and not lines.starts(node, b"elif"):
                truth = _decided(node.test, facts)
                if truth is not None:
                    return lines.with_branch(node, node.body if truth else node.orelse, alone=len(body) == 1)
    for choice in ast.walk(place):
        if isinstance(choice, ast.IfExp):
            truth = _decided(choice.test, facts)
            if truth is not None:
                return lines.with_expression(choice, choice.body if truth else choice.orelse)
    return None


def _decided(test: ast.expr, facts: Facts) -> bool | None:
    """Return what a test always comes out as, or None where that is not known."""
    names = sorted({node.id for node in ast.walk(test) if isinstance(node, ast.Name)})
    if not names or not set(names) <= set(facts):
        return None
    code = compile(ast.Expression(test), "<test>", "eval")
    values = itertools.product(*(facts[name] for name in names))
    truths = {bool(eval(code, {"__builtins__": {}}, dict(zip(names, value, strict=True)))) for value in values}
    return truths.pop() if len(truths) == 1 else None


def _statement_lists(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(function):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                yield statements


def _last(node: ast.stmt | ast.expr) -> int:
    assert node.end_lineno is not None  # what ast.parse gives has places
    return node.end_lineno


class _Lines:
    """A source as lines of bytes, for the places that `ast` gives count bytes."""

    def __init__(self, source: bytes) -> None:
        self._lines = source.splitlines(keepends=True)

    def starts(self, node: ast.stmt, word: bytes) -> bool:
        return self._lines[node.lineno - 1][node.col_offset :].startswith(word)

    def without(self, first: int, last: int) -> bytes:
        """Return the source without the lines first..last, counted from 1."""
        return b"".join(self._lines[: first - 1] + self._lines[last:])

    def with_branch(self, node: ast.If, branch: list[ast.stmt], *, alone: bool) -> bytes:
        """Return the source with one branch, at the depth of the `if`, in the place of an `if` statement."""
        indent = " " * node.col_offset
        if branch:
            written = b"".join(self._lines[branch[0].lineno - 1 : _last(branch[-1])]).decode()
            kept = textwrap.indent(textwrap.dedent(written), indent)
            if self.starts(branch[0], b"elif"):
                kept = kept.replace("elif", "if", 1)
        else:
            kept = f"{indent}pass\n" if alone else ""
        return b"".join([*self._lines[: node.lineno - 1], kept.encode(), *self._lines[_last(node) :]])

    def with_expression(self, node: ast.IfExp, chosen: ast.expr) -> bytes:
        """Return the source with one of its two values in the place of `a if test else b`."""
        start, end = self._span(node)
        first, last = self._span(chosen)
        source = b"".join(self._lines)
        return source[:start] + source[first:last] + source[end:]

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_col_offset is not None
        before = [0, *itertools.accumulate(map(len, self._lines))]
        return before[node.lineno - 1] + node.col_offset, before[_last(node) - 1] + node.end_col_offset
