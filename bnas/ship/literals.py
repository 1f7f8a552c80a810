"""Values -> Python source, as a person would write them."""

import json
from collections.abc import Mapping

WIDTH = 120  # characters a line


def literal(value: object) -> str:
    """Return a value as Python source, texts in double quotes."""
    if isinstance(value, tuple | list):
        inside = ", ".join(map(literal, value))
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def arguments(values: Mapping[str, object]) -> str:
    """Return keyword arguments."""
    return ", ".join(f"{key}={literal(value)}" for key, value in values.items())


def rows(values: tuple[object, ...], *, indent: int) -> str:
    """Return a tuple with a line for each value, and the whole on one line where that is short enough."""
    if indent + len(short := literal(values)) <= WIDTH - 30:  # room for what stands before and behind it
        return short
    inner, outer = " " * (indent + 4), " " * indent
    return "(\n" + "".join(f"{inner}{literal(value)},\n" for value in values) + f"{outer})"
