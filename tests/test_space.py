from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import (
    STEMS,
    WHOLE,
    every_genotype,
    later_space,
    line_of,
    make_arch,
    make_space,
    position,
    rich_space,
    space_data,
)

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import SpecError
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace
from bnas.spec import dump, parse, parse_yaml

SEEDS = st.integers(0, 2**32)


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parse(SearchSpace, space_data(**changes), source="space.yaml")
    return line_of(caught).removeprefix("space.yaml: ")


class TestDescription:
    """What a space may be, and what is said of one that is none."""

    def test_one_choice_needs_no_brackets(self) -> None:
        one = make_space(stem={"width": 8}, stage={"width": 16, "precision": "real"})
        assert one == make_space(stem={"width": [8]}, stage={"width": [16], "precision": ["real"]})

    @pytest.mark.parametrize("key", ["depth", "width", "groups", "experts", "kernel", "stride", "precision"])
    def test_a_choice_of_a_stage_is_given_once(self, key: str) -> None:
        twice = ["real", "real"] if key == "precision" else [1, 1]
        assert refusal(stage={key: twice}) == f"stages[0].{key}: a choice is given twice in {twice}; give each once"

    @pytest.mark.parametrize("key", ["width", "kernel", "stride"])
    def test_a_choice_of_the_stem_is_given_once(self, key: str) -> None:
        line = refusal(stem={"width": 8} | {key: [1, 1]})
        assert line == f"stem.{key}: a choice is given twice in [1, 1]; give each once"

    @pytest.mark.parametrize("key", ["depth", "width", "groups", "experts", "kernel", "stride", "precision"])
    def test_a_list_of_choices_is_not_empty(self, key: str) -> None:
        assert refusal(stage={key: []}) == f"stages[0].{key}: must have at least 1 value(s), but got []"

    def test_kernels_are_odd(self) -> None:
        assert refusal(stage={"kernel": [3, 4]}).startswith("stages[0].kernel[1]: a kernel side must be odd")
        assert refusal(stem={"width": 8, "kernel": 2}).startswith("stem.kernel[0]: a kernel side must be odd")

    def test_a_kernel_is_one_side_or_two(self) -> None:
        stage = make_space(stage={"kernel": [[1, 5], "3x1", "3x3", 1]}).stages[0]
        assert stage.kernel == ("1x5", "3x1", 3, 1)
        assert make_space(stage={"kernel": "1x5"}).stages[0].kernel == ("1x5",)
        assert refusal(stage={"kernel": ["1x4"]}) == (
            "stages[0].kernel[0]: a kernel side must be odd, so that the padding is the same on both sides; got 1x4"
        )
        assert refusal(stage={"kernel": [[1, 33]]}) == (
            "stages[0].kernel[0]: a kernel side must be from 1 to 31, but got '1x33'"
        )
        for wrong in ("3", "1 x 5", True, [1, 3, 5], [1.0, 3], 3.0, "x"):
            assert refusal(stage={"kernel": [wrong]}).startswith(
                "stages[0].kernel[0]: must be a whole number, or height x width as in 1x5, but got "
            )

    def test_a_kernel_that_is_given_twice_in_two_ways_is_refused(self) -> None:
        assert "given twice in [3, 3]" in refusal(stage={"kernel": [3, "3x3"]})

    def test_groups_divide_every_width(self) -> None:
        stages = [{"width": 24}, {"width": 36}, {"width": [48, 32], "groups": [1, 3]}]
        assert refusal(stages=stages) == (
            "stages[2].groups: 3 must divide every width of the stage, but width 32 is offered; "
            "choose groups from 1, 2, 4"
        )

    def test_groups_divide_every_width_before(self) -> None:
        assert refusal(stem={"width": [16, 12]}, stage={"width": 32, "groups": 8}) == (
            "stages[0].groups: 8 must divide every width of what comes before it, but width 12 is offered; "
            "choose groups from 1, 2, 4"
        )

    def test_every_stem_is_allowed(self) -> None:
        stem = {"kind": "branched", "width": [8, 12], "stride": 4}
        assert make_space(stem=stem, stage={"width": 16}).size == 2
        assert refusal(stem=stem | {"kernel": [3, 5]}).startswith("stem: a branched stem has kernel 3 and stride 4")
        assert refusal(stem=stem | {"width": [8, 10]}) == "stem: width=10 of a branched stem must be a multiple of 4"

    def test_each_block_chooses_its_own_precision(self) -> None:
        space = make_space(stage={"depth": [1, 3]})
        names = [dimension.name for dimension in space.dimensions]
        assert names[:3] == ["stem.width", "stem.kernel", "stem.stride"]
        assert names[3:9] == [f"stages[0].{key}" for key in ("depth", "width", "groups", "experts", "kernel", "stride")]
        assert names[9:] == [f"stages[0].precision[{block}]" for block in range(3)]


class TestGenotypes:
    """Genotype and architecture name each other."""

    def test_every_architecture_has_one_genotype(self) -> None:
        space = make_space(stage={"depth": [2, 1], "precision": ["binary", "real"], "kernel": [3, 1]})
        genotypes = every_genotype(space)
        architectures = {space.architecture(genes) for genes in genotypes}
        assert len(genotypes) == len(architectures) == space.size
        assert {space.genes(arch) for arch in architectures} == genotypes

    @given(SEEDS)
    def test_genes_come_back_from_the_architecture(self, seed: int) -> None:
        space = rich_space()
        genes = space.sample(Random(seed))
        assert space.genes(space.architecture(genes)) == genes

    def test_choices_are_put_where_their_names_say(self) -> None:
        space = rich_space()
        genes = space.sample(Random(1))
        chosen = {d.name: d.choices[gene] for d, gene in zip(space.dimensions, genes, strict=True)}
        arch = space.architecture(genes)
        assert arch.stem.model_dump() == {
            "kind": "conv", "width": chosen["stem.width"], "kernel": chosen["stem.kernel"],
            "stride": chosen["stem.stride"],
        }  # fmt: skip
        for index, stage in enumerate(arch.stages):
            for key in ("depth", "width", "groups", "experts", "kernel", "stride"):
                assert getattr(stage, key) == chosen[f"stages[{index}].{key}"]
            for block, precision in enumerate(stage.precision):
                assert precision == chosen[f"stages[{index}].precision[{block}]"]

    @pytest.mark.parametrize(
        ("stem", "expected"),
        [
            ({"kind": "thermometer"}, "stem: a thermometer stem needs levels, the bits of each value of a pixel"),
            ({"levels": [2, 4]}, "stem: levels=2 are of a thermometer stem, but this one is conv; leave it out"),
            ({"kind": "thermometer", "levels": []}, "stem.levels: must have at least 1 value(s), but got []"),
            ({"kind": "thermometer", "levels": [2, 2]}, "stem.levels: a choice is given twice in [2, 2]"),
            ({"kind": "thermometer", "levels": [2, 0]}, "stem.levels[1]: Input should be greater than or equal to 1"),
            ({"kind": "thermometer", "levels": True}, "stem.levels[0]: must be a whole number, but got True"),
            (
                {"kind": ["conv", "thermometer"], "levels": 2},
                "stem: kind: ['conv', 'thermometer']: a thermometer has levels",
            ),
            ({"kind": ["conv", "branched"]}, "stem: a branched stem has kernel 3 and stride 4"),
        ],
    )
    def test_levels_are_of_a_thermometer(self, stem: dict[str, Any], expected: str) -> None:
        with pytest.raises(SpecError) as caught:
            make_space(stem={"width": 8} | stem)
        assert line_of(caught).startswith(f"space: {expected}")

    @pytest.mark.parametrize("kind", STEMS)
    def test_every_choice_of_a_stem_is_a_dimension_of_its_own(self, kind: str) -> None:
        space = make_space(stem=STEMS[kind])
        keys = ["width", "kernel", "stride", *["levels"] * (kind == "thermometer"), *["kind"] * (kind == "several")]
        assert [d.name for d in space.dimensions][: len(keys)] == [f"stem.{key}" for key in keys]
        assert space.size == len(every_genotype(space))
        for genes in every_genotype(space):
            assert space.genes(space.architecture(genes)) == genes
        for key in keys:
            parts = parts_of(space, f"stem.{key}")
            assert [getattr(part.stem, key) for part in parts] == [(one,) for one in getattr(space.stem, key)]
        assert parse(SearchSpace, parse_yaml(dump(space), source=""), source="") == space
        assert ("levels" in dump(space)) == (kind == "thermometer")

    def test_one_kind_of_stem_reads_and_costs_as_it_did(self) -> None:
        space = make_space(stem=STEMS["space_to_depth"])
        assert "kind: space_to_depth\n" in dump(space)
        several = make_space(stem=STEMS["space_to_depth"] | {"kind": ["space_to_depth", "conv"]})
        for genes in every_genotype(space):
            alike = several.genes(space.architecture(genes))
            assert several.architecture(alike) == space.architecture(genes)
            assert alike[:3] == genes[:3]

    def test_a_pooling_is_a_choice_where_there_is_a_stride(self) -> None:
        stage = {"stride": [2, 1], "downsample": ["max_pool", "conv"], "depth": [1, 2]}
        space = make_space(stage=stage)
        assert [d.name for d in space.dimensions][8:] == [
            "stages[0].stride", "stages[0].downsample", "stages[0].precision[0]", "stages[0].precision[1]"
        ]  # fmt: skip
        genotypes = every_genotype(space)
        archs = {space.architecture(genes): genes for genes in genotypes}
        assert len(archs) == len(genotypes) == space.size == 2 * 2 * (2 + 1)
        assert all(space.genes(arch) == genes for arch, genes in archs.items())
        assert {(a.stages[0].stride, a.stages[0].downsample) for a in archs} == {
            (1, "conv"),
            (2, "conv"),
            (2, "max_pool"),
        }
        parts = parts_of(space, "stages[0].downsample")
        assert sum(part.size for part in parts) == space.size + 2 * 2  # those without a stride are in both

    def test_a_pooling_that_is_not_offered_is_named(self) -> None:
        arch = make_arch(stage={"stride": 2, "downsample": "max_pool"})
        with pytest.raises(SpecError) as caught:
            make_space(stage={"stride": 2}).genes(arch)
        assert line_of(caught) == "stages[0].downsample: max_pool is not offered; it is no choice here"

    @pytest.mark.parametrize("said", [{"squeeze_excite": False}, {"activation": "sign"}, {"downsample": "conv"}])
    def test_what_a_stage_says_aloud_is_what_its_network_has_anyway(self, said) -> None:
        space = make_space(stage={"stride": 2})
        assert space.genes(make_arch(stage={"stride": 2} | said)) == space.genes(make_arch(stage={"stride": 2}))

    def test_what_a_stage_has_otherwise_than_its_network_is_named(self) -> None:
        with pytest.raises(SpecError, match=r"^stages\[0\].activation: react is not offered; it is no choice here"):
            make_space(stage={"stride": 2}).genes(make_arch(stage={"stride": 2, "activation": "react"}))

    def test_gates_and_activations_are_choices_of_a_stage(self) -> None:
        stages = [{"width": 8, "squeeze_excite": [True, False], "activation": ["sign", "react"]}, {"width": 8}]
        space = make_space(stages=stages, squeeze_excite=True)
        genotypes = every_genotype(space)
        archs = {space.architecture(genes): genes for genes in genotypes}
        assert len(archs) == len(genotypes) == space.size == 2 * 2
        assert all(space.genes(arch) == genes for arch, genes in archs.items())
        for arch in archs:
            (first,), (second,) = arch.blocks()
            assert (first.squeeze_excite, first.binarizers.activation) == (
                arch.stages[0].squeeze_excite,
                arch.stages[0].activation,
            )
            assert (second.squeeze_excite, second.binarizers.activation) == (True, "sign")
        assert space.genes(make_arch(stages=[{"width": 8}] * 2, squeeze_excite=True))[9:11] == (0, 0)

    def test_a_network_with_fewer_stages_is_one_whose_others_are_absent(self) -> None:
        stages = [
            {"width": 8, "depth": [0, 1]},
            {"width": [8, 16], "depth": [0, 1, 2], "stride": 2},
            {"width": 16},
            {"width": [16, 32], "depth": [0, 1]},
        ]
        space = make_space(stages=stages)
        last, of_stride_2 = {"width": 16}, {"width": 8, "stride": 2}
        for own, depths in (
            ([last], [0, 0, 1, 0]),
            ([{"width": 8}, last], [1, 0, 1, 0]),
            ([of_stride_2, last], [0, 1, 1, 0]),
            ([last, {"width": 32}], [0, 0, 1, 1]),
            ([{"width": 8}, of_stride_2, last], [1, 1, 1, 0]),
        ):
            arch = make_arch(stages=own)
            found = space.architecture(space.genes(arch))
            assert [stage.depth for stage in found.stages] == depths
            assert [stage for stage in found.stages if stage.depth] == list(arch.stages)
            assert cost(plan(found)) == cost(plan(arch))
            assert space.contains(arch)
        for genes in every_genotype(space):
            whole = space.architecture(genes)
            own = [stage for stage in whole.stages if stage.depth]
            if own:
                again = space.architecture(space.genes(whole.model_copy(update={"stages": tuple(own)})))
                assert [stage for stage in again.stages if stage.depth] == own

    def test_a_network_with_fewer_stages_that_do_not_fit_is_refused(self) -> None:
        space = make_space(stages=[{"width": 8, "depth": [0, 1]}, {"width": 16, "depth": [0, 1]}, {"width": 16}])
        with pytest.raises(SpecError) as caught:
            space.genes(make_arch(stages=[{"width": 24}, {"width": 16}]))
        assert line_of(caught) == (
            "stages: the architecture has 2, the space 3, and whichever of these are left out, the others do not fit; "
            "with the first that may be, stages[1].width: 24 is not one of [16]"
        )
        with pytest.raises(SpecError, match=r"stages: the architecture has 1, the space 2$"):
            make_space(stages=[{"width": 8}, {"width": 16}]).genes(make_arch(stages=[{"width": 16}]))

    def test_shortcuts_and_mixing_are_choices_of_the_whole_network(self) -> None:
        stage = {"groups": [1, 2], "depth": [1, 2], "precision": ["binary", "real"]}
        space = make_space(stage=stage, mix_every=[2, 1], shortcut={"kind": ["conv", "repeat"], "reduction": 2})
        assert [d.name for d in space.dimensions][2:6] == [
            "stem.stride",
            "shortcut.kind",
            "mix_every",
            "stages[0].depth",
        ]
        genotypes = every_genotype(space)
        archs = {space.architecture(genes): genes for genes in genotypes}
        assert len(archs) == len(genotypes) == space.size == 2 * 2 * 2 * 2 * (2 + 4)
        assert all(space.genes(arch) == genes for arch, genes in archs.items())
        assert {(arch.shortcut.kind, arch.shortcut.reduction, arch.mix_every) for arch in archs} == {
            ("conv", 2, 2), ("conv", 2, 1), ("repeat", 2, 2), ("repeat", 2, 1)
        }  # fmt: skip
        for name in ("shortcut.kind", "mix_every"):
            parts = parts_of(space, name)
            assert sum(part.size for part in parts) == space.size
            assert all(len(part.dimensions) == len(space.dimensions) - 1 for part in parts)
        assert (space.smallest().shortcut.kind, space.smallest().mix_every) == ("repeat", 2)
        assert parse(SearchSpace, parse_yaml(dump(space), source=""), source="") == space
        with pytest.raises(SpecError, match="mix_every: the architecture has 3, the space 2 or 1"):
            space.genes(make_arch(shortcut={"kind": "conv", "reduction": 2}, mix_every=3))

    def test_one_shortcut_and_one_mixing_are_written_as_before(self) -> None:
        said = make_space(shortcut={"kind": "conv"}, mix_every=2).model_dump(mode="json")
        assert (said["shortcut"], said["mix_every"]) == ({"kind": "conv", "reduction": 4}, 2)
        assert len(make_space(mix_every=2).dimensions) == 3 + 6 + 1

    def test_an_activation_of_a_stage_names_no_code_and_keeps_its_prelu(self) -> None:
        assert refusal(stage={"activation": "mine.py:sign"}).startswith(
            "stages[0].activation[0]: Input should be 'sign', 'polynomial', 'swish' or 'react', but got 'mine.py:sign'"
        )
        assert refusal(stage={"activation": ["sign", "react"]}, prelu=False) == (
            "prelu: false takes away what stages[0].activation: react brings; write activation: sign"
        )
        with pytest.raises(SpecError, match=r"takes away what stages\[0\]\.activation: react brings"):
            make_arch(stage={"activation": "react"}, prelu=False)

    def test_a_pooling_without_a_stride_is_refused(self) -> None:
        assert refusal(stage={"downsample": ["conv", "max_pool"]}) == (
            "stages[0]: downsample: max_pool has no stride to take; leave it out, or offer stride: 2"
        )
        with pytest.raises(
            SpecError, match="downsample: max_pool has no stride to take; leave it out, or give stride: 2"
        ):
            make_arch(stage={"downsample": "max_pool"})

    def test_what_later_builds_let_choose_is_not_said_where_it_is_not_chosen(self) -> None:
        space = rich_space()
        arch = space.largest()
        assert "downsample" not in dump(space) + dump(arch)
        assert make_arch(stage={"stride": 2, "downsample": "conv"}).id == make_arch(stage={"stride": 2}).id
        later = later_space()
        assert parse(SearchSpace, parse_yaml(dump(later), source=""), source="") == later
        assert make_arch(stage={"stride": 2, "downsample": "max_pool"}).id != make_arch(stage={"stride": 2}).id

    @given(SEEDS)
    def test_genes_come_back_from_what_later_builds_let_choose(self, seed: int) -> None:
        space, random = later_space(), Random(seed)
        genes = space.sample(random)
        for one in (genes, space.mutate(genes, random), space.cross(genes, space.sample(random), random)):
            assert space.canonical(one) == one
            assert space.genes(space.architecture(one)) == one

    def test_what_all_share_is_handed_on(self) -> None:
        shared: dict[str, Any] = {"shortcut": {"kind": "conv"}, "squeeze_excite": True, "mix_every": 2}
        shared["binarizers"] = {"weight": "sign"}
        space = make_space(**shared)
        arch = space.architecture(space.sample(Random(0)))
        for key in ("input", "classes", "squeeze_excite"):
            assert getattr(arch, key) == getattr(space, key)
        assert (arch.binarizers,) == space.binarizers.each
        assert (arch.shortcut, arch.mix_every) == (space.shared().shortcut, space.shared().mix_every)
        assert (arch.shortcut.kind, arch.squeeze_excite, arch.mix_every, arch.binarizers.weight) == (
            "conv",
            True,
            2,
            "sign",
        )

    def test_blocks_that_do_not_exist_do_not_tell_networks_apart(self) -> None:
        space = make_space(stage={"depth": [1, 2, 3], "precision": ["binary", "real"]})
        block = position(space, "stages[0].precision[1]")
        genes = list(space.genes(space.smallest()))
        for unused in product((0, 1), repeat=2):
            genes[block : block + 2] = unused
            assert space.canonical(genes) == space.genes(space.smallest())
            assert space.architecture(genes) == space.smallest()

    @given(SEEDS)
    def test_an_entry_decides_something_where_another_is_another_network(self, seed: int) -> None:
        space, random = later_space(**WHOLE), Random(seed)
        here = space.sample(random)
        places = [place for place, dimension in enumerate(space.dimensions) if len(dimension.choices) > 1]
        changed = [(*here[:place], 1 - min(here[place], 1), *here[place + 1 :]) for place in places]
        found = [place for place, genes in zip(places, changed, strict=True) if space.canonical(genes) != here]
        assert found == sorted(set(space.deciding(here)) & set(places))

    @given(SEEDS)
    def test_canonical_changes_no_network_and_happens_once(self, seed: int) -> None:
        space, random = rich_space(), Random(seed)
        genes = [random.randrange(len(d.choices)) for d in space.dimensions]
        made = space.canonical(genes)
        assert space.architecture(made) == space.architecture(genes)
        assert space.canonical(made) == made

    def test_a_genotype_has_one_index_a_dimension(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            make_space().architecture((0, 0))


class TestContains:
    """A space says what it contains, and of what it does not, why."""

    @pytest.mark.parametrize("seed", range(5))
    def test_its_samples(self, seed: int) -> None:
        space = rich_space()
        assert space.contains(space.architecture(space.sample(Random(seed))))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"classes": 6}, "classes: the architecture has 6, the space 5"),
            ({"input": [1, 9, 7]}, "input: the architecture has (1, 9, 7), the space (3, 9, 7)"),
            ({"mix_every": 2}, "mix_every: the architecture has 2, the space 1"),
            ({"squeeze_excite": True}, "squeeze_excite: the architecture has True, the space False"),
            ({"shortcut": {"kind": "conv"}}, "shortcut: the architecture has "),
            ({"prelu": False}, "prelu: the architecture has False, the space True"),
            ({"binarizers": {"weight": "sign"}}, "binarizers: the architecture has "),
            ({"stem": {"width": 12}}, "stem.width: 12 is not one of [8]"),
            (
                {"stem": {"kind": "branched", "width": 8, "stride": 4}},
                "stem.kind: the architecture has branched, the space conv",
            ),
            ({"stages": [{"width": 16}] * 2}, "stages: the architecture has 2, the space 1"),
            ({"stage": {"width": 24}}, "stages[0].width: 24 is not one of [8, 16]"),
            ({"stage": {"kernel": 5}}, "stages[0].kernel: 5 is not one of [3]"),
            ({"stage": {"precision": "real"}}, "stages[0].precision[0]: real is not one of ['binary']"),
            ({"stage": {"depth": 2}}, "the architecture is deeper than the space allows"),
        ],
    )
    def test_nothing_else(self, changes: dict[str, Any], reason: str) -> None:
        space, arch = make_space(), make_arch(**changes)
        assert not space.contains(arch)
        with pytest.raises(SpecError) as caught:
            space.genes(arch)
        assert line_of(caught).startswith(reason)

    def test_not_a_depth_between_those_offered(self) -> None:
        space = make_space(stage={"depth": [1, 3]})
        assert space.contains(make_arch(stage={"depth": 3}))
        assert not space.contains(make_arch(stage={"depth": 2}))


class TestSize:
    """Every architecture counts once."""

    def test_is_the_product_of_choices(self) -> None:
        space = make_space(stem={"width": [8, 16]}, stage={"width": [16, 32], "groups": [1, 2, 4], "kernel": [3, 5]})
        assert space.size == 2 * (2 * 3 * 2)

    def test_counts_the_precisions_of_blocks_that_exist(self) -> None:
        space = make_space(stage={"width": 8, "depth": [1, 3], "precision": ["binary", "real"]})
        assert space.size == 2**1 + 2**3

    @pytest.mark.parametrize(
        "stage",
        [
            {"depth": [1, 2], "precision": ["binary", "real", "weight"]},
            {"depth": [3, 1], "experts": [1, 2], "stride": [1, 2]},
            {"groups": [1, 2, 8], "kernel": [1, 3], "precision": ["real", "binary"]},
        ],
    )
    def test_equals_enumeration(self, stage: dict[str, Any]) -> None:
        space = make_space(stem={"width": [8, 16], "kernel": [3, 5]}, stage=stage)
        assert space.size == len(every_genotype(space))

    def test_of_two_stages_equals_enumeration(self) -> None:
        stages = [{"width": [8, 16], "depth": [1, 2], "precision": ["binary", "real"]}, {"width": 8, "depth": [1, 2]}]
        space = make_space(stages=stages)
        assert space.size == len(every_genotype(space)) == 2 * (2 + 4) * (1 + 1)


class TestExtremes:
    """The smallest and the largest architecture."""

    def test_smallest(self) -> None:
        space = rich_space()
        small = space.smallest()
        assert small == make_arch(
            stem={"width": 8, "kernel": 3, "stride": 2},
            stages=[
                {"width": 8, "groups": 4, "experts": 1, "kernel": 1, "stride": 2, "precision": ["binary"]},
                {"width": 16, "groups": 2, "experts": 2, "kernel": 5, "stride": 3, "precision": ["binary"]},
            ],
        )
        assert space.contains(small)

    def test_largest(self) -> None:
        space = rich_space()
        large = space.largest()
        assert large == make_arch(
            stem={"width": 16, "kernel": 5, "stride": 1},
            stages=[
                {"width": 16, "groups": 1, "experts": 3, "kernel": 3, "stride": 1, "precision": ["real", "real"]},
                {"width": 24, "groups": 1, "experts": 4, "kernel": 5, "stride": 3, "precision": ["binary"] * 3},
            ],
        )
        assert space.contains(large)


def parts_of(space: SearchSpace, name: str) -> list[SearchSpace]:
    """Return one space for each choice of a dimension, or of the precisions of a stage."""
    choices = next(d.choices for d in space.dimensions if d.name in (name, f"{name}[0]"))
    return [space.offering(name, choice) for choice in choices]


DIMENSIONS = [
    *(f"stem.{key}" for key in ("width", "kernel", "stride")),
    *(f"stages[0].{key}" for key in ("depth", "width", "groups", "experts", "kernel", "stride", "precision")),
]
OFFERED = [
    *DIMENSIONS[:3], "shortcut.kind", "mix_every", "classifier", "binarizers.weight", *DIMENSIONS[3:-1],
    *(f"stages[0].{key}" for key in ("downsample", "squeeze_excite", "activation", "block", "precision")),
]  # fmt: skip


class TestParts:
    """The parts of a space are spaces, and together they are the whole."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        stage = {"depth": [1, 2], "width": [8, 16], "groups": [1, 2], "experts": [1, 2], "kernel": [1, 3]}
        space = make_space(
            stem={"width": [8, 16], "kernel": [1, 3], "stride": [1, 2]}, stage=stage | {"stride": [1, 2]}
        )
        assert len(space.dimensions) == 3 + 6 + 2  # the parts must not take these over
        return space

    @pytest.mark.parametrize("dimension", [name for name in DIMENSIONS if "precision" not in name])
    def test_parts_cover_the_space_once(self, space: SearchSpace, dimension: str) -> None:
        whole = {space.architecture(genes) for genes in every_genotype(space)}
        seen: list[Architecture] = []
        for part in parts_of(space, dimension):
            seen += [part.architecture(genes) for genes in every_genotype(part)]
        assert len(seen) == sum(part.size for part in parts_of(space, dimension)) == space.size
        assert set(seen) == whole

    def test_a_part_offers_one_choice(self, space: SearchSpace) -> None:
        parts = parts_of(space, "stages[0].width")
        assert [part.stages[0].width for part in parts] == [(8,), (16,)]
        assert [part.dimensions[position(part, "stages[0].width")].choices for part in parts] == [(8,), (16,)]

    def test_a_part_samples_its_own_networks(self, space: SearchSpace) -> None:
        for part in parts_of(space, "stem.width"):
            arch = part.architecture(part.sample(Random(0)))
            assert arch.stem.width == part.stem.width[0]
            assert part.contains(arch)
            assert space.contains(arch)

    def test_precision_is_split_for_all_blocks_of_a_stage(self) -> None:
        space = make_space(stage={"width": 8, "depth": 3, "precision": ["binary", "real"]})
        parts = parts_of(space, "stages[0].precision")
        assert [part.size for part in parts] == [1, 1]
        assert [part.smallest().stages[0].precision for part in parts] == [("binary",) * 3, ("real",) * 3]

    def test_settings_stay(self) -> None:
        space = make_space(search={"trials": 7})
        assert {part.search.trials for part in parts_of(space, "stages[0].width")} == {7}

    @pytest.mark.parametrize("name", ["stages[1].width", "stage[0].width", "width", "stages[0].precision[0]"])
    def test_an_unknown_dimension_is_answered_with_all(self, space: SearchSpace, name: str) -> None:
        with pytest.raises(SpecError) as caught:
            space.offering(name, 8)
        assert line_of(caught) == f"{name!r} is no dimension of the space; choose from {', '.join(OFFERED)}"


def test_a_genotype_is_a_plain_tuple() -> None:
    genes: Genes = rich_space().sample(Random(0))
    assert type(genes) is tuple
    assert all(type(gene) is int for gene in genes)
