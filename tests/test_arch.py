from typing import Any, get_args

import pytest
import torch
from spaces import arch_data, line_of, make_arch, space_data

from bnas.binarize import ACTIVATION_BINARIZERS, WEIGHT_BINARIZERS
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import SpecError
from bnas.networks.build import build
from bnas.space.arch import Architecture, BlockSpec, StageSpec, common_divisors
from bnas.space.binarizer_traits import WEIGHT_TRAITS
from bnas.space.space import SearchSpace
from bnas.space.values import Activation
from bnas.spec import parse


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parse(Architecture, arch_data(**changes), source="arch.yaml")
    return line_of(caught).removeprefix("arch.yaml: ")


def test_depth_repeats_one_precision() -> None:
    assert make_arch(stage={"depth": 3, "precision": "weight"}).stages[0].precision == ("weight",) * 3


def test_one_binary_block_is_the_default() -> None:
    assert make_arch().stages[0] == StageSpec(width=16, precision=("binary",))


def test_depth_is_the_number_of_precisions() -> None:
    assert make_arch(stage={"precision": ["real", "binary"]}).stages[0].depth == 2


def test_depth_may_be_said_beside_as_many_precisions() -> None:
    assert make_arch(stage={"depth": 2, "precision": ["real", "binary"]}).stages[0].precision == ("real", "binary")


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"depth": -1}, "stages[0]: depth must be a whole number from 0 to 64, but got -1"),
        ({"depth": 65}, "stages[0]: depth must be a whole number from 0 to 64, but got 65"),
        ({"depth": True}, "stages[0]: depth must be a whole number from 0 to 64, but got True"),
        ({"depth": "2"}, "stages[0]: depth must be a whole number from 0 to 64, but got '2'"),
        ({"depth": [1, 2]}, "stages[0]: depth must be a whole number from 0 to 64, but got [1, 2]"),
        pytest.param(
            {"depth": 16**5000},
            "stages[0]: depth must be a whole number from 0 to 64, but got a int too long to show",
            id="too long for str",
        ),
        (
            {"depth": 3, "precision": ["binary", "real"]},
            "stages[0]: depth=3 and precision, with 2 entries, must agree; leave depth out",
        ),
        ({"depth": 2, "precision": 5}, "stages[0].precision: must be a list, but got 5"),
        ({"depth": 2, "precision": None}, "stages[0].precision: must be a list, but got None"),
        ({"precision": "bits"}, "stages[0].precision[0]: Input should be 'real', 'weight' or 'binary', but got 'bits'"),
        ({"width": [8, 16]}, "stages[0].width: must be a whole number, but got [8, 16]"),
        ({"experts": 0}, "stages[0].experts: Input should be greater than or equal to 1, but got 0"),
        ({"stride": 9}, "stages[0].stride: Input should be less than or equal to 8, but got 9"),
    ],
)
def test_a_stage_that_is_none_is_refused(stage: dict[str, object], expected: str) -> None:
    assert refusal(stage=stage) == expected


@pytest.mark.parametrize("kernel", [2, 4, 30])
@pytest.mark.parametrize("where", ["stem", "stages"])
def test_kernels_are_odd(kernel: int, where: str) -> None:
    line = refusal(stage={"kernel": kernel}) if where == "stages" else refusal(stem={"width": 8, "kernel": kernel})
    lead = "stages[0]" if where == "stages" else "stem"
    assert line == (
        f"{lead}.kernel: a kernel side must be odd, so that the padding is the same on both sides; got {kernel}"
    )


def test_groups_divide_the_width() -> None:
    assert refusal(stage={"groups": 3, "width": 16}, stem={"width": 24}) == (
        "stages[0].groups: 3 must divide the stage's width 16; choose from 1, 2, 4, 8"
    )


def test_groups_divide_what_comes_before() -> None:
    stages = [{"width": 24}, {"width": 32, "groups": 16}]
    assert refusal(stages=stages) == (
        "stages[1].groups: 16 must divide the stage's input channels 24; choose from 1, 2, 4, 8"
    )


def test_every_offered_number_of_groups_is_allowed() -> None:
    for groups in common_divisors(24, 32):
        make_arch(stages=[{"width": 24}, {"width": 32, "groups": groups}])


@pytest.mark.parametrize("stem", [{"kernel": 5, "stride": 4}, {"kernel": 3, "stride": 2}, {}])
def test_a_branched_stem_has_one_kernel_and_stride(stem: dict[str, int]) -> None:
    line = refusal(stem={"kind": "branched", "width": 8} | stem)
    assert line == "stem: a branched stem has kernel 3 and stride 4; write kernel: 3, stride: 4"


def test_a_branched_stem_can_be_quartered() -> None:
    line = refusal(stem={"kind": "branched", "width": 6, "stride": 4})
    assert line == "stem: width=6 of a branched stem must be a multiple of 4"


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        (
            {"kind": "thermometer"},
            "a thermometer stem needs levels, the bits of each value of a pixel; write levels: 8",
        ),
        ({"levels": 2}, "levels=2 are of a thermometer stem, but this one is conv; leave it out"),
        ({"kind": "space_to_depth", "levels": 2}, "levels=2 are of a thermometer stem, but this one is space_to_depth"),
        ({"kind": "thermometer", "levels": 0}, "levels: Input should be greater than or equal to 1, but got 0"),
        ({"kind": "thermometer", "levels": 256}, "levels: Input should be less than or equal to 255, but got 256"),
        ({"kind": "thermometer", "levels": "8"}, "levels: must be a whole number, but got '8'"),
    ],
)
def test_levels_are_of_a_thermometer(stem: dict[str, Any], expected: str) -> None:
    line = refusal(stem={"width": 8} | stem)
    assert line.startswith(f"stem.{expected}" if expected.startswith("levels: ") else f"stem: {expected}")


def test_stems_without_levels_are_described_as_ever() -> None:
    assert make_arch().id == "68e074908635"
    assert make_arch().stem.model_dump() == {"kind": "conv", "width": 8, "kernel": 3, "stride": 1}
    ids = {make_arch(stem={"kind": "thermometer", "width": 8, "levels": levels}).id for levels in (1, 2, 3)}
    assert len(ids) == 3


def test_blocks_know_their_channels_and_stride() -> None:
    stages = [{"width": 16, "depth": 2, "stride": 2}, {"width": 32, "depth": 2, "kernel": 5, "groups": 4, "experts": 3}]
    first, second = make_arch(stages=stages).blocks()
    assert [(b.in_channels, b.out_channels, b.stride) for b in first] == [(8, 16, 2), (16, 16, 1)]
    assert [(b.in_channels, b.out_channels, b.stride) for b in second] == [(16, 32, 1), (32, 32, 1)]
    assert {(b.kernel, b.groups, b.experts) for b in second} == {(5, 4, 3)}


def test_blocks_carry_all_that_decides_their_layers() -> None:
    arch = make_arch(shortcut={"kind": "conv"}, squeeze_excite=True, binarizers={"weight": "sign", "pad_value": -1})
    assert arch.blocks() == (
        (BlockSpec(8, 16, 3, 1, 1, 1, "binary", arch.shortcut, True, arch.binarizers),),
    )  # fmt: skip


def test_the_id_is_that_of_the_network_not_of_its_spelling() -> None:
    spelled = {"stages": [{"precision": ["binary"], "kernel": 3, "width": 16}]}
    backwards = dict(reversed(arch_data().items()))
    assert make_arch().id == parse(Architecture, backwards | spelled, source="").id
    assert len(make_arch().id) == 12
    assert set(make_arch().id) <= set("0123456789abcdef")


def test_ids_stay_what_they_were_in_runs_from_before() -> None:
    assert make_arch().id == "68e074908635"
    assert "prelu" not in make_arch().model_dump()


def test_react_keeps_its_prelu() -> None:
    line = refusal(prelu=False, binarizers={"activation": "react"})
    assert line == "prelu: false takes away what binarizers.activation: react brings; write activation: sign"


def test_any_change_changes_the_id() -> None:
    changes: list[dict[str, Any]] = [
        {"classes": 6},
        {"input": [1, 9, 7]},
        {"squeeze_excite": True},
        {"shortcut": {"kind": "conv"}},
        {"binarizers": {"pad_value": 1}},
        {"prelu": False},
        {"stage": {"precision": "real"}},
    ]
    assert len({make_arch().id, *(make_arch(**change).id for change in changes)}) == 1 + len(changes)


def test_one_expert_changes_nothing_else() -> None:
    arch = make_arch(stages=[{"width": 16, "experts": 4, "depth": 2}, {"width": 32, "experts": 2}])
    assert arch.with_one_expert() == make_arch(stages=[{"width": 16, "depth": 2}, {"width": 32}])


def test_common_divisors() -> None:
    assert common_divisors(24, 36) == [1, 2, 3, 4, 6, 12]
    assert common_divisors(7) == [1, 7]


def test_a_stage_of_depth_0_is_not_there() -> None:
    stages = [{"width": 16}, {"width": 7, "depth": 0, "groups": 3, "stride": 2}, {"width": 24, "groups": 8}]
    without = make_arch(stages=stages)
    assert without.stages[1].precision == ()
    assert [block.in_channels for blocks in without.blocks() for block in blocks] == [8, 16]
    assert cost(plan(without)) == cost(plan(make_arch(stages=[stages[0], stages[2]])))
    assert without.last_width == 24
    assert make_arch(stages=[{"width": 16, "depth": 0}]).last_width == 8
    network = build(without)
    assert network(torch.randn(2, *without.input)).shape == (2, without.classes)


@pytest.mark.parametrize(
    ("binarizers", "said"),
    [
        ({"weight": "xnro"}, "binarizers.weight: weight binarizer 'xnro' is not known; did you mean 'xnor'?"),
        (
            {"activation": "sing"},
            "binarizers.activation: activation binarizer 'sing' is not known; did you mean 'sign'",
        ),
    ],
)
def test_a_binarizer_by_no_name_is_refused_before_anything_is_counted(binarizers: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(Architecture, arch_data() | {"binarizers": binarizers}, source="a.yaml")
    assert said in line_of(caught)
    with pytest.raises(SpecError) as caught:
        parse(SearchSpace, space_data() | {"binarizers": binarizers}, source="space.yaml")
    assert said.split(":")[0] in line_of(caught)


def test_every_binarizer_has_its_traits_and_its_name() -> None:
    assert WEIGHT_BINARIZERS.keys() == WEIGHT_TRAITS.keys()
    assert set(ACTIVATION_BINARIZERS) == set(get_args(Activation))
