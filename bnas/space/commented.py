"""Values and a remark on each -> YAML text as people write it: remarks above, lists and small mappings on one line."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

WIDTH = 118


def commented(values: Mapping[str, Any], remarks: Mapping[str, str]) -> str:
    """Return YAML text that reads back to the same values.

    Args:
        values: scalars, lists and mappings of them, by key.
        remarks: on values, by their place (`search.budget`); a mapping in which a value has a remark takes a line for
            each of its keys, others one line in all.
    """
    parts = ["\n".join(_lines(key, value, remarks, place=key)) for key, value in values.items()]
    return "\n\n".join(parts) + "\n"


def remark(text: str, *, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a comment."""
    lead = f"{' ' * indent}# "
    for line in text.splitlines():
        yield from textwrap.wrap(
            line, WIDTH, initial_indent=lead, subsequent_indent=lead, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip


def _lines(key: str, value: Any, remarks: Mapping[str, str], *, place: str, indent: int = 0) -> Iterator[str]:
    yield from remark(remarks.get(place, ""), indent=indent)
    start = " " * indent
    if isinstance(value, Mapping) and any(other.startswith(f"{place}.") for other in remarks):
        yield f"{start}{key}:"
        for inner, part in value.items():
            yield from _lines(inner, part, remarks, place=f"{place}.{inner}", indent=indent + 2)
    elif isinstance(value, Sequence) and value and all(isinstance(part, Mapping) for part in value):
        yield f"{start}{key}:"
        yield from (f"{start}  - {_flow(part)}" for part in value)
    else:
        yield f"{start}{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    """Return a value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
