"""How to train: stages, rates, distillation, and the settings of a whole search. Frozen, torch-free."""

from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from bnas.errors import SpecError
from bnas.space.choices import OneOrMany
from bnas.spec import Flag, Spec
from bnas.trust import Named

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

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what recipes from before do not have, so that their runs go on."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key not in ("one_expert", "ema") or value}

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
        few = f"; few: below some {FEW_STEPS} a network learns little; give steps, or a smaller batch"
        return f"{steps} steps of {batch} images in {stages} epochs{few if steps < FEW_STEPS else ''}"


class SupernetRecipe(Length):
    """How the shared weights are trained.

    single: one fairly drawn sub-network a step. sandwich: the largest sub-network learns the labels and teaches the
    smallest and two drawn ones with binary weights.
    """

    mode: Literal["single", "sandwich"] = "single"
    """What a step trains: one drawn sub-network (`single`), or four, the largest as teacher (`sandwich`)."""
    epochs: PositiveInt = 40
    """Passes over the training images."""
    teacher: Literal["real", "binary"] = "real"
    """Weights of a sandwich's largest sub-network."""
    one_expert: Fraction = 0.25
    """Share of the epochs with one expert, which is copied to all when they end."""
    batch: PositiveInt | None = None
    """Images of one step; left out, 128, or fewer where there are few images."""
    rate: PositiveFloat = 2e-3
    """Highest learning rate; it rises over the warm-up, then falls to nothing by half a cosine."""
    warmup: Fraction = 0.02
    """Share of the steps over which the rate rises."""
    weight_decay: NonNegative = 0.0
    """Pull of weights to zero."""
    label_smoothing: Fraction = 0.0
    """Share of a label that is spread over all classes."""

    def on(self, images: int) -> "SupernetRecipe":
        """Return it for so many training images, as `Recipe.on` does."""
        batch = batch_for(self.batch, images)
        return self.in_epochs(max(1, images // batch)).model_copy(update={"batch": batch})


class Scoring(Spec):
    """How many training images set a candidate's batch norm, and in which batches it is scored."""

    recalibration_images: PositiveInt = 2000
    """Training images that set a candidate's batch norm anew."""
    validation_images: PositiveInt = 10_000
    """Held-out images that it is scored on, at most."""
    batch: PositiveInt = 500
    """Images of one pass."""


class Retraining(Spec):
    """How the best candidates are trained alone: all start, the worse half stops at each of the `halvings`.

    The best of the random twin are trained beside those of the search, and halved among themselves, so that the two
    are compared by what they reach. The winner is the best of all.
    """

    top: PositiveInt = 3
    """How many of the best networks are trained alone."""
    twin: Annotated[int, Field(ge=0)] | None = None
    """How many of the random twin's best are trained beside them; left out, as many."""
    start: Literal["supernet", "scratch"] = "scratch"
    """Weights that a network begins with: `supernet`, what it inherits, or `scratch`, fresh ones."""
    halvings: tuple[Fraction, ...] = (0.3, 0.6)
    """Shares of the last stage's epochs after which the worse half stops."""
    recipe: Recipe = Recipe(stages=(Stage(epochs=20, steps=1000, one_expert=0.4),))
    """By which each is trained; left out, 20 epochs, 1,000 steps at least, the first 0.4 of them with one expert."""
    final_on_all: Flag = False
    """Train the winner once more after it was chosen, on all training images, those held out among them."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what spaces from before do not have, so that their runs go on."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key != "final_on_all" or value}

    @model_validator(mode="after")
    def _inherited_weights_have_all_experts(self) -> "Retraining":
        if self.start == "supernet" and self.recipe.stages[0].experts == "first":
            raise ValueError(
                "start: supernet gives every expert its weights, but the first stage of the recipe has experts: first; "
                "leave that stage out, or set experts: all"
            )
        return self


class Teacher(Spec):
    """A real network that is trained first, once, and teaches the supernet and the networks that are trained alone.

    Of these it teaches the first stage that has `distill`; the stages after it are taught by the one before.
    """

    model: Annotated[Named, Field(min_length=1)]
    """One of our networks by name, the YAML file of an architecture, made real, or a folder of a trained network."""
    recipe: Recipe | None = None
    """By which it is trained; left out, `straight_through`. Nothing that comes trained has one."""
    logits: NonNegative = 1.0
    """Weight of KL(teacher || sub-network) in the steps of the supernet; 0 leaves it out there."""
    temperature: PositiveFloat = 1.0
    """That logits of both are divided by there."""

    @property
    def of_supernet(self) -> Distillation | None:
        """How much it teaches the supernet; None where it does not."""
        return Distillation(logits=self.logits, temperature=self.temperature) if self.logits else None

    def on(self, images: int) -> "Teacher":
        """Return it for so many training images, as `Recipe.on` does."""
        return self if self.recipe is None else self.model_copy(update={"recipe": self.recipe.on(images)})


class SearchSettings(Spec):
    """What a space file may carry, so that `bnas search SPACE --data D` is a whole command."""

    budget: dict[str, str | int | float] = Field(default_factory=dict)
    """Limits, `40k` or `20k..40k`, of `ops`, `bops`, `flops`, `bytes`, `activation_bytes`, `latency_ms`."""
    targets: tuple[dict[str, str | int | float], ...] = ()
    """Budgets that one supernet is searched under, one by one, in place of `budget`."""
    start_with: tuple[str, ...] = ()
    """YAML files of architectures that are scored first, and trained alone in the end."""
    trials: PositiveInt = 200
    """Candidates that are scored; the random twin pays for as many."""
    sampler: Named = "evolution"
    """What proposes candidates: `evolution`, `nsga2`, `tpe`, `random`, or code of yours."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that is held out, where the data has no such split."""
    resize: bool = False
    """Changes nothing: images of another size are always brought to the space's input."""
    augment: Augment | None = None
    """What training images go through; a recipe may say it for networks alone. Left out, what suits the data set."""
    limit: PositiveInt | None = None
    """Training images to use at most, those held out among them; left out, all."""
    metric: Literal["product", "hybrid"] = "product"
    """What orders blocks where `precision` is `by_metric` or `first_by_metric`."""
    teacher: Teacher | None = None
    """A real network that is trained first and teaches all others; left out, there is none."""
    supernet: SupernetRecipe = SupernetRecipe()
    """How the shared weights are trained."""
    scoring: Scoring = Scoring()
    """How candidates are scored."""
    retrain: Retraining = Retraining()
    """How the best are trained alone."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what settings from before do not have, so that their runs go on."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key != "teacher" or value is not None}

    @property
    def taught(self) -> tuple[str, ...]:
        """In words, what the teacher teaches; nothing where there is none."""
        if self.teacher is None:
            return ()
        alone = any(stage.distill for stage in self.retrain.recipe.stages)
        return (*(["the supernet"] if self.teacher.logits else []), *(["the networks trained alone"] if alone else []))

    def on(self, images: int) -> "SearchSettings":
        """Return the settings for so many training images, as `Recipe.on` does."""
        retrain = self.retrain.model_copy(update={"recipe": self.retrain.recipe.on(images)})
        teacher = self.teacher and self.teacher.on(images)
        return self.model_copy(update={"teacher": teacher, "supernet": self.supernet.on(images), "retrain": retrain})
