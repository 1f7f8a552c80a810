"""LeNet-5 on MNIST with every weight in one bit: each weight binarizer, and the transformations tried for `group`.

    python benchmarks/lenet.py [--quick] [--json] [--weights NAME] [--seeds N] [--shard I/N] [--epochs N] [--images N]
                               [--results CSV]

Trained as `bnas train lenet5 --weights NAME --data mnist` does, all for as many epochs, on the images of $BNAS_DATA;
activations are real. Soft accuracy is that before weights which become binary gradually are made so; between the
transformations, validation accuracy on held-out training images decides. Rows go to results/lenet.csv as they come;
those that are there are not trained again, and several processes share the work where each has a shard of its own.
--quick reads the table and trains one of its networks for four epochs on 8,000 images.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
from claim import Claim
from in_one_go import accuracy, processor, train
from rows import Rows, shard

from bnas.allocator import keep_freed_memory
from bnas.api.making import maker
from bnas.api.subject import recipe_for
from bnas.data import DataSet, load_data
from bnas.networks.model_spec import ModelSpec
from bnas.train import evaluate_soft
from bnas.train.retrain import EVALUATION_BATCH

RESULTS = Path(__file__).parent / "results" / "lenet.csv"
REAL, GROUP = "real", "group"
TRIED = ("group_transforms:power", "group_transforms:clip")
WEIGHTS = (REAL, "sign", "xnor", "alpha_beta", GROUP, *TRIED)
SETTING = ("weights", "seed", "epochs", "images")
COLUMNS = (*SETTING, "validation_accuracy", "test_accuracy", "soft_accuracy", "seconds")
PUBLISHED_ERROR = 1 - 0.9947  # Shulman, 2021 (arXiv:2107.01400)
GAP = 5e-4  # of accuracy, from soft weights to hard ones
HALF_AN_HOUR = 1800.0  # seconds, of two cores


def trained(weights: str, *, seed: int, epochs: int, data: DataSet) -> dict[str, float]:
    """Return the accuracies, by column, of a network trained by the recipe that suits its binarizer."""
    started = time.monotonic()
    kind = "real" if weights == REAL else "weight"
    described = ModelSpec(
        model="lenet5", input=data.input_shape, classes=data.classes, precision=kind, first=kind, last=kind,
        weights="xnor" if weights == REAL else weights,
    )  # fmt: skip
    recipe = recipe_for(described).lasting(epochs)
    network = train(maker(described, seed), recipe, data, seed=seed)
    seconds = time.monotonic() - started
    return {
        "validation_accuracy": accuracy(network, data.validation),
        "test_accuracy": accuracy(network, data.test),
        "soft_accuracy": evaluate_soft(network, data.test.batches(EVALUATION_BATCH, device=processor()))[0],
        "seconds": seconds,
    }


def complete(results: Rows, options: argparse.Namespace) -> pd.DataFrame:
    """Return the rows of a setting, those that are missing freshly trained."""
    names = [options.weights] if options.weights else WEIGHTS
    for weights, seed in shard(list(product(names, range(options.seeds))), options.shard):
        key = dict(zip(SETTING, (weights, seed, options.epochs, options.images), strict=True))
        if (results.frame()[list(SETTING)] == pd.Series(key)).all(axis=1).any():
            continue
        data = load_data("mnist", seed=seed, limit=options.images)
        row = trained(weights, seed=seed, epochs=options.epochs, data=data)
        results.add(**key, **row)
        if not options.json:
            print(f"{weights:<24} seed {seed}: {row['test_accuracy']:.2%}, {row['seconds']:.0f} s", flush=True)
    return of_setting(results.frame(), options)


def of_setting(table: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Return the rows that were trained as the options say."""
    return table[(table["epochs"] == options.epochs) & (table["images"] == options.images)]


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield what is promised of `group`: the published accuracy, bits at the end, and ahead of the others tried."""
    own = table[table["weights"] == GROUP]
    seeds = f"of {len(own)} seeds"
    yield Claim(
        f"group: test error, mean {seeds}, against the published", 1 - own["test_accuracy"].mean(), PUBLISHED_ERROR, 1.0
    )
    gap = (own["soft_accuracy"] - own["test_accuracy"]).abs().max()
    yield Claim(
        f"group: accuracy between soft weights and hard ones, largest {seeds}, against 0.05 points", gap, GAP, 1.0
    )
    yield Claim(f"group: seconds of training, longest {seeds}", own["seconds"].max(), HALF_AN_HOUR, 1.0)
    error = 1 - table.groupby("weights")["validation_accuracy"].mean()
    for other in TRIED:
        yield Claim(f"mean validation error of group, against that of {other}", error[GROUP], error[other], 1.0)


def main() -> None:
    """Print the table, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="read the table, train one network for four epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--weights", choices=WEIGHTS, help="train those of one binarizer only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    keep_freed_memory()
    results = Rows(options.results, COLUMNS, texts=("weights",))
    found = []
    if options.quick:
        row = trained(GROUP, seed=0, epochs=4, data=load_data("mnist", seed=0, limit=8000))
        error = 1 - row["test_accuracy"]
        found.append(Claim("group, four epochs of 8,000 images: test error against guessing", error, 0.9, 0.2))
        table = of_setting(results.frame(), options)
    else:
        table = complete(results, options)
    if not options.shard and set(WEIGHTS) <= set(table["weights"]):
        if not options.json:
            show(table)
        found += claims(table)
    for claim in found:
        print(claim.as_json() if options.json else claim)


def show(table: pd.DataFrame) -> None:
    """Print mean and standard deviation of the test accuracy, and the gap to soft weights, a binarizer a line."""
    print(f"\n{'weights':<24}{'test accuracy (%)':>20}{'soft to hard (points)':>24}")
    for weights in WEIGHTS:
        mine = 100 * table[table["weights"] == weights][["test_accuracy", "soft_accuracy"]]
        hard, gap = mine["test_accuracy"], (mine["soft_accuracy"] - mine["test_accuracy"]).mean()
        print(f"{weights:<24}{f'{hard.mean():.2f} +- {hard.std():.2f}':>20}{gap:>24.3f}")
    print()


if __name__ == "__main__":
    main()
