"""Nine speakers told apart by twelve signals: a searched binary network beside a real-valued one of its topology.

    pip install --no-deps aeon==1.6.0
    python benchmarks/signals.py [--seeds N] [--quick] [--json]

JapaneseVowels (Kudo, Toyama, Shimbo, 1999): 270 training and 370 test utterances of 12 channels, brought to 25 values
each, as the package `aeon` holds them; channel by channel the training values are laid between 0 and 1. Each seed
searches `signals.yaml` anew. Then the winner, and the same network with real inputs, weights and classifier, are each
trained alone from fresh weights by the recipe of the space. A claim compares the shares of test signals that are wrong,
means over seeds: the found network, as its search hands it over, may have one point more.
"""

import argparse
import importlib.util
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from claim import Claim
from nowhere import NoStore
from rows import Rows

import bnas
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import DataSet, load_data
from bnas.space.arch import Architecture
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from bnas.train import build_for, evaluate, train_staged

COLUMNS = ("seed", "network", "id", "accuracy", "ops", "bytes")
FOUND, BINARY, REAL = "found", "found; from fresh weights", "the same network; real"
ALLOWED = 0.01  # of the test signals


def signals(folder: Path | None = None) -> DataSet:
    """Return the utterances of the package `aeon`, [12, 1, 25] each."""
    if folder is None:
        found = importlib.util.find_spec("aeon")
        if found is None or found.origin is None:
            raise SystemExit("signals: the data are in a package; pip install --no-deps aeon==1.6.0")
        folder = Path(found.origin).parent / "datasets" / "data" / "JapaneseVowels"
    parts = [read_series(folder / f"JapaneseVowels_eq_{part}.ts") for part in ("TRAIN", "TEST")]
    low, high = parts[0][0].min((0, 2, 3), keepdims=True), parts[0][0].max((0, 2, 3), keepdims=True)
    arrays = [array for values, labels in parts for array in (np.clip((values - low) / (high - low), 0, 1), labels)]
    space = SearchSpace.read(space_file("signals"))
    return load_data(tuple(arrays), input_shape=space.input, validation=space.search.validation)


def read_series(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the signals of a .ts file, [n, channels, 1, length], and their labels from 0."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(":") for line in lines if line and line[0] not in "#@"]
    values = np.array([[channel.split(",") for channel in channels] for *channels, _ in rows], dtype=np.float32)
    return values[:, :, None], np.array([int(label) - 1 for *_, label in rows])


def trained(arch: Architecture, space: SearchSpace, images: DataSet, seed: int) -> float:
    """Return the test accuracy of a network that is trained alone."""
    network = train_staged(
        partial(build_for, arch), space.search.retrain.recipe, images, name="alone", seed=seed, store=NoStore(),
        device=torch.device("cpu"),
    )  # fmt: skip
    return evaluate(network, images.test.batches(200))[0]


def measured(rows: Rows, space: SearchSpace, images: DataSet, seed: int) -> None:
    """Search, train, and add what is not there yet."""
    frame = rows.frame()
    there = set(frame.network[frame.seed == seed])
    if {FOUND, BINARY, REAL} <= there:
        return
    with tempfile.TemporaryDirectory() as folder:
        best = bnas.search(space, data=images, out=folder, seed=seed, progress=False).best
    ways = {FOUND: best.architecture, BINARY: best.architecture, REAL: best.architecture.as_real()}
    for name, arch in ways.items():
        if name in there:
            continue
        accuracy = best.accuracy if name == FOUND else trained(arch, space, images, seed)
        price = cost(plan(arch))
        row = {"seed": seed, "network": name, "id": arch.id, "accuracy": accuracy}
        rows.add(**row, ops=price.ops, bytes=price.bytes)
        print(f"seed {seed}, {name}: {accuracy:.4f}, {price.ops} ops, {price.bytes} bytes", flush=True)


def main() -> None:
    """Measure, and print one claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few trials and epochs, nothing kept")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space, images = SearchSpace.read(space_file("signals")), signals()
    path = Path(__file__).parent / "results" / "signals.csv"
    if asked.quick:
        space, path = quick(space), Path(tempfile.mkdtemp()) / "signals.csv"
    rows = Rows(path, COLUMNS, texts=("network", "id"))
    for seed in range(1 if asked.quick else asked.seeds):
        measured(rows, space, images, seed)
    frame = rows.frame()
    wrong = {name: statistics.fmean(1 - frame.accuracy[frame.network == name]) for name in (FOUND, REAL)}
    claim = Claim(
        "signals: errors, found, against the real network's and a point", wrong[FOUND], wrong[REAL] + ALLOWED, 1
    )
    print(claim.as_json() if asked.json else claim)


def quick(space: SearchSpace) -> SearchSpace:
    """Return the space with a search of seconds."""
    search = space.search
    stage = search.retrain.recipe.stages[0].model_copy(update={"epochs": 2})
    recipe = search.retrain.recipe.model_copy(update={"stages": (stage,)})
    changes = {
        "trials": 6, "supernet": search.supernet.model_copy(update={"epochs": 2}),
        "retrain": search.retrain.model_copy(update={"top": 1, "recipe": recipe}),
    }  # fmt: skip
    return space.model_copy(update={"search": search.model_copy(update=changes)})


if __name__ == "__main__":
    main()
