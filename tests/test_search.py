"""The search: samplers, fates, the front, and that a killed search pays for nothing twice."""

import math
import statistics
from itertools import accumulate
from pathlib import Path
from random import Random

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.errors import BudgetError, RunError, TrainingError
from bnas.progress import silent
from bnas.searcher.candidate import Candidate, Score, front, ledger, paid
from bnas.searcher.evolution import Evolution, Predictor
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.feasible import cost_of
from bnas.searcher.journal import Journal
from bnas.searcher.sampler import population
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace
from tests.tiny import MemoryLog, tiny_space

SPACE = tiny_space()
DIGITS = SearchSpace.read(Path(__file__).parents[1] / "search_spaces" / "digits.yaml")
BUDGET = Budget.parse(SPACE.search.budget)


def quality_of(arch: Architecture) -> Score:
    """A score without training: more bits and channels are better, groups worse; deterministic."""
    value = sum(stage.width * stage.depth + 3 * stage.experts - stage.groups for stage in arch.stages) / 100
    return Score(value, 1 - value)


def asked_for(space, *, trials):
    return space.model_copy(update={"search": space.search.model_copy(update={"trials": trials})})


def search(
    folder=None, *, sampler="evolution", trials=30, seed=0, score=quality_of, budget=BUDGET, space=SPACE, journal=None
):
    stored = StoredStudy(f"sqlite:///{folder}/study.db" if folder else None, "search")
    asked = asked_for(space, trials=trials)
    make = sampler if callable(sampler) else SAMPLERS[sampler]
    study = Search(
        asked, budget, sampler=make, seed=seed, name="search", stored=stored, journal=journal or Journal()
    )  # fmt: skip
    return study.run(trials, InProcess(score).submit, progress=silent, note=lambda candidate: None)


def fates(candidates: list[Candidate]) -> dict[str, int]:
    return ledger(candidate.status for candidate in candidates)


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestEverySampler:
    def test_pays_for_as_many_as_asked_all_different_and_inside_the_budget(self, sampler) -> None:
        found = search(sampler=sampler)
        bought = [c for c in found if c.status == "paid"]
        assert len(bought) == 30
        assert len({c.id for c in bought}) == 30
        assert all(BUDGET.admits(c.cost) for c in bought)

    def test_same_seed_same_candidates(self, sampler) -> None:
        assert search(sampler=sampler, seed=3) == search(sampler=sampler, seed=3)

    def test_killed_anywhere_it_ends_as_if_nothing_had_happened(self, tmp_path, sampler) -> None:
        whole, calls, log = search(sampler=sampler), [], MemoryLog()

        def mortal(arch: Architecture) -> Score:
            calls.append(arch.id)
            if len(calls) in (5, 12, 13):
                raise KeyboardInterrupt
            return quality_of(arch)

        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                search(tmp_path, sampler=sampler, score=mortal, journal=Journal(log))
        assert search(tmp_path, sampler=sampler, score=mortal, journal=Journal(log)) == whole
        assert len(calls) == 30 + 3  # nothing paid for twice but the three that were cut off

    def test_asked_for_more_after_a_kill_it_proposes_what_it_paid_for(self, sampler) -> None:
        space, log, calls = tiny_space(stem={"width": [4, 8]}, search={"trials": 40}), MemoryLog(), list[str]()

        def mortal(arch: Architecture) -> Score:
            calls.append(arch.id)
            if len(calls) == 35:
                raise KeyboardInterrupt
            return quality_of(arch)

        with pytest.raises(KeyboardInterrupt):
            search(sampler=sampler, score=mortal, journal=Journal(log), space=space, trials=40)
        found = search(sampler=sampler, score=mortal, journal=Journal(log), space=space, trials=80)
        assert population(asked_for(space, trials=80)) > population(asked_for(space, trials=40))
        assert {c.id for c in found if c.status == "paid"} >= set(calls)
        assert len(calls) == 80 + 1

    def test_the_ledger_adds_up(self, sampler) -> None:
        counts = fates(search(sampler=sampler))
        assert counts["proposed"] == sum(counts[s] for s in ("paid", "over_budget", "repeated", "failed"))

    def test_proposes_nothing_over_budget(self, sampler) -> None:
        assert fates(search(sampler=sampler))["over_budget"] == 0


def test_evolution_proposes_nothing_over_budget_and_nothing_twice() -> None:
    counts = fates(search(trials=100))
    assert counts == {"proposed": 100, "over_budget": 0, "repeated": 0, "paid": 100, "failed": 0}


@pytest.mark.parametrize(("trials", "size"), [(6, 8), (60, 15), (200, 48)])
def test_the_first_population_is_a_quarter_of_the_trials_within_bounds(trials, size) -> None:
    assert population(tiny_space(search={"trials": trials})) == size


def test_evolution_breeds_where_the_space_has_nothing_more_to_draw() -> None:
    class Narrow(type(SPACE)):
        """A space that draws one network, but offers all."""

        def sample(self, random: Random) -> tuple[int, ...]:
            return super().canonical([0] * len(self.dimensions))

    space = Narrow(**{name: getattr(SPACE, name) for name in type(SPACE).model_fields})
    assert sum(c.status == "paid" for c in search(space=space, trials=20)) == 20


def test_evolution_beats_random_search_on_every_seed() -> None:
    stage = {"depth": [1, 2, 3], "width": [4, 8, 12, 16], "groups": [1, 2, 4], "experts": [1, 2, 4]}
    space = tiny_space(stem={"width": [4, 8]}, stages=[stage, stage | {"stride": 2}, stage])
    for seed in range(3):
        best = {
            sampler: paid(search(sampler=sampler, trials=100, seed=seed, space=space))[0].score.proxy_accuracy
            for sampler in ("evolution", "random")
        }
        assert best["evolution"] > best["random"]


def test_children_chosen_by_the_model_find_the_best_sooner(monkeypatch) -> None:
    """By a score that is no sum of choices' shares; mean over the search of the best so far."""
    stage = {"depth": [1, 2, 3], "width": [4, 8, 12, 16], "groups": [1, 2, 4], "experts": [1, 2, 4]}
    space = tiny_space(stem={"width": [4, 8]}, stages=[stage, stage | {"stride": 2}, stage])
    so_far: dict[float, list[float]] = {share: [] for share in (0.0, Evolution.by_model)}
    for share, means in so_far.items():
        monkeypatch.setattr(Evolution, "by_model", share)
        for seed in range(3):
            scores = [c.score.proxy_accuracy for c in search(trials=60, seed=seed, space=space) if c.score]
            means.append(sum(accumulate(scores, max)) / len(scores))
    without, with_model = so_far.values()
    assert all(ours > theirs for ours, theirs in zip(with_model, without, strict=True))


def test_the_first_population_has_the_dearer_of_each_two_draws(monkeypatch) -> None:
    """A quarter of 60 paid for, so 15: even draws have fewer ops, on each of three seeds."""
    ops: dict[int, list[float]] = {1: [], 2: []}
    for of, means in ops.items():
        monkeypatch.setattr(Evolution, "dearest_of", of)
        for seed in range(3):
            first = search(trials=60, seed=seed)[: population(tiny_space(search={"trials": 60}))]
            means.append(sum(candidate.cost.ops for candidate in first))
    assert all(two > one for one, two in zip(*ops.values(), strict=True))


def test_near_a_tight_budget_the_model_still_has_many_to_choose_from(monkeypatch) -> None:
    """Children over the budget are moved inside: where few draws fit, as here one in twenty, some are left."""
    chosen_from: list[int] = []
    choose = Evolution._most_promising

    def counting(self, genes, scored):
        chosen_from.append(len(genes))
        return choose(self, genes, scored)

    monkeypatch.setattr(Evolution, "_most_promising", counting)
    budget, random = Budget.parse(["ops=9k"]), Random(0)
    fit = sum(budget.admits(cost_of(DIGITS, DIGITS.sample(random))) for _ in range(400)) / 400
    assert fit < 0.05
    search(trials=60, space=DIGITS, budget=budget)
    assert len(chosen_from) > 20
    assert statistics.median(chosen_from) >= 10


class TestPredictor:
    def drawn(self, count: int, seed: int) -> tuple[list[Genes], list[float], list[float]]:
        random = Random(seed)
        genes = [DIGITS.sample(random) for _ in range(count)]
        ops = [cost_of(DIGITS, each).ops for each in genes]
        return genes, ops, [sum(each) + math.log(cost) + random.random() for each, cost in zip(genes, ops, strict=True)]

    def test_is_ridge_regression_on_a_column_for_every_choice_but_the_first(self) -> None:
        genes, ops, scores = self.drawn(40, 0)
        others, prices, _ = self.drawn(20, 1)
        known = [list(range(len(d.choices))) for d in DIGITS.dimensions]
        columns = make_column_transformer(
            (OneHotEncoder(categories=known, drop="first"), list(range(len(known)))), remainder="passthrough"
        )
        ridge = make_pipeline(columns, Ridge(alpha=1.0))
        ridge.fit(np.column_stack([genes, np.log(ops)]), scores)
        predicted = Predictor(DIGITS, genes, ops, scores)(others, prices)
        np.testing.assert_allclose(predicted, ridge.predict(np.column_stack([others, np.log(prices)])), rtol=1e-9)

    def test_one_scored_network_predicts_its_own_score_for_all(self) -> None:
        genes, ops, scores = self.drawn(1, 0)
        others, prices, _ = self.drawn(5, 1)
        np.testing.assert_allclose(Predictor(DIGITS, genes, ops, scores)(others, prices), scores * 5)

    def test_a_space_without_a_choice_is_predicted_too(self) -> None:
        space = tiny_space(stages=[{"depth": 1, "width": 4}])
        genes = [space.sample(Random(0))]
        assert Predictor(space, genes, [100.0], [0.5])(genes, [100.0]) == pytest.approx([0.5])


def test_a_small_space_is_searched_whole_and_then_the_search_ends() -> None:
    space = tiny_space(stages=[{"depth": [1, 2], "width": [4, 8]}])
    found = search(sampler="random", space=space, budget=Budget())
    assert sum(c.status == "paid" for c in found) == space.size == 4
    assert len(found) < 100  # it ends with the last of them


def test_a_search_with_nothing_new_inside_the_budget_ends() -> None:
    found = search(space=tiny_space(search={}), budget=Budget.parse(["ops=5k"]), trials=10_000)
    assert 0 < sum(c.status == "paid" for c in found) < 10_000


def test_a_candidate_that_cannot_be_scored_is_counted_as_failed() -> None:
    def frail(arch: Architecture) -> Score:
        if arch.stages[0].experts > 1:
            raise TrainingError("not finite")
        return quality_of(arch)

    counts = fates(search(score=frail))
    assert counts["failed"] > 0
    assert counts["paid"] + counts["failed"] == 30


def test_scores_known_from_another_study_are_not_paid_for_again() -> None:
    journal = Journal()
    search(journal=journal)

    def never(arch: Architecture) -> Score:
        raise AssertionError("paid twice")

    search(score=never, journal=journal)


def test_a_budget_nothing_fits_names_what_the_smallest_network_needs() -> None:
    with pytest.raises(BudgetError, match=r"ops <= 10 cannot be kept: the smallest network needs"):
        search(budget=Budget.parse(["ops=10"]))


def test_a_budget_that_few_networks_keep_is_searched_by_every_sampler() -> None:
    tight = Budget.parse(["ops=7.3k"])
    random = Random(0)
    assert not any(tight.admits(cost_of(DIGITS, DIGITS.sample(random))) for _ in range(1000))
    for sampler in SAMPLERS:
        counts = fates(search(sampler=sampler, space=DIGITS, budget=tight, trials=5))
        assert (counts["paid"], counts["over_budget"]) == (5, 0), sampler


def test_over_budget_proposals_of_a_sampler_of_the_users_are_free_and_say_so() -> None:
    found = search(sampler=lambda space, budget, seed: RandomSampler(seed=seed), trials=10)
    over = [c for c in found if c.status == "over_budget"]
    assert over
    assert all(c.score is None and not BUDGET.admits(c.cost) for c in over)


def candidate(number: int, accuracy: float, ops: int) -> Candidate:
    price = cost(plan(SPACE.smallest()))
    return Candidate(number, str(number), "paid", (), price._replace(flops=ops, bops=0), Score(accuracy, 1 - accuracy))


def test_front_keeps_what_no_other_beats() -> None:
    points = [(0, 0.5, 10), (1, 0.6, 10), (2, 0.6, 20), (3, 0.9, 30), (4, 0.8, 40), (5, 0.1, 5)]
    assert [c.number for c in front(candidate(*p) for p in points)] == [5, 1, 3]


def test_a_row_has_every_quantity_and_genes_that_lead_back() -> None:
    found = search(trials=3)
    row = found[0].row()
    assert {"number", "id", "status", "proxy_accuracy", "proxy_loss", "ops", "bops", "flops", "bytes"} <= set(row)
    genes = [int(gene) for gene in row["genes"].split("-")]
    assert SPACE.architecture(genes).id == row["id"]
    assert isinstance(found[0].cost, Cost)


def test_a_damaged_storage_is_one_line_that_names_it(tmp_path) -> None:
    (tmp_path / "study.db").write_text("no database")
    with pytest.raises(RunError, match=r"study\.db: cannot be used: .*run the same command") as caught:
        search(tmp_path)
    assert "\n" not in str(caught.value)
