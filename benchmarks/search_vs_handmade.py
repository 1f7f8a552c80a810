"""A finished run's best network beside a binary ResNet made by hand, of the same ops, trained as long.

    python benchmarks/search_vs_handmade.py RUN [--seeds N] [--json]

The hand-made network is what people write down first: the winner's stem, stages of two blocks at the run's strides,
widths that double from stage to stage, everything binary, no groups, one expert. Its first width is the smallest whose
ops reach the winner's, so that it is never given less. Both are trained by the run's own recipe to its end, from the
same seeds, of which the first is the run's own: there the winner has been trained already. Compared are the mean test
errors.
"""

import argparse
import json
import statistics
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from claim import Claim
from nowhere import NoStore

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.runs import Run
from bnas.space.arch import Architecture, StageSpec
from bnas.space.recipe import Recipe
from bnas.space.space import SearchSpace
from bnas.spec import parse, parse_yaml
from bnas.train import build_for, evaluate, train_staged

BLOCKS = 2  # in each stage


def handmade(winner: Architecture) -> Architecture:
    """Return the binary ResNet with the winner's stem and strides whose ops are the first to reach the winner's."""
    ops = cost(plan(winner)).ops
    for width in range(4, 1024, 2):
        stages = tuple(
            StageSpec(width=width << index, stride=stage.stride, kernel=3, precision=("binary",) * BLOCKS)
            for index, stage in enumerate(winner.stages)
        )
        arch = winner.model_copy(update={"stages": stages, "squeeze_excite": False})
        if cost(plan(arch)).ops >= ops:
            return arch
    raise SystemExit("no hand-made network reaches the winner's ops")


def main() -> None:
    """Train both from each seed and print one claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    run = Run.read(options.run)
    text, _, manifest = run.read_best()
    winner = parse(Architecture, parse_yaml(text, source="best"), source="best")
    space = parse(SearchSpace, parse_yaml(run.space_yaml, source="space"), source="space")
    recipe = parse(Recipe, manifest["recipe"], source="recipe")
    data = load_data(
        run.config["data"], validation=space.search.validation, seed=run.config["seed"],
        input_shape=space.input, limit=space.search.limit,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    errors: dict[str, list[float]] = {}
    first = run.config["seed"]
    for seed in range(first, first + options.seeds):
        for name, arch in (("found", winner), ("hand-made", handmade(winner))):
            if (name, seed) == ("found", first):
                accuracy = manifest["accuracy"]["test"]
            else:
                network = train_staged(
                    partial(build_for, arch), recipe, data, name=name, seed=seed, store=NoStore(), device=device
                )
                accuracy, _ = evaluate(network, data.test.batches(500, device=device))
            errors.setdefault(name, []).append(1 - accuracy)
            price = cost(plan(arch))
            row = {"network": name, "seed": seed, "test_accuracy": accuracy, "ops": price.ops, "bytes": price.bytes}
            print(json.dumps(row) if options.json else row, flush=True)
    means = {name: statistics.fmean(values) for name, values in errors.items()}
    claim = Claim("test error of the found network against a hand-made one", means["found"], means["hand-made"], 1.0)
    print(json.dumps(asdict(claim) | {"ratio": claim.ratio, "holds": claim.holds}) if options.json else claim)


if __name__ == "__main__":
    main()
