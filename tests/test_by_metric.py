"""Spaces whose real inputs are chosen by error and cost."""

from concurrent.futures import Future
from random import Random
from typing import cast

import optuna
import pytest
import torch

import bnas
from bnas.binarize.error import InputError
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import SpecError
from bnas.progress import silent
from bnas.searcher.block_errors import with_metric
from bnas.searcher.by_metric import MetricSpace
from bnas.searcher.candidate import Score
from bnas.searcher.evolution import _Known
from bnas.searcher.feasible import cost_of, sample_within
from bnas.searcher.journal import Journal
from bnas.searcher.ranking import every_network
from bnas.searcher.sampler import ask, distributions, to_params
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.score import Scorer
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search, _sound
from bnas.select import LayerErrors
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace
from bnas.supernet import Supernet
from tests.spaces import make_space
from tests.tiny import MemoryLog, MemoryStore, tiny_space

OWN_BLOCKS = """
from torch import nn

from bnas.layers import BinaryConv, binarize_


class Converted(nn.Module):
    def __init__(self, ins, out, *, precision, **rest):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(ins), nn.Conv2d(ins, out, 3, 1, 1, bias=False)
        binarize_(self.conv, precision=precision, norm=False)

    def forward(self, x):
        return self.conv(input=self.norm(x))


class Given(Converted):
    def __init__(self, ins, out, *, precision, **rest):
        super().__init__(ins, out, precision=precision)
        self.conv = BinaryConv(ins, out, kernel=3, precision=precision)

    def forward(self, x):
        return self.conv(x=self.norm(x))


class Plain(Converted):
    def __init__(self, ins, out, *, precision, **rest):
        super().__init__(ins, out, precision=precision)
        self.conv = nn.Conv2d(ins, out, 3, 1, 1, bias=False)
"""

STAGES = [
    {"depth": [1, 2], "width": [8, 16], "precision": ["binary", "weight"]},
    {"depth": [1, 2], "width": 16, "precision": ["weight", "binary"], "stride": 2},
    {"depth": 1, "width": 32, "precision": "binary"},
]
ERRORS = {(0, 0): 0.4, (0, 1): 0.5, (1, 0): 0.3, (1, 1): 0.2}


BUDGET = Budget.parse(["ops=60k"])


def metric_space(kind: str = "by_metric", **search: object) -> MetricSpace:
    space = make_space(stages=STAGES, precision=kind, search=search)
    return MetricSpace.of(space, {place: LayerErrors(value, 0.0, {}) for place, value in ERRORS.items()})


def by_hand(space: SearchSpace, genes: Genes) -> list[list[str]]:
    """Return the precisions that are due: every block's ops are those that the network saves by it alone."""
    arch = space.architecture(genes)
    kept = [(s, b) for s in (0, 1) for b, at in enumerate(arch.stages[s].precision) if at == "weight"]
    due = [["binary"] * stage.depth for stage in arch.stages]

    def ops(places: list[tuple[int, int]]) -> float:
        precision = [["binary"] * stage.depth for stage in arch.stages]
        for s, b in places:
            precision[s][b] = "weight"
        stages = [
            stage.model_copy(update={"precision": tuple(p)}) for stage, p in zip(arch.stages, precision, strict=True)
        ]
        return cost(plan(arch.model_copy(update={"stages": tuple(stages)}))).ops

    places = [(s, b) for s in (0, 1) for b in range(arch.stages[s].depth)]
    order = sorted(places, key=lambda place: ERRORS[place] / (ops([place]) - ops([])), reverse=True)
    for s, b in order[: len(kept)]:
        due[s][b] = "weight"
    return due


def test_as_many_stay_real_and_where_error_over_cost_is_highest() -> None:
    space = metric_space()
    free = make_space(stages=STAGES)
    for genes in every_network(free):
        arch = space.architecture(space.canonical(genes))
        assert [list(stage.precision) for stage in arch.stages] == by_hand(free, genes)


def test_one_number_stands_for_all_placements() -> None:
    space, free = metric_space(), make_space(stages=STAGES)
    networks = every_network(space)
    assert len(networks) == space.size == 2 * (3 + 4 + 4 + 5)
    assert set(networks) < set(every_network(free))
    assert free.size == 2 * (2 + 4) * (2 + 4)


def test_stages_that_are_not_there_have_no_shapes_to_count() -> None:
    stages = [
        {"depth": [0, 2], "width": [8, 16], "precision": ["binary", "weight"]},
        {"depth": [0, 1], "width": [8, 16]},
    ]
    errors = {(0, block): LayerErrors(0.1 + block, 0.0, {}) for block in range(2)}
    space = MetricSpace.of(make_space(stages=stages, precision="by_metric"), errors)
    assert len(every_network(space)) == space.size == (1 + 2 * 3) * (1 + 2)


def test_a_fixed_metric_decides_by_itself() -> None:
    product, hybrid = metric_space(), metric_space(metric="hybrid")
    assert {hybrid.canonical(genes) for genes in every_network(product)} != set(every_network(product))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_searches_propose_only_what_the_metric_decides(sampler) -> None:
    space = metric_space()
    for genes in proposals(space, sampler, count=60):
        assert [list(s.precision) for s in space.architecture(genes).stages] == by_hand(space, genes)


def test_how_many_stay_real_is_drawn_evenly() -> None:
    space, random = metric_space(), Random(0)
    shares = {}
    for _ in range(3000):
        arch = space.architecture(space.sample(random))
        blocks = [p for stage in arch.stages[:2] for p in stage.precision]
        shares.setdefault(len(blocks), []).append(blocks.count("weight"))
    for most, counts in shares.items():
        assert all(counts.count(k) / len(counts) == pytest.approx(1 / (most + 1), abs=0.05) for k in range(most + 1))


def test_first_by_metric_begins_with_what_the_metric_decides_and_may_leave_it() -> None:
    space, random = metric_space("first_by_metric"), Random(0)
    begins = [sample_within(space, Budget.parse(["ops=1M"]), random) for _ in range(50)]
    assert all([list(s.precision) for s in space.architecture(g).stages] == by_hand(space, g) for g in begins)
    assert {space.mutate(g, random) for g in begins} - set(every_network(metric_space()))
    assert space.size == make_space(stages=STAGES).size


def test_a_network_is_contained_where_a_search_may_come_upon_it() -> None:
    space, free = metric_space(), make_space(stages=STAGES)
    inside = {genes for genes in every_network(free) if space.contains(free.architecture(genes))}
    assert inside == set(every_network(space))
    assert all(metric_space("first_by_metric").contains(free.architecture(genes)) for genes in every_network(free))


@pytest.mark.parametrize("dimension", ["stem.width", "stages[0].width"])
def test_its_parts_decide_as_the_whole_does(dimension) -> None:
    space = metric_space()
    choices = next(d.choices for d in space.dimensions if d.name == dimension)
    parts = [space.offering(dimension, choice) for choice in choices]
    assert all(part.errors == space.errors for part in parts)
    for part in parts:
        for genes in every_network(part):
            assert [list(s.precision) for s in part.architecture(genes).stages] == by_hand(part, genes)


def test_a_part_that_leaves_nothing_to_decide_is_free() -> None:
    stages = [STAGES[0], {"width": 16}]
    space = MetricSpace.of(
        make_space(stages=stages, precision="by_metric"), {(0, b): LayerErrors(0.1, 0.0, {}) for b in (0, 1)}
    )
    for whole in (space, make_space(stages=stages, precision="by_metric")):
        assert {whole.offering("stages[0].precision", p).precision for p in ("binary", "weight")} == {"free"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_begins_with_what_the_metric_decides(sampler) -> None:
    space = metric_space("first_by_metric", trials=40)
    firsts = proposals(space, sampler, count=10)  # a quarter of the trials
    assert set(firsts) <= set(every_network(metric_space()))
    assert firsts != proposals(make_space(stages=STAGES, search={"trials": 40}), sampler, count=10)


@pytest.mark.parametrize("sampler", ["evolution", "nsga2", "tpe"])
def test_every_search_leaves_what_the_metric_decides_after_its_first_population(sampler) -> None:
    found = proposals(metric_space("first_by_metric", trials=40), sampler, count=60)
    assert set(found) - set(every_network(metric_space()))


@pytest.mark.parametrize("precision", ["by_metric", "first_by_metric"])
def test_evolution_proposes_the_same_again_and_nothing_twice_where_a_metric_decides(precision) -> None:
    found = proposals(metric_space(precision, trials=40), "evolution", count=40)
    assert found == proposals(metric_space(precision, trials=40), "evolution", count=40)
    space = metric_space(precision)
    inside = [genes for genes in every_network(space) if BUDGET.admits(cost_of(space, genes))]
    assert len(set(found)) == min(len(found), len(inside))


def test_a_given_network_that_the_metric_would_not_draw_is_learned_as_itself_and_taken_up_again() -> None:
    space, log, asked = metric_space(), MemoryLog(), list[str]()
    whole = SearchSpace.canonical(space, space.genes(space.largest()))
    genes = list(whole)
    genes[space.precision_places[0][0]] = 1 - genes[space.precision_places[0][0]]
    given = SearchSpace.canonical(space, genes)
    assert space.canonical(given) != given

    def submit(arch: Architecture) -> "Future[Score]":
        asked.append(arch.id)
        future: Future[Score] = Future()
        future.set_result(Score(0.5, 0.5))
        return future

    def found() -> list[Genes]:
        search = Search(
            space, BUDGET, sampler=SAMPLERS["evolution"], seed=0, name="search",
            stored=StoredStudy(None, "search"), journal=Journal(log), first=[given],
        )  # fmt: skip
        return [candidate.genes for candidate in search.run(6, submit, progress=silent, note=lambda _: None)]

    first = found()
    assert first[0] == given
    assert len(asked) == 6
    assert found() == first
    assert len(asked) == 6
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trial(
        optuna.trial.create_trial(params=to_params(space, given), distributions=distributions(space), values=[1.0, 2.0])
    )
    known = _Known(space)
    known.catch_up(study.trials)
    assert known.seen == {given}
    assert list(_sound(space, Journal(log).proposals("search"), [given])) == Journal(log).proposals("search")


def proposals(space: SearchSpace, sampler: str, *, count: int) -> list[Genes]:
    study, found = optuna.create_study(directions=["maximize", "minimize"]), []
    for number in range(count):
        trial, genes = ask(study, SAMPLERS[sampler], space, BUDGET, seed=number)
        study.tell(trial, [Random(str(genes)).random(), cost_of(space, genes).ops])
        found.append(genes)
    return found


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([{"width": 8}], "has nothing to choose"),
        ([{"width": 8, "precision": ["weight", "real"]}], r"stages\[0\].precision.*binary and one other"),
        ([{"width": 8, "precision": ["binary", "weight", "real"]}], r"stages\[0\].precision"),
    ],
)
def test_a_metric_needs_two_precisions_to_choose_from(stages, says) -> None:
    with pytest.raises(SpecError, match=says):
        make_space(stages=stages, precision="by_metric")


def test_every_block_must_be_measured() -> None:
    space = make_space(stages=STAGES, precision="by_metric")
    with pytest.raises(SpecError, match="block 1 of stage 1"):
        MetricSpace.of(space, {key: LayerErrors(0.1, 0.1, {}) for key in ERRORS if key != (1, 1)})


class TestMeasured:
    def test_errors_are_those_before_the_sign_and_are_measured_once(self) -> None:
        torch.manual_seed(0)
        space = tiny_space(precision="by_metric")
        scorer = Scorer(Supernet(space), load_data("digits", limit=600), space.search.scoring, seed=0,
                        device=torch.device("cpu"))  # fmt: skip
        store = MemoryStore()
        decided = with_metric(space, lambda: scorer, seed=0, store=store)
        assert isinstance(decided, MetricSpace)
        assert set(decided.errors) == {(0, 0), (0, 1), (1, 0)}
        # A batch norm gives values of mean 0 and variance 1, so E = 2 - 2 mean |x|, which is at most 1.
        assert all(0 < errors.plain < 1 for errors in decided.errors.values())

        def unasked() -> Scorer:
            raise AssertionError("measured twice")

        assert with_metric(space, unasked, seed=0, store=store) == decided

    @pytest.mark.parametrize("seed", range(8))
    def test_every_block_is_among_the_networks_however_many_depths_there_are(self, seed) -> None:
        stage = {"depth": list(range(1, 41)), "width": 4, "precision": ["binary", "weight"]}
        space = make_space(stages=[stage], precision="by_metric")

        class Told:
            def input_errors(self, arch: Architecture) -> dict[tuple[int, int], InputError]:
                return {(0, block): InputError(2.0, 1.0, 1.0) for block in range(arch.stages[0].depth)}

        decided = with_metric(space, lambda: cast("Scorer", Told()), seed=seed, store=MemoryStore())
        assert len(cast("MetricSpace", decided).errors) == 40

    def test_blocks_of_ones_own_are_measured_or_refused_before_training(self, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(OWN_BLOCKS)
        stage = {"depth": [1, 2], "width": 4, "precision": ["binary", "weight"]}
        images = load_data("digits", limit=600)

        def space_of(block: str) -> SearchSpace:
            return tiny_space(stages=[stage | {"block": f"mine.py:{block}"}], precision="by_metric")

        for block in ("Converted", "Given"):
            space = space_of(block)
            scorer = Scorer(Supernet(space), images, space.search.scoring, seed=0, device=torch.device("cpu"))
            decided = with_metric(space, lambda scorer=scorer: scorer, seed=0, store=MemoryStore())
            assert set(cast("MetricSpace", decided).errors) == {(0, 0), (0, 1)}
        with pytest.raises(SpecError, match=r"stages\[0\].block: .*mine.py:Plain: block 0 .* no layer of bnas"):
            bnas.search(space_of("Plain"), data=images, out=tmp_path / "run", trust=True)
        assert not (tmp_path / "run").exists()

    def test_the_error_of_a_block_is_that_of_its_convolutions(self) -> None:
        torch.manual_seed(0)
        space = tiny_space(precision="by_metric")
        scorer = Scorer(Supernet(space), load_data("digits", limit=600), space.search.scoring, seed=0,
                        device=torch.device("cpu"))  # fmt: skip
        arch = space.largest().model_copy(
            update={"stages": tuple(s.model_copy(update={"groups": 2}) for s in space.largest().stages)}
        )
        inputs: dict[str, list[torch.Tensor]] = {}
        network = scorer.network(arch)
        for name, module in network.named_modules():
            if name.endswith(".conv") and "stages" in name:
                module.register_forward_pre_hook(lambda _, args, name=name: inputs.setdefault(name, []).append(args[0]))
        with torch.no_grad():
            for images in scorer._recalibration:
                network(images)
        for (stage, block), found in scorer.input_errors(arch).items():
            values = torch.cat(
                [x.flatten() for u in ("main", "mix") for x in inputs[f"stages.{stage}.{block}.{u}.conv"]]
            )
            signs = torch.where(values >= 0, 1.0, -1.0)
            assert found.plain == pytest.approx((values - signs).square().mean().item(), rel=1e-4)

    def test_a_whole_search_decides_by_the_metric(self, tmp_path) -> None:
        result = bnas.search(tiny_space(precision="by_metric"), data="digits", out=tmp_path / "run")
        said = [event for event in result.run.events() if event["event"] == "errors"]
        assert said[0]["metric"] == "product"
        assert set(said[0]["plain"]) == {"0.0", "0.1", "1.0"}
        assert result.best.manifest["reload"]["identical"]
        genes = [tuple(map(int, text.split("-"))) for text in result.candidates["genes"]]
        errors = {tuple(map(int, key.split("."))): LayerErrors(v, 0.0, {}) for key, v in said[0]["plain"].items()}
        space = MetricSpace.of(tiny_space(precision="by_metric"), errors)
        assert all(space.canonical(each) == each for each in genes)
