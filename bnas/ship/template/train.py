"""Trains the network of model.py by its recipe, and evaluates it on the test images.

    python train.py --data FILE.npz               train anew, save trained.safetensors, evaluate
    python train.py --data FILE.npz --epochs 0    evaluate weights.safetensors as it came
    python train.py --data FILE.npz --finetune    go on from weights.safetensors with the last stage
    python train.py --data FILE.npz --original W  of a converted model: train from the float model's trained weights

Needs torch and safetensors; numpy too for FILE.npz, and Pillow for a folder of images.
The recipe is in SETTINGS below. To bring your own data, change `load_data`.
"""

import argparse
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import model as made  # type: ignore[import-not-found]
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Distill:
    """What the stage before teaches: KL of the logits, and distance of the activation maps after each stage."""

    logits: float = 1.0
    attention: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One stage of training; it starts from the weights of the one before, which teaches it if `distill` is set."""

    epochs: int
    weights: str  # "real": only activations are binary; "binary": weights too
    experts: str  # "first": only the first expert learns; "all": it is copied to all, and gates choose
    optimizer: str  # "adamw" or "sgd"
    rate: float
    inputs: str = "binary"  # "real": of the binary convolutions too
    momentum: float = 0.9  # of sgd
    warmup: float = 0.0  # share of the steps over which the rate rises; a cosine takes it down to 0
    weight_decay: float = 0.0  # on weights of two or more dimensions, but for those behind binary ones
    centre_latent: bool = False  # keep the weights behind binary ones at mean 0 over input channels
    clip_latent: bool = False  # keep the weights behind binary ones in [-1, 1]
    label_smoothing: float = 0.0
    mixup: float = 0.0  # a of the Beta(a, a) that images and labels are mixed by
    dtype: str = "float32"  # or "bfloat16", by autocast
    distill: Distill | None = None


# SETTINGS
INPUT = (1, 8, 8)  # channels, height, width
CLASSES = 10
MEAN = (0.5,)  # per channel, of images from 0 to 1
STD = (0.25,)
AUGMENTATION: tuple[str, ...] = ()  # any of affine, crop, flip, shift
BATCH = 128
STAGES = [Stage(epochs=1, weights="binary", experts="all", optimizer="adamw", rate=1e-3)]
# END OF SETTINGS

HARD_AT = 0.85  # share of a stage after which weights that become binary gradually are nearly so
BENT = {"irnet"}  # methods of which only the gradient gets there gradually
HERE = Path(__file__).resolve().parent
Images = tuple[Tensor, Tensor]  # [n, channels, height, width], uint8 from 0 to 255 or float from 0 to 1; labels [n]


def load_data(path: Path) -> tuple[Images, Images]:
    """Return training and test images: THE PLACE FOR YOUR OWN DATA.

    As it is, `path` is a .npz file with train_images, train_labels, test_images and test_labels (or x_train, y_train,
    x_test, y_test), or a folder with train/CLASS/*.png and test/CLASS/*.png (.jpg too).
    """
    if path.is_dir():
        return read_folder(path / "train"), read_folder(path / "test")
    import numpy as np

    with np.load(path) as file:
        usual = "train_images" in file
        names = ("{}_images", "{}_labels") if usual else ("x_{}", "y_{}")
        (x, y), (u, v) = ([torch.from_numpy(file[n.format(part)]) for n in names] for part in ("train", "test"))
    return (channels_first(x), y), (channels_first(u), v)


def read_folder(folder: Path) -> Images:
    """Return the images of folder/CLASS/*; classes are numbered in the order of their names."""
    import numpy as np
    from PIL import Image

    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    images, labels = [], []
    for label, kind in enumerate(sorted(entry for entry in folder.iterdir() if entry.is_dir())):
        for file in sorted(kind.iterdir()):
            if file.suffix.lower() in (".png", ".jpg", ".jpeg"):
                image = Image.open(file).convert(modes[INPUT[0]]).resize((INPUT[2], INPUT[1]))
                images.append(torch.from_numpy(np.array(image)))
                labels.append(label)
    if not images:
        raise SystemExit(f"{folder}: there are no images in folder/CLASS/*.png or *.jpg")
    return channels_first(torch.stack(images)), torch.tensor(labels)


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
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise SystemExit(f"{part} labels go from {labels.min()} to {labels.max()}; the network has {CLASSES} classes")
    return images, labels


def normalise(images: Tensor) -> Tensor:
    """Return what the network takes."""
    mean, std = (torch.tensor(value, device=images.device).view(1, -1, 1, 1) for value in (MEAN, STD))
    scale = 1.0 if images.is_floating_point() else 255.0
    return (images.float() / scale - mean) / std


def augment(images: Tensor) -> Tensor:
    """Return the images changed at random as AUGMENTATION says."""
    for name in AUGMENTATION:
        if name == "flip":
            mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        elif name == "affine":
            images = warped(images)
        else:
            images = moved(images, {"crop": 8, "shift": 14}[name])
    return images


def moved(images: Tensor, parts: int) -> Tensor:
    """Return each image moved by up to a share of its side; zeros come in."""
    count, _, height, width = images.shape
    down, right = max(1, round(height / parts)), max(1, round(width / parts))
    windows = F.pad(images, (right, right, down, down)).unfold(2, height, 1).unfold(3, width, 1)
    each = torch.arange(count, device=images.device)
    rows, columns = (torch.randint(2 * side + 1, (count,), device=images.device) for side in (down, right))
    return windows[each, :, rows, columns]


def warped(images: Tensor) -> Tensor:
    """Return each image turned by up to 10 degrees, stretched by a tenth and moved by a 27th of its side at most."""
    count, _, height, width = images.shape
    turn, wide, tall, right, down = (2 * torch.rand(5, count, device=images.device) - 1).unbind()
    cos, sin = torch.cos(math.radians(10) * turn), torch.sin(math.radians(10) * turn)
    wide, tall = 1 + wide / 10, 1 + tall / 10
    rows = (cos * wide, -sin * tall * height / width, right * 2 / 27, sin * wide * width / height, cos * tall)
    window = torch.stack((*rows, down * 2 / 27), 1).view(-1, 2, 3)
    grid = F.affine_grid(window, list(images.shape), align_corners=False)
    seen = F.grid_sample(images.float(), grid, align_corners=False)
    return seen if images.is_floating_point() else seen.round().to(images.dtype)


def batches(data: Images, size: int, device: torch.device) -> Iterator[Images]:
    """Yield training batches in random order; an incomplete last one is left out if there is another."""
    images, labels = data
    order = torch.randperm(len(images))
    for places in order[: max(len(order) // size * size, min(len(order), size))].split(size):
        yield normalise(augment(images[places].to(device))), labels[places].to(device)


def binary_layers(model: nn.Module) -> list[Any]:
    """Return the layers with binary weights."""
    return [m for m in model.modules() if hasattr(m, "real_weights") and getattr(m, "alpha", None) is not None]


def expert_convs(model: nn.Module) -> list[Any]:
    """Return the convolutions with several experts."""
    return [m for m in model.modules() if hasattr(m, "real_weights") and hasattr(m, "experts")]


@torch.no_grad()
def keep_first_expert(model: nn.Module) -> None:
    """Make every gate choose the first expert, whatever it sees, without a gradient."""
    for conv in expert_convs(model):
        conv.gate.weight.zero_()
        conv.gate.bias.fill_(-1e4)[0] = 0
        conv.gate.requires_grad_(False)


@torch.no_grad()
def copy_first_expert(model: nn.Module) -> None:
    """Give all experts the weights of the first, and all gates fresh ones, which alone tell the experts apart."""
    for conv in expert_convs(model):
        conv.weight.copy_(conv.weight[:1].expand_as(conv.weight))
        conv.gate.reset_parameters()
        conv.gate.requires_grad_(True)


def harden(model: nn.Module, hardness: float) -> None:
    """Set how near to binary the weights are while they train, from 0 to 1, where their method goes there in steps."""
    for layer in binary_layers(model):
        if layer.hardness is not None:
            layer.hardness.fill_(min(1.0, hardness))


@torch.no_grad()
def constrain(model: nn.Module, stage: Stage) -> None:
    """Keep the weights behind binary ones where the stage wants them."""
    for layer in binary_layers(model):
        channels = -1 if layer.weight.ndim == 2 else max(1, layer.weight.ndim - 3)  # those of the input
        several = layer.weight.shape[channels] > 1 and not isinstance(layer, nn.modules.conv._ConvTransposeNd)
        if stage.centre_latent and several:
            layer.weight.sub_(layer.weight.mean(channels, keepdim=True))
        if stage.clip_latent:
            layer.weight.clamp_(-1, 1)


def make_optimizer(model: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """Return the stage's optimizer; weights behind binary ones do not decay, for that would flip bits for no reason.

    Those of a method that goes to binary in steps do: their gradients are exact.
    """
    layers = binary_layers(model) if stage.weights == "binary" else []
    latent = {id(layer.weight) for layer in layers if layer.hardness is None or layer.weights in BENT}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and id(parameter) not in latent else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.rate, momentum=stage.momentum, nesterov=stage.momentum > 0)
    return torch.optim.AdamW(groups, lr=stage.rate)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the rate: a linear rise, then half a cosine down to nothing."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def answer(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the logits and the maps after each stage; no maps where the network does not give them."""
    logits, maps = model.with_maps(images) if hasattr(model, "with_maps") else (model(images), [])
    return logits, maps


def stage_loss(model: nn.Module, teacher: nn.Module | None, stage: Stage, images: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy, and where the stage is taught, the distance from the teacher."""
    share = 1.0
    if stage.mixup:
        share = torch.distributions.Beta(stage.mixup, stage.mixup).sample().item()
        images = share * images + (1 - share) * images.flip(0)
    logits, maps = answer(model, images)
    loss = share * F.cross_entropy(logits, labels, label_smoothing=stage.label_smoothing)
    if stage.mixup:
        loss = loss + (1 - share) * F.cross_entropy(logits, labels.flip(0), label_smoothing=stage.label_smoothing)
    if teacher is None or stage.distill is None:
        return loss
    with torch.no_grad():
        taught_logits, taught_maps = answer(teacher, images)
    t = stage.distill.temperature
    said, taught = F.log_softmax(logits / t, 1), F.log_softmax(taught_logits / t, 1)
    loss = loss + stage.distill.logits * t * t * F.kl_div(said, taught, reduction="batchmean", log_target=True)
    if stage.distill.attention:
        pairs = list(zip(maps, taught_maps, strict=True))
        for own, other in pairs[1:] or pairs:
            loss = loss + stage.distill.attention * (attention(own) - attention(other)).square().sum(1).mean()
    return loss


def attention(features: Tensor) -> Tensor:
    """Return the L2-normalised mean-square activation map: [batch, channels, height, width] -> [batch, positions]."""
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


def train_stage(
    model: nn.Module, teacher: nn.Module | None, stage: Stage, data: Images, *, batch: int, device: torch.device
) -> None:
    """Train the model by one stage, in place."""
    for layer in binary_layers(model):
        layer.real_weights, layer.real_inputs = stage.weights == "real", stage.inputs == "real"
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=stage.dtype == "bfloat16")
    optimizer = make_optimizer(model, stage)
    steps, step = max(1, len(data[0]) // batch) * stage.epochs, 0
    for epoch in range(stage.epochs):
        model.train()
        total, count = 0.0, 0
        for images, labels in batches(data, batch, device):
            harden(model, step / (HARD_AT * steps))
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * schedule(step, steps, stage.warmup)
            optimizer.zero_grad()
            with autocast:
                loss = stage_loss(model, teacher, stage, images, labels)
            if not math.isfinite(loss.item()):
                raise SystemExit(f"the loss is {loss.item()} in epoch {epoch + 1}: lower the rate ({stage.rate:g})")
            loss.backward()
            optimizer.step()
            constrain(model, stage)
            total, count, step = total + loss.item(), count + 1, step + 1
        print(f"  epoch {epoch + 1}/{stage.epochs}: loss {total / count:.4f}", flush=True)


def train(
    model: nn.Module,
    stages: list[Stage],
    data: Images,
    *,
    teacher: nn.Module | None = None,
    batch: int,
    device: torch.device,
) -> None:
    """Train the model by stages, the first taught by `teacher`, each other by the one before; it ends as it is used."""
    for number, stage in enumerate(stages, start=1):
        print(f"stage {number}/{len(stages)}: {stage.weights} weights, experts: {stage.experts}", flush=True)
        if stage.experts == "first":
            keep_first_expert(model)
        elif number > 1 and stages[number - 2].experts == "first":
            copy_first_expert(model)
        train_stage(model, teacher, stage, data, batch=batch, device=device)
        teacher = copy.deepcopy(model).eval()
    for layer in binary_layers(model):
        layer.real_weights = layer.real_inputs = False


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
    return [Stage(**{**vars(stage), "epochs": max(1, round(stage.epochs * epochs / total))}) for stage in stages]


@torch.no_grad()
def evaluate(model: nn.Module, data: Images, *, batch: int, device: torch.device) -> float:
    """Return the share of images that are classified rightly."""
    model.eval()
    right = 0
    for images, labels in zip(data[0].split(batch), data[1].split(batch), strict=True):
        right += int((model(normalise(images.to(device))).argmax(1).cpu() == labels).sum())
    return right / len(data[0])


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
    model, teacher = made.build(), None
    if asked.original:
        teacher = read_original(asked.original).to(device)
        model.load_state_dict(teacher.state_dict())
    if asked.finetune or asked.epochs == 0:
        model.load_state_dict(load_file(asked.weights))
    model.to(device)
    if asked.epochs != 0:
        stages = STAGES[-1:] if asked.finetune else STAGES
        stages = stages if asked.epochs is None else shortened(stages, asked.epochs)
        train(model, stages, training, teacher=teacher, batch=asked.batch, device=device)
        save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, asked.out)
        print(f"weights saved in {asked.out}")
    accuracy = evaluate(model, test, batch=asked.batch, device=device)
    print(f"test accuracy {100 * accuracy:.2f} % of {len(test[0])} images")


if __name__ == "__main__":
    main()
