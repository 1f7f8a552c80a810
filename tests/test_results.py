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
    table["choice"] = table["choice"].replace(r"chance \d", "chance", regex=True)
    means = 100 * table.groupby(["network", "budget", "choice"])["test_accuracy"].mean()

    def cells(budget: int, *choices: str) -> tuple[str, ...]:
        """Return what stands in the columns of the two networks."""
        return tuple(
            "; ".join(f"{means[name, budget, choice]:.1f}" for choice in choices) for name in ("plain", "resnet")
        )

    lines = [line.strip("| ").split(" | ") for line in SHOWN.splitlines() if line.startswith("|")]
    shown = [(line[1], line[3]) for line in lines if len(line) == 5][1:]
    assert shown == [
        cells(0, "all weights binary"),
        cells(0, "all binary"),
        *(
            row
            for budget in (10, 25, 50)
            for row in (cells(budget, "sensitivity greedy"), cells(budget, "chance", "latest that fit"))
        ),
    ]


def test_found_and_hand_made() -> None:
    table = pd.read_csv(RESULTS / "search_vs_handmade.csv").set_index("network")["test_accuracy"]
    accuracies = re.search(
        r"found (\S+) % with [^;]+; a binary ResNet [^%]+? trained as long, (\S+) %", " ".join(SHOWN.split())
    )
    assert accuracies
    assert accuracies.groups() == tuple(f"{100 * table[name]:.1f}" for name in ("found", "hand-made"))
