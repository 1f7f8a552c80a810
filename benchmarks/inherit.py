"""Networks trained from the supernet's weights for half of the epochs against the same from fresh weights for all.

    python benchmarks/inherit.py [--quick] [--json]

Digits: for each seed a supernet, and of 120 networks inside the budget the three of the lowest proxy loss. From fresh
weights they are trained as searches here did before: ten epochs of real weights, 80 of binary ones. From the
supernet's they are trained for 45, at a higher rate. A claim compares mean errors on the test images, and the
share of the epochs; one training each, so that of six networks the test images alone make an error uncertain by 0.2
points; two runs differed by up to 0.5.
"""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from claim import Claim, main
from nowhere import NoStore

from bnas.cost.budget import Budget
from bnas.data import DataSet, load_data
from bnas.layers.blocks import Network
from bnas.searcher.inside import InsideDraws
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, Stage
from bnas.space.space import SearchSpace
from bnas.train import build_for, evaluate, train_staged, train_supernet

SPACE = Path(__file__).parents[1] / "search_spaces" / "digits.yaml"
SCRATCH = Recipe(
    batch=64,
    stages=(
        Stage(epochs=10, weights="real", experts="first", rate=8e-3, label_smoothing=0.1),
        Stage(epochs=80, rate=8e-3, label_smoothing=0.1),
    ),
)
INHERITED = Recipe(batch=64, stages=(Stage(epochs=45, rate=1.6e-2, label_smoothing=0.1),))
NETWORKS, DRAWN = 3, 120
ERROR, EPOCHS = 1.0, 0.5
CPU = torch.device("cpu")


def measure(quick: bool) -> Iterator[Claim]:
    """Train three networks of each seed in both ways."""
    torch.set_num_threads(1)
    space = SearchSpace.read(SPACE)
    data = load_data("digits", validation=space.search.validation, seed=0, input_shape=space.input)
    fresh, inherited, given = list[float](), list[float](), list[float]()
    for seed in range(1 if quick else 2):
        for arch, network in chosen(space, data, seed)[: 1 if quick else NETWORKS]:
            given.append(error(network, data))
            fresh.append(error(trained(arch, SCRATCH, data, seed), data))
            inherited.append(error(trained(arch, INHERITED, data, seed, start=network), data))
            print(f"{arch.id}: untrained {given[-1]:.4f}, fresh {fresh[-1]:.4f}, inherited {inherited[-1]:.4f}")
    mean = statistics.fmean
    yield Claim(
        "digits: test error from the supernet's weights, against fresh ones", mean(inherited), mean(fresh), ERROR
    )
    yield Claim(
        "digits: epochs from the supernet's weights, against fresh ones", INHERITED.epochs, SCRATCH.epochs, EPOCHS
    )


def chosen(space: SearchSpace, data: DataSet, seed: int) -> list[tuple[Architecture, Network]]:
    """Return the networks of the lowest proxy loss, with the weights that they inherit."""
    draws = InsideDraws(space, [Budget.parse(space.search.budget)], seed=seed)
    supernet = train_supernet(space, space.search.supernet, data, seed=seed, store=NoStore(), device=CPU, draws=draws)
    scorer = Scorer(supernet, data, space.search.scoring, seed=seed, device=CPU)
    archs = {arch.id: arch for arch in map(draws, range(10_000, 10_000 + DRAWN))}.values()
    best = sorted(archs, key=lambda arch: scorer(arch).proxy_loss)[:NETWORKS]
    return [(arch, scorer.network(arch)) for arch in best]


def trained(arch: Architecture, recipe: Recipe, data: DataSet, seed: int, *, start: Network | None = None) -> Network:
    """Return a network trained by a recipe."""
    return train_staged(
        partial(build_for, arch), recipe, data, name="alone", seed=seed, store=NoStore(), device=CPU, start=start
    )


def error(network: Network, data: DataSet) -> float:
    """Return the share of the test images that a network gets wrong."""
    return 1 - evaluate(network, data.test.batches(500))[0]


if __name__ == "__main__":
    main(measure, (__doc__ or "").splitlines()[0])
