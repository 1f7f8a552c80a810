"""What may be chosen for one part of a network: one value or a list of them for each key."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bnas.space.arch import (
    Binarizers,
    InputBinarizer,
    Shared,
    Shortcut,
    ShortcutKind,
    ShortcutPool,
    StageSpec,
)
from bnas.space.stem import Stem, StemKind
from bnas.space.values import (
    OURS,
    Activation,
    BlockName,
    Channels,
    Depth,
    Downsample,
    Experts,
    Kernel,
    Levels,
    Precision,
    Stride,
    WeightBinarizerName,
    sides,
)
from bnas.spec import Flag, Spec, Whole
from bnas.trust import CODE

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
    """Number of blocks; with 0 the stage may not be there at all, its stride neither."""
    width: Choices[Channels]
    """Channels of every block."""
    groups: Choices[Channels] = (1,)
    """Groups of every convolution; each must divide every width offered on both sides."""
    experts: Choices[Experts] = (1,)
    """Filter banks of every convolution, of which a gate chooses one for each image; they cost bytes, hardly ops."""
    kernel: Choices[Kernel] = (3,)
    """Side of the convolutions in pixels, odd; or height and width, as in `1x5`: a signal is an image of height 1."""
    stride: Choices[Stride] = (1,)
    """Of the first block: 2 halves height and width."""
    downsample: Choices[Downsample] = ("conv",)
    """Who takes that stride: the convolution (`conv`), or a max pooling of what one of stride 1 gives (`max_pool`)."""
    squeeze_excite: Choices[Flag] | None = None
    """Whether outputs are weighted as `squeeze_excite` of the space says; left out, what that says."""
    activation: Choices[Activation] | None = None
    """Inputs to bits, in place of `binarizers.activation`: `sign`, `polynomial`, `swish` or `react`."""
    block: Annotated[Choices[BlockName], CODE] = (OURS,)
    """Ours (`bnas`), or a class of your own that builds one, as `file.py:attr` or `pkg.mod:attr`."""
    precision: Choices[Precision] = ("binary",)
    """Of each block on its own: `binary`, `weight` (real input, weight in one bit) or `real`."""

    @model_validator(mode="after")
    def _a_pooling_has_a_stride(self) -> "StageChoices":
        if self.downsample != ("conv",) and max(self.stride) == 1:
            raise ValueError("downsample: max_pool has no stride to take; leave it out, or offer stride: 2")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what spaces from before do not have, so that their runs go on."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key in self.keys or key == "precision"}

    @property
    def keys(self) -> tuple[str, ...]:
        """What can be chosen beside precisions, in the order of a genotype.

        What builds from before did not know comes last, and only where it is said: their genotypes stay what they are.
        """
        return (
            *STAGE_KEYS,
            *(key for key, usual in StageSpec.later.items() if getattr(self, key) not in (usual, (usual,))),
        )

    @property
    def shapes(self) -> int:
        """The number of different shapes: of choices for all keys but depth."""
        free = [key for key in self.keys if key not in ("depth", "stride", "downsample")]
        strides = sum(1 if stride == 1 else len(self.downsample) for stride in self.stride)
        return strides * math.prod(len(getattr(self, key)) for key in free)

    def canonical(self, genes: Sequence[int]) -> list[int]:
        """Return one index for each of the keys, 0 where it decides nothing."""
        result = list(genes)
        if self.depth[genes[0]] == 0:
            return [genes[0], *[0] * (len(genes) - 1)]
        if "downsample" in self.keys and self.stride[genes[STAGE_KEYS.index("stride")]] == 1:
            result[self.keys.index("downsample")] = 0
        return result

    def deciding(self, genes: Sequence[int]) -> list[int]:
        """Return the places of the keys whose index decides something, where there is one for each."""
        if not self.depth[genes[0]]:
            return [0]
        idle = {"downsample"} if self.stride[genes[STAGE_KEYS.index("stride")]] == 1 else set[str]()
        return [place for place, key in enumerate(self.keys) if key not in idle]

    def spec(self, values: Sequence[Any], precision: tuple[Precision, ...]) -> StageSpec:
        """Return the stage of one choice for each of the keys but depth."""
        return _stage(self.keys[1:], tuple(values), precision)

    def values(self, stage: StageSpec, shared: Shared) -> list[Any]:
        """Return what a stage has of each of the keys; the first that is offered where it decides nothing."""
        if not stage.depth:
            return [0, *(getattr(self, key)[0] for key in self.keys[1:])]
        usual = {"squeeze_excite": shared.squeeze_excite, "activation": shared.binarizers.activation}
        found = {key: usual[key] if (value := getattr(stage, key)) is None else value for key in self.keys}
        if stage.stride == 1 and "downsample" in found:
            found["downsample"] = self.downsample[0]
        return list(found.values())


class ShortcutChoices(Spec):
    """What may be chosen to go round a convolution that changes the channels or the size, for the whole network."""

    later: ClassVar = {"pool": "average"}

    kind: Choices[ShortcutKind] = ("repeat",)
    """Pool and channels over again (`repeat`), a real 1x1 convolution (`conv`), or two (`bottleneck`)."""
    pool: ShortcutPool = "average"
    """How it takes a stride: by the `average`, as in papers, or by the `max`, which keeps what is small."""
    reduction: Annotated[Whole, Field(ge=1)] = 4
    """Of `bottleneck`: its middle has the input channels divided by this."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write one kind without brackets, as spaces from before have it."""
        return self.without_later(whole(self) | {"kind": alone(self.kind)})

    @property
    def shortcuts(self) -> tuple[Shortcut, ...]:
        """Every shortcut that may be chosen."""
        return tuple(Shortcut(kind=kind, pool=self.pool, reduction=self.reduction) for kind in self.kind)


class BinarizerChoices(InputBinarizer):
    """How values become bits; of weight binarizers one may be chosen for the whole network."""

    weight: Annotated[Choices[WeightBinarizerName], CODE] = ("xnor",)
    """Weights to bits: `sign`, `xnor`, `alpha_beta`, `irnet`, `group`, or code of yours; of several, none annealed."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write one weight binarizer without brackets, as spaces from before have it."""
        said: dict[str, Any] = whole(self)
        return said | {"weight": alone(self.weight)}

    @property
    def each(self) -> tuple[Binarizers, ...]:
        """Every way in which values may become bits."""
        return tuple(_binarizers(weight, self.activation, self.pad_value) for weight in self.weight)


@lru_cache(maxsize=256)  # candidates ask for it all the time
def _binarizers(weight: str, activation: str, pad_value: Literal[-1, 0, 1]) -> Binarizers:
    return Binarizers(weight=weight, activation=activation, pad_value=pad_value)


def alone(choices: tuple[Any, ...]) -> Any:
    """Return one choice as it is, several as a list."""
    return choices[0] if len(choices) == 1 else list(choices)


class StemChoices(Spec):
    """What may be chosen for the stem."""

    kind: Choices[StemKind] = ("conv",)
    """`conv`; `branched`, kernel 3 and stride 4; `space_to_depth`, its stride is its block; or `thermometer`, alone."""
    width: Choices[Channels]
    """Channels that it gives to the first stage."""
    kernel: Choices[Kernel] = (3,)
    """Side of its convolution in pixels, odd; or height and width, as in `1x5`."""
    stride: Choices[Stride] = (1,)
    """Pixels from one place to the next: 2 halves height and width."""
    levels: Choices[Levels] | None = None
    """Of a `thermometer` alone, which needs them: bits that each value of a pixel becomes."""

    @model_validator(mode="after")
    def _a_thermometer_stands_alone(self) -> "StemChoices":
        if len(self.kind) > 1 and "thermometer" in self.kind:
            raise ValueError(
                f"kind: {list(self.kind)}: a thermometer has levels, which no other kind has; offer it alone"
            )
        return self

    @model_validator(mode="after")
    def _every_stem_is_allowed(self) -> "StemChoices":
        for _ in self.stems():
            pass
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what stems of other kinds have, and write one kind without brackets, as spaces from before do."""
        said = whole(self) | {"kind": alone(self.kind)}
        return {key: value for key, value in said.items() if value is not None}

    @property
    def keys(self) -> tuple[str, ...]:
        """What can be chosen, in the order of a genotype; levels and kinds where there are some."""
        several = {"levels": self.levels is not None, "kind": len(self.kind) > 1}
        return (*STEM_KEYS, *(key for key, is_there in several.items() if is_there))

    @property
    def choices(self) -> tuple[tuple[Any, ...], ...]:
        """What there is to choose for each of the keys."""
        return tuple(getattr(self, key) for key in self.keys)

    def stem(self, values: Sequence[Any]) -> Stem:
        """Return the stem of one choice for each of the keys."""
        return Stem(**{"kind": self.kind[0]} | dict(zip(self.keys, values, strict=True)))

    def stems(self) -> Iterator[Stem]:
        """Yield every stem that may be chosen."""
        return map(self.stem, itertools.product(*self.choices))


STEM_KEYS = ("width", "kernel", "stride")
STAGE_KEYS = ("depth", "width", "groups", "experts", "kernel", "stride")


@lru_cache(maxsize=65536)  # candidates share most of their stages, and checking one takes time
def _stage(keys: tuple[str, ...], values: tuple[Any, ...], precision: tuple[Precision, ...]) -> StageSpec:
    said = dict(zip(keys, values, strict=True))
    if said["stride"] == 1:
        said.pop("downsample", None)
    return StageSpec(**said, precision=precision)


_SIZES = {
    "binary": 0, "weight": 1, "real": 2, "conv": 0, "max_pool": 1, "sign": 0, "polynomial": 0, "swish": 0, "react": 1
}  # fmt: skip


def sizes(name: str, choices: Sequence[Any]) -> list[int]:
    """Return what makes a choice of a dimension large, one number a choice: more groups and strides make it smaller."""
    if name == "shortcut.kind":
        return [("repeat", "bottleneck", "conv").index(choice) for choice in choices]
    if name.endswith(("block", "binarizers.weight", "stem.kind")):  # one is as large as another
        return [0] * len(choices)
    if name.endswith("kernel"):
        return [math.prod(sides(choice)) for choice in choices]
    if choices[0] in _SIZES:
        return [_SIZES[choice] for choice in choices]
    sign = -1 if name.endswith(("groups", "stride", "mix_every")) else 1
    return [sign * choice for choice in choices]
