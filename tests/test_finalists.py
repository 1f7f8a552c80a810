"""Which scored candidates are trained alone."""

from collections.abc import Sequence
from random import Random

import pytest

from bnas.cost.totals import Cost
from bnas.searcher.candidate import Candidate, Score, paid
from bnas.searcher.finalists import finalists
from bnas.space.space import Genes, SearchSpace
from tests.spaces import make_space, rich_space


def scored(genes: Sequence[Genes], ops: Sequence[int], losses: Sequence[float]) -> list[Candidate]:
    """Return candidates with these facts, in this order."""
    return [
        Candidate(number, str(number), "paid", each, Cost(0, flops, 0, 0), Score(0.5, loss))
        for number, (each, flops, loss) in enumerate(zip(genes, ops, losses, strict=True))
    ]


def by_width(space: SearchSpace, *, widths: int) -> list[Genes]:
    """Return a network of each width of a space of one stage."""
    places = [len(dimension.choices) == widths for dimension in space.dimensions]
    return [tuple(gene if here else 0 for here in places) for gene in range(widths)]


def some(space: SearchSpace, *, count: int, seed: int = 0) -> list[Candidate]:
    """Return candidates of a space, of which the cheaper look better."""
    random = Random(seed)
    genes = [tuple(random.randrange(len(d.choices)) for d in space.dimensions) for _ in range(count)]
    ops = random.sample(range(1000, 1000 + 10 * count), count)
    return scored(genes, ops, [n / 10**4 + random.random() / 100 for n in ops])


@pytest.mark.parametrize("top", [1, 2, 3, 5])
def test_one_is_as_dear_as_each_share_asks_for(top) -> None:
    candidates = some(rich_space(), count=60)
    ops = sorted((c.cost.ops for c in finalists(candidates, rich_space(), top=top)), reverse=True)
    by_ops = sorted((c.cost.ops for c in candidates), reverse=True)
    for place, mine in enumerate(ops[:-1], start=1):
        assert mine >= by_ops[place * len(by_ops) // top - 1]


@pytest.mark.parametrize("top", [1, 2, 3, 5])
def test_the_best_of_all_is_among_them_and_they_come_best_first(top) -> None:
    candidates = some(rich_space(), count=40)
    chosen = finalists(candidates, rich_space(), top=top)
    assert chosen[0] == paid(candidates)[0]
    assert chosen == [c for c in paid(candidates) if c in chosen]
    assert len(set(chosen)) == top


def test_a_dear_best_is_not_joined_by_cheap_ones() -> None:
    space = make_space(stage={"width": [8, 16, 24, 32]})
    candidates = scored(by_width(space, widths=4), [1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1])
    assert [c.number for c in finalists(candidates, space, top=2)] == [3, 2]


def test_they_differ_in_a_quarter_of_the_dimensions() -> None:
    space = rich_space()
    candidates = some(space, count=200)
    near = paid(candidates)[0].genes
    open_ = [place for place, dimension in enumerate(space.dimensions) if len(dimension.choices) > 1]
    for one in (chosen := finalists(candidates, space, top=4)):
        apart = [sum(one.genes[place] != other.genes[place] for place in open_) for other in chosen if other != one]
        assert min(apart) >= round(0.25 * len(open_))
    assert near == chosen[0].genes


@pytest.mark.parametrize("top", [3, 7])
def test_few_candidates_are_all_trained_however_alike(top) -> None:
    space = make_space()
    candidates = scored(by_width(space, widths=2), [20, 10], [0.1, 0.2])
    assert [c.number for c in finalists(candidates, space, top=top)] == [0, 1]


def test_cheap_ones_have_to_do_where_all_dear_ones_are_chosen() -> None:
    space = make_space(stage={"width": [8, 16, 24]})
    candidates = scored(by_width(space, widths=3), [10, 20, 30], [0.3, 0.2, 0.1])
    assert [c.number for c in finalists(candidates, space, top=3)] == [2, 1, 0]


def test_what_failed_or_was_over_the_budget_is_none() -> None:
    space = make_space()
    candidates = [c._replace(status="over_budget", score=None) for c in some(space, count=2)]
    assert finalists(candidates, space, top=2) == []
