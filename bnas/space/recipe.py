"""How to train: stages, rates, distillation, and the settings of a whole search. Frozen, torch-free."""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from bnas.errors import LookupFailed, SpecError
from bnas.spec import Flag, Spec, read
from bnas.trust import Named

RECIPES = {file.stem: file for file in sorted(Path(__file__).parent.glob("recipes/*.yaml"))}
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Distillation(Spec):
    """How much the stage before teaches this one.

    logits: weight of KL(teacher || student) at `temperature`; attention: weight of the squared difference of
    L2-normalised mean-square activation maps after each stage.
    Source: Bulat et al., arXiv:2010.03558, section 4; Martinez et al., Real-to-Binary, 2020.
    """

    logits: NonNegative = 1.0
    attention: NonNegative = 0.0
    temperature: PositiveFloat = 1.0


class BopSettings(Spec):
    """How `optimizer: bop` flips binary weights: when the average gradient against their sign is beyond a threshold.

    Source: Helwegen et al., Latent Weights Do Not Exist, 2019 (arXiv:1906.02107), algorithm 1.
    """

    adaptivity: Annotated[float, Field(gt=0, le=1)] = 1e-3  # weight of the newest gradient in the average
    threshold: NonNegative = 1e-6


class Stage(Spec):
    """One stage of training: which parts are binary, for how long, at which rate."""

    epochs: PositiveInt
    inputs: Literal["real", "binary"] = "binary"  # of binary layers; real ones for a first stage that teaches the next
    weights: Literal["real", "binary"] = "binary"
    experts: Literal["first", "all"] = "all"
    optimizer: Literal["adamw", "sgd", "bop"] = "adamw"  # bop: for binary weights; adamw for the others
    rate: PositiveFloat = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of sgd
    bop: BopSettings = BopSettings()
    warmup: Fraction = 0.02  # share of the stage's steps over which the rate rises
    weight_decay: NonNegative = 0.0  # none on latent weights with straight-through gradients once weights are binary
    centre_latent: Flag = False  # keep latent weights at mean 0 over input channels, as alpha-beta's authors do
    clip_latent: Flag = False  # keep latent weights in [-1, 1], where their straight-through gradient is not zero
    label_smoothing: Fraction = 0.0
    mixup: NonNegative = 0.0  # a of the Beta(a, a) that images and labels are mixed by; 0 mixes nothing
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the forward pass, by autocast
    distill: Distillation | None = None

    @model_validator(mode="after")
    def _bop_flips_binary_weights(self) -> "Stage":
        if self.optimizer == "bop" and self.weights == "real":
            raise ValueError(
                "optimizer: bop flips binary weights, but the stage has weights: real; choose adamw or sgd there"
            )
        return self


class Recipe(Spec):
    """Stages in order; each starts from the weights of the one before, which may teach it."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    batch: PositiveInt = 128

    @model_validator(mode="after")
    def _experts_only_grow(self) -> "Recipe":
        kinds = [stage.experts for stage in self.stages]
        if "first" in kinds[kinds.index("all") :] if "all" in kinds else True:
            raise ValueError(
                f"experts of the stages must go from first to all and end with all, but are {', '.join(kinds)}"
            )
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
            stage.model_copy(update={"epochs": b - a}) for stage, (a, b) in zip(stages, pairwise(ends), strict=True)
        ]
        return self.model_copy(update={"stages": tuple(shared)})

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


def read_recipe(name: str | Path) -> Recipe:
    """Return one of our recipes by name, or the one that a YAML file holds.

    Raises:
        LookupFailed: it is neither.
        SpecError: the file is not well formed.
    """
    if str(name) in RECIPES:
        return read(Recipe, RECIPES[str(name)])
    if not Path(name).exists():
        raise LookupFailed(f"recipe {str(name)!r}: give {', '.join(RECIPES)}, or the path of a YAML file")
    return read(Recipe, name)


class SupernetRecipe(Spec):
    """How the shared weights are trained.

    single: one fairly drawn sub-network a step. sandwich: the largest sub-network learns the labels and teaches the
    smallest and two drawn ones with binary weights.
    """

    mode: Literal["single", "sandwich"] = "single"
    epochs: PositiveInt = 40
    teacher: Literal["real", "binary"] = "real"  # weights of a sandwich's largest sub-network
    one_expert: Fraction = 0.25  # share of the epochs with one expert, copied to all when it ends
    batch: PositiveInt = 128
    rate: PositiveFloat = 2e-3
    warmup: Fraction = 0.02
    weight_decay: NonNegative = 0.0
    label_smoothing: Fraction = 0.0


class Scoring(Spec):
    """How many training images set a candidate's batch norm, and in which batches it is scored."""

    recalibration_images: PositiveInt = 2000
    validation_images: PositiveInt = 10_000
    batch: PositiveInt = 500


class Retraining(Spec):
    """How the best candidates are trained alone: all start, the worse half stops at each of the `halvings`.

    The best of the random twin are trained beside those of the search, and halved among themselves, so that the two
    are compared by what they reach. The winner is the best of all.
    """

    top: PositiveInt = 3
    twin: Annotated[int, Field(ge=0)] | None = None  # of the random twin; None takes as many as of the search
    start: Literal["supernet", "scratch"] = "scratch"  # weights that a network begins with
    halvings: tuple[Fraction, ...] = (0.3, 0.6)  # shares of the last stage's epochs
    recipe: Recipe = Recipe(stages=(Stage(epochs=20),))

    @model_validator(mode="after")
    def _inherited_weights_have_all_experts(self) -> "Retraining":
        if self.start == "supernet" and self.recipe.stages[0].experts == "first":
            raise ValueError(
                "start: supernet gives every expert its weights, but the first stage of the recipe has experts: first; "
                "leave that stage out, or set experts: all"
            )
        return self


class SearchSettings(Spec):
    """What a space file may carry, so that `bnas search SPACE --data D` is a whole command."""

    budget: dict[str, str | int | float] = Field(default_factory=dict)
    targets: tuple[dict[str, str | int | float], ...] = ()  # budgets that one supernet is searched under, one by one
    start_with: tuple[str, ...] = ()  # YAML files of architectures that are scored first, and trained alone in the end
    trials: PositiveInt = 200  # paid evaluations
    sampler: Named = "evolution"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1  # share of the training images held out
    resize: bool = False  # changes nothing: images of another size are always brought to the space's input
    limit: PositiveInt | None = None  # training images to use at most, those held out among them
    metric: Literal["product", "hybrid"] = "product"  # where the space's precision is by_metric or first_by_metric
    supernet: SupernetRecipe = SupernetRecipe()
    scoring: Scoring = Scoring()
    retrain: Retraining = Retraining()
