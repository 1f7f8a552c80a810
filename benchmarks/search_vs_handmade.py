"""A finished run's best network beside those that people make by hand, under the same budget, trained as long.

    python benchmarks/search_vs_handmade.py RUN [--seeds N] [--rivals plain react ...] [--json]

The rivals are the families of `handmade.py`: each has the strides of the run's winner, and is as wide as the run's
budget lets it be; of ops and bytes, what the run did not limit is limited to what the winner takes. All are trained by
the run's own recipe to its end, taught by its own teacher where it has one, from the same seeds, of which the first is
the run's own: there the winner has been trained already. Compared are the mean test errors of the winner and of the
best rival.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from claim import Claim
from handmade import FAMILIES, Task, fitted
from in_one_go import accuracy, train

from bnas.api.teacher import teacher_in
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import BudgetError
from bnas.runs import Run
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.space.space import SearchSpace
from bnas.spec import parse, parse_yaml
from bnas.train import build_for


def budget_of(run: Run, winner: Architecture) -> Budget:
    """Return what a run limits, and of ops and bytes what its winner takes where the run does not limit them."""
    price = cost(plan(winner))
    taken = Budget.parse({"ops": price.ops, "bytes": price.bytes})
    return Budget.parse(run.config["budget"], source="config.yaml: budget", over=taken)


def fitting(names: Sequence[str], task: Task, budget: Budget) -> dict[str, Architecture]:
    """Return the rivals that a budget has room for, and say why others are left out."""
    rivals = {}
    for name in names:
        try:
            rivals[name] = fitted(name, task, budget)
        except BudgetError as problem:
            print(f"left out: {problem}", file=sys.stderr)
    if not rivals:
        raise SystemExit("no network made by hand fits the budget")
    return rivals


def main() -> None:
    """Train both from each seed and print one claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rivals", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    run = Run.read(options.run)
    text, _, manifest = run.read_best()
    winner = parse(Architecture, parse_yaml(text, source="best"), source="best")
    space = parse(SearchSpace, parse_yaml(run.space_yaml, source="space"), source="space")
    recipe = parse(Recipe, manifest["recipe"], source="recipe")
    data = load_data(
        run.config["data"], validation=space.search.validation, seed=run.config["seed"],
        input_shape=space.input, limit=space.search.limit, augment=space.search.augment,
    )  # fmt: skip
    teacher = teacher_in(run, space.search, trust=False)
    budget, task = budget_of(run, winner), Task.of(winner)
    networks = {"found": winner} | fitting(options.rivals, task, budget)
    errors: dict[str, list[float]] = {}
    first = run.config["seed"]
    for seed in range(first, first + options.seeds):
        for name, arch in networks.items():
            if (name, seed) == ("found", first):
                right = manifest["accuracy"]["test"]
            else:
                network = train(partial(build_for, arch), recipe, data, seed=seed, teacher=teacher)
                right = accuracy(network, data.test)
            errors.setdefault(name, []).append(1 - right)
            price = cost(plan(arch))
            row = {"network": name, "seed": seed, "test_accuracy": right, "ops": price.ops, "bytes": price.bytes}
            print(json.dumps(row) if options.json else row, flush=True)
    means = {name: statistics.fmean(values) for name, values in errors.items()}
    best = min(set(means) - {"found"}, key=lambda name: means[name])
    claim = Claim(
        f"test error of the found network against the best made by hand, {best}", means["found"], means[best], 1.0
    )
    print(claim.as_json() if options.json else claim)


if __name__ == "__main__":
    main()
