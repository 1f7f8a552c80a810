"""The small networks of `selection.py`, and what is chosen in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from bnas.data import DataSet
from bnas.select import METHODS, METRICS, Selection, decide
from bnas.select.calibrate import examples, measure_errors, measure_loss_changes
from bnas.select.conversion import Survey, survey

CALIBRATION = 256  # images
BATCH = 64
DRAWS = 3  # choices by chance for each budget and seed
REAL, WBIN, FBIN, LATEST = "real", "all weights binary", "all binary", "latest that fit"
ON_BINARY = " on binary"  # errors measured on the trained network with all inputs binary, as in the paper
WAYS = (
    *(f"{metric} {method}" for metric in METRICS for method in METHODS),
    f"hybrid partition{ON_BINARY}",
    f"product knapsack{ON_BINARY}",
)


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outs), nn.BatchNorm2d(outs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or ins != outs:
            self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


def conv(ins: int, outs: int) -> list[nn.Module]:
    return [nn.Conv2d(ins, outs, 3, padding=1, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]


def linear(ins: int, outs: int) -> list[nn.Module]:
    return [nn.Linear(ins, outs, bias=False), nn.BatchNorm1d(outs), nn.ReLU()]


def plain() -> nn.Module:
    """Return a network like AlexNet, for images of 16x16: 15M MACs."""
    return nn.Sequential(
        *conv(3, 32), *conv(32, 64), nn.MaxPool2d(2), *conv(64, 64), *conv(64, 128), nn.MaxPool2d(2), *conv(128, 128),
        nn.Flatten(), *linear(128 * 4 * 4, 256), *linear(256, 256), nn.Linear(256, 10),
    )  # fmt: skip


def resnet() -> nn.Module:
    """Return three stages of two blocks, for images of 16x16: 6.6M MACs."""
    widths = ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
    return nn.Sequential(
        *conv(3, 16), *(Residual(*width) for width in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def tiny() -> nn.Module:
    """Return a network that is trained in seconds, for images of 16x16: 0.8M MACs."""
    return nn.Sequential(
        *conv(3, 8), *conv(8, 16), nn.MaxPool2d(2), *conv(16, 32), nn.MaxPool2d(2), *conv(32, 32), nn.MaxPool2d(2),
        nn.Flatten(), *linear(128, 64), nn.Linear(64, 10),
    )  # fmt: skip


class Setting(NamedTuple):
    """A network, and how it is trained.

    Budgets are in percent of its real ops; a published choice keeps so many of the last layers with a choice,
    or those of these names.
    """

    build: Callable[[], nn.Module]
    budgets: tuple[int, ...]
    published: Mapping[str, int | Sequence[str]]
    images: int = 10_000  # for training and validation
    real_epochs: int = 12
    epochs: int = 6  # of each converted copy
    data: str = "cifar10"
    shape: tuple[int, int, int] = (3, 16, 16)  # of the images


NETWORKS = {
    "plain": Setting(plain, (10, 25, 50), {"last two (published)": 2}),
    "resnet": Setting(resnet, (10, 25, 50), {"last block (published)": 2, "last three blocks (published)": 6}),
    "tiny": Setting(tiny, (50,), {"last layer (published)": 1}, images=3000, real_epochs=6, epochs=3),
}


def choices(setting: Setting) -> Iterator[tuple[str, int]]:
    """Yield the rows of the table for one float network: a choice, and its budget in percent or 0."""
    for choice in (REAL, FBIN, WBIN, *setting.published):
        yield choice, 0
    for budget in setting.budgets:
        for choice in (*WAYS, LATEST, *(f"chance {draw}" for draw in range(DRAWS))):
            yield choice, budget


def measured(network: nn.Module, data: DataSet, *, seed: int, on: nn.Module | None = None) -> Survey:
    """Return everything that any metric asks for; errors may be measured on a converted copy."""
    batches = examples(data.train.take(CALIBRATION, seed=seed).batches(BATCH), network)
    known = survey(network, batches[0].inputs)
    errors = measure_errors(on or network, batches, known.layers)
    losses = measure_loss_changes(network, batches, known.layers)
    layers = tuple(
        layer._replace(errors=errors[layer.name]._replace(losses=losses[layer.name])) for layer in known.layers
    )
    return known._replace(layers=layers)


def chosen(known: Survey, setting: Setting, choice: str, budget: int, *, seed: int) -> Selection:
    """Return the selection of one row."""
    nothing = decide(known.layers, known.rest, keep=())
    free = [layer.name for layer in known.layers if layer.name in nothing.free]
    if choice in WAYS:
        metric, method, *_ = choice.split()
        return decide(known.layers, known.rest, budget=[f"ops={budget}%"], metric=metric, method=method)
    if choice in setting.published:
        kept = setting.published[choice]
        return keeping(nothing, free[-kept:] if isinstance(kept, int) else kept)
    if choice in (REAL, WBIN, FBIN):
        return {REAL: nothing.at("real"), WBIN: nothing.at("weight"), FBIN: nothing}[choice]
    random = Random(f"{seed} {budget} {choice}")
    order = free[::-1] if choice == LATEST else random.sample(free, len(free))
    return keeping(nothing, fitting(nothing, order, budget))


def keeping(base: Selection, names: Sequence[str]) -> Selection:
    """Return a selection in which these layers keep real inputs, and no others that have a choice."""
    return base.with_precisions({name: "weight" if name in names else "binary" for name in base.free}, why="by hand")


def fitting(base: Selection, order: Sequence[str], budget: int) -> list[str]:
    """Return layers taken one after another, each kept that still fits the budget."""
    limit, kept = budget / 100 * base.real_cost.ops, list[str]()
    for name in order:
        if keeping(base, [*kept, name]).cost.ops <= limit:
            kept.append(name)
    return kept
