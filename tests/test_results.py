"""The tables that the documents show are those of the committed results."""

from pathlib import Path

import pandas as pd

from bnas.searcher.ranking import Table, tau
from bnas.searcher.ranking.measure import bands, tau_within
from bnas.space.recipe import Recipe
from bnas.space.space import SearchSpace

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = (ROOT / "docs" / "results.md").read_text()


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def percent(values: pd.Series, digits: int = 1) -> str:
    """Return mean and deviation; of one training there is no deviation."""
    mean, deviation = (f"{100 * value:.{digits}f}" for value in (values.mean(), values.std()))
    return f"{mean} ± {deviation}" if len(values) > 1 else mean


def test_methods() -> None:
    table = pd.read_csv(RESULTS / "methods.csv")
    for (images, method), rows in table.groupby(["images", "method"]):
        found = [rows[rows["network"] == name]["test_accuracy"] for name in ("VGG-Small", "ResNet")]
        if images == 10_000:
            assert [len(values) for values in found] == [3, 3]
            assert row(str(method), *map(percent, found)) in SHOWN
        else:
            cells = [cell for values in found for cell in (percent(values), str(len(values)))]
            assert row(str(method), *cells) in SHOWN


def test_longer() -> None:
    table = pd.read_csv(RESULTS / "longer.csv").set_index(["epochs", "epoch"])
    lengths = table.index.unique("epochs")
    assert list(lengths) == [Recipe.read(RESULTS / "longer.yaml").epochs, 90]
    assert list(table.groupby("epochs").size()) == list(lengths)
    for epoch in range(10, max(lengths) + 1, 10):
        cells = []
        for length in lengths:
            known = table.loc[(length, epoch), ["loss", "validation_accuracy"]] if epoch <= length else None
            cells += ["", ""] if known is None else [f"{known.iloc[0]:.2f}", f"{100 * known.iloc[1]:.1f}"]
        assert row(str(epoch), *cells) in SHOWN
    for length in lengths:
        assert f"in {length} epochs **{100 * table.loc[(length, length), 'test_accuracy']:.1f} %**" in SHOWN


def test_lenet() -> None:
    table = pd.read_csv(RESULTS / "lenet.csv")
    for weights, rows in table.groupby("weights"):
        gap = 100 * (rows["soft_accuracy"] - rows["test_accuracy"]).abs().max()
        assert row(f"`{weights}`", percent(rows["test_accuracy"], 2), f"{gap:.2f}", str(len(rows))) in SHOWN


def test_selection() -> None:
    table = pd.read_csv(RESULTS / "selection.csv")
    table["choice"] = table["choice"].replace(r"chance \d", "chance", regex=True)
    means = 100 * table.groupby(["network", "budget", "choice"])["test_accuracy"].mean()

    def cells(budget: int, *choices: str) -> tuple[str, ...]:
        """Return what stands in the columns of the two networks."""
        return tuple(
            "; ".join(f"{means[name, budget, choice]:.1f}" for choice in choices) for name in ("plain", "resnet")
        )

    section = SHOWN.partition("## Which layers")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
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


def test_ranking() -> None:
    table = Table.read(RESULTS / "bench_table.csv")
    every = pd.read_csv(RESULTS / "ranking.csv")
    ops, truth = table.networks["ops"], table.networks["test_accuracy"]
    for (supernet, scoring, seed), rows in every.groupby(["supernet", "scoring", "seed"]):
        found = rows.drop_duplicates("id").set_index("id").reindex(table.networks.index)
        scores = (found["accuracy"], -found["loss"])
        taus = [value for score in scores for value in (tau(score, truth), tau_within(score, truth, bands(ops)))]
        assert row(supernet, scoring, str(seed), *(f"{value:.2f}" for value in taus)) in SHOWN


def test_experts_from_the_start_and_copied() -> None:
    space = SearchSpace.read(ROOT / "search_spaces" / "bench.yaml")
    tables = [pd.read_csv(RESULTS / f"bench_table{name}.csv").set_index(["id", "seed"]) for name in ("", "_copied")]
    has_several = {
        genes: max(stage.experts for stage in space.architecture(genes_of(genes)).stages) > 1
        for genes in tables[0]["genes"].unique()
    }
    both = tables[0].assign(copied=tables[1]["test_accuracy"]).dropna()
    both = both[both["genes"].map(has_several)]
    gains = both["copied"] - both["test_accuracy"]
    text = " ".join(SHOWN.split())
    assert f"gains {gain(gains)} points over {len(gains)} trainings" in text
    said = []
    for table in tables:
        reached: dict[tuple[str, bool], float] = {}
        for genes, right in table.xs(0, level="seed").set_index("genes")["test_accuracy"].items():
            one = space.architecture(genes_of(str(genes))).with_one_expert().id
            reached[one, has_several[str(genes)]] = right
        ones = {one: right for (one, several), right in reached.items() if not several}
        pairs = pd.Series([reached[one, True] - right for one, right in ones.items() if (one, True) in reached])
        said.append((len(pairs), gain(pairs)))
    (many, first), (_, copied) = said
    assert f"in {many} pairs of networks {first} from the start and {copied} copied" in text


def gain(values: pd.Series) -> str:
    return f"{100 * values.mean():.2f} ± {100 * values.sem():.2f}"


def genes_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("-")))


def test_replays() -> None:
    means = 100 * pd.read_csv(RESULTS / "replays.csv").groupby(["sampler", "budget"])["mean"].mean()
    for sampler in means.index.unique("sampler"):
        assert row(sampler, *(f"{means[sampler, budget]:.2f}" for budget in ("50k", "100k", "250k"))) in SHOWN


def test_by_metric() -> None:
    for way, rows in pd.read_csv(RESULTS / "by_metric.csv").groupby("way"):
        assert sorted(rows["seed"]) == [0, 1, 2]
        mean = rows[["proxy_accuracy", "test_accuracy", "ops", "real_inputs"]].mean()
        accuracies = (f"{100 * mean[key]:.2f}" for key in ("proxy_accuracy", "test_accuracy"))
        assert row(str(way), *accuracies, f"{mean['ops'] / 1e3:.0f}k", f"{mean['real_inputs']:.1f}") in SHOWN


def test_signals() -> None:
    table = pd.read_csv(RESULTS / "signals.csv")
    for seed, rows in table.groupby("seed"):
        found, fresh, real = (rows.iloc[place] for place in range(3))
        accuracies = [f"{100 * one['accuracy']:.1f}" for one in (found, fresh, real)]
        costs = [f"{one[name]:.0f}" for one in (found, real) for name in ("ops", "bytes")]
        assert row(str(seed), *accuracies, *costs) in SHOWN
        assert found["bytes"] <= 4000


def test_sketches() -> None:
    table = pd.read_csv(RESULTS / "sketches.csv")
    for place, rows in table.groupby(["family", "network", "data", "epochs", "choice"]):
        family, network, data, epochs, choice = map(str, place)
        usage = pd.to_numeric(rows["usage_entropy"], errors="coerce").mean()  # "-" without experts
        cells = [
            family, f"{network}, `{data}`, {epochs} epochs", choice, percent(rows["test_accuracy"]),
            percent(rows["train_accuracy"]), "" if pd.isna(usage) else f"{usage:.2f}", str(len(rows)),
        ]  # fmt: skip
        assert row(*cells).replace("|  |", "| |") in SHOWN


def test_search_vs_handmade() -> None:
    names = {
        "found": "found by the search", "plain": "plain", "react": "ReActNet-like", "shallow": "wide and shallow",
        "pixels": "stem of brought-together pixels", "thermometer": "thermometer stem",
    }  # fmt: skip
    table = pd.read_csv(RESULTS / "search_vs_handmade.csv")
    assert set(table["network"]) == set(names)
    for (_, network), rows in table.groupby(["found", "network"]):
        costs = [f"{rows[name].iloc[0]:,}" for name in ("ops", "bytes")]
        parts = ("train_accuracy", "validation_accuracy", "test_accuracy")
        assert row(names[str(network)], *costs, *(percent(rows[part]) for part in parts)) in SHOWN
