from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from spaces import every_genotype, make_space, position, rich_space

SEEDS = st.integers(0, 2**32)


class TestDraws:
    """Sampling, mutation and crossing stay inside and are repeatable."""

    def test_every_choice_is_drawn_as_often(self) -> None:
        space = rich_space()
        random, draws = Random(0), 3000
        drawn = [space.sample(random) for _ in range(draws)]
        for index, dimension in enumerate(space.dimensions):
            if ".precision" in dimension.name:  # of a block that may not exist; the next test counts them
                continue
            counts = Counter(genes[index] for genes in drawn)
            share = 1 / len(dimension.choices)
            deviation = (draws * share * (1 - share)) ** 0.5
            for gene in range(len(dimension.choices)):
                assert abs(counts[gene] - draws * share) <= 4 * deviation, dimension.name

    def test_every_precision_of_a_block_that_exists_is_drawn_as_often(self) -> None:
        space = make_space(stage={"depth": [1, 2], "precision": ["binary", "weight", "real"]})
        random = Random(0)
        stages = [space.architecture(space.sample(random)).stages[0] for _ in range(4000)]
        counts = Counter(stage.precision[1] for stage in stages if stage.depth == 2)
        drawn = sum(counts.values())
        deviation = (drawn * 1 / 3 * 2 / 3) ** 0.5
        assert all(abs(count - drawn / 3) <= 4 * deviation for count in counts.values())
        assert len(counts) == 3

    def test_the_same_seed_draws_the_same(self) -> None:
        space = rich_space()
        assert [space.sample(Random(7)) for _ in range(3)] == [space.sample(Random(7))] * 3

    @given(SEEDS)
    def test_draws_are_in_the_space(self, seed: int) -> None:
        space, random = rich_space(), Random(seed)
        first, second = space.sample(random), space.sample(random)
        for genes in (first, space.mutate(first, random, changes=3), space.cross(first, second, random)):
            assert space.contains(space.architecture(genes))
            assert space.canonical(genes) == genes

    @given(SEEDS)
    def test_one_change_changes_one_choice(self, seed: int) -> None:
        space, random = rich_space(), Random(seed)
        genes = space.sample(random)
        other = space.mutate(genes, random)
        differing = [d.name for d, a, b in zip(space.dimensions, genes, other, strict=True) if a != b]
        deeper = tuple(name.removesuffix("depth") + "precision" for name in differing if name.endswith("depth"))
        # A stage that becomes shallower drops the precisions of its last blocks as well.
        assert len([name for name in differing if not name.startswith(deeper)]) == 1

    def test_mutation_reaches_every_neighbour(self) -> None:
        space = make_space(stage={"kernel": [1, 3], "experts": [1, 2, 4]})
        here = space.genes(space.smallest())
        neighbours = {
            genes for genes in every_genotype(space) if sum(a != b for a, b in zip(genes, here, strict=True)) == 1
        }
        random = Random(0)
        assert {space.mutate(here, random) for _ in range(300)} == neighbours

    def test_mutation_of_the_only_network_is_that_network(self) -> None:
        space = make_space(stage={"width": 8})
        only = space.sample(Random(0))
        assert space.size == 1
        assert space.mutate(only, Random(0)) == only

    @given(SEEDS)
    def test_a_child_has_each_choice_from_a_parent(self, seed: int) -> None:
        space, random = rich_space(), Random(seed)
        first, second = space.sample(random), space.sample(random)
        child = space.cross(first, second, random)
        assert all(c in pair or c == 0 for c, pair in zip(child, zip(first, second, strict=True), strict=True))
        assert space.cross(first, first, random) == first

    def test_a_child_may_be_like_either_parent_everywhere(self) -> None:
        space = make_space(stage={"kernel": [1, 3]})
        first, second = space.genes(space.smallest()), space.genes(space.largest())
        random = Random(0)
        assert {space.cross(first, second, random) for _ in range(100)} == every_genotype(space)


class TestFair:
    """The training draw gives every choice the same number of steps."""

    def test_every_choice_comes_equally_often(self) -> None:
        stages = [{"width": [8, 16], "kernel": [1, 3, 5], "groups": [1, 2, 4, 8], "precision": ["binary", "real"]}]
        space = make_space(stages=stages)
        rounds = 5
        drawn = [space.fair(3, step) for step in range(rounds * 2 * 3 * 4)]
        for index, dimension in enumerate(space.dimensions):
            counts = Counter(genes[index] for genes in drawn)
            assert set(counts.values()) == {len(drawn) // len(dimension.choices)}
            assert len(counts) == len(dimension.choices)

    def test_every_depth_comes_equally_often(self) -> None:
        space = rich_space()
        index = position(space, "stages[1].depth")
        counts = Counter(space.fair(0, step)[index] for step in range(3 * 20))
        assert counts == {0: 20, 1: 20, 2: 20}

    def test_each_round_deals_every_choice_once(self) -> None:
        space = rich_space()
        index = position(space, "stages[0].groups")
        for first in range(0, 30, 3):
            assert {space.fair(5, step)[index] for step in range(first, first + 3)} == {0, 1, 2}

    def test_dimensions_are_dealt_independently(self) -> None:
        space = make_space(stage={"kernel": [1, 3], "experts": [1, 2]})
        kernel, experts = position(space, "stages[0].kernel"), position(space, "stages[0].experts")
        drawn = [space.fair(0, step) for step in range(400)]
        counts = Counter((genes[kernel], genes[experts]) for genes in drawn)
        # A round of two is one of four pairings: 200 rounds, 100 +- 4 * sqrt(200 * 1/2 * 1/2) = 28 of each pair.
        assert all(abs(count - 100) <= 28 for count in counts.values())
        assert len(counts) == 4

    def test_it_depends_on_seed_and_step_only(self) -> None:
        space = rich_space()
        steps = [space.fair(1, step) for step in range(20)]
        assert [rich_space().fair(1, step) for step in reversed(range(20))] == steps[::-1]
        assert [space.fair(2, step) for step in range(20)] != steps

    @given(SEEDS, st.integers(0, 10**6))
    def test_it_is_in_the_space(self, seed: int, step: int) -> None:
        space = rich_space()
        genes = space.fair(seed, step)
        assert space.canonical(genes) == genes
        assert space.contains(space.architecture(genes))
