"""What a method answers: whose inputs stay real, and why each layer's does or does not."""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Verdict(NamedTuple):
    """The layers that keep real inputs, and for people the reason of each layer that had a choice."""

    kept: frozenset[str]
    why: Mapping[str, str]


def verdict_of(answer: Verdict | Collection[str]) -> Verdict:
    """Return a verdict; the names alone, as a method of one's own may return them, have no reasons."""
    return answer if isinstance(answer, Verdict) else Verdict(frozenset(answer), {})
