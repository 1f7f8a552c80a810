"""What was asked of a run: settings and a space; how two such questions differ."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bnas.spec import parse_yaml

_ABSENT = "nothing"
_SHOWN = 8  # differences named in one message
Difference = tuple[str, str]  # stored, asked; as JSON


@dataclass(frozen=True)
class Asked:
    """What was asked of a run: the settings, resolved, and the text of the space."""

    config: dict[str, Any]
    space_yaml: str

    def differences(self, other: "Asked") -> dict[str, Difference]:
        """Return this and the other value of every key that differs; comments and layout of the space do not count.

        Nested keys read as in `train.epochs` or `budgets[0]`; those of the space begin with `space`.
        """
        found = differences(self.config, other.config)
        if self.space_yaml != other.space_yaml:
            spaces = ({"space": parse_yaml(text, source="space.yaml")} for text in (self.space_yaml, other.space_yaml))
            found |= differences(*spaces)
        return found


def is_free(key: str, mutable: Collection[str]) -> bool:
    """Whether the key, or a key that it lies under, is among those that a resumed run may change."""
    return any(key == free or key.startswith((f"{free}.", f"{free}[")) for free in mutable)


def spelled(found: Mapping[str, Difference]) -> str:
    """Say differences in one line: `seed: stored 0, asked 1; ...`."""
    said = [f"{key}: stored {stored}, asked {asked}" for key, (stored, asked) in found.items()]
    rest = len(said) - _SHOWN
    return "; ".join(said[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Difference]:
    """Return both values of every key that differs, as JSON; nested keys read as in `train.epochs`."""
    before, after = _flat(stored), _flat(asked)
    pairs = {key: (before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in before | after}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        inner = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
    if not inner:
        return {prefix: json.dumps(value, default=str)} if prefix else {}
    return {key: text for name, item in inner for key, text in _flat(item, name).items()}


def trains_a_model(config: dict[str, Any]) -> bool:
    """Whether one given network is to be trained; else a space is to be searched."""
    return "model" in config
