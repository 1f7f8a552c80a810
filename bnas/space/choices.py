"""What may be chosen for one part of a network: one value or a list of them for each key."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bnas.space.arch import Channels, Depth, Experts, Kernel, Levels, Precision, Stem, StemKind, Stride
from bnas.spec import Spec

T = TypeVar("T")


def _listed(value: Any) -> Any:
    """Let people write one choice without brackets."""
    return [value] if isinstance(value, int | float | str) else value


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"a choice is given twice in {list(values)}; give each once")
    return values


class OneOrMany:
    """Tells the JSON schema that one choice may stand without brackets, and a word for none of them."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many, many["items"], *({"const": word} for word in self._words)]}


Choices = Annotated[
    tuple[T, ...],
    Field(min_length=1, max_length=64),
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    OneOrMany(),
]


class StageChoices(Spec):
    """What may be chosen for one stage: one value or a list of values for each key."""

    depth: Choices[Depth] = (1,)
    """Number of blocks."""
    width: Choices[Channels]
    """Channels of every block."""
    groups: Choices[Channels] = (1,)
    """Groups of every convolution; each must divide every width offered on both sides."""
    experts: Choices[Experts] = (1,)
    """Filter banks of every convolution, of which a gate chooses one for each image; they cost bytes, hardly ops."""
    kernel: Choices[Kernel] = (3,)
    """Side of the convolutions in pixels, odd."""
    stride: Choices[Stride] = (1,)
    """Of the first block: 2 halves height and width."""
    precision: Choices[Precision] = ("binary",)
    """Of each block on its own: `binary`, `weight` (real input, weight in one bit) or `real`."""


class StemChoices(StemKind):
    """What may be chosen for the stem; its kind is fixed."""

    width: Choices[Channels]
    """Channels that it gives to the first stage."""
    kernel: Choices[Kernel] = (3,)
    """Side of its convolution in pixels, odd."""
    stride: Choices[Stride] = (1,)
    """Pixels from one place to the next: 2 halves height and width."""
    levels: Choices[Levels] | None = None
    """Of a `thermometer` alone, which needs them: bits that each value of a pixel becomes."""

    @model_validator(mode="after")
    def _every_stem_is_allowed(self) -> "StemChoices":
        for _ in self.stems():
            pass
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """What can be chosen, in the order of a genotype."""
        return STEM_KEYS if self.levels is None else (*STEM_KEYS, "levels")

    @property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """What there is to choose for each of the keys."""
        return tuple(getattr(self, key) for key in self.keys)

    def stem(self, values: Sequence[int]) -> Stem:
        """Return the stem of one choice for each of the keys."""
        return Stem(kind=self.kind, **dict(zip(self.keys, values, strict=True)))

    def stems(self) -> Iterator[Stem]:
        """Yield every stem that may be chosen."""
        return map(self.stem, itertools.product(*self.choices))


STEM_KEYS = ("width", "kernel", "stride")
