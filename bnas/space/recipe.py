"""How to train: stages, rates, distillation. Frozen, torch-free."""

from itertools import accumulate, pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from bnas.errors import SpecError
from bnas.space.choices import OneOrMany
from bnas.spec import Flag, Spec

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Augmentation = Literal["affine", "crop", "cutout", "flip", "flip_vertical", "shift", "turn"]

FEW_STEPS = 300  # in fewer not even a small real network learns to tell a few shapes apart
LARGEST_BATCH, SMALLEST_BATCH, STEPS_AN_EPOCH = 128, 16, 10  # where no batch is given


def _listed(value: Any) -> Any:
    """Let people write `none`, or one augmentation without brackets."""
    return [] if value == "none" else [value] if isinstance(value, str) else value


Augment = Annotated[tuple[Augmentation, ...], BeforeValidator(_listed), OneOrMany("none")]


class Length(Spec):
    """How long training lasts: so many epochs, and so many steps at least, whichever is longer.

    Epochs suit many images, steps suit few: 30 epochs of 60,000 images are 14,000 steps, of 400 images 90.
    """

    epochs: PositiveInt = 1
    """Passes over the training images."""
    steps: Annotated[int, Field(ge=0)] = 0
    """Steps at least: where the epochs have fewer, there are as many epochs as these take."""

    def in_epochs(self, steps_an_epoch: int) -> Self:
        """Return it counted in epochs alone."""
        lasts = max(self.epochs, -(-self.steps // steps_an_epoch))
        return self.model_copy(update={"epochs": lasts, "steps": 0})


def batch_for(asked: int | None, images: int) -> int:
    """Return the images of one step: what is asked, or 128, halved down to 16 while an epoch has fewer than 10 steps.

    Args:
        images: that there are to train on.
    """
    batch = LARGEST_BATCH if asked is None else asked
    while asked is None and batch > SMALLEST_BATCH and images < STEPS_AN_EPOCH * batch:
        batch //= 2
    return batch


class Distillation(Spec):
    """How much the stage before teaches this one.

    Source: Bulat et al., arXiv:2010.03558, section 4; Martinez et al., Real-to-Binary, 2020.
    """

    logits: NonNegative = 1.0
    """Weight of KL(teacher || student)."""
    attention: NonNegative = 0.0
    """Weight of the squared difference of L2-normalised mean-square activation maps after each stage."""
    temperature: PositiveFloat = 1.0
    """That logits of both are divided by."""


class BopSettings(Spec):
    """How `optimizer: bop` flips binary weights: when the average gradient against their sign is beyond a threshold.

    Source: Helwegen et al., Latent Weights Do Not Exist, 2019 (arXiv:1906.02107), algorithm 1.
    """

    adaptivity: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Weight of the newest gradient in the average."""
    threshold: NonNegative = 1e-6
    """How far the average must be against a sign for it to flip."""


class Stage(Length):
    """One stage of training: which parts are binary, for how long, at which rate."""

    later: ClassVar = {"one_expert": 0.0, "ema": 0.0}

    inputs: Literal["real", "binary"] = "binary"
    """Of binary layers; `real` ones for a first stage that teaches the next."""
    weights: Literal["real", "binary"] = "binary"
    """Of binary layers; `real` in stages before the last."""
    experts: Literal["first", "all"] = "all"
    """`first`: one expert alone, which the next stage copies to all; `all`: experts and gates."""
    one_expert: Fraction = 0.0
    """Of a first stage with `experts: all`: share of its epochs with one expert, which is then copied to all."""
    optimizer: Literal["adamw", "sgd", "bop"] = "adamw"
    """`adamw`, `sgd` with momentum, or `bop`, which flips binary weights, with adamw for the others."""
    rate: PositiveFloat = 1e-3
    """Highest learning rate; it rises over the warm-up, then falls to nothing by half a cosine."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `sgd`."""
    bop: BopSettings = BopSettings()
    """Of `optimizer: bop`."""
    warmup: Fraction = 0.02
    """Share of the stage's steps over which the rate rises."""
    weight_decay: NonNegative = 0.0
    """Pull of weights to zero; none on latent weights with straight-through gradients once weights are binary."""
    centre_latent: Flag = False
    """Keep latent weights at mean 0 over input channels, as alpha-beta's authors do."""
    clip_latent: Flag = False
    """Keep latent weights in [-1, 1], where their straight-through gradient is not zero."""
    label_smoothing: Fraction = 0.0
    """Share of a label that is spread over all classes."""
    mixup: NonNegative = 0.0
    """a of the Beta(a, a) that images and labels are mixed by; 0 mixes nothing."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of its past that a moving average of weights and batch norm keeps in a step; it counts in place of them."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass, by autocast; `bfloat16` is for GPUs and CPUs that have it."""
    distill: Distillation | None = None
    """How much the stage before teaches this one (the first such: a teacher that is given); left out, not at all."""

    @model_validator(mode="after")
    def _says_how_long(self) -> "Stage":
        if not self.model_fields_set & {"epochs", "steps"}:
            raise ValueError("nothing says how long it lasts; give epochs, or steps, or both for whichever is longer")
        return self

    @model_validator(mode="after")
    def _several_experts_can_be_one(self) -> "Stage":
        if self.one_expert and self.experts == "first":
            raise ValueError(
                f"one_expert: {self.one_expert:g} is the share of a stage with experts: all, but experts is first, "
                "where the whole stage has one; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _bop_flips_binary_weights(self) -> "Stage":
        if self.optimizer == "bop" and self.weights == "real":
            raise ValueError(
                "optimizer: bop flips binary weights, but the stage has weights: real; choose adamw or sgd there"
            )
        if self.optimizer == "bop" and self.ema:
            raise ValueError(
                f"ema: {self.ema:g} averages latent weights, but optimizer: bop has none and flips binary ones; leave "
                "ema out, or choose adamw or sgd"
            )
        return self


class Recipe(Spec):
    """Stages in order; each starts from the weights of the one before, which may teach it."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    """In order; each begins with the weights of the one before."""
    batch: PositiveInt | None = None
    """Images of one step; left out, 128, or fewer where there are few images."""
    augment: Augment | None = None
    """What training images go through, in this order; left out, what suits the data set."""

    @model_validator(mode="after")
    def _experts_only_grow(self) -> "Recipe":
        kinds = [stage.experts for stage in self.stages]
        if "first" in kinds[kinds.index("all") :] if "all" in kinds else True:
            raise ValueError(
                f"experts of the stages must go from first to all and end with all, but are {', '.join(kinds)}"
            )
        return self

    @model_validator(mode="after")
    def _experts_begin_as_one_only_once(self) -> "Recipe":
        for place, stage in enumerate(self.stages[1:], 1):
            if stage.one_expert:
                raise ValueError(
                    f"stages[{place}].one_expert: {stage.one_expert:g} is for the first stage, whose weights are "
                    "fresh; give an earlier stage experts: first, or leave it out"
                )
        if self.stages[-1].one_expert == 1:
            raise ValueError("the last stage must train all experts, but has one_expert: 1; give less, or add a stage")
        return self

    @model_validator(mode="after")
    def _ends_binary(self) -> "Recipe":
        last = self.stages[-1]
        if "real" in (last.weights, last.inputs):
            raise ValueError(
                f"the last stage must train what is shipped, weights: binary and inputs: binary, but has "
                f"weights: {last.weights} and inputs: {last.inputs}; add a stage"
            )
        return self

    def on(self, images: int) -> "Recipe":
        """Return the recipe for so many training images: a batch that suits them, and stages counted in epochs."""
        batch = batch_for(self.batch, images)
        stages = tuple(stage.in_epochs(max(1, images // batch)) for stage in self.stages)
        return self.model_copy(update={"stages": stages, "batch": batch})

    def lasting(self, epochs: int) -> "Recipe":
        """Return the recipe with so many epochs in all, shared out as before, at least one a stage.

        Where there are fewer epochs than stages, the last stages have one each: they train what is shipped.

        Raises:
            SpecError: epochs is not positive.
        """
        if epochs < 1:
            raise SpecError(f"epochs: must be at least 1, but got {epochs}; leave them out to train as the recipe says")
        stages, ends = self.stages[-epochs:], [0]
        whole = sum(stage.epochs for stage in stages)
        for index, end in enumerate(accumulate(stage.epochs for stage in stages)):
            later = len(stages) - 1 - index
            ends.append(min(max(round(epochs * end / whole), ends[-1] + 1), epochs - later))
        shared = [
            stage.model_copy(update={"epochs": b - a, "steps": 0})
            for stage, (a, b) in zip(stages, pairwise(ends), strict=True)
        ]
        return self.model_copy(update={"stages": tuple(shared)})

    def for_one_expert(self) -> "Recipe":
        """Return the recipe as it is for networks without several experts, and for weights that are there already."""
        stages = tuple(stage.model_copy(update={"one_expert": 0.0}) for stage in self.stages)
        return self.model_copy(update={"stages": stages})

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def said(self, images: int) -> str:
        """Return in words how long it trains on so many images, and where that is too short to learn much."""
        own = self.on(images)
        batch = batch_for(own.batch, images)
        steps, stages = own.epochs * (images // batch), " + ".join(str(stage.epochs) for stage in own.stages)
        few = f"; few: write `steps: {FEW_STEPS}` or more beside its epochs"
        return f"{steps} steps of {batch} images in {stages} epochs{few if steps < FEW_STEPS else ''}"
