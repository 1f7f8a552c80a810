"""The settings of a whole search: supernet, scores, retraining, teacher. Frozen, torch-free."""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from bnas.space.recipe import Augment, Distillation, Fraction, Length, NonNegative, Recipe, Stage, batch_for
from bnas.spec import Flag, Spec
from bnas.trust import Named


class SupernetRecipe(Length):
    """How the shared weights are trained.

    single: one fairly drawn sub-network a step. sandwich: the largest sub-network learns the labels and teaches the
    smallest and two drawn ones with binary weights.
    """

    later: ClassVar = {"dtype": "float32"}

    mode: Literal["single", "sandwich"] = "single"
    """What a step trains: one drawn sub-network (`single`), or four, the largest as teacher (`sandwich`)."""
    epochs: PositiveInt = 40
    """Passes over the training images."""
    teacher: Literal["real", "binary"] = "real"
    """Weights of a sandwich's largest sub-network."""
    one_expert: Fraction = 0.25
    """Share of the epochs with one expert, which is copied to all when they end; the last epoch trains all."""
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
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass, by autocast; `bfloat16` is for GPUs and CPUs that have it."""

    def on(self, images: int) -> "SupernetRecipe":
        """Return it for so many training images, as `Recipe.on` does."""
        batch = batch_for(self.batch, images)
        return self.in_epochs(max(1, images // batch)).model_copy(update={"batch": batch})


class Scoring(Spec):
    """How many training images set a candidate's batch norm, and in which batches it is scored."""

    recalibration_images: PositiveInt = 2000
    """Training images that set a candidate's batch norm anew, in equal batches of at most `batch`."""
    validation_images: PositiveInt = 10_000
    """Held-out images that it is scored on, at most."""
    batch: PositiveInt = 500
    """Images of one pass."""


class Retraining(Spec):
    """How the best candidates are trained alone: all start, the worse half stops at each of the `halvings`.

    The best of the random twin are trained beside those of the search, and halved among themselves, so that the two
    are compared by what they reach. The winner is the best of all.
    """

    later: ClassVar = {"final_on_all": False}

    top: PositiveInt = 3
    """How many networks are trained alone: the best, and the best of ever dearer shares (of two, the dearer half)."""
    twin: Annotated[int, Field(ge=0)] | None = None
    """How many of the random twin's best are trained beside them; left out, as many."""
    start: Literal["supernet", "scratch"] = "scratch"
    """Weights that a network begins with: `supernet`, what it inherits, or `scratch`, fresh ones."""
    halvings: tuple[Fraction, ...] = (0.5, 0.75)
    """Shares of the last stage's epochs after which the worse half stops; sooner, the order is not settled."""
    recipe: Recipe = Recipe(stages=(Stage(epochs=20, steps=1000, one_expert=0.4),))
    """By which each is trained; left out, 20 epochs, 1,000 steps at least, the first 0.4 of them with one expert."""
    final_on_all: Flag = False
    """Train the winner once more after it was chosen, on all training images, those held out among them."""

    @property
    def tops(self) -> dict[str, int]:
        """How many networks are trained alone at most, by what found them, beside those that are given."""
        return {"search": self.top, "twin": self.top if self.twin is None else self.twin}

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

    later: ClassVar = {"teacher": None}

    budget: dict[str, str | int | float] = Field(default_factory=dict)
    """Limits, `40k` or `20k..40k`, of `ops`, `bops`, `flops`, `bytes`, `activation_bytes`, `latency_ms`."""
    targets: tuple[dict[str, str | int | float], ...] = ()
    """Budgets that one supernet is searched under, one by one; limits of `budget` on other quantities hold too."""
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
