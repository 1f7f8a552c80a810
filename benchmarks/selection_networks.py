"""The two small networks of `selection.py`, and what is chosen in them."""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from bnas.calibrate import examples, measure_errors, measure_loss_changes
from bnas.conversion import Survey, survey
from bnas.data import DataSet
from bnas.selection import METHODS, METRICS, Selection, decide

CALIBRATION = 256  # images
BATCH = 64
DRAWS = 3  # choices by chance for each budget and seed
REAL, WBIN, FBIN = "real", "all weights binary", "all binary"
WAYS = tuple(f"{metric} {method}" for metric in METRICS for method in METHODS)


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


class Setting(NamedTuple):
    """A network; budgets in percent of its real ops; choices made by hand, as so many of the last layers."""

    build: Callable[[], nn.Module]
    budgets: tuple[int, ...]
    late: dict[str, int]


NETWORKS = {
    "plain": Setting(plain, (10, 25, 50), {"last layer": 1, "last two (published)": 2, "last three": 3}),
    "resnet": Setting(resnet, (10, 25, 50), {"last block (published)": 2, "last three blocks (published)": 6}),
}


def choices(setting: Setting) -> Iterator[tuple[str, int]]:
    """Yield the rows of the table for one float network: a choice, and its budget in percent or 0."""
    for choice in (REAL, FBIN, WBIN, *setting.late):
        yield choice, 0
    for budget in setting.budgets:
        for choice in (*WAYS, *(f"chance {draw}" for draw in range(DRAWS))):
            yield choice, budget


def measured(network: nn.Module, data: DataSet, *, seed: int) -> Survey:
    """Return everything that any metric asks for."""
    batches = examples(data.train.take(CALIBRATION, seed=seed).batches(BATCH), network)
    known = survey(network, batches[0].inputs)
    errors = measure_errors(network, batches, known.layers)
    changes = measure_loss_changes(network, batches, known.layers)
    layers = tuple(
        layer._replace(errors=errors[layer.name]._replace(loss_change=changes[layer.name])) for layer in known.layers
    )
    return known._replace(layers=layers)


def chosen(known: Survey, setting: Setting, choice: str, budget: int, *, seed: int) -> Selection:
    """Return the selection of one row."""
    nothing = decide(known.layers, known.rest, keep=())
    free = [layer.name for layer in known.layers if layer.name in nothing.free]
    if choice in WAYS:
        metric, method = choice.split()
        return decide(known.layers, known.rest, budget=[f"ops={budget}%"], metric=metric, method=method)
    if choice in setting.late:
        return keeping(nothing, free[-setting.late[choice] :])
    if choice in (REAL, WBIN, FBIN):
        return {REAL: nothing.at("real"), WBIN: nothing.at("weight"), FBIN: nothing}[choice]
    return keeping(nothing, by_chance(nothing, free, budget, Random(f"{seed} {budget} {choice}")))


def keeping(base: Selection, names: Sequence[str]) -> Selection:
    """Return a selection in which these layers keep real inputs, and no others that have a choice."""
    return base.with_precisions({name: "weight" if name in names else "binary" for name in base.free}, why="by hand")


def by_chance(base: Selection, free: Sequence[str], budget: int, random: Random) -> list[str]:
    """Return layers drawn one after another, each kept that still fits the budget."""
    limit, kept = budget / 100 * base.real_cost.ops, list[str]()
    for name in random.sample(free, len(free)):
        if keeping(base, [*kept, name]).cost.ops <= limit:
            kept.append(name)
    return kept
