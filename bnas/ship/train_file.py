"""A recipe -> the text of train.py: a plain torch script that trains and evaluates the network of model.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bnas.errors import ExportError
from bnas.ship.description import Description
from bnas.ship.literals import literal
from bnas.space.recipe import Recipe, Stage

_TEMPLATE = Path(__file__).parent / "template" / "train.py"
_START, _END = "# SETTINGS\n", "# END OF SETTINGS\n"
_ONLY_FOR_TYPES = "  # type: ignore[import-not-found]"  # model.py is not beside the template


# What the script's `Stage` takes where nothing is said.
_DEFAULTS: dict[str, Any] = {
    "inputs": "binary", "momentum": 0.9, "warmup": 0.0, "weight_decay": 0.0, "centre_latent": False,
    "clip_latent": False, "label_smoothing": 0.0, "mixup": 0.0, "dtype": "float32",
}  # fmt: skip


class Preparation(NamedTuple):
    """How images become the network's input: mean and deviation per channel (full scale is 1), augmentation by name."""

    mean: Sequence[float]
    std: Sequence[float]
    augmentation: Sequence[str]


def train_file(described: Description, recipe: Recipe, preparation: Preparation) -> str:
    """Return the source of train.py.

    Raises:
        ExportError: a stage asks for an optimizer that the script does not have.
    """
    if any(stage.optimizer == "bop" for stage in recipe.stages):
        raise ExportError("train.py: has no optimizer bop; train by a recipe with adamw or sgd to hand it over")
    before, _, rest = _TEMPLATE.read_text(encoding="utf-8").replace(_ONLY_FOR_TYPES, "").partition(_START)
    _, _, after = rest.partition(_END)
    stages = "".join(map(_stage_lines, recipe.stages))
    settings = f"""\
INPUT = {described.input!r}  # channels, height, width
CLASSES = {described.classes}
MEAN = {tuple(preparation.mean)!r}  # per channel, of images from 0 to 1
STD = {tuple(preparation.std)!r}
AUGMENTATION: tuple[str, ...] = {literal(tuple(preparation.augmentation))}  # any of affine, crop, flip, shift
BATCH = {recipe.batch}
STAGES = [
{stages}]
"""
    return before + _START + settings + _END + after


def _stage_lines(stage: Stage) -> str:
    """Return a stage as the script's `Stage` takes it; what is off is left out."""
    always = ("epochs", "weights", "experts", "optimizer", "rate")
    values = {name: getattr(stage, name) for name in (*always, *_DEFAULTS)}
    arguments = [
        f"{name}={literal(value)}" for name, value in values.items() if name in always or value != _DEFAULTS[name]
    ]
    if stage.distill:
        weights = ", ".join(f"{name}={value!r}" for name, value in stage.distill.model_dump().items())
        arguments.append(f"distill=Distill({weights})")
    return "    Stage(\n" + "".join(f"        {argument},\n" for argument in arguments) + "    ),\n"
