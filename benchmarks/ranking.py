"""Can the proxy be trusted? Scores of a supernet of search_spaces/bench.yaml against networks trained alone.

    python benchmarks/ranking.py [--quick] [--json] [--variants [NAME ...]] [--table CSV] [--results CSV]
                                 [--replays CSV]

Without --quick it trains the supernet that the space describes, scores every network of the table, and replays each
sampler on the table from 50 seeds, and evolution with parts left out; rows are appended to results/ranking.csv and
results/replays.csv as they come, and what is there is not done again. That is about 30 minutes of a core. --variants
does so for the supernets and ways of scoring of those names as well, for all without a name (supernets.py says what
each takes), and prints how each ranks. --quick trains and replays nothing: it reads what is there. The accuracy that
scores are compared with is that of the test images at the first training; what a search is told is that of the held-out
images. CIFAR-10 is in $BNAS_DATA.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from claim import Claim, positive
from replay import BUDGETS, REPLAYS, feasible, genes_of, on, replay, replay_claims, replay_missing, replay_rows
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from steps import supernet_share
from supernets import DEFAULT, RESULTS, TWO_STAGES, in_two_stages, rows, score_missing, variants, wanted
from table import SPACE, TABLE

from bnas.cost.budget import Budget
from bnas.searcher.ranking import Ranking, Table, dealt, judge, summed_standard, tau
from bnas.searcher.samplers import SAMPLERS
from bnas.space.space import Genes, SearchSpace

SEEDS = 20  # of the searches whose winner is judged
PAID_SHARE = 0.1  # of the table, that a search may look up
WANTED, WANTED_IN_BAND, CEILING_SHARE = 0.75, 0.45, 0.9
POINTS = 0.005  # half a point of accuracy
LESS = math.nextafter(1, 0)  # as a target: a tie does not beat
PROXY, LOSS, BOTH = "proxy accuracy", "proxy loss", "loss and ops"
SEARCH_USES = LOSS  # what `bnas search` ranks candidates by


def scored(table: Table, scores: pd.DataFrame, variant: tuple[str, str, int]) -> pd.DataFrame:
    """Return the networks of the table that a variant has scored, with their scores."""
    name, way, seed = variant
    own = scores[(scores["supernet"] == name) & (scores["scoring"] == way) & (scores["seed"] == seed)]
    return table.networks.join(own.drop_duplicates("id").set_index("id")[["accuracy", "loss"]], how="inner")


def scores_of(networks: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the scores that are compared, by name."""
    accuracy, loss, ops, parameters = (networks[key].to_numpy() for key in ("accuracy", "loss", "ops", "parameters"))
    return {LOSS: -loss, PROXY: accuracy, BOTH: summed_standard(-loss, ops), "parameters": parameters}


def judged(networks: pd.DataFrame, table: Table) -> Ranking:
    """Return how well the scores rank the networks."""
    truth, ops = networks["test_accuracy"], networks["ops"]
    return judge(scores_of(networks), truth, ops, proxy=SEARCH_USES, repeated=table.repeated())


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


def disorder(tau_b: float) -> float:
    """Return how wrong an order is, (1 - tau-b) / 2: from 0 for the same to 1 for the reverse, or for no order at all.

    Without ties it is the share of pairs that stand the wrong way round: unlike tau it has one sign, so that two of
    them can be divided.
    """
    return 1.0 if math.isnan(tau_b) else (1 - tau_b) / 2


def ranking_claims(found: Ranking, score: str) -> Iterator[Claim]:
    """Yield what the score that the search uses must reach."""
    ceiling = found.seeds.tau if found.seeds else 1.0
    wanted, own = min(WANTED, CEILING_SHARE * ceiling), found[score]
    yield _ordered(f"{score}, against what is wanted (ceiling between two trainings {ceiling:.2f})", own.tau, wanted, 1)
    worst = max(own.by_band, key=disorder)
    yield _ordered(f"{score} in its worst op quartile, against what is wanted", worst, WANTED_IN_BAND, 1)
    ops = found["ops"]
    yield _ordered(f"{score}, against counting ops", own.tau, ops.tau, LESS)
    yield _ordered(f"{score} among like ops, against counting ops", own.within, ops.within, LESS)


def _ordered(what: str, own: float, other: float, target: float) -> Claim:
    taus = f"tau-b {own:.3f} against {other:.3f}"
    return Claim(f"disorder of {what}, {taus}", disorder(own), positive(disorder(other)), target)


def winner_claims(space: SearchSpace, networks: pd.DataFrame, seeds: int) -> Iterator[Claim]:
    """Yield how far below the best feasible network a search ends.

    It scores as large a share of the table as the space's own search does of the space, and looks up its highest
    scores: as many as `bnas search` trains alone, and the paid share of the table. The best of those by validation
    accuracy is its winner. Of the trainings that `bnas search` stops half-way the table knows the end as well.
    """
    of = {genes_of(row["genes"]): row for _, row in networks.assign(score=scores_of(networks)[SEARCH_USES]).iterrows()}
    trials = round(space.search.trials * len(networks) / space.size)
    for limit in BUDGETS:
        budget = Budget.parse([f"ops={limit}"])
        inside = feasible(space, of, budget)
        scores = {key: float(row["score"]) for key, row in of.items()}
        searches = [
            replay(space, scores, budget, SAMPLERS["evolution"], pays=trials, seed=seed) for seed in range(seeds)
        ]
        for top in (space.search.retrain.top, int(PAID_SHARE * len(networks))):
            lost = [max(of[k]["test_accuracy"] for k in inside) - _winner(of, tried, top) for tried in searches]
            what = (
                f"ops <= {limit}: accuracy lost by the best of {top} trained alone of {len(searches[0])} scored of "
                f"{len(inside)} feasible, median of {seeds} seeds; against what may be lost"
            )
            yield Claim(what, statistics.median(lost), POINTS, 1.0)


def _winner(of: Mapping[Genes, pd.Series], tried: Sequence[Genes], top: int) -> float:
    """Return the test accuracy of the network that a search hands over."""
    ranked = sorted(tried, key=lambda key: (of[key]["score"], -of[key]["loss"]), reverse=True)  # as the search does
    return float(of[max(ranked[:top], key=lambda key: of[key]["validation_accuracy"])]["test_accuracy"])


def show_variants(table: Table, scores: pd.DataFrame) -> None:
    """Print how each supernet and way of scoring ranks the networks of the table, a variant a line."""
    heads = ("accuracy", "like ops", "loss", "like ops", "+ ops", "fitted", "+ genes", "top 10")
    print(f"{'supernet':<32}{'scoring':<26}{'seed':>4}" + "".join(f"{head:>10}" for head in heads))
    for variant in variants():
        networks = scored(table, scores, variant)
        if len(networks) < len(table):
            continue
        found, (name, way, seed) = judged(networks, table), variant
        taus = [value for score in (PROXY, LOSS) for value in (found[score].tau, found[score].within)]
        fits = (fitted_taus(networks, genes=genes) for genes in (False, True))
        lost = 100 * found[LOSS].regrets.get(10, 0)
        numbers = "".join(f"{value:>10.3f}" for value in (*taus, found[BOTH].tau, *fits, lost))
        print(f"{name:<32}{way:<26}{seed:>4}{numbers}")


def show_two_stages(table: Table, scores: pd.DataFrame) -> None:
    """Print how scoring on few images, and the better half on more, ranks: put together from scores that are there."""
    first, second = (scored(table, scores, (DEFAULT[0], way, 0)) for way in TWO_STAGES)
    if min(len(first), len(second)) < len(table):
        return
    score = in_two_stages(first["accuracy"], second["accuracy"])
    found = judge({PROXY: score}, first["test_accuracy"], first["ops"], proxy=PROXY)[PROXY]
    ways = " then ".join(f"{way!r}" for way in TWO_STAGES)
    print(f"{ways} for the better half: tau {found.tau:.3f}, like ops {found.within:.3f}, "
          f"top 10 {100 * found.regrets.get(10, 0):.3f}\n")  # fmt: skip


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
    space, table, results = SearchSpace.read(SPACE), Table.read(options.table), rows(options.results)
    replays = replay_rows(options.replays)
    if not options.quick:
        for variant in wanted(options.variants):
            score_missing(space, table, results, variant)
        replay_missing(space, table, replays)
    networks = scored(table, results.frame(), DEFAULT)
    if len(networks) > len(table) / 2:
        found = judged(networks, table)
        if not options.json:
            show(found)
            show_variants(table, results.frame())
            show_two_stages(table, results.frame())
        yield from ranking_claims(found, SEARCH_USES)
        yield from winner_claims(space, networks, 3 if options.quick else SEEDS)
    whole, one = supernet_share(space, networks=4 if options.quick else 12, repeats=3 if options.quick else 15)
    yield Claim("seconds to train the supernet, against one network alone, by their median steps", whole, one, 8.0)
    yield from replay_claims(on(table, replays.frame()))


def main() -> None:
    """Print each claim as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train and replay nothing; ends within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--variants", nargs="*", metavar="NAME", help="supernets or ways of scoring; all without a name"
    )
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--replays", type=Path, default=REPLAYS)
    options = parser.parse_args()
    for claim in measure(options):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
