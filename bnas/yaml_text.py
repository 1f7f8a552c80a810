"""YAML text -> plain values: dicts, lists and scalars that mean what they look like, from a text of bounded size."""

import re
import stat
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from bnas.errors import SpecError

MOST_BYTES = 2**20  # of one text; a space has some thousand, the selection of a network of 1,000 layers 100,000
_MOST_VALUES = 100_000  # in one text, aliases written out; a space has some hundreds
_DEEPEST = 100  # lists and mappings inside each other
_MERGE = "tag:yaml.org,2002:merge"
# What YAML 1.1 takes for a number, and people write as one; beside these it knows 017, 0x10, 0b1, 1_000 and 1:30.
_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?((0|[1-9][0-9]*)?\.[0-9]*([eE][-+]?[0-9]+)?|\.inf)|\.nan", re.IGNORECASE
    ),
}
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser written in C takes a tenth of the time


def read_yaml(path: str | Path) -> object:
    """Return what a YAML file holds, read safely (no tags that build objects).

    Raises:
        SpecError: the file is missing, too large, no text, or not YAML.
    """
    return parse_yaml(read_text(path), source=str(path))


def read_text(path: str | Path) -> str:
    """Return the text of a file that may hold a description.

    Raises:
        SpecError: it is missing, too large, or no text.
    """
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # of a pipe, reading might never end
            raise SpecError(f"{path}: cannot be read as text: it is no file; give the path of a YAML file")
        _check_size(found.st_size, source=str(path))
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise SpecError(f"{path}: no such file; give the path of a YAML file") from problem
    except (OSError, ValueError) as problem:  # ValueError: not UTF-8, or a path that cannot be one
        raise SpecError(f"{path}: cannot be read as text: {problem}") from problem


def parse_yaml(text: str, *, source: str) -> object:
    """Return what a YAML text holds.

    Raises:
        SpecError: it is too large, not YAML, grows by aliases, has a key twice, or a number in a notation that looks
            like another number; with the line and the column.
    """
    _check_size(len(text), source=source)
    try:
        _check_shape(text, source)
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        for node in _nodes(root):
            _check_number(node, source)
            _check_keys(node, loader, source)
        return loader.construct_document(root)
    except SpecError:
        raise
    except Exception as problem:  # beside YAMLError, PyYAML lets through whatever a conversion raises
        mark = getattr(problem, "problem_mark", None)
        said = getattr(problem, "problem", None) or getattr(problem, "reason", None)
        reason = " ".join(str(said or f"{type(problem).__name__}: {problem}").split())
        where = f"{_place(mark)}: " if mark else ""
        raise SpecError(f"{source}: {where}not valid YAML: {reason}") from problem


def line_of(text: str, path: Sequence[int | str]) -> int:
    """Return the line on which a value of a YAML text stands, or the innermost part of its path that is there.

    Args:
        text: what `parse_yaml` took.
        path: keys and places in lists.
    """
    node, line = yaml.compose(text, Loader=_Loader), 0
    for part in path if node else ():
        inner = _inner(node, part)
        if inner is None:
            break
        line, node = inner
    return line + 1


def _check_size(size: int, *, source: str) -> None:
    if size > MOST_BYTES:
        raise SpecError(
            f"{source}: holds {size:,} bytes, but a description has at most {MOST_BYTES:,}; is it another file?"
        )


def _check_shape(text: str, source: str) -> None:
    """Refuse a text that is too large or too deep once its aliases are written out, before any of it is built."""
    seen = 0
    values: dict[str, int] = {}  # under each anchor; too many while it is open, for then it holds itself
    opened: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            seen += values.get(str(event.anchor), 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                values[anchor] = seen - before
        elif isinstance(event, yaml.NodeEvent):
            is_scalar = isinstance(event, yaml.ScalarEvent)
            if not is_scalar:
                opened.append((event.anchor, seen))
            if event.anchor is not None:
                values[event.anchor] = 1 if is_scalar else _MOST_VALUES + 1
            seen += 1
        if seen > _MOST_VALUES:
            raise SpecError(f"{source}: holds more than {_MOST_VALUES:,} values, aliases written out; use fewer")
        if len(opened) > _DEEPEST:
            raise SpecError(
                f"{source}: {_place(event.start_mark)}: more than {_DEEPEST} lists or mappings in each other"
            )


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node once."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _check_number(node: yaml.Node, source: str) -> None:
    if node.tag in _NUMBERS and node.value and not _NUMBERS[node.tag].fullmatch(node.value):
        raise SpecError(
            f"{source}: {_place(node.start_mark)}: {node.value[:40]} would be read as another number than it looks "
            "like (octal, hexadecimal, binary, to the base of 60, or with _); write decimal digits, or '...' for text"
        )


def _check_keys(node: yaml.Node, loader: Any, source: str) -> None:
    """Refuse a key that stands twice: YAML drops the first without a word."""
    first: dict[object, yaml.Node] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            continue
        known: object = key.tag if key.tag == _MERGE else loader.construct_object(key)
        if isinstance(known, Hashable) and known in first:
            line = first[known].start_mark.line + 1
            raise SpecError(
                f"{source}: {_place(key.start_mark)}: {key.value[:40]!r} is given twice, first in line {line}; keep one"
            )
        first[known] = key


def _inner(node: yaml.Node | None, part: int | str) -> tuple[int, yaml.Node] | None:
    """Return the line and the node of a part of a node; of one that it is merged with, where it has none itself."""
    if isinstance(node, yaml.SequenceNode):
        is_there = isinstance(part, int) and part < len(node.value)
        return (node.value[part].start_mark.line, node.value[part]) if is_there else None
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == part:
            return key.start_mark.line, value
        merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for other in merged if key.tag == _MERGE else ():
            found = _inner(other, part)
            if found is not None:
                return found
    return None


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
