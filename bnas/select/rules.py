"""Which layers have no choice: frozen ones, the first, the last, downsampling ones, those that a person names."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, cast

from bnas.errors import LookupFailed, SpecError
from bnas.select.metrics import LayerFacts
from bnas.space.values import Precision
from bnas.spec import Spec

Place = Literal["real", "weight", "binary", "free"]
"""What a rule does to a layer: give it a precision, or leave it to the metric."""

SHORTCUT_NAMES = frozenset({"downsample", "shortcut"})
RULES = {  # in the order in which they are asked, as people know them
    "frozen": "frozen (requires_grad=False)",
    "first": "first layer",
    "last": "last layer",
    "downsample": "1x1 downsampling",
}


class Fixed(NamedTuple):
    """A precision that a layer has by rule."""

    precision: Precision
    why: str
    counts: bool = False  # among the P layers of the paper's ratio


class Rules(Spec):
    """What is decided before anything is measured.

    A pattern is a module path in which `*` and `?` stand for any characters; a path matches whatever is in it too.
    """

    frozen: Place = "real"
    """Of layers with `requires_grad=False`; one that is made binary all the same is trained again."""
    first: Place = "real"
    """Of the layers that see the model's input: no weight stands between, as a norm or a scaling may."""
    last: Place = "weight"
    """Of the layers that the result comes from; `weight` is a real input with binary weights."""
    downsample: Place = "weight"
    """Of the 1x1 convolutions of shortcuts, and of those with a stride."""
    include: tuple[str, ...] = ()
    """Layers that the rules above do not hold for."""
    exclude: tuple[str, ...] = ()
    """Layers that stay real."""


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
            for rule in _rules_for(layers, index):
                place = cast(Place, getattr(rules, rule))
                if place != "free":
                    result[layer.name] = Fixed(place, RULES[rule], counts=_counts(layers, index, rule))
                    break
    return result


def match(pattern: str, names: Collection[str]) -> list[str]:
    """Return the names that a pattern matches.

    Raises:
        LookupFailed: there are none; the message has the nearest names.
    """
    plain = pattern.replace("[", "[[]")  # a name may hold brackets
    found = [name for name in names if fnmatchcase(name, plain) or fnmatchcase(name, f"{plain}.*")]
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


def _rules_for(layers: Sequence[LayerFacts], index: int) -> Iterator[str]:
    """Yield the rules that hold for a layer, by its place in the network, the first that decides before others."""
    layer = layers[index]
    if layer.is_frozen:
        yield "frozen"
    if layer.sees_input:
        yield "first"
    elif layer.gives_output or index == len(layers) - 1:
        yield "last"
    elif _downsamples(layer):
        yield "downsample"


def _counts(layers: Sequence[LayerFacts], index: int, rule: str) -> bool:
    """Say whether a layer that a rule decides on is among the P of `Ratio`."""
    follows_its_kind = index > 0 and layers[index - 1].planned.kind == layers[index].planned.kind
    return rule == "downsample" or (rule == "last" and follows_its_kind)


def _downsamples(layer: LayerFacts) -> bool:
    planned = layer.planned
    is_shortcut = planned.role == "shortcut" or bool(SHORTCUT_NAMES & set(layer.name.split(".")))
    return planned.kind == "conv" and max(planned.kernel) == 1 and (max(planned.stride) > 1 or is_shortcut)
