"""Trains the network of model.py by its recipe, and evaluates it on the test images.

    python train.py --data DATA               train anew, save trained.safetensors, evaluate
    python train.py --data DATA --epochs 0    evaluate weights.safetensors as it came
    python train.py --data DATA --finetune    go on from weights.safetensors with the last stage
    python train.py --data DATA --original W  of a converted model: train from the float model's trained weights

DATA is a folder of images, one sub-folder a class, alone or in folders called like splits (train, Testing, val, ...),
or an .npz file. Needs torch and safetensors; numpy for an .npz file, and Pillow too for a folder: requirements.txt has
all of them.
The recipe is in SETTINGS below. To bring your own data, change `load_data`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import model as made  # type: ignore[import-not-found]
import torch
from layers import BnasError  # type: ignore[import-not-found]
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from training import (  # type: ignore[import-not-found]
    AUGMENTATIONS,
    Step,
    answering,
    derived,
    evaluate,
    make_optimizers,
    normalised,
    stage_loss,
    start_stage,
)

if TYPE_CHECKING:
    from typing import Any

    from images import Tree  # type: ignore[import-not-found]
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Distillation:
    """What the stage before teaches: KL of the logits, and distance of the activation maps after each stage."""

    logits: float = 1.0
    attention: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class BopSettings:
    """How `optimizer="bop"` flips binary weights: weight of the newest gradient in its average, and a threshold."""

    adaptivity: float = 1e-3
    threshold: float = 1e-6


@dataclass(frozen=True)
class Stage:
    """One stage of training; it starts from the weights of the one before, which teaches it if `distill` is set."""

    epochs: int
    inputs: str = "binary"  # "real": of the binary layers too
    weights: str = "binary"  # "real": only activations are binary
    experts: str = "all"  # "first": the network has one expert in place of several; the next stage copies it to all
    one_expert: float = 0.0  # share of a first stage's epochs with one expert, which is then copied to all
    optimizer: str = "adamw"  # or "sgd"; "bop": it flips the binary weights, adamw moves all else
    rate: float = 1e-3
    momentum: float = 0.9  # of sgd
    bop: BopSettings = BopSettings()
    warmup: float = 0.02  # share of the steps over which the rate rises; a cosine takes it down to 0
    weight_decay: float = 0.0  # on weights of two or more dimensions, but for straight-through ones behind binary ones
    centre_latent: bool = False  # keep the weights behind binary ones at mean 0 over input channels
    clip_latent: bool = False  # keep the weights behind binary ones in [-1, 1]
    label_smoothing: float = 0.0
    mixup: float = 0.0  # a of the Beta(a, a) that images and labels are mixed by
    ema: float = 0.0  # of a moving average of the weights, which is what the stage ends with; 0: none
    dtype: str = "float32"  # or "bfloat16", by autocast
    distill: Distillation | None = None


# SETTINGS
INPUT = (1, 8, 8)  # channels, height, width
CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")  # their names, in the order of the logits
MEAN = (0.5,)  # per channel, of images from 0 to 1
STD = (0.25,)
AUGMENTATION: tuple[str, ...] = ()  # any of AUGMENTATIONS in training.py
BATCH = 128
STAGES = [Stage(epochs=1)]
# END OF SETTINGS

# Names of the arrays of an .npz file, in small or capital letters: of images, and of their labels.
ARRAYS = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels"), ("x", "y")),
    "validation": (
        ("validation_images", "validation_labels"), ("val_images", "val_labels"), ("x_validation", "y_validation"),
        ("x_val", "y_val"),
    ),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}  # fmt: skip
HERE = Path(__file__).resolve().parent
Images = tuple[Tensor, Tensor]  # [n, channels, height, width], uint8 from 0 to 255 or float from 0 to 1; labels [n]


def load_data(path: Path) -> tuple[Images, Images]:
    """Return training and test images: THE PLACE FOR YOUR OWN DATA.

    As it is, `path` is a .npz file with train_images, train_labels, test_images and test_labels (or others of ARRAYS),
    or a folder in a layout that bnas reads, but for one with a CSV file of labels. Where there are no test images with
    labels, those serve that bnas takes: the validation images, or a part that it holds out.
    """
    if path.is_dir():
        return read_folder(path)
    import numpy as np

    with np.load(path) as file:
        arrays = {name.lower(): (name, file[name]) for name in file.files}
    parts = {part: arrays_of(arrays, part) for part in ARRAYS}
    train = parts["train"]
    if train is None:
        names = ", ".join(name for name, _ in arrays.values()) or "none"
        raise SystemExit(f"{path}: needs arrays train_images and train_labels, but has {names}")
    others = [found for part in ("test", "validation") if (found := parts[part]) and known(found[1]).any()]
    if others:
        return train, next((found for found in others if known(found[1]).all()), others[0])
    return held_out(*train)


def arrays_of(arrays: "dict[str, tuple[str, NDArray[Any]]]", part: str) -> Images | None:
    """Return the images and labels of a part of an .npz file, if it is there; labels that are no class are -1."""
    for images, labels in ARRAYS[part]:
        if images in arrays and labels in arrays:
            flat = arrays[labels][1].reshape(-1)
            if flat.dtype.kind in "SU":
                named = {name: number for number, name in enumerate(CLASSES)}
                numbers = torch.tensor([named.get(name, -1) for name in flat.astype(str)])
            else:
                numbers = torch.from_numpy(flat).long()
            return channels_first(torch.from_numpy(arrays[images][1])), numbers
    return None


def known(labels: Tensor) -> Tensor:
    """Return which labels are classes of the network."""
    return (labels >= 0) & (labels < len(CLASSES))


def held_out(images: Tensor, labels: Tensor) -> tuple[Images, Images]:
    """Return training and test images where there are no test images: as bnas divides them."""
    from images import TEST_PART, TEST_SEED, stratified

    test, training = stratified(labels, TEST_PART, seed=TEST_SEED, names=CLASSES, what="test images")
    test, training = test.sort().values, training.sort().values
    return (images[training], labels[training]), (images[test], labels[test])


def read_folder(folder: Path) -> tuple[Images, Images]:
    """Return training and test images: as bnas divides and reads them, the validation images among the former."""
    from images import check_not_inside_out, class_folders, look_into, opened, splits_of

    tree, _ = opened(look_into(folder))
    splits = splits_of(tree)
    if not splits:
        check_not_inside_out(tree)
    images, labels = read_classes(splits.get("train", tree))
    others = [split for part in ("test", "validation") if (split := splits.get(part)) and class_folders(split)]
    return ((images, labels), read_classes(others[0])) if others else held_out(images, labels)


def read_classes(split: "Tree") -> Images:
    """Return the images of a split's class folders, each named like a class of the network."""
    from images import class_folders, read_image

    folders = class_folders(split)
    known: tuple[str, ...] = CLASSES
    if tuple(map(str, range(len(CLASSES)))) == CLASSES and not folders.keys() <= set(CLASSES):
        known = tuple(folders)  # their names are not known: they are numbered in the order of the folders
    strange = [name for name in folders if name not in known] + list(known[len(CLASSES) :])
    if strange or not folders:
        found = f"holds {', '.join(strange)}" if strange else "has no class folders"
        raise SystemExit(f"{split.path} {found}; the classes are {', '.join(CLASSES)}, a folder each")
    paths = [(path, known.index(name)) for name, inside in folders.items() for path in inside.all_images()]
    return torch.stack([read_image(Path(path), INPUT) for path, _ in paths]), torch.tensor([n for _, n in paths])


def channels_first(images: Tensor) -> Tensor:
    """Return [n, height, width] or [n, height, width, channels] as [n, channels, height, width]."""
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.shape[1:] != INPUT and images.shape[1:] == (INPUT[1], INPUT[2], INPUT[0]):
        images = images.permute(0, 3, 1, 2)
    return images.contiguous()


def check(data: Images, part: str) -> Images:
    """Return the data with int64 labels, or end with one line that says what does not fit the network."""
    images, labels = data[0], data[1].long().flatten()
    if images.shape[1:] != INPUT:
        raise SystemExit(f"{part} images are {list(images.shape[1:])}, but the network takes {list(INPUT)}")
    if len(images) != len(labels) or not len(images):
        raise SystemExit(f"there are {len(images)} {part} images and {len(labels)} labels; give one label each")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise SystemExit(
            f"{part} labels go from {labels.min()} to {labels.max()}; the network has {len(CLASSES)} classes"
        )
    return images, labels


def batches(
    data: Images, size: int, device: torch.device, generator: torch.Generator | None = None
) -> Iterator[Images]:
    """Yield batches as the network takes them: all images in order, or with a generator a pass of training.

    That is in random order and augmented; an incomplete last batch is left out if there is another.
    """
    order = torch.arange(len(data[0]))
    if generator:
        order = torch.randperm(len(order), generator=generator)[: len(order) // size * size or None]
    for places in order.split(size):
        images = data[0][places].to(device)
        for name in AUGMENTATION if generator else ():
            images = AUGMENTATIONS[name](images, generator)
        yield normalised(images, MEAN, STD), data[1][places].to(device)


def make(stage: Stage) -> nn.Module:
    """Return a fresh network for a stage, which may train one expert in place of several."""
    network: nn.Module = made.build(one_expert=True) if stage.experts == "first" else made.build()
    return network


def train(
    stages: list[Stage],
    data: Images,
    *,
    start: nn.Module | None = None,
    teacher: nn.Module | None = None,
    batch: int,
    device: torch.device,
    seed: int = 0,
) -> nn.Module:
    """Return a network trained by stages from the weights of `start`, each taught by the one before, if it is taught.

    The first that is taught has `teacher` in place of the one before, where there is such.
    """
    before: nn.Module | None = None
    model, generator = start, torch.Generator().manual_seed(seed)
    steps = max(1, len(data[0]) // batch)
    for number, stage in enumerate(stages):
        print(f"stage {number + 1}/{len(stages)}: {stage.weights} weights, experts: {stage.experts}", flush=True)
        own = derived(seed, "stage", number)
        model = start_stage(make, stage, model, seed=own).to(device)
        if stage.distill and teacher is not None:
            before, teacher = teacher, None
        loss = partial(stage_loss, answering(model), None if before is None else answering(before), stage, own)
        optimizers = make_optimizers(model, stage)
        step = Step(model, optimizers, loss, stage, steps=steps, name=f"stage {number + 1}", seed=own, device=device)
        for epoch in range(stage.epochs):
            model.train()
            losses = [
                step(images, labels, epoch * steps + index)
                for index, (images, labels) in enumerate(batches(data, batch, device, generator))
            ]
            print(f"  epoch {epoch + 1}/{stage.epochs}: loss {sum(losses) / steps:.4f}", flush=True)
        step.averages.exchange()
        before = model.eval()
    assert model is not None
    return model


def read_original(file: Path) -> nn.Module:
    """Return the float model that the network was converted from, with its trained weights."""
    if not hasattr(made, "build_original"):
        raise SystemExit("--original: the network was not converted from a float model; leave it out")
    is_safe = file.suffix == ".safetensors"
    original: nn.Module = made.build_original()
    original.load_state_dict(load_file(file) if is_safe else torch.load(file, map_location="cpu", weights_only=True))
    return original.eval()


def shortened(stages: list[Stage], epochs: int) -> list[Stage]:
    """Return the stages with about so many epochs in all, shared out as before, at least one each."""
    total = sum(stage.epochs for stage in stages)
    return [replace(stage, epochs=max(1, round(stage.epochs * epochs / total))) for stage in stages]


def main() -> None:
    """Train and evaluate as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file or image folder, as load_data reads it")
    parser.add_argument("--epochs", type=int, help="epochs of all stages together; 0 only evaluates")
    parser.add_argument("--finetune", action="store_true", help="go on from --weights with the last stage")
    parser.add_argument("--weights", type=Path, default=HERE / "weights.safetensors", help="what --epochs 0 evaluates")
    parser.add_argument(
        "--original", type=Path, help="trained weights of the float model: they are where to start, and teach"
    )
    parser.add_argument("--out", type=Path, default=Path("trained.safetensors"), help="where the weights are saved")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    device = torch.device(asked.device)
    training, test = load_data(asked.data)
    training, test = check(training, "training"), check(test, "test")
    teacher = read_original(asked.original).to(device) if asked.original else None
    model: nn.Module = made.build().to(device)
    known = None if teacher is None else teacher.state_dict()
    if asked.finetune or asked.epochs == 0:
        known = load_file(asked.weights)
    if known is not None:
        model.load_state_dict(known)
    if asked.epochs != 0:
        stages = STAGES[-1:] if asked.finetune else STAGES
        stages = stages if asked.epochs is None else shortened(stages, asked.epochs)
        start = None if known is None else model
        model = train(stages, training, start=start, teacher=teacher, batch=asked.batch, device=device, seed=asked.seed)
        save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, asked.out)
        print(f"weights saved in {asked.out}")
    accuracy, _ = evaluate(model, batches(test, asked.batch, device))
    print(f"test accuracy {100 * accuracy:.2f} % of {len(test[0])} images")


if __name__ == "__main__":
    try:
        main()
    except BnasError as problem:
        raise SystemExit(str(problem)) from None
