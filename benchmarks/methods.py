"""The binarizers on real images: one table of test accuracy for a plain net and a residual one, all trained as long.

    python benchmarks/methods.py [--quick] [--json] [--seeds N] [--epochs N] [--size PIXELS] [--images N] [--width N]

Real; binary weights (WBin) by xnor, alpha_beta and group; binary inputs too (FBin) by xnor, alpha_beta, and xnor with 4
experts. The plain net is VGG-Small, the residual one has two blocks in each of three stages with a shortcut round each
convolution; first and last layer are real. All are trained for the same number of epochs on CIFAR-10 ($BNAS_DATA): real
and WBin in one stage, FBin in two, binary inputs first. Rows go to results/methods.csv as they come; those that are
there are not trained again. --quick trains one network of the table again, for two epochs, and reads the others.

The full networks, where a GPU is at hand: --size 32 --images 50000 --width 128 --epochs 200 --results FILE.csv
"""

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from claim import Claim
from nowhere import NoStore
from torch import nn

from bnas.arch import Architecture
from bnas.data import DataSet, load_data
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.expert_conv import ExpertConv
from bnas.models import Preset, VGGSmall
from bnas.network import build
from bnas.recipe import Stage, read_recipe
from bnas.spec import parse
from bnas.train import evaluate, train_staged

RESULTS = Path(__file__).parent / "results" / "methods.csv"
BATCH = 64
COLUMNS = ("network", "method", "seed", "epochs", "size", "images", "width", "test_accuracy")


class Method(NamedTuple):
    """One column of the papers' tables."""

    precision: str
    weights: str
    experts: int
    recipe: str


METHODS = {
    "real": Method("real", "xnor", 1, "straight_through"),
    "WBin xnor": Method("weight", "xnor", 1, "straight_through"),
    "WBin alpha_beta": Method("weight", "alpha_beta", 1, "straight_through"),
    "WBin group": Method("weight", "group", 1, "group"),
    "FBin xnor": Method("binary", "xnor", 1, "two_stages"),
    "FBin alpha_beta": Method("binary", "alpha_beta", 1, "two_stages"),
    "FBin xnor, 4 experts": Method("binary", "xnor", 4, "two_stages"),
}


def vgg(method: Method, stage: Stage, *, width: int, size: int) -> nn.Module:
    """Return a VGG-Small of some width; its binary convolutions have experts where the method has several."""
    network = VGGSmall(Preset(method.precision, "real", method.weights), 10, width=width, size=size)
    experts = method.experts if stage.experts == "all" else 1
    if experts == 1:
        return network
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, BinaryConv):
                expert = ExpertConv(
                    conv.in_channels, conv.out_channels, kernel=conv.kernel, precision=conv.precision,
                    weights=conv.weights, experts=experts,
                )  # fmt: skip
                setattr(parent, name, expert)
    return network


def resnet(method: Method, stage: Stage, *, width: int, size: int) -> nn.Module:
    """Return a residual network of three stages of two blocks, its shortcuts without MACs."""
    stages = [
        {
            "width": width << index, "stride": 1 if index == 0 else 2, "precision": [method.precision] * 2,
            "experts": method.experts if stage.experts == "all" else 1,
        }
        for index in range(3)
    ]  # fmt: skip
    described = {
        "input": [3, size, size], "classes": 10, "stem": {"width": width}, "stages": stages,
        "shortcut": {"kind": "repeat"}, "binarizers": {"weight": method.weights},
    }  # fmt: skip
    return build(parse(Architecture, described, source="benchmark"))


NETWORKS: dict[str, Callable[..., nn.Module]] = {"VGG-Small": vgg, "ResNet": resnet}


def trained(network: str, method: str, seed: int, epochs: int, *, data: DataSet, width: int) -> float:
    """Return the test accuracy of a network trained by a method."""
    chosen, size = METHODS[method], data.input_shape[1]
    recipe = read_recipe(chosen.recipe).lasting(epochs).model_copy(update={"batch": BATCH})
    if chosen.experts > 1:  # one expert in the first stage, copied to all before the second
        first = recipe.stages[0].model_copy(update={"experts": "first"})
        recipe = recipe.model_copy(update={"stages": (first, *recipe.stages[1:])})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    make = partial(NETWORKS[network], chosen, width=width, size=size)
    done = train_staged(make, recipe, data, name="methods", seed=seed, store=NoStore(), device=device)
    return evaluate(done, data.test.batches(500, device=device))[0]


def rows(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield the rows of the table, from the file of results or freshly trained and written to it."""
    setting = {name: str(getattr(options, name)) for name in ("epochs", "size", "images", "width")}
    known = read(options.results)
    for seed in range(options.seeds):
        data = None
        for network in NETWORKS:
            for method in METHODS:
                row = {"network": network, "method": method, "seed": str(seed)} | setting
                found = [old for old in known if all(old[key] == value for key, value in row.items())]
                if found:
                    yield found[0]
                    continue
                data = data or cifar(options, seed)
                accuracy = trained(network, method, seed, options.epochs, data=data, width=options.width)
                row["test_accuracy"] = f"{accuracy:.4f}"
                append(options.results, row)
                yield row


def cifar(options: argparse.Namespace, seed: int) -> DataSet:
    """Return CIFAR-10 at a size, with so many training images."""
    return load_data("cifar10", seed=seed, input_shape=(3, options.size, options.size), limit=options.images)


def read(results: Path) -> list[dict[str, str]]:
    """Return the rows that were written before."""
    if not results.exists():
        return []
    with results.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(results: Path, row: dict[str, str]) -> None:
    """Write a row at the end of the results."""
    results.parent.mkdir(exist_ok=True)
    fresh = not results.exists()
    with results.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def claims(table: list[dict[str, str]]) -> Iterator[Claim]:
    """Yield the papers' orderings, as mean test errors against each other."""
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in table:
        errors[row["network"], row["method"]].append(1 - float(row["test_accuracy"]))
    for network in NETWORKS:
        for better in ("FBin alpha_beta", "FBin xnor, 4 experts"):
            pair = [statistics.fmean(errors[network, method]) for method in (better, "FBin xnor")]
            yield Claim(f"{network}: mean test error of {better} against FBin xnor", *pair, 1.0)


def main() -> None:
    """Print the table row by row, mean and spread of each cell, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="read the table, train one network again for two epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        accuracy = trained("ResNet", "FBin xnor", 0, 2, data=cifar(options, 0), width=options.width)
        yardstick = 0.1  # of ten classes, one is guessed
        table = read(options.results)
        found = [Claim("ResNet, FBin xnor, two epochs: test error against guessing", 1 - accuracy, 1 - yardstick, 0.9)]
    else:
        table, found = [], []
        for row in rows(options):
            table.append(row)
            if not options.json:
                print(
                    f"{row['network']:<10} {row['method']:<22} seed {row['seed']}: {row['test_accuracy']}", flush=True
                )
    if table and not options.json:
        show(table)
    for claim in [*found, *(claims(table) if table else ())]:
        print(claim.as_json() if options.json else claim)


def show(table: list[dict[str, str]]) -> None:
    """Print mean and standard deviation of the test accuracy, a method a line."""
    cells: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in table:
        cells[row["network"], row["method"]].append(100 * float(row["test_accuracy"]))
    print(f"\n{'test accuracy (%)':<24}" + "".join(f"{network:>18}" for network in NETWORKS))
    for method in METHODS:
        found = [cells[network, method] for network in NETWORKS]
        print(f"{method:<24}" + "".join(f"{_mean_and_spread(values):>18}" for values in found))
    print()


def _mean_and_spread(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.2f} +- {spread:.2f}"


if __name__ == "__main__":
    main()
