"""The best network of a run -> a folder to train and evaluate it in, with torch alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from bnas.amounts import percent
from bnas.runs.saved_network import ARCHITECTURE, MANIFEST, WEIGHTS
from bnas.ship.description import Description
from bnas.ship.model_file import Seen, has_experts, literal, model_files
from bnas.ship.proof import count_again, prove_model_file, reload
from bnas.ship.source import joined, with_imports
from bnas.space.recipe import LARGEST_BATCH, Augmentation, Recipe, Stage
from bnas.spec import Spec, dump, parse

IMAGES = "How image files become what a network takes: modules of bnas, whole. Needs numpy and Pillow beside torch."
TRAINING = "How a stage is trained: modules of bnas, whole, as bnas itself trains with them. Only torch is needed."

_TEMPLATE = Path(__file__).parent / "template" / "train.py"
_START, _END = "# SETTINGS\n", "# END OF SETTINGS\n"
_ONLY_FOR_TYPES = "  # type: ignore[import-not-found]"  # what an export holds is not beside the template
_OF_IMAGES = ("numpy", "PIL")  # what reading them needs
_ALWAYS = ("epochs", "weights", "optimizer", "rate")  # said of each stage; what else is usual is left out


@dataclass(frozen=True)
class TrainedNetwork:
    """The best network of a run: description, weights by name, and what is known of it."""

    described: Description
    tensors: Mapping[str, Tensor]
    manifest: Mapping[str, Any]
    trust: bool = True  # whether code that its files name may be run; what was not read from any is the caller's own


class Normalisation(Spec):
    """Mean and deviation of the training images per channel, where full scale is 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Images(Spec):
    """What a manifest says of the images that a network was trained on; it says more."""

    model_config = ConfigDict(extra="ignore")

    class_names: tuple[str, ...] = ()


class Known(Spec):
    """What a manifest must say for its network to be trained elsewhere; it may say more."""

    model_config = ConfigDict(extra="ignore")

    recipe: Recipe
    normalisation: Normalisation
    augmentation: tuple[Augmentation, ...] = ()  # those that training.py has
    accuracy: dict[str, float | None]
    final_training: dict[str, Any] = Field(default_factory=dict)  # what the winner of a search was trained on at last
    class_names: tuple[str, ...] = ()  # of a manifest from before it had them: the classes by their numbers
    images: Images = Images()

    def names(self, classes: int) -> tuple[str, ...]:
        """Return a name for each class."""
        known = self.class_names or self.images.class_names
        return known if len(known) == classes else tuple(map(str, range(classes)))


def export_training(best: TrainedNetwork, folder: Path) -> dict[str, Any]:
    """Write what makes and trains the network, description and weights; return what the manifest is to say of it.

    Raises:
        ExportError: something of the user's own cannot go with the network, or it does not come back the same.
        SpecError: the manifest does not say what has to be known.
    """
    described, known = best.described, parse(Known, best.manifest, source=f"best/{MANIFEST}")
    save_file(dict(best.tensors), folder / WEIGHTS)
    network = reload(described, load_file(folder / WEIGHTS), source=WEIGHTS)
    price = count_again(network, described)
    norm, names = known.normalisation, known.names(described.classes)
    made = model_files(described, network, price, seen=Seen(names, norm.mean, norm.std), notes=_notes(known))
    texts = {**made.files, **training_files(described, known, made.layers), ARCHITECTURE: dump(described)}
    texts["requirements.txt"] = requirements(made.needs)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return {
        "weights_sha256": sha256(folder / WEIGHTS),
        "architecture_sha256": sha256(folder / ARCHITECTURE),
        "counted_again": price.as_dict(),
        "needs": made.needs,
        "reload": prove_model_file(folder, network, described, weights=WEIGHTS),
    }


def training_files(described: Description, known: Known, layers: Sequence[str]) -> dict[str, str]:
    """Return train.py, a script that trains and evaluates the network of model.py, and training.py, which it uses.

    Args:
        layers: the modules of ours that are in layers.py.
    """
    begin, _, rest = _TEMPLATE.read_text(encoding="utf-8").replace(_ONLY_FOR_TYPES, "").partition(_START)
    stages = "".join(_stage_lines(stage, with_experts=has_experts(described)) for stage in known.recipe.stages)
    settings = f"""\
INPUT = {described.input!r}  # channels, height, width
CLASSES = {literal(known.names(described.classes))}
MEAN = {known.normalisation.mean!r}  # per channel, of images from 0 to 1
STD = {known.normalisation.std!r}
AUGMENTATION: tuple[str, ...] = {literal(known.augmentation)}  # any of AUGMENTATIONS in training.py
BATCH = {known.recipe.batch or LARGEST_BATCH}
STAGES = [
{stages}]
"""
    modules = with_imports(("bnas.data.transforms", "bnas.train.evaluate", "bnas.train.objective", "bnas.train.step"))
    beside = dict.fromkeys(layers, "layers")
    own = [module for module in modules if module not in beside]
    reading = with_imports(("bnas.data.picture", "bnas.data.class_folders", "bnas.data.stratified"), also=_OF_IMAGES)
    pictures = [module for module in reading if module not in {*own, *beside}]
    return {
        "train.py": begin + _START + settings + _END + rest.partition(_END)[2],
        "training.py": joined(own, heading=TRAINING, beside=beside),
        "images.py": joined(pictures, heading=IMAGES, beside=beside | dict.fromkeys(own, "training")),
    }


def requirements(needs: Sequence[str]) -> str:
    """Return what `pip install -r` makes the folder work with: versions of here, without the mark of their build.

    Args:
        needs: of the user's own files, as `name==version`.
    """
    own = [f"{name}=={version(name).partition('+')[0]}" for name in ("numpy", "pillow", "safetensors", "torch")]
    head = "# build() of model.py needs torch alone; predict() and train.py all of these. Later versions should do.\n"
    return head + "".join(f"{line}\n" for line in sorted({*own, *needs}))


def sha256(file: Path) -> str:
    """Return the checksum of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _stage_lines(stage: Stage, *, with_experts: bool) -> str:
    """Return a stage as the script's `Stage` takes it."""
    left_out = {"steps"} if with_experts else {"steps", "experts", "one_expert"}  # what was trained counts epochs
    usual = {name: field.default for name, field in Stage.model_fields.items() if name not in left_out}
    said = {name: getattr(stage, name) for name in usual}
    lines = [f"{name}={literal(value)}" for name, value in said.items() if name in _ALWAYS or value != usual[name]]
    return "    Stage(\n" + "".join(f"        {line},\n" for line in lines) + "    ),\n"


def _notes(known: Known) -> str:
    """Return the accuracies that the run measured, as a line for the top of model.py."""
    final = known.final_training.get("done")  # then no weights that are handed over were tried on validation images
    parts = [(part, known.accuracy.get(part)) for part in ("validation", "test") if part == "test" or not final]
    said = ", ".join(f"{percent(value)} on {part} images" for part, value in parts if value is not None)
    on_all = " They were trained on all training images." if final else ""
    return f"Accuracy with the weights beside this file: {said}.{on_all}\n" if said else ""
