"""A space that was proposed, its settings and its time -> YAML with a remark on each choice."""

from collections.abc import Mapping
from typing import Any

from bnas.amounts import show
from bnas.api.pace import Plan
from bnas.data import Glance
from bnas.searcher.proposal import Proposal
from bnas.space.commented import commented, remark
from bnas.space.settings import SearchSettings

_LEAD = (
    "A space for {images}\n"
    "Written by bnas init. A list is a choice, a single value is fixed. docs/spaces.md has every key, docs/recipes.md "
    "those of trainings."
)
_INPUT = """Channels, height and width to which images are brought; {was}. bnas init --size 64x64 says otherwise: finer
images cost time and ops."""
_STEM = "Sees the image, with real weights and real inputs: dear in ops, and what it loses is lost."
_STAGES = """Blocks with binary inputs and weights. precision: weight in a stage keeps its inputs real, for 64 times its
ops. stride: 2 halves height and width, by a max pooling: a convolution that takes the stride itself loses where small
things were. Where ops are scarce and bytes are not, offer groups: [1, 2] and experts: [1, 2]."""
_SHORTCUT = "What goes round a convolution takes its stride by the max too; an average would blur edges."
_BINARIZERS = "How values become bits: docs/methods.md says what each of them reached."
_DEPLOY = "The search proposes only what this target takes: docs/deploying.md, docs/c.md."
_BUDGET = """The most that a network may take. Those of this space take {ends}. bytes: 20k would limit what the weights
take."""
_TRIALS = "Networks that are scored with the weights of the supernet, and as many of a random search."
_VALIDATION = "Share of the training images by which networks are chosen, and which they do not train on."
_AUGMENT = """What training images go through; these are {kind}. flip, flip_vertical, crop, turn, affine and cutout suit
some images and spoil others: a flip turns an arrow into another. What leaves the class as it is helps:
docs/own_images.md."""
_SUPERNET = "Training of the weights that all networks share, in steps of {batch} images; here {minutes:.1f} minutes."
_SCORING = "Large images are scored a few at a time."
_RETRAIN = """How the best of the search and the best of the random search are trained alone: {said}; here
{minutes:.1f} minutes for both. With more than top: 1 the worse half stops early. The first stage has real weights: with
binary ones from the start a small network learns less of few images."""


def written(made: Proposal, settings: Mapping[str, Any], remarks: Mapping[str, str], *, lead: str) -> str:
    """Return the space as YAML; lead says what the images are."""
    begin = remark(_LEAD.format(images=lead))
    return "\n".join(begin) + "\n\n" + commented(made.values | {"search": settings}, remarks)


def on_choices(made: Proposal, glance: Glance) -> dict[str, str]:
    """Return remarks on what the networks are."""
    shapes = {shape[1:] for shape in glance.shapes}
    was = "yours are of several sizes" if len(shapes) > 1 else "yours are {} x {}".format(*next(iter(shapes)))
    texts = {
        "input": _INPUT.format(was=was),
        "stem": _STEM,
        "stages": _STAGES,
        "shortcut": _SHORTCUT,
        "binarizers": _BINARIZERS,
    }
    return {key: _one_line(text) for key, text in (texts | {"deploy": _DEPLOY}).items() if key in made.values}


def on_search(made: Proposal, glance: Glance, settings: SearchSettings, images: int, plan: Plan) -> dict[str, str]:
    """Return remarks on how networks are searched and trained, on so many images."""
    ends = "; ".join(f"{show(low)} to {show(high)} {name}" for name, (low, high) in made.ends.items())
    kind = "of a set that is known" if glance.augmentation is not None else "your own"
    said, batch = settings.retrain.recipe.said(images), settings.supernet.on(images).batch
    texts = {
        "budget": _BUDGET.format(ends=ends),
        "trials": _TRIALS,
        "validation": _VALIDATION,
        "augment": _AUGMENT.format(kind=kind),
        "supernet": _SUPERNET.format(batch=batch, minutes=plan.supernet / 60),
        "scoring": _SCORING,
        "retrain": _RETRAIN.format(said=said, minutes=plan.retrain / 60),
    }
    return {f"search.{key}": _one_line(text) for key, text in texts.items()}


def _one_line(text: str) -> str:
    """Return text that is wrapped here as one line."""
    return text.replace("\n", " ").strip()
