"""What a space offers: its keys, as people write them, and what follows from them for channels and sizes."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bnas.errors import SpecError
from bnas.space.arch import Shared, check_prelu, common_divisors
from bnas.space.choices import BinarizerChoices, Choices, ShortcutChoices, StageChoices, StemChoices, alone
from bnas.space.latency import Latency
from bnas.space.settings import SearchSettings
from bnas.space.values import Channels, Classes, Every, Precision, Side, Size, shrunk
from bnas.spec import Flag, Spec

_OF_STAGE = re.compile(r"stages\[(\d+)\]\.(\w+)")


class Offers(Spec):
    """The keys of a space."""

    later: ClassVar = {"prelu": True, "deploy": None, "latency": None, "classifier": "real"}

    input: tuple[Channels, Side, Side]
    """Channels, height and width of an image; others are resized to it."""
    classes: Classes
    """How many classes it tells apart."""
    stem: StemChoices
    """The layers that see the image."""
    stages: Annotated[tuple[StageChoices, ...], Field(min_length=1, max_length=32)]
    """What may be chosen for each stage, in order."""
    shortcut: ShortcutChoices = ShortcutChoices()
    """What goes round a convolution that changes channels or size."""
    squeeze_excite: Flag = False
    """Whether every convolution's output is weighted, channel by channel, by what its input holds on average."""
    mix_every: Choices[Every] = (1,)
    """Blocks from one 1x1 convolution that mixes groups to the next."""
    binarizers: BinarizerChoices = BinarizerChoices()
    """How values become bits."""
    prelu: Flag = True
    """Whether every unit ends with a PReLU."""
    classifier: Choices[Precision] = ("real",)
    """Of the last layer: `real`, `weight` (real input, weight in one bit) or `binary`."""
    deploy: Literal["c", "finn", "hls4ml", "packed"] | None = None
    """What the networks are for: a search proposes only what it takes."""
    precision: Literal["free", "by_metric", "first_by_metric"] = "free"
    """Real inputs: chosen block by block (`free`), only their number (`by_metric`), or so first (`first_by_metric`)."""
    search: SearchSettings = SearchSettings()
    """Budget, trials and trainings of a search of this space."""
    latency: Latency | None = None
    """What each part takes on some machine, for a budget of latency_ms: a file of `bnas latency-table`."""

    @model_validator(mode="after")
    def _a_metric_has_two_precisions_to_choose_from(self) -> "Offers":
        offered = {index: stage.precision for index, stage in enumerate(self.stages) if len(stage.precision) > 1}
        if self.precision != "free" and not offered:
            raise ValueError(f"precision: {self.precision} has nothing to choose; offer [binary, weight] in a stage")
        for index, precisions in offered.items() if self.precision != "free" else ():
            if len(precisions) > 2 or "binary" not in precisions:
                raise ValueError(
                    f"stages[{index}].precision: {self.precision} chooses between binary and one other, but "
                    f"{list(precisions)} is offered; give [binary, weight]"
                )
        return self

    @model_validator(mode="after")
    def _react_keeps_its_prelu(self) -> "Offers":
        of_stages = ("react" if "react" in (stage.activation or ()) else None for stage in self.stages)
        check_prelu(self.binarizers, of_stages, prelu=self.prelu)
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write what is no choice without brackets, as spaces from before have it."""
        return self.without_later(
            whole(self) | {"mix_every": alone(self.mix_every), "classifier": alone(self.classifier)}
        )

    @model_validator(mode="after")
    def _groups_divide_widths(self) -> "Offers":
        for index, stage in enumerate(self.stages):
            before = self.widths_before(index)
            for groups in stage.groups:
                for whose, widths in (("the stage", stage.width), ("what comes before it", before)):
                    wrong = next((width for width in widths if width % groups), None)
                    if wrong is not None:
                        allowed = ", ".join(map(str, common_divisors(*stage.width, *before)))
                        raise ValueError(
                            f"stages[{index}].groups: {groups} must divide every width of {whose}, "
                            f"but width {wrong} is offered; choose groups from {allowed}"
                        )
        return self

    def widths_before(self, index: int) -> tuple[int, ...]:
        """Return the channels that may come into a stage, or, behind the last, into the classifier's pooling."""
        widths = self.stem.width
        for stage in self.stages[:index]:
            widths = tuple(dict.fromkeys((*widths, *stage.width))) if 0 in stage.depth else stage.width
        return widths

    def sizes_before(self, index: int) -> set[Size]:
        """Return the heights and widths, in pixels, that may come into a stage."""
        sizes = {shrunk(self.input[1:], stride) for stride in self.stem.stride}
        for stage in self.stages[:index]:
            after = {shrunk(size, stride) for size in sizes for stride in stage.stride}
            sizes = after | sizes if 0 in stage.depth else after
        return sizes

    @property
    def _once(self) -> dict[str, tuple[Any, ...]]:
        """What can be said once for a whole network, beside its stem, and the choices."""
        return {
            "shortcut.kind": self.shortcut.kind, "mix_every": self.mix_every, "classifier": self.classifier,
            "binarizers.weight": self.binarizers.weight,
        }  # fmt: skip

    @property
    def whole(self) -> dict[str, tuple[Any, ...]]:
        """What can be chosen once for a whole network, beside its stem; what has one choice is no dimension.

        Builds from before knew no such choices: the genotypes of their spaces stay what they are.
        """
        return {name: choices for name, choices in self._once.items() if len(choices) > 1}

    def shared(self, whole: Sequence[int] = ()) -> Shared:
        """Return what all blocks of a network have alike.

        Args:
            whole: one index for each of the choices of `whole`; left out, the first of each.
        """
        genes = dict(zip(self.whole, whole, strict=True)) if whole else {}
        shortcut = self.shortcut.shortcuts[genes.get("shortcut.kind", 0)]
        mix_every = self.mix_every[genes.get("mix_every", 0)]
        binarizers = self.binarizers.each[genes.get("binarizers.weight", 0)]
        return Shared(shortcut, self.squeeze_excite, binarizers, self.prelu, mix_every)

    def classifier_of(self, whole: Sequence[int]) -> Precision:
        """Return the classifier's precision, by one index for each of the choices of `whole`."""
        return self.classifier[dict(zip(self.whole, whole, strict=True)).get("classifier", 0)]

    def offering(self, dimension: str, *choices: Any) -> Self:
        """Return the same with these choices alone of one dimension.

        Args:
            dimension: as in `stem.width`, `classifier`, `stages[1].groups` or, for all blocks, `stages[1].precision`.
        Raises:
            SpecError: there is no such dimension; lists those there are.
            ValueError: a choice is none for it, or does not go with the others.
        """
        offered = [f"stem.{key}" for key in self.stem.keys] + list(self._once)
        offered += [f"stages[{index}].{key}" for index in range(len(self.stages)) for key in StageChoices.model_fields]
        if dimension not in offered:
            raise SpecError(f"{dimension!r} is no dimension of the space; choose from {', '.join(offered)}")
        if found := _OF_STAGE.fullmatch(dimension):
            return self._with_stage(int(found[1]), **{found[2]: choices})
        part, _, key = dimension.rpartition(".")
        return self.but(**{part: getattr(self, part).but(**{key: choices})} if part else {key: choices})

    def _with_stage(self, index: int, **changes: Any) -> Self:
        stages = list(self.stages)
        stages[index] = stages[index].but(**changes)
        decided = all(len(stage.precision) == 1 for stage in stages)  # so that a metric has nothing to decide
        return self.but(stages=tuple(stages), precision="free" if decided else self.precision)
