"""The binarizers on real images: one table of test accuracy for a plain net and a residual one, all trained as long.

    python benchmarks/methods.py [--quick] [--json] [--network NAME] [--methods BEGIN] [--seeds N] [--shard I/N]
                                 [--epochs N] [--size PIXELS] [--images N] [--width N] [--results CSV]

Real; binary weights (WBin) by xnor, alpha_beta and group; binary inputs too (FBin) by xnor, alpha_beta, and xnor with 4
experts; alpha_beta also with the derivative of its class means. The plain net is VGG-Small, the residual one has two
blocks in each of three stages with a shortcut round each convolution; first and last layer are real. All are trained
for the same number of epochs on CIFAR-10 ($BNAS_DATA): real and WBin in one stage, FBin in two, binary inputs first.
Rows go to results/methods.csv as they come; those that are there are not trained again, and several processes share the
work where each has a shard of its own. --quick trains one network for two epochs, and reads the table.

The full networks, where a GPU is at hand: `bnas train vgg_small --weights group --data cifar10 --recipe cifar_group`,
and resnet18_cifar likewise; here VGG-Small by all methods: --network VGG-Small --size 32 --images 50000 --width 128
--epochs 200 --results FILE.csv
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from claim import Claim
from in_one_go import accuracy, train
from rows import Rows, shard
from torch import nn

from bnas.allocator import keep_freed_memory
from bnas.data import DataSet, load_data
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.expert_conv import ExpertConv
from bnas.networks.build import build
from bnas.networks.models import Preset, VGGSmall
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage
from bnas.space.shipped import read_recipe
from bnas.spec import parse

RESULTS = Path(__file__).parent / "results" / "methods.csv"
BATCH = 64
SETTING = ("epochs", "size", "images", "width")
COLUMNS = ("network", "method", "seed", *SETTING, "test_accuracy")


class Method(NamedTuple):
    """One column of the papers' tables."""

    precision: str
    weights: str
    experts: int
    recipe: str


CLASS_MEANS = "sketch_networks:with_class_means"  # the exact derivative of alpha and beta in the gradient too
METHODS = {
    "real": Method("real", "xnor", 1, "straight_through"),
    "WBin xnor": Method("weight", "xnor", 1, "straight_through"),
    "WBin alpha_beta": Method("weight", "alpha_beta", 1, "straight_through"),
    "WBin alpha_beta + class means": Method("weight", CLASS_MEANS, 1, "straight_through"),
    "WBin group": Method("weight", "group", 1, "group"),
    "FBin xnor": Method("binary", "xnor", 1, "two_stages"),
    "FBin alpha_beta": Method("binary", "alpha_beta", 1, "two_stages"),
    "FBin alpha_beta + class means": Method("binary", CLASS_MEANS, 1, "two_stages"),
    "FBin xnor + 4 experts": Method("binary", "xnor", 4, "two_stages"),
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
    make = partial(NETWORKS[network], chosen, width=width, size=size)
    return accuracy(train(make, recipe, data, seed=seed), data.test)


def complete(results: Rows, options: argparse.Namespace) -> None:
    """Train what the table of a setting does not have, and write it down."""
    setting = {name: getattr(options, name) for name in SETTING}
    networks = [options.network] if options.network else list(NETWORKS)
    methods = [method for method in METHODS if method.startswith(options.methods)]
    for seed, network, method in shard(list(product(range(options.seeds), networks, methods)), options.shard):
        key = {"network": network, "method": method, "seed": seed} | setting
        frame = results.frame()
        if (frame[list(key)] == pd.Series(key)).all(axis=1).any():
            continue
        accuracy = trained(network, method, seed, options.epochs, data=cifar(options, seed), width=options.width)
        results.add(**key, test_accuracy=accuracy)
        if not options.json:
            print(f"{network:<10} {method:<30} seed {seed}: {accuracy:.2%}", flush=True)


def cifar(options: argparse.Namespace, seed: int) -> DataSet:
    """Return CIFAR-10 at a size, with so many training images."""
    return load_data("cifar10", seed=seed, input_shape=(3, options.size, options.size), limit=options.images)


def of_setting(table: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Return the rows that were trained as the options say."""
    return table[(table[list(SETTING)] == pd.Series({name: getattr(options, name) for name in SETTING})).all(axis=1)]


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield the papers' orderings, as mean test errors against each other, over the seeds that both have."""
    errors = 1 - table.set_index(["network", "method", "seed"])["test_accuracy"].unstack("seed")
    for network in NETWORKS:
        for better in ("FBin alpha_beta", "FBin xnor + 4 experts"):
            both = errors.reindex([(network, better), (network, "FBin xnor")]).dropna(axis=1)
            if not both.empty:
                what = f"{network}: mean test error of {better} against FBin xnor, {both.shape[1]} seeds"
                yield Claim(what, *both.mean(axis=1), 1.0)


def main() -> None:
    """Print the table row by row, mean and spread of each cell, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="read the table, train one network again for two epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--network", choices=NETWORKS, help="train those of one network only")
    parser.add_argument("--methods", default="", help="train those whose name begins so only, as in FBin")
    options = parser.parse_args()
    if not any(method.startswith(options.methods) for method in METHODS):
        parser.error(f"--methods {options.methods}: no name begins so; they are {', '.join(METHODS)}")
    keep_freed_memory()
    results, found = Rows(options.results, COLUMNS, texts=("network", "method")), []
    if options.quick:
        accuracy = trained("ResNet", "FBin xnor", 0, 2, data=cifar(options, 0), width=options.width)
        yardstick = 0.9  # of ten classes, one is guessed
        found = [Claim("ResNet, FBin xnor, two epochs: test error against guessing", 1 - accuracy, yardstick, 0.9)]
    else:
        complete(results, options)
    if options.shard:
        return
    table = of_setting(results.frame(), options)
    if len(table) and not options.json:
        show(table)
    for claim in (*found, *claims(table)):
        print(claim.as_json() if options.json else claim)


def show(table: pd.DataFrame) -> None:
    """Print mean and standard deviation of the test accuracy, a method a line."""
    cells = (100 * table["test_accuracy"]).groupby([table["method"], table["network"]]).agg(["mean", "std"])
    print(f"\n{'test accuracy (%)':<24}" + "".join(f"{network:>18}" for network in NETWORKS))
    for method in METHODS:
        found = [cells.loc[method, network] if (method, network) in cells.index else None for network in NETWORKS]
        texts = ["" if cell is None else f"{cell['mean']:.2f} +- {cell['std']:.2f}" for cell in found]
        print(f"{method:<24}" + "".join(f"{text:>18}" for text in texts))
    print()


if __name__ == "__main__":
    main()
