"""Can the proxy be trusted? Scores of a supernet of search_spaces/bench.yaml against networks trained alone.

    python benchmarks/ranking.py [--quick] [--json] [--variants] [--table CSV] [--results CSV] [--replays CSV]

Without --quick it trains the supernet that the space describes, scores every network of the table, and replays each
sampler on the table from 50 seeds; rows are appended to results/ranking.csv and results/replays.csv as they come, and
what is there is not done again. --variants does so for every other supernet and way of scoring and prints how each
ranks. --quick trains and replays nothing: it reads what is there. The accuracy that scores are compared with is that of
the test images at the first training; what a search is told is that of the held-out images. CIFAR-10 is in $BNAS_DATA.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from claim import Claim, positive
from replay import BUDGETS, REPLAYS, genes_of, replay, replay_claims, replay_missing, replay_rows
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from steps import supernet_share
from supernets import DEFAULT, RESULTS, rows, score_missing, variants
from table import SPACE, TABLE

from bnas.cost import Budget
from bnas.feasible import cost_of
from bnas.ranking import Ranking, Table, dealt, judge, tau, together
from bnas.searcher import SAMPLERS
from bnas.space import SearchSpace
from bnas.spec import read

SEEDS = 20  # of the searches whose winner is judged
TRIALS = 100  # proxy scores that a replayed search asks for
PAID_SHARE = 0.1  # of the table, that a search may look up
WANTED, WANTED_IN_BAND, CEILING_SHARE = 0.75, 0.45, 0.9
POINTS = 0.005  # half a point of accuracy
PROXY, LOSS, BOTH = "proxy accuracy", "proxy loss", "proxy and ops"
SEARCH_USES = PROXY  # what `bnas search` ranks candidates by


def scored(table: Table, scores: pd.DataFrame, variant: tuple[str, str, int]) -> pd.DataFrame:
    """Return the networks of the table that a variant has scored, with their scores."""
    name, way, seed = variant
    own = scores[(scores["supernet"] == name) & (scores["scoring"] == way) & (scores["seed"] == seed)]
    return table.networks.join(own.drop_duplicates("id").set_index("id")[["accuracy", "loss"]], how="inner")


def scores_of(networks: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the scores that are compared, by name."""
    accuracy, loss, ops, parameters = (networks[key].to_numpy() for key in ("accuracy", "loss", "ops", "parameters"))
    return {PROXY: accuracy, LOSS: -loss, BOTH: together(accuracy, ops), "parameters": parameters}


def judged(networks: pd.DataFrame, table: Table) -> Ranking:
    """Return how well the scores rank the networks."""
    truth, ops = networks["test_accuracy"], networks["ops"]
    return judge(scores_of(networks), truth, ops, proxy=PROXY, repeated=table.repeated())


def fitted_taus(networks: pd.DataFrame, *, genes: bool, fits: int = 20) -> float:
    """Return tau-b of what ridge regression predicts, fitted on the paid share of the networks, for all others.

    It sees accuracy and loss by the proxy, ops and parameters; with `genes` every choice too. Mean over fits on
    different networks, each spread evenly over ops.
    """
    scores = scores_of(networks)
    columns = [scores[PROXY], scores[LOSS], np.log(networks["ops"]), np.log(scores["parameters"])]
    if genes:
        columns += list(np.array([genes_of(text) for text in networks["genes"]]).T)
    features, truth = np.column_stack(columns), networks["test_accuracy"].to_numpy()
    told, taus = networks["validation_accuracy"].to_numpy(), []
    for seed in range(fits):
        order = dealt(networks["ops"].tolist(), seed=seed)
        count = max(4, int(PAID_SHARE * len(order)))
        seen, others = order[:count], order[count:]
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 11)))
        predicted = model.fit(features[seen], told[seen]).predict(features[others])
        taus.append(tau(predicted, truth[others]))
    return statistics.fmean(taus)


def ranking_claims(found: Ranking, score: str) -> Iterator[Claim]:
    """Yield what the score that the search uses must reach, and what the proxy alone must."""
    ceiling = found.seeds.tau if found.seeds else 1.0
    wanted, own, ops = min(WANTED, CEILING_SHARE * ceiling), found[score], found["ops"]
    what = f"tau-b wanted (ceiling between two trainings {ceiling:.2f})"
    yield Claim(f"{what} against that of {score}", wanted, positive(own.tau), 1.0)
    yield Claim(
        f"tau-b wanted in the worst op quartile, against {score}", WANTED_IN_BAND, positive(min(own.by_band)), 1.0
    )
    proxy = found[PROXY]
    yield Claim(f"tau-b of ops against that of {PROXY} alone", ops.tau, positive(proxy.tau), 1.0)
    yield Claim(f"tau-b of ops against {PROXY}, among like ops", ops.within, positive(proxy.within), 1.0)


def winner_claims(space: SearchSpace, networks: pd.DataFrame, seeds: int) -> Iterator[Claim]:
    """Yield how far below the best feasible network a search ends that looks up the highest scores."""
    genes = [genes_of(text) for text in networks["genes"]]
    score = dict(zip(genes, scores_of(networks)[SEARCH_USES].tolist(), strict=True))
    truth = dict(zip(genes, networks["test_accuracy"], strict=True))
    seen = dict(zip(genes, networks["validation_accuracy"], strict=True))
    looked_up = int(PAID_SHARE * len(networks))
    for limit in BUDGETS:
        budget = Budget.parse([f"ops={limit}"])
        best = max(value for key, value in truth.items() if budget.admits(cost_of(space, key)))
        lost = []
        for seed in range(seeds):
            tried = replay(space, score, budget, SAMPLERS["evolution"], pays=TRIALS, seed=seed)
            chosen = sorted(tried, key=lambda key: score[key], reverse=True)[:looked_up]
            lost.append(best - truth[max(chosen, key=lambda key: seen[key])])
        what = f"ops <= {limit}: accuracy lost by the search's winner of {looked_up} looked up, median of {seeds} seeds"
        yield Claim(what, statistics.median(lost), POINTS, 1.0)


def show_variants(table: Table, scores: pd.DataFrame) -> None:
    """Print how each supernet and way of scoring ranks the networks of the table, a variant a line."""
    heads = ("networks", "tau", "like ops", "by loss", "+ ops", "fitted", "+ genes", "top 10")
    print(f"{'supernet':<32}{'scoring':<24}{'seed':>4}" + "".join(f"{head:>10}" for head in heads))
    for variant in variants():
        networks = scored(table, scores, variant)
        if len(networks) < len(table):
            continue
        found, (name, way, seed) = judged(networks, table), variant
        proxy, lost = found[PROXY], 100 * found[PROXY].regrets.get(10, 0)
        taus = (proxy.tau, proxy.within, found[LOSS].tau, found[BOTH].tau)
        fits = (fitted_taus(networks, genes=genes) for genes in (False, True))
        numbers = "".join(f"{value:>10.3f}" for value in (*taus, *fits, lost))
        print(f"{name:<32}{way:<24}{seed:>4}{len(networks):>10}{numbers}")


def show(found: Ranking) -> None:
    """Print how each score ranks, and what limits them."""
    for row in found.measured:
        bands = " ".join(f"{value:.2f}" for value in row.by_band)
        print(
            f"{row.score:<16} tau {row.tau:.3f} ({row.low:.2f} to {row.high:.2f}), like ops {row.within:.3f}, {bands}"
        )
    if found.seeds:
        print(f"two trainings of {found.seeds.networks} networks: tau {found.seeds.tau:.3f}; a score without error "
              f"would have {found.seeds.ceiling:.3f}; deviation {100 * found.seeds.deviation:.2f} points")  # fmt: skip
    print(found.sentence + "\n")


def measure(options: argparse.Namespace) -> Iterator[Claim]:
    """Do what is missing, unless it has to be quick; then yield the claims."""
    space, table, results = read(SearchSpace, SPACE), Table.read(options.table), rows(options.results)
    replays = replay_rows(options.replays)
    if not options.quick:
        for variant in variants() if options.variants else (DEFAULT,):
            score_missing(space, table, results, variant)
        replay_missing(space, table, replays)
    networks = scored(table, results.frame(), DEFAULT)
    if len(networks) > len(table) / 2:
        found = judged(networks, table)
        if not options.json:
            show(found)
            show_variants(table, results.frame())
        yield from ranking_claims(found, SEARCH_USES)
        yield from winner_claims(space, networks, 3 if options.quick else SEEDS)
    whole, one = supernet_share(space, networks=4 if options.quick else 12, repeats=3 if options.quick else 15)
    yield Claim("seconds to train the supernet, against one network alone, by their median steps", whole, one, 8.0)
    frame = replays.frame()
    if len(frame):
        yield from replay_claims(frame)


def main() -> None:
    """Print each claim as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train and replay nothing; ends within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--variants", action="store_true", help="every supernet and way of scoring, not the default")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--replays", type=Path, default=REPLAYS)
    options = parser.parse_args()
    for claim in measure(options):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
