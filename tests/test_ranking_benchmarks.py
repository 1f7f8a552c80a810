"""The benchmarks of the ranking, on a small table with made-up accuracies: what they claim, replay and compare."""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from bnas.cost.budget import Budget
from bnas.data import load_data
from bnas.searcher.ranking import Alone, Table, every_network, judge
from bnas.searcher.ranking.table import training
from bnas.searcher.sampler import distributions, to_genes
from bnas.searcher.samplers import SAMPLERS
from bnas.select import LayerErrors
from bnas.space.settings import SupernetRecipe
from bnas.space.space import Genes
from bnas.supernet import Supernet
from bnas.train.oneshot import WholeSpace
from bnas.train.supernet_loss import SupernetLoss
from tests.tiny import tiny_space

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import by_metric
import ranking
import replay
import search_vs_scratch
import supernets
from rows import Rows

SPACE = tiny_space(search={"trials": 40, "retrain": {"top": 2}})
EVERY = every_network(SPACE)
BUDGET = Budget.parse(["ops=12k"])


def value_of(genes) -> float:
    """A made-up accuracy: more is better, every network its own."""
    return 0.4 + 0.01 * sum(genes) + 0.02 * Random(str(genes)).random()


@pytest.fixture(scope="module")
def table() -> Table:
    networks = EVERY[:: len(EVERY) // 60]
    rows = [training(SPACE.architecture(g), g, 0, Alone(value_of(g), value_of(g) - 0.01, 1.0)) for g in networks]
    return Table.of(pd.DataFrame(rows), name="made up")


@pytest.fixture
def budgets(monkeypatch) -> tuple[str, ...]:
    limits = ("8k", "12k")
    monkeypatch.setattr(replay, "BUDGETS", limits)
    monkeypatch.setattr(ranking, "BUDGETS", limits)
    return limits


def test_a_result_that_holds_a_comma_is_refused_and_nothing_is_written(tmp_path) -> None:
    results = Rows(tmp_path / "results.csv", ("way",), texts=("way",))
    with pytest.raises(ValueError, match=r"'few, then more' holds a comma"):
        results.add(way="few, then more")
    assert not (tmp_path / "results.csv").exists()


class TestReplay:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_pays_for_networks_of_the_table_inside_the_budget_and_for_none_twice(self, table, sampler) -> None:
        known = replay.told(table)
        paid = replay.replay(SPACE, known, BUDGET, SAMPLERS[sampler], pays=10, seed=0)
        assert len(paid) == len(set(paid)) == 10
        assert set(paid) <= replay.feasible(SPACE, known, BUDGET)

    @pytest.mark.parametrize("sampler", ["evolution", "random"])
    def test_ends_with_the_last_that_is_feasible(self, table, sampler, monkeypatch) -> None:
        known, asked = replay.told(table), []

        def counting(space, budget, seed):
            asked.append(seed)
            return SAMPLERS[sampler](space, budget, seed)

        inside = replay.feasible(SPACE, known, BUDGET)
        paid = replay.replay(SPACE, known, BUDGET, counting, pays=10 * len(known), seed=0)
        assert set(paid) == inside
        assert len(asked) < replay.FREE_IN_A_ROW

    def test_nothing_feasible_is_no_endless_replay(self, table) -> None:
        known = replay.told(table)
        assert replay.replay(SPACE, known, Budget.parse(["ops=1"]), SAMPLERS["nsga2"], pays=5, seed=0) == []

    def test_breeds_from_a_quarter_of_what_it_pays_for(self, table) -> None:
        sizes = set()

        def noting(space, budget, seed):
            sizes.add(space.search.trials)
            return SAMPLERS["evolution"](space, budget, seed)

        replay.replay(SPACE, replay.told(table), BUDGET, noting, pays=12, seed=0)
        assert sizes == {12}

    def test_rows_of_a_smaller_table_do_not_count(self, table, budgets, tmp_path, monkeypatch) -> None:
        quick = {name: SAMPLERS[name] for name in ("evolution", "random")}
        monkeypatch.setattr(replay, "SAMPLERS", quick)
        monkeypatch.setattr(replay, "PARTS_LEFT_OUT", {})
        monkeypatch.setattr(replay, "SEEDS", 2)
        rows = replay.replay_rows(tmp_path / "replays.csv")
        rows.add(networks=len(table) - 1, budget="8k", sampler="evolution", seed=0, pays=1, final=0.0, mean=0.0)
        replay.replay_missing(SPACE, table, rows)
        found = replay.on(table, rows.frame())
        assert len(found) == len(budgets) * len(quick) * 2 == len(rows.frame()) - 1
        assert found["pays"].min() > 1
        replay.replay_missing(SPACE, table, rows)
        assert len(rows.frame()) == len(found) + 1

    def test_evolution_that_is_as_good_holds_and_one_that_is_worse_does_not(self, budgets) -> None:
        rows = [
            {"budget": limit, "sampler": name, "mean": seed + 20 * (limit == "12k" and name == "evolution")}
            for limit in budgets
            for name in SAMPLERS
            for seed in range(50)
        ]
        held = {claim.claim.split(":")[0]: claim.holds for claim in replay.replay_claims(pd.DataFrame(rows))}
        assert held == {"ops <= 8k": True, "ops <= 12k": False}

    def test_samplers_without_replays_make_no_claim(self, budgets) -> None:
        frame = pd.DataFrame([{"budget": "8k", "sampler": "evolution", "mean": 0.1}])
        assert list(replay.replay_claims(frame)) == []


class TestRankingClaims:
    def claims(self, proxy, truth=None):
        truth = np.arange(40.0) if truth is None else truth
        ops = np.random.default_rng(0).permutation(40) + 1.0
        return list(ranking.ranking_claims(judge({ranking.LOSS: proxy}, truth, ops, proxy=ranking.LOSS), ranking.LOSS))

    def test_a_perfect_score_holds(self) -> None:
        assert all(claim.holds for claim in self.claims(np.arange(40.0)))

    def test_a_reversed_score_does_not_hold_whatever_the_sign_of_its_yardstick(self) -> None:
        assert not any(claim.holds for claim in self.claims(-np.arange(40.0)))

    def test_among_negative_taus_the_higher_one_wins(self) -> None:
        better, worse = (ranking._ordered("x", own, -0.3, ranking.LESS) for own in (-0.1, -0.5))
        assert (better.holds, worse.holds) == (True, False)
        assert better.ratio == pytest.approx(((1 + 0.1) / 2) / ((1 + 0.3) / 2))

    def test_the_order_of_ops_itself_does_not_beat_ops(self) -> None:
        assert not ranking._ordered("x", 0.54, 0.54, ranking.LESS).holds

    def test_a_constant_score_does_not_hold(self) -> None:
        assert not any(claim.holds for claim in self.claims(np.zeros(40)))

    def test_what_is_wanted_follows_the_ceiling(self) -> None:
        truth = np.arange(40.0)
        found = judge(
            {ranking.LOSS: truth}, truth, truth[::-1] + 1, proxy=ranking.LOSS, repeated=([1, 2, 3, 4], [1, 2, 4, 3])
        )
        first = next(ranking.ranking_claims(found, ranking.LOSS))
        assert first.yardstick == pytest.approx((1 - 0.9 * (5 - 1) / 6) / 2)


class TestWinner:
    def networks(self, table, score):
        return table.networks.assign(accuracy=0.5, loss=-score)

    def test_a_perfect_score_of_all_that_is_feasible_loses_nothing(self, table, budgets) -> None:
        space = tiny_space(search={"trials": 10 * SPACE.size, "retrain": {"top": 2}})
        networks = self.networks(table, table.networks["test_accuracy"])
        assert [claim.value for claim in ranking.winner_claims(space, networks, 1)] == [0] * 2 * len(budgets)

    def test_a_claim_tells_how_many_were_scored_and_how_many_trained(self, table, budgets) -> None:
        networks = self.networks(table, table.networks["test_accuracy"])
        claims = list(ranking.winner_claims(SPACE, networks, 1))
        trials = round(40 * len(table) / SPACE.size)
        for limit, pair in zip(budgets, (claims[:2], claims[2:]), strict=True):
            inside = replay.feasible(SPACE, replay.told(table), Budget.parse([f"ops={limit}"]))
            for claim, top in zip(pair, (2, len(table) // 10), strict=True):
                assert f"best of {top} trained alone of {trials} scored of {len(inside)} feasible" in claim.claim

    def test_a_reversed_score_loses_by_what_is_known_of_its_highest(self, table) -> None:
        of = {replay.genes_of(row["genes"]): row for _, row in self.networks(table, 0.0).assign(score=0.0).iterrows()}
        for place, row in enumerate(of.values()):
            row["score"] = -place
        tried = list(of)
        best = max(tried[:3], key=lambda key: of[key]["validation_accuracy"])
        assert ranking._winner(of, tried, 3) == of[best]["test_accuracy"]

    def test_between_equal_scores_the_lower_loss_is_looked_up(self, table) -> None:
        keys = list(replay.told(table))[:2]
        of = {
            key: pd.Series({"score": 0.5, "loss": loss, "validation_accuracy": 0.5, "test_accuracy": loss})
            for key, loss in zip(keys, (0.9, 0.4), strict=True)
        }
        assert ranking._winner(of, keys, 1) == 0.4


class TestSupernets:
    def test_parts_share_the_networks_of_a_space_out(self) -> None:
        for dimension in ("stages[0].width", "stages[0].precision[0]"):
            parts = supernets.parts(SPACE, dimension)
            held = [{g for g in EVERY if part.contains(SPACE.architecture(g))} for part in parts]
            assert set.union(*held) == set(EVERY)
            assert not set.intersection(*held)
            for part, inside in zip(parts, held, strict=True):
                assert {part.fair(0, step) for step in range(200)} <= inside
                assert part.genes(part.largest()) in inside

    def test_each_network_is_scored_by_the_supernet_of_its_part(self, table, tmp_path, monkeypatch) -> None:
        few = Table.of(table.trainings[::6], name="few")
        monkeypatch.setattr(supernets, "RUNS", tmp_path)
        monkeypatch.setitem(supernets.SUPERNETS, "split", supernets.Trial({"epochs": 1}, "stages[0].precision[0]"))
        results = supernets.rows(tmp_path / "scores.csv")
        for _ in range(2):  # what is there is not scored again
            supernets.score_missing(SPACE, few, results, ("split", "search", 0), data_name="digits")
        assert sorted(results.frame()["id"]) == sorted(few.networks.index)
        assert len(list(tmp_path.glob("split-*"))) == 2

    def test_the_better_half_stands_above_the_others_by_its_second_score(self) -> None:
        first, second = [0.5, 0.9, 0.6, 0.8], [0.9, 0.1, 0.9, 0.2]
        assert np.argsort(-supernets.in_two_stages(first, second)).tolist() == [3, 1, 2, 0]

    def test_scores_of_untrained_networks_are_those_of_their_definitions(self) -> None:
        """Of a linear layer's weight: softmax less one-hot, times the input, is the gradient."""
        torch.manual_seed(0)
        layer, images, labels = torch.nn.Linear(3, 4), torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0])
        error = (layer(images).softmax(1) - F.one_hot(labels, 4)).detach() / 5
        gradient = error.T @ images
        norm, kept = gradient.square().sum().sqrt(), (layer.weight * gradient).abs().sum()
        assert supernets.gradient_norm(layer, images, labels) == pytest.approx(norm.item(), rel=1e-5)
        assert supernets.saliency(layer, images, labels) == pytest.approx(kept.item(), rel=1e-5)

    def test_an_untrained_network_is_scored_with_the_same_weights_each_time(self) -> None:
        way = supernets.WAYS["untrained: saliency"](Supernet(SPACE), load_data("digits"), SPACE.search.scoring, 0)
        first = way(SPACE.largest())
        torch.randn(1)  # what is drawn elsewhere is no matter
        assert way(SPACE.largest()) == first
        assert first != way(SPACE.smallest())

    def test_named_variants_are_made_after_the_default(self) -> None:
        assert list(supernets.wanted(None)) == [supernets.DEFAULT]
        assert list(supernets.wanted([])) == list(supernets.variants())
        assert list(supernets.wanted(["sandwich", "fine-tuned 25 steps"])) == [
            supernets.DEFAULT, ("single", "fine-tuned 25 steps", 0), ("sandwich", "search", 0)
        ]  # fmt: skip

    @pytest.mark.parametrize("teacher", ["real", "binary"])
    def test_a_sandwich_is_taught_by_its_largest_network_with_the_weights_asked_for(self, teacher) -> None:
        torch.manual_seed(0)
        space = tiny_space(stages=[{"width": 8}], stem={"width": 4})  # one network: teacher and pupils are one
        supernet = Supernet(space)
        images, labels = torch.randn(8, *space.input), torch.arange(8)
        recipe = SupernetRecipe(mode="sandwich", teacher=teacher)
        loss = SupernetLoss(supernet, recipe, WholeSpace(supernet.space, seed=0))(images, labels, 0)
        alone = F.cross_entropy(supernet(images, space.largest()), labels)
        # Pupils of a binary teacher say what it says: three times no distance.
        assert (loss.item() == pytest.approx(alone.item(), rel=1e-5)) == (teacher == "binary")


class TestAtRandom:
    ERRORS = {(s, b): LayerErrors(0.1, 0.1, {}) for s in range(3) for b in range(2)}  # noqa: RUF012

    def test_every_block_is_as_likely_to_stay_real_first(self) -> None:
        space = by_metric.space_for("at random", self.ERRORS, seed=0, trials=60)
        genes = space.genes(space.largest())
        firsts = Counter(space.model_copy(update={"seed": seed}).ordered(genes)[0].place for seed in range(600))
        assert len(firsts) == 6
        # A sixth of 600 has a standard deviation of 9.
        assert all(abs(count - 100) < 4 * 9 for count in firsts.values())

    def test_topologies_have_orders_of_their_own(self) -> None:
        space, random = by_metric.space_for("at random", self.ERRORS, seed=0, trials=60), Random(0)
        orders = [tuple(block.place for block in space.ordered(space.sample(random))) for _ in range(60)]
        assert len({order for order in orders if len(order) == 6}) > 1

    def test_the_order_does_not_change_with_what_is_real(self) -> None:
        space = by_metric.space_for("at random", self.ERRORS, seed=0, trials=60)
        genes = space.sample(Random(1))
        places = [block.place for block in space.ordered(genes)]
        for kept in range(len(places) + 1):
            decided = space.decided(genes, kept=kept)
            assert [block.place for block in space.ordered(decided)] == places
            assert space.canonical(decided) == decided

    @pytest.mark.parametrize("way", by_metric.WAYS)
    def test_every_way_breeds_for_as_many_trials_as_it_pays_for(self, way) -> None:
        assert by_metric.space_for(way, self.ERRORS, seed=0, trials=60).search.trials == 60


def test_the_way_of_the_higher_accuracy_holds() -> None:
    rows = [{"way": w, "test_accuracy": a, "proxy_accuracy": a} for w, a in (("none", 0.5), ("by product", 0.6))]
    assert [claim.holds for claim in by_metric.claims(pd.DataFrame(rows))] == [True, True]


class TestSearchVsScratch:
    def claims(self, *scratch: tuple[float, float], search: float = 0.60, budgets: tuple[str, ...] = ("ops=50k",)):
        """Claims where the search took as long as each network from scratch, which reach (validation, test)."""
        rows = [
            (*way, budget, 100.0, *reached)
            for budget in budgets
            for way, reached in [
                (("search", 0), (search, search)), *((("tpe", number), each) for number, each in enumerate(scratch))
            ]
        ]  # fmt: skip
        columns = ["way", "number", "budget", "seconds", "validation_accuracy", "test_accuracy"]
        return list(search_vs_scratch.claims(pd.DataFrame(rows, columns=columns).assign(seed=0)))

    def test_two_points_more_at_equal_time_are_enough(self) -> None:
        time, accuracy, one = self.claims((0.57, 0.57))
        assert (time.holds, accuracy.holds, one.holds) == (True, False, True)
        assert "+3.00 points" in time.claim
        assert "not reached in 1 of 1 cases by tpe from scratch, tried for 1.0 times as long" in accuracy.claim

    def test_less_than_two_points_are_not(self) -> None:
        assert [claim.holds for claim in self.claims((0.59, 0.59))] == [False, False, False]

    def test_a_search_that_is_behind_does_not_hold(self) -> None:
        time, accuracy, one = self.claims((0.70, 0.70))
        assert (time.holds, accuracy.holds, one.holds) == (False, False, False)
        assert "-10.00 points" in time.claim
        assert "reached in all 1 cases" in accuracy.claim

    def test_five_times_as_long_without_catching_up_is_a_fifth_of_the_time(self) -> None:
        time, accuracy, one = self.claims(*[(0.59, 0.59)] * 5)
        assert (time.holds, accuracy.holds, one.holds) == (False, True, True)
        assert accuracy.ratio == 1 / 5

    def test_what_counts_is_the_network_of_the_best_validation_accuracy(self) -> None:
        _, accuracy, _ = self.claims((0.58, 0.55), (0.50, 0.65), (0.61, 0.62))
        assert accuracy.yardstick == 300  # the second is better than the search, but would not be handed over

    def test_each_budget_of_a_seed_is_a_case_of_its_own(self) -> None:
        time, accuracy, _ = self.claims((0.57, 0.57), (0.60, 0.60), budgets=("ops=50k", "ops=75k"))
        assert "1 seeds by 2 budgets" in time.claim
        assert "+3.00 points +- 0.00" in time.claim
        assert (accuracy.value, accuracy.yardstick) == (200, 400)

    def test_what_tpe_is_told_changes_what_it_proposes_from_the_fifth_network_on(self) -> None:
        budget = Budget.parse(SPACE.search.budget)

        def proposed(sign: int) -> list[Genes]:
            study, found = optuna.create_study(direction="maximize"), list[Genes]()
            for number in range(12):
                study.sampler = search_vs_scratch.modelling_tpe(SPACE, budget, number)
                trial = study.ask(distributions(SPACE))
                found.append(to_genes(SPACE, trial.params))
                study.tell(trial, sign * float(sum(found[-1])))
            return found

        high, low = proposed(1), proposed(-1)
        assert high[: search_vs_scratch.DRAWN_FIRST] == low[: search_vs_scratch.DRAWN_FIRST]
        assert high[search_vs_scratch.DRAWN_FIRST] != low[search_vs_scratch.DRAWN_FIRST]
        assert sum(map(sum, high[6:])) > sum(map(sum, low[6:]))

    def test_the_documents_show_what_each_reached_in_the_time_of_the_search(self) -> None:
        table = Rows(
            search_vs_scratch.RESULTS, search_vs_scratch.COLUMNS, texts=("way", "budget", "id", "genes")
        ).frame()
        shown = (Path(__file__).parents[1] / "docs" / "results.md").read_text()
        for case in search_vs_scratch.cases(table, "search"):
            cells = [f"{100 * search_vs_scratch.of(table, 'search', case)['test_accuracy'].iloc[0]:.1f}"]
            for rival in ("tpe", "random"):
                if search_vs_scratch.has_had_its_time(table, rival, case):
                    cells.append(f"{100 * search_vs_scratch.in_time(table, rival, case):.1f}")
                else:
                    begun = len(search_vs_scratch.of(table, rival, case)) > 0
                    cells.append("not for its time yet" if begun else "not trained yet")
            budget = f"{int(case[1].removeprefix('ops=')) // 1000}k ops"
            assert f"| {' | '.join([str(case[0]), budget, *cells])} |" in shown

    def test_without_results_nothing_is_claimed(self) -> None:
        assert list(search_vs_scratch.claims(pd.DataFrame(columns=list(search_vs_scratch.COLUMNS)))) == []
