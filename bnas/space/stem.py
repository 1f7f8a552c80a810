"""The layers that see the image."""

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from bnas.space.values import Channels, Kernel, Levels, Stride
from bnas.spec import Spec

StemKind = Literal["conv", "branched", "space_to_depth", "thermometer"]


class Stem(Spec):
    """The layers that see the image, of some size; levels are those of a thermometer, None in other kinds.

    conv: one real convolution. branched: the stem of the expert network (SEEDS of the paper's authors:
    3x3 stride 2 to half the width; 1x1 then 3x3 stride 2 beside a max pooling; joined; 1x1), total stride 4.
    space_to_depth: the pixels of each block of stride x stride become channels of one, and a real convolution follows.
    thermometer: every value of a pixel becomes `levels` bits, by thresholds that are learned, and a binary convolution
    follows: nothing in it is real.
    """

    kind: StemKind = "conv"
    """`conv`; `branched`, kernel 3 and stride 4; `space_to_depth`, whose stride is its block; or `thermometer`."""
    width: Channels
    """Channels that it gives to the first stage."""
    kernel: Kernel = 3
    """Side of its convolution in pixels, odd; or height and width, as in `1x5`."""
    stride: Stride = 1
    """Pixels from one place to the next: 2 halves height and width."""
    levels: Levels | None = None
    """Of a `thermometer` alone: bits that each value of a pixel becomes."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what stems of other kinds have."""
        return {key: value for key, value in whole(self).items() if value is not None}

    @model_validator(mode="after")
    def _levels_are_of_a_thermometer(self) -> "Stem":
        if self.kind == "thermometer" and self.levels is None:
            raise ValueError("a thermometer stem needs levels, the bits of each value of a pixel; write levels: 8")
        if self.kind != "thermometer" and self.levels is not None:
            raise ValueError(
                f"levels={self.levels} are of a thermometer stem, but this one is {self.kind}; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _branched_is_fixed(self) -> "Stem":
        if self.kind == "branched" and (self.kernel, self.stride) != (3, 4):
            raise ValueError("a branched stem has kernel 3 and stride 4; write kernel: 3, stride: 4")
        if self.kind == "branched" and self.width % 4:
            raise ValueError(f"width={self.width} of a branched stem must be a multiple of 4")
        return self
