"""The tables that the documents show are those of the committed results."""

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = (ROOT / "docs" / "results.md").read_text()


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def percent(values: pd.Series) -> str:
    return f"{100 * values.mean():.1f} ± {100 * values.std():.1f}"


def test_methods() -> None:
    table = pd.read_csv(RESULTS / "methods.csv")
    for method, rows in table.groupby("method"):
        cells = [percent(rows[rows["network"] == name]["test_accuracy"]) for name in ("VGG-Small", "ResNet")]
        assert row(str(method), *cells) in SHOWN


def test_lenet() -> None:
    table = pd.read_csv(RESULTS / "lenet.csv")
    for weights, rows in table.groupby("weights"):
        gap = 100 * (rows["soft_accuracy"] - rows["test_accuracy"]).abs().max()
        accuracy = f"{100 * rows['test_accuracy'].mean():.2f}"
        if len(rows) > 1:
            accuracy += f" ± {100 * rows['test_accuracy'].std():.2f}"
        assert row(f"`{weights}`", accuracy, f"{gap:.2f}", str(len(rows))) in SHOWN


def test_selection() -> None:
    table = pd.read_csv(RESULTS / "selection.csv")
    means = 100 * table.groupby(["network", "budget", "choice"])["test_accuracy"].mean()
    for budget, line in ((10, "within 10 % of ops"), (25, "within 25 %"), (50, "within 50 %")):
        cells = re.escape(f"| {line}: by sensitivity, greedy | ") + r"(\S+) \| [^|]+ \| (\S+) \|"
        shown = re.search(cells, SHOWN)
        assert shown
        of = (means[name, budget, "sensitivity greedy"] for name in ("plain", "resnet"))
        assert shown.groups() == tuple(f"{value:.1f}" for value in of)


def test_found_and_hand_made() -> None:
    for name, kind in (("found", "found"), ("hand-made", "a binary ResNet")):
        table = pd.read_csv(RESULTS / "search_vs_handmade.csv")
        accuracy = 100 * table[table["network"] == name]["test_accuracy"].iloc[0]
        assert kind in SHOWN
        assert f"{accuracy:.1f} %" in SHOWN
