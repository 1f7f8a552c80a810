"""Rank measures against counts by hand, scipy and simulation; samples; what the sentence says."""

import json
import math
import statistics
from itertools import combinations
from random import Random

import numpy as np
import pytest
from scipy.stats import kendalltau

from bnas.errors import SpecError
from bnas.searcher.feasible import cost_of
from bnas.searcher.ranking import Ranking, dealt, every_network, judge, summed_standard, tau, tau_within
from bnas.searcher.ranking.measure import (
    bands,
    ceiling,
    interval,
    noise,
    regret,
    regret_of_chance,
    resampled,
    spread_of_chance,
    tau_by_band,
    tau_of_samples,
)
from bnas.searcher.ranking.verdict import CHANCE
from tests.reference import naive_tau
from tests.tiny import tiny_space

DRAWN = np.random.default_rng(0)
SCORE, TRUTH = DRAWN.integers(0, 6, (2, 30)).astype(float)  # with ties in both


class TestTau:
    def test_of_four_networks_with_one_pair_the_wrong_way_round(self) -> None:
        assert tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx((5 - 1) / 6)

    def test_counts_ties_as_tau_b_does(self) -> None:
        # Of three pairs one ties in the score; the other two agree: 2 / sqrt(2 * 3).
        assert tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(2 * 3))

    def test_is_what_counting_pairs_gives(self) -> None:
        assert tau(SCORE, TRUTH) == pytest.approx(naive_tau(SCORE.tolist(), TRUTH.tolist()))

    def test_of_a_constant_score_does_not_exist(self) -> None:
        assert math.isnan(tau([1, 1, 1], [1, 2, 3]))


class TestBands:
    def test_hold_as_many_networks_each_cheapest_first(self) -> None:
        assert bands([50, 10, 40, 20, 30, 60], count=3).tolist() == [2, 0, 1, 0, 1, 2]

    def test_tau_within_leaves_pairs_of_different_bands_out(self) -> None:
        score, truth, band = [1, 2, 9, 8], [1, 2, 3, 4], [0, 0, 1, 1]
        assert tau(score, truth) == pytest.approx((5 - 1) / 6)
        assert tau_within(score, truth, band) == 0  # one pair agrees, one does not

    def test_tau_within_one_band_is_tau(self) -> None:
        assert tau_within(SCORE, TRUTH, np.zeros(30)) == pytest.approx(kendalltau(SCORE, TRUTH).statistic)

    def test_tau_by_band_is_tau_of_the_networks_inside(self) -> None:
        assert tau_by_band([1, 2, 9, 8, 7], [1, 2, 3, 4, 5], [0, 0, 1, 1, 2])[:2] == (1, -1)
        assert math.isnan(tau_by_band([1, 2, 9], [1, 2, 3], [0, 0, 1])[1])  # one network has no order


class TestRegret:
    def test_is_what_the_best_of_the_highest_scores_falls_short(self) -> None:
        score, truth = [0.9, 0.8, 0.7, 0.6], [0.50, 0.57, 0.60, 0.40]
        assert [regret(score, truth, k) for k in (1, 2, 3)] == pytest.approx([0.10, 0.03, 0.0])

    def test_of_chance_is_the_mean_over_all_draws(self) -> None:
        truth = [0.50, 0.57, 0.60, 0.40]
        for k in (1, 2, 3, 4):
            best = statistics.fmean(max(draw) for draw in combinations(truth, k))
            assert regret_of_chance(truth, k) == pytest.approx(max(truth) - best)


class TestNoise:
    def test_deviation_of_one_training_from_pairs(self) -> None:
        # Differences 0.02 and -0.02: the variance of a difference is twice that of a training.
        assert noise([0.50, 0.60], [0.48, 0.62]) == pytest.approx(0.02 / math.sqrt(2))

    def test_ceiling_is_met_by_a_score_without_error(self) -> None:
        generator = np.random.default_rng(0)
        true = generator.normal(size=2000)
        first, second = true + generator.normal(scale=0.6, size=(2, 2000))
        # Standard errors of tau at 2,000 networks are about 0.01.
        assert ceiling(tau(first, second)) == pytest.approx(tau(true, first), abs=0.03)

    def test_ceiling_of_trainings_that_agree_is_one_and_of_those_that_do_not_zero(self) -> None:
        assert [ceiling(1.0), ceiling(0.0), ceiling(-0.2)] == pytest.approx([1, 0, 0])
        assert math.isnan(ceiling(math.nan))

    def test_spread_of_chance_is_that_of_shuffled_orders(self) -> None:
        generator = np.random.default_rng(0)
        taus = [tau(generator.permutation(12), range(12)) for _ in range(2000)]
        assert np.std(taus) == pytest.approx(spread_of_chance(12), rel=0.06)  # a deviation of 2,000 draws: 1.6 %


class TestInterval:
    def test_tau_of_samples_is_tau_of_the_networks_drawn(self) -> None:
        samples = resampled(30, seed=0, draws=20)
        drawn = [np.repeat(np.arange(30), sample.astype(int)) for sample in samples]
        expected = [kendalltau(SCORE[places], TRUTH[places]).statistic for places in drawn]
        assert tau_of_samples(SCORE, TRUTH, samples) == pytest.approx(expected)

    def test_samples_are_as_large_as_the_whole_and_differ(self) -> None:
        samples = resampled(30, seed=0)
        assert (samples.sum(1) == 30).all()
        assert len(np.unique(samples, axis=0)) == len(samples)

    def test_leaves_a_fortieth_on_either_side_and_what_has_no_value(self) -> None:
        values = np.append(np.arange(1001.0), math.nan)
        assert interval(values) == pytest.approx((25, 975))
        assert interval(np.array([math.nan])) == pytest.approx((math.nan, math.nan), nan_ok=True)

    def test_narrows_with_more_networks(self) -> None:
        truth, ops = truth_of(400)
        wide, narrow = (interval(tau_of_samples(ops[:n], truth[:n], resampled(n, seed=0))) for n in (25, 400))
        assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])  # as the root of 16


def test_together_weighs_score_and_cost_alike() -> None:
    # In their own deviations both are (-1, 1) and (1, -1): they cancel out.
    assert summed_standard([0.4, 0.6], [1000, 10]) == pytest.approx([0, 0])
    assert summed_standard([0.4, 0.6], [10, 1000]) == pytest.approx([-2, 2])


class TestSample:
    COSTS = [Random(7).random() for _ in range(57)]  # noqa: RUF012

    def test_deals_every_place_once(self) -> None:
        assert sorted(dealt(self.COSTS, seed=0)) == list(range(57))

    @pytest.mark.parametrize("size", [10, 20, 50])
    def test_every_beginning_has_as_many_of_each_tenth(self, size) -> None:
        ranks = np.argsort(np.argsort(self.COSTS))
        tenth = np.minimum(ranks * 10 // 57, 9)
        counts = np.bincount(tenth[dealt(self.COSTS, seed=0)[:size]], minlength=10)
        assert np.abs(counts - size / 10).max() <= 1  # the tenths themselves differ by one network

    def test_another_seed_deals_another_order(self) -> None:
        assert dealt(self.COSTS, seed=0) == dealt(self.COSTS, seed=0) != dealt(self.COSTS, seed=1)

    def test_fewer_networks_than_strata_are_all_dealt(self) -> None:
        assert sorted(dealt([3.0, 1.0, 2.0], seed=0)) == [0, 1, 2]

    def test_every_network_of_a_space_is_listed_once(self) -> None:
        space = tiny_space()
        listed = every_network(space)
        assert len(listed) == len(set(listed)) == space.size
        assert len({cost_of(space, genes).ops for genes in listed}) > 10

    def test_a_space_too_large_to_list_is_refused(self) -> None:
        stage = {"depth": [1, 2, 3], "width": [4, 8, 16], "precision": ["binary", "weight", "real"]}
        with pytest.raises(SpecError, match="are too many to list"):
            every_network(tiny_space(stages=[stage] * 4))


def truth_of(networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies and ops that explain about half of them."""
    generator = np.random.default_rng(3)
    ops = np.exp(generator.normal(size=networks))
    return 0.5 + 0.02 * np.log(ops) + 0.02 * generator.normal(size=networks), ops


class TestVerdict:
    def test_a_perfect_score_is_trusted_with_networks_of_any_cost(self) -> None:
        truth, ops = truth_of(60)
        found = judge({"proxy": truth}, truth, ops, proxy="proxy")
        assert found["proxy"].tau == found["proxy"].within == 1
        assert found["proxy"].regrets == {1: 0, 5: 0, 10: 0}
        assert found.beats_ops
        assert found.sentence.startswith("Trust this proxy to choose among networks of any cost")

    def test_a_score_that_only_counts_ops_raises_the_red_flag(self) -> None:
        truth, ops = truth_of(60)
        found = judge({"proxy": np.log(ops)}, truth, ops, proxy="proxy")
        assert found.lead == (0, 0, 0)
        assert found.sentence.startswith("RED FLAG: do not trust this proxy")

    def test_where_all_networks_are_as_good_nothing_can_be_ranked(self) -> None:
        found = judge({"proxy": np.arange(3)}, np.full(3, 0.5), np.arange(3) + 1, proxy="proxy")
        assert found.sentence.startswith("Nothing can be ranked: all 3 networks reached the same accuracy; check more")
        assert (found[CHANCE].low, found[CHANCE].high) == (-1, 1)

    def test_a_constant_score_raises_the_red_flag(self) -> None:
        truth, ops = truth_of(20)
        found = judge({"proxy": np.zeros(20)}, truth, ops, proxy="proxy")
        assert found.sentence.startswith("RED FLAG: do not trust this proxy: it gives all 20 networks the same score")
        assert found.as_dict()["measured"][0]["tau"] is None

    def test_an_order_that_may_be_chance_is_not_trusted_though_that_of_ops_is_worse(self) -> None:
        truth = np.array([3, 1, 0, 2, 4, 5]) / 10
        found = judge({"proxy": [0, 1, 2, 3, 4, 5]}, truth, [6, 5, 4, 3, 2, 1], proxy="proxy")
        assert found.beats_ops
        assert found["proxy"].low <= 0
        assert found.sentence.startswith("Too few networks to tell: 6 are ranked by the proxy with tau")

    def test_where_all_cost_the_same_the_proxy_is_judged_alone(self) -> None:
        truth = np.random.default_rng(0).permutation(24).astype(float)
        found = judge({"proxy": truth}, truth, np.full(24, 1e6), proxy="proxy")
        assert found.lead == (1, 1, 1)
        assert found.beats_ops
        assert "better than counting ops (0, as all cost the same)" in found.sentence
        assert "RED FLAG" in judge({"proxy": -truth}, truth, np.full(24, 1e6), proxy="proxy").sentence

    def test_a_lead_that_may_be_luck_is_said_to_be_in_doubt(self) -> None:
        truth, ops = truth_of(12)
        proxy = truth + 0.01 * np.random.default_rng(5).normal(size=12)
        found = judge({"proxy": proxy}, truth, ops, proxy="proxy")
        assert found.lead[1] < 0 < found.lead[0]
        assert "not beyond doubt" in found.sentence

    def test_ops_and_chance_stand_beside_every_score(self) -> None:
        truth, ops = truth_of(60)
        found = judge({"proxy": truth, "parameters": ops**2}, truth, ops, proxy="proxy")
        assert [row.score for row in found.measured] == ["proxy", "parameters", "ops", "random"]
        assert found["parameters"].tau == found["ops"].tau  # the same order
        assert found["random"].regrets[1] == pytest.approx(truth.max() - truth.mean())
        assert found["random"].high == pytest.approx(1.96 * spread_of_chance(60))

    def test_what_is_kept_comes_back_though_some_numbers_do_not_exist(self) -> None:
        truth, ops = truth_of(6)
        found = judge({"proxy": truth}, truth, ops, proxy="proxy", repeated=([0.5, 0.5], [0.4, 0.6]))
        assert math.isnan(found.seeds.tau)
        assert Ranking.known(json.loads(json.dumps(found.as_dict()))).as_dict() == found.as_dict()

    def test_repeated_trainings_give_the_noise_floor(self) -> None:
        truth, ops = truth_of(60)
        found = judge({"proxy": truth}, truth, ops, proxy="proxy", repeated=(truth[:10], truth[:10]))
        assert found.seeds == pytest.approx((10, 1, 1, 0))

    def test_few_networks_have_no_top_that_is_all_of_them(self) -> None:
        truth, ops = truth_of(5)
        assert set(judge({"proxy": truth}, truth, ops, proxy="proxy")["proxy"].regrets) == {1}

    def test_few_networks_are_cut_into_fewer_bands(self) -> None:
        for networks, count in ((5, 1), (7, 2), (12, 4), (60, 4)):
            truth, ops = truth_of(networks)
            assert len(judge({"proxy": truth}, truth, ops, proxy="proxy")["proxy"].by_band) == count

    def test_the_same_networks_give_the_same_numbers(self) -> None:
        truth, ops = truth_of(20)
        assert judge({"p": truth**2}, truth, ops, proxy="p") == judge({"p": truth**2}, truth, ops, proxy="p")
