"""The tabular benchmark: networks of search_spaces/bench.yaml, each trained alone by the space's own recipe.

    python benchmarks/table.py [--networks N] [--seeds-of N SEEDS] [--shard I/N] [--out CSV] [--space FILE --data NAME]

What is committed comes from --networks 200 --seeds-of 30 3, as far as it has got. The networks are drawn in strata of
ops, in an order in which every sample is the beginning of a larger one, so --networks 384 extends the table to the
whole space. A second table, results/bench_table_copied.csv, comes from --space benchmarks/bench_copied.yaml, whose
experts are copied from one while they train. Rows are appended as they come, and what is there is not trained again: it
may be stopped at any time. Several processes share the work where each has a shard of its own. What they were trained
with is written beside the table, as YAML; a table of another recipe or data set is not extended. CIFAR-10 lies under
$BNAS_DATA.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from in_one_go import processor
from nowhere import NoStore
from rows import shard

from bnas.allocator import keep_freed_memory
from bnas.data import DataSet, load_data
from bnas.searcher.feasible import cost_of
from bnas.searcher.ranking import Table, Terms, dealt, every_network, train_alone
from bnas.searcher.ranking.table import add, training
from bnas.space.space import Genes, SearchSpace

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "search_spaces" / "bench.yaml"
TABLE = ROOT / "benchmarks" / "results" / "bench_table.csv"
SEED = 0  # of the sample and of the images held out

Job = tuple[Genes, int]  # a network and the seed of its training


def jobs(space: SearchSpace, *, networks: int, repeated: int, seeds: int) -> list[Job]:
    """Return every training of a table: all networks from one seed, then the first of them from the others."""
    every = every_network(space)
    order = [every[place] for place in dealt([cost_of(space, genes).ops for genes in every], seed=SEED)]
    again = [(genes, seed) for genes in order[:repeated] for seed in range(1, seeds)]
    return [(genes, 0) for genes in order[:networks]] + again


def images(space: SearchSpace, name: str) -> DataSet:
    """Return the images that the space's settings ask for."""
    settings = space.search
    return load_data(
        name, validation=settings.validation, seed=SEED, input_shape=space.input,
        limit=settings.limit, augment=settings.augment,
    )  # fmt: skip


def missing(space: SearchSpace, wanted: Sequence[Job], out: Path) -> Iterator[Job]:
    """Yield the trainings that the table does not have at the time."""
    for genes, seed in wanted:
        trainings = Table.read(out).trainings if out.exists() else None
        arch_id = space.architecture(genes).id
        if trainings is None or not ((trainings["id"] == arch_id) & (trainings["seed"] == seed)).any():
            yield genes, seed


def main() -> None:
    """Train what the table does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seeds-of", type=int, nargs=2, default=(30, 3), metavar=("NETWORKS", "SEEDS"))
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4")
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--data", default="cifar10")
    options = parser.parse_args()
    keep_freed_memory()
    space = SearchSpace.read(options.space)
    repeated, seeds = options.seeds_of
    wanted = shard(jobs(space, networks=options.networks, repeated=repeated, seeds=seeds), options.shard)
    data = images(space, options.data)
    Terms.of(options.data, space.search).keep(options.out)
    for genes, seed in missing(space, wanted, options.out):
        arch = space.architecture(genes)
        reached = train_alone(arch, space.search.retrain.recipe, data, seed=seed, store=NoStore(), device=processor())
        add(options.out, training(arch, genes, seed, reached))
        print(f"{arch.id} seed {seed}: {reached.test_accuracy:.4f}, {reached.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
