"""What may be chosen for one part of a network: one value or a list of them for each key."""

import itertools
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bnas.space.arch import Channels, Depth, Experts, Kernel, Precision, Stem, Stride
from bnas.spec import Spec

T = TypeVar("T")


def _listed(value: Any) -> Any:
    """Let people write one choice without brackets."""
    return [value] if isinstance(value, int | float | str) else value


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"a choice is given twice in {list(values)}; give each once")
    return values


class _OneOrMany:
    """Tells the JSON schema that one choice may stand without brackets."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many, many["items"]]}


Choices = Annotated[
    tuple[T, ...],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=64),
    AfterValidator(_distinct),
    _OneOrMany(),
]


class StageChoices(Spec):
    """What may be chosen for one stage: one value or a list of values for each key."""

    depth: Choices[Depth] = (1,)
    width: Choices[Channels]
    groups: Choices[Channels] = (1,)
    experts: Choices[Experts] = (1,)
    kernel: Choices[Kernel] = (3,)
    stride: Choices[Stride] = (1,)
    precision: Choices[Precision] = ("binary",)  # chosen for each block on its own


class StemChoices(Spec):
    """What may be chosen for the stem; its kind is fixed."""

    kind: Literal["conv", "branched"] = "conv"
    width: Choices[Channels]
    kernel: Choices[Kernel] = (3,)
    stride: Choices[Stride] = (1,)

    @model_validator(mode="after")
    def _every_stem_is_allowed(self) -> "StemChoices":
        for width, kernel, stride in itertools.product(self.width, self.kernel, self.stride):
            Stem(kind=self.kind, width=width, kernel=kernel, stride=stride)
        return self
