"""Which layers have no choice: the first, the last, downsampling ones, and those that a person names."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from bnas.arch import Precision
from bnas.errors import LookupFailed, SpecError
from bnas.selection.layer import LayerFacts
from bnas.spec import Spec

Place = Literal["real", "weight", "binary", "free"]
"""What a rule does to a layer: give it a precision, or leave it to the metric."""

SHORTCUT_NAMES = frozenset({"downsample", "shortcut"})


class Fixed(NamedTuple):
    """A precision that a layer has by rule."""

    precision: Precision
    why: str


class Rules(Spec):
    """What is decided before anything is measured.

    A pattern is a module path in which `*` and `?` stand for any characters; a path matches whatever is in it too.

    Args:
        first: of the layers that the image goes into.
        last: of the layers that the result comes from; `weight` is a real input with binary weights.
        downsample: of the 1x1 convolutions of shortcuts, and of those with a stride.
        include: layers that the rules above do not hold for.
        exclude: layers that stay real.
    """

    first: Place = "real"
    last: Place = "weight"
    downsample: Place = "weight"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


DEFAULT_RULES = Rules()


def fixed_layers(layers: Sequence[LayerFacts], rules: Rules) -> dict[str, Fixed]:
    """Return the layers that have no choice, by name.

    Raises:
        LookupFailed: a pattern matches no layer.
        SpecError: a layer is both included and excluded, or included although it cannot be binarized.
    """
    names = [layer.name for layer in layers]
    included, excluded = (_matched(patterns, names) for patterns in (rules.include, rules.exclude))
    if both := included.keys() & excluded.keys():
        raise SpecError(f"layer {min(both)!r}: is both included and excluded; drop it from one of the two")
    result: dict[str, Fixed] = {}
    for index, layer in enumerate(layers):
        if layer.obstacle:
            if layer.name in rules.include:
                raise SpecError(f"include: layer {layer.name!r} cannot be binarized: {layer.obstacle}; leave it out")
            result[layer.name] = Fixed(layer.precision, layer.obstacle)
        elif layer.name in excluded:
            result[layer.name] = Fixed("real", f"excluded by {excluded[layer.name]!r}")
        elif layer.name not in included:
            place, why = _by_place(layer, rules, is_first=index == 0, is_last=index == len(layers) - 1)
            if place != "free":
                result[layer.name] = Fixed(place, why)
    return result


def match(pattern: str, names: Collection[str]) -> list[str]:
    """Return the names that a pattern matches.

    Raises:
        LookupFailed: there are none; the message has the nearest names.
    """
    found = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
    if not found:
        near = difflib.get_close_matches(pattern, _paths(names), n=3, cutoff=0.4) or sorted(names)[:3]
        raise LookupFailed(f"pattern {pattern!r} matches no layer; the nearest names are {', '.join(near)}")
    return found


def _matched(patterns: Iterable[str], names: Collection[str]) -> dict[str, str]:
    """Return the names that any pattern matches, with the first that does."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for name in match(pattern, names):
            found.setdefault(name, pattern)
    return found


def _paths(names: Iterable[str]) -> list[str]:
    """Return names and the paths of all modules round them."""
    paths = dict.fromkeys(names)
    for name in list(paths):
        parts = name.split(".")
        paths |= {".".join(parts[:depth]): None for depth in range(1, len(parts))}
    return list(paths)


def _by_place(layer: LayerFacts, rules: Rules, *, is_first: bool, is_last: bool) -> tuple[Place, str]:
    """Return what becomes of a layer by its place in the network, and why."""
    if is_first or layer.sees_input:
        return rules.first, "first layer"
    if is_last or layer.gives_output:
        return rules.last, "last layer"
    if _downsamples(layer):
        return rules.downsample, "1x1 downsampling"
    return "free", ""


def _downsamples(layer: LayerFacts) -> bool:
    planned = layer.planned
    is_shortcut = planned.role == "shortcut" or bool(SHORTCUT_NAMES & set(layer.name.split(".")))
    return planned.kind == "conv" and planned.kernel == (1, 1) and (max(planned.stride) > 1 or is_shortcut)
