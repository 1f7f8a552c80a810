"""A running model -> which of its values are still its input, which are a norm's, and which layers they are made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, UntypedStorage, nn
from torch.utils.weak import WeakIdKeyDictionary

from bnas.cost.trace.operators import PRODUCTS, name_of
from bnas.cost.trace.plain_model import tensors_in
from bnas.cost.trace.planned import NORMS
from bnas.cost.trace.values import place_of
from bnas.torch_inside import AnyConv, OperatorMode, OpOverload

End = tuple[str, int]  # a layer by its path, and which of its calls
_MULTIPLY = (AnyConv, nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class _Made:
    """What the values behind some tensors are made of."""

    of_input: bool = False
    of_weights: bool = False
    ends: frozenset[End] = field(default=frozenset())  # layers whose outputs these are, or became without weights


_WEIGHT = _Made(of_weights=True)
_Place = UntypedStorage | Tensor


class Flow(OperatorMode):
    """Follows values through every operator that runs, views and changes in place included.

    A parameter that only scales or shifts, as a norm's, is no weight here.

    Args:
        model: what runs.
        inputs: what it is given.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self._known = WeakIdKeyDictionary()  # place -> _Made
        self._norms = WeakIdKeyDictionary()  # place that holds what a norm gave, as it gave it -> whether it is plain
        self._scales = WeakIdKeyDictionary()  # parameters of one dimension: no weights, unless something multiplies
        self._used: set[End] = set()  # layers of whose outputs another one makes something
        for module in model.modules():
            for parameter in () if isinstance(module, NORMS) else module.parameters(recurse=False):
                if parameter.squeeze().ndim > 1 or isinstance(module, _MULTIPLY):
                    self._known[place_of(parameter)] = _WEIGHT
                else:
                    self._scales[place_of(parameter)] = None
        for tensor in inputs:
            self._known[place_of(tensor)] = _Made(of_input=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = [place_of(tensor) for tensor in tensors_in((args, kwargs))]
        out = func(*args, **kwargs)
        changed = [place_of(tensor) for tensor in tensors_in(_written(func, args, kwargs))]
        for place in changed:
            self._norms.pop(place, None)
        made = self._made(read, multiplies=name_of(func) in PRODUCTS)
        if made is not None:
            for place in [*map(place_of, tensors_in(out)), *changed]:
                self._known[place] = made
        return out

    def _made(self, read: list[_Place], *, multiplies: bool) -> _Made | None:
        """Return what an operator makes of what it reads; None if it reads nothing that is followed."""
        sources = [self._known[place] for place in read if place in self._known]
        has_weights = any(source == _WEIGHT for source in sources) or (
            multiplies and any(place in self._scales for place in read)
        )
        data = [source for source in sources if source != _WEIGHT]
        if not data:
            return _WEIGHT if has_weights else None
        ends = frozenset[End]().union(*(source.ends for source in data))
        if has_weights:
            self._used |= ends
            return _Made(any(source.of_input for source in data), of_weights=True)
        return _Made(
            any(source.of_input for source in data), any(source.of_weights for source in data), ends=ends
        )  # fmt: skip

    def note_norm(self, output: Any, *, is_plain: bool) -> None:
        """Note what a norm gave."""
        for tensor in tensors_in(output):
            self._norms[place_of(tensor)] = is_plain

    def note_layer(self, output: Any, end: End) -> None:
        """Note what a layer gave."""
        for tensor in tensors_in(output):
            before = self._known.get(place_of(tensor), _Made())
            self._known[place_of(tensor)] = _Made(before.of_input, of_weights=True, ends=frozenset({end}))

    def norm_before(self, x: Tensor) -> bool | None:
        """Return whether the norm is plain that these values are from, unchanged; None if they are from none."""
        found: bool | None = self._norms.get(place_of(x))
        return found

    def is_raw(self, x: Tensor) -> bool:
        """Say whether values are the model's input, or made of it without weights."""
        made = self._known.get(place_of(x))
        return made is not None and made.of_input and not made.of_weights

    def ends(self, answer: Any) -> set[End]:
        """Return the layers that a model's answer is made of, without those that another layer is made of."""
        made = (self._known.get(place_of(tensor)) for tensor in tensors_in(answer))
        return {end for one in made if one is not None for end in one.ends} - self._used


def _written(operator: Any, args: Any, kwargs: Any) -> list[Any]:
    """Return the arguments that an operator changes."""
    if not isinstance(operator, OpOverload):
        return []
    named = zip(operator._schema.arguments, args, strict=False)
    by_place = [given for argument, given in named if argument.is_write]
    return by_place + [kwargs[a.name] for a in operator._schema.arguments if a.is_write and a.name in kwargs]
