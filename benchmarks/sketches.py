"""The papers' claims where they were made, on sketches: one table of small networks, trained alike within a family.

    python benchmarks/sketches.py [--quick] [--json] [--family NAME] [--network NAME] [--seeds N] [--shard I/N]
                                  [--rows N] [--results CSV]

alpha-beta: XNOR, alpha-beta and group weights, with real inputs (WBin) and binary ones (FBin), in the papers' networks
and their own block (batch norm, sign, convolution, ReLU; weights centred over input channels and clamped; no learned
scale), and with one thing of ours added or one of theirs taken away at a time. hybrid: a float network converted so
that some inputs stay real, at 5, 10, 25 and 50 % of its ops, where the network with all inputs binary is within that.
experts: 1, 2, 4 and 8 at equal ops, over widths, lengths and data, from the start, copied from one after 0.4 of the
epochs, and in the paper's four stages. width: one group, and wider with 4 and 16 at no more BOPs, the 1x1 convolutions
that mix them counted; blocks 2-2-2-2 and 1-2-6-2.

Rows go to results/sketches.csv as they come; those that are there are not trained again, and it may be stopped at any
time. Several processes share the work where each has a shard of its own; the claims are printed by a run without one.
--rows stops after so many new ones. The data is `sketches` ($BNAS_DATA). --quick reads the table, and trains one row.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from claim import Claim, positive
from rows import Rows, shard
from sketch_rows import COLUMNS, FAMILIES, Job, jobs, row_of

from bnas.allocator import keep_freed_memory

RESULTS = Path(__file__).parent / "results" / "sketches.csv"
USAGE = ("usage_entropy", "usage_least")
TEXTS = ("family", "network", "data", "choice", *USAGE)
QUICK = Job("experts", "ours 4-8-16", "sketches:10", 3, "1 expert", 0)
CELL = ["family", "network", "data", "epochs", "choice"]


def ahead(table: pd.DataFrame, better: str, than: str) -> pd.DataFrame:
    """Return by how much one choice is ahead of another, over the seeds that have both: mean, standard error, seeds.

    Of each network, data and length, where there are two seeds or more.
    """
    keys = ["network", "data", "epochs", "seed"]
    accuracy = [table[table["choice"] == choice].set_index(keys)["test_accuracy"] for choice in (better, than)]
    gain = (accuracy[0] - accuracy[1]).dropna().groupby(keys[:-1]).agg(["mean", "sem", "count"])
    return gain[gain["count"] > 1]


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield what the papers' claims ask for, as far as the table has two seeds of both sides."""
    for family, better, than, points in (
        ("alpha-beta", "FBin alpha_beta", "FBin xnor", None),  # two standard errors
        ("experts", "4 experts copied", "1 expert", 0.015),
        ("width", "4 groups", "1 group", 0.01),
        ("width", "16 groups", "1 group", 0.01),
    ):
        for place, gain in ahead(table[table["family"] == family], better, than).iterrows():
            found = f"{100 * gain['mean']:+.1f} +- {100 * gain['sem']:.1f} points, {gain['count']:.0f} seeds"
            asked = f"{points:.1%}" if points else "two standard errors"
            what = f"{of(place)}: {better} over {than}: {found}; {asked} against that gain"
            yield Claim(what, points or 2 * gain["sem"], positive(gain["mean"]), 1)
    yield from hybrid_claims(table[table["family"] == "hybrid"])


def hybrid_claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield what the best metric, picked on validation images, gains over all inputs binary, and over chance."""
    for network, mine in table.groupby("network"):
        for budget, points in ((5, 0.0), (10, 0.04), (25, 0.06), (50, 0.0)):
            here = mine[mine["choice"].str.endswith(f" at {budget} %")]
            chosen = here[here["choice"].str.contains("knapsack|partition")]
            if chosen.empty:
                continue
            best = chosen.groupby("choice")["validation_accuracy"].mean().idxmax()
            for name, rows, more in (
                ("all binary", mine[mine["choice"] == "all binary"], points),
                ("chance", here[here["choice"].str.startswith("chance")], 0.0),
            ):
                ours = here[here["choice"] == best]
                both = set(rows["seed"]) & set(ours["seed"])
                if len(both) > 1:
                    theirs, own = (part[part["seed"].isin(both)]["test_accuracy"].mean() for part in (rows, ours))
                    what = f"{network}, {len(both)} seeds: accuracy of {name} and {more:.0%} more against {best}"
                    yield Claim(what, theirs + more, own, 1)


def of(place: object) -> str:
    """Return a network, data and length in words."""
    network, data, epochs = place  # type: ignore[misc]
    return f"{network}, {data}, {epochs} epochs"


def show(table: pd.DataFrame) -> None:
    """Print mean and standard error of the test accuracy, and the training accuracy, a choice a line."""
    print(f"{'':<66}{'test (%)':>16}{'training':>10}{'usage':>7}{'ops':>9}{'seeds':>6}")
    for place, rows in table.groupby(CELL, sort=False):
        family, network, data, epochs, choice = place  # type: ignore[misc]
        test = 100 * rows["test_accuracy"]
        error = f" +- {test.sem():.1f}" if len(rows) > 1 else ""
        usage = pd.to_numeric(rows["usage_entropy"], errors="coerce").mean()
        said = f"{family}: {network}, {data}, {epochs} epochs, {choice}"
        cells = f"{f'{test.mean():.1f}{error}':>16}{100 * rows['train_accuracy'].mean():>10.1f}"
        print(f"{said:<66}{cells}{'' if pd.isna(usage) else f'{usage:.2f}':>7}{rows['ops'].iloc[0]:>9}{len(rows):>6}")
    print()


def one_row() -> Claim:
    """Train one small network, and compare it with guessing."""
    row = row_of(QUICK)
    what = f"{of((QUICK.network, QUICK.data, QUICK.epochs))}: test error against guessing"
    return Claim(what, 1 - float(str(row["test_accuracy"])), 0.9, 0.9)  # one of ten classes is guessed


def main() -> None:
    """Print the table row by row, its means and spread, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="read the table, and train one row of a small network")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--family", choices=FAMILIES, help="one of them only")
    parser.add_argument("--network", help="one of them only, as in Sketch-A-Net")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    parser.add_argument("--rows", type=int, help="train at most so many rows")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    networks = dict.fromkeys(job.network for job in jobs(1))
    if options.network not in (None, *networks):
        parser.error(f"--network {options.network}: the networks are {', '.join(networks)}")
    keep_freed_memory()
    file = Rows(options.results, COLUMNS, texts=TEXTS)
    wanted = [
        job for job in jobs(options.seeds)
        if options.family in (None, job.family) and options.network in (None, job.network)
    ]  # fmt: skip
    if not options.quick:
        file.complete(shard(wanted, options.shard), row_of, options.rows)
    if options.shard:
        return
    table = file.frame()
    if len(table) and not options.json:
        show(table)
    for claim in (*([one_row()] if options.quick else []), *claims(table)):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
