"""`deploy:` in a space: a search proposes only what the target takes, and says what it leaves out."""

import logging
import random
from pathlib import Path
from typing import Any

import pytest
from packed import ARCHITECTURES, worn_network
from spaces import STEMS, every_genotype, line_of, make_space, rich_space
from test_runtime import SPACES
from typer.testing import CliRunner

import bnas
from bnas.api.deploying import taken_by
from bnas.cli.app import app
from bnas.errors import LookupFailed, SpecError
from bnas.networks.build import build
from bnas.runtime import Card
from bnas.ship.c_code.text import code
from bnas.ship.lowering import lower
from bnas.ship.targets import refusal
from bnas.space.deploy import deployable
from bnas.space.space import SearchSpace
from bnas.space.targets import TARGETS
from bnas.spec import dump, parse, parse_yaml
from tests.tiny import tiny_space


def refused(space: SearchSpace, *targets: str, count: int, seed: int = 0) -> list[str]:
    """Return why some of the networks of a space cannot be exported to targets; none should be."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        arch = space.architecture(space.sample(draw))
        program = lower(worn_network(arch), arch.input)
        found += [refusal(program, target) for target in targets]
        if "c" in targets:
            code(program, Card((0.5,) * arch.input[0], (0.2,) * arch.input[0]))
    return [reason for reason in found if reason is not None]


def shipped(name: str, target: str) -> SearchSpace:
    """Return a shipped space for a target, changed as the error asks where the target takes none of its networks."""
    data = parse_yaml(Path(f"search_spaces/{name}.yaml").read_text(), source=name)
    assert isinstance(data, dict)
    asked = {}
    if target == "hls4ml":
        asked[r"shortcut\.kind: repeat repeats channels; give conv, leave it out"] = lambda: data.pop("shortcut")
    if target == "hls4ml" and name in ("cifar10_gpu", "sketches"):
        asked[r"stem\.levels: \[.*\] repeat channels; give 1"] = lambda: data["stem"].update(levels=1)
    if (name, target) == ("sketches", "finn"):
        asked[r"shortcut\.pool: max, .* give average"] = lambda: data["shortcut"].update(pool="average")
        asked[r"stages\[2\]\.downsample: max_pool, .* offer conv"] = lambda: data["stages"][2].pop("downsample")
    for says, change in asked.items():
        with pytest.raises(SpecError, match=says):
            deployable(parse(SearchSpace, data | {"deploy": target}, source=name))
        change()
    return parse(SearchSpace, data | {"deploy": target}, source=name)


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("name", SPACES)
def test_every_shipped_space_has_networks_for_every_target(name: str, target: str) -> None:
    whole = shipped(name, target)
    space, left_out = deployable(whole)
    assert bool(left_out) == (target in ("finn", "hls4ml"))
    assert (space.size < whole.size) == ("leaves out" in left_out)  # else it only pads or joins otherwise
    assert left_out == "" or left_out.endswith(f"; {space.size:,} of {whole.size:,} networks stay")
    assert deployable(space) == (space, "")  # nothing is left to leave out
    assert refused(space, target, count=1) == []


@pytest.mark.slow
@pytest.mark.parametrize("targets", [("c", "packed"), ("finn",), ("hls4ml",)], ids=" and ".join)
@pytest.mark.parametrize("name", SPACES)
def test_no_network_of_a_shipped_space_is_refused_by_its_target(name: str, targets: tuple[str, ...]) -> None:
    space, *others = (deployable(shipped(name, target)).space for target in targets)
    assert all(other.stages == space.stages for other in others)  # so that their networks are lowered once
    assert refused(space, *targets, count=ARCHITECTURES, seed=1) == []


def small(**changes: Any) -> SearchSpace:
    stage = {"groups": [1, 2, 8], "experts": [1, 2], "width": 16}
    return make_space(stem={"width": [8, 16]}, stage=stage, **changes)


@pytest.mark.parametrize("target", ["finn", "hls4ml"])
def test_what_is_left_is_what_the_target_takes(target: str) -> None:
    """But for groups: what is depthwise at some widths is left out at all of them."""
    whole = small(binarizers={"pad_value": -1}, prelu=False, shortcut={"kind": "conv"})
    space = deployable(whole.model_copy(update={"deploy": target})).space
    archs = [whole.architecture(genes) for genes in sorted(every_genotype(whole))]
    taken = {arch.id for arch in archs if refusal(lower(build(arch).eval(), arch.input), target) is None}
    left = {arch.id for arch in archs if space.contains(arch)}
    assert len(left) == space.size
    assert left <= taken
    assert {arch.id for arch in archs if arch.id in taken and arch.stages[0].groups != 8} == left


def test_what_is_left_out_is_said_in_words() -> None:
    told = deployable(small(deploy="hls4ml")).left_out
    assert told == (
        "deploy hls4ml: leaves out experts 2 of stages[0]; leaves out groups 2, 8 of stages[0]; pads bits with -1; "
        "shortcuts of another width are real 1x1 convolutions; blocks have no PReLU; 2 of 12 networks stay"
    )
    assert deployable(small(deploy="finn")).left_out == (
        "deploy finn: leaves out experts 2 of stages[0]; leaves out groups 8 of stages[0]; pads bits with -1; "
        "4 of 12 networks stay"
    )
    for target in ("c", "packed", None):
        assert deployable(small(deploy=target)) == (small(deploy=target), "")


def test_what_is_never_padded_keeps_its_value() -> None:
    for stage in ({"kernel": 1}, {"precision": "weight"}):
        space = make_space(stage=stage, deploy="finn", binarizers={"pad_value": 1})
        assert deployable(space).space.binarizers.pad_value == 1
        assert refused(space, "finn", count=1) == []


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("stem", [STEMS["space_to_depth"], STEMS["thermometer"], {**STEMS["thermometer"], "levels": 1}])
def test_stems_of_every_kind_go_to_every_target(stem: dict[str, Any], target: str) -> None:
    if target == "hls4ml" and isinstance(stem.get("levels"), list):
        return  # refused, as the table below says
    space = deployable(make_space(stem=stem, stage={"precision": "weight"}, deploy=target)).space
    assert refused(space, target, count=4) == []
    pads_bits = "levels" in stem
    assert (space.binarizers.pad_value == -1) == (pads_bits and target in ("finn", "hls4ml"))


NEVER: dict[str, tuple[dict[str, Any], str]] = {
    "squeeze-excite": ({"squeeze_excite": True}, "squeeze_excite: true multiplies values with each other; give false"),
    "ReActNet's": ({"binarizers": {"activation": "react"}}, "binarizers.activation: react brings PReLU; give sign"),
    "a bottleneck": (
        {"shortcut": {"kind": "bottleneck"}},
        "shortcut.kind: bottleneck has PReLU; give repeat or conv",
    ),
    "PReLU": ({"prelu": True}, "prelu: true; give false, or leave it out"),
    "repeated channels": (
        {"shortcut": {"kind": "repeat"}},
        "shortcut.kind: repeat repeats channels; give conv, leave it out, or offer one width",
    ),
    "repeated pixels": (
        {"stem": {"kind": "thermometer", "width": 8, "levels": [1, 4]}, "stage": {"width": 8}},
        "stem.levels: [1, 4] repeat channels; give 1, or kind: space_to_depth",
    ),
    "padding": (
        {"binarizers": {"pad_value": 0}},
        "binarizers.pad_value: 0 is not what bits are padded with; give -1, or leave it out",
    ),
    "experts": ({"stage": {"experts": [2, 4]}}, "stages[0].experts: [2, 4], but it takes no experts; offer 1"),
    "groups": ({"stage": {"groups": [2, 4]}}, "stages[0].groups: [2, 4], but it takes no groups; offer 1"),
}


@pytest.mark.parametrize("case", sorted(NEVER))
def test_what_a_target_never_takes_is_named_by_key_and_rule(case: str) -> None:
    changes, rule = NEVER[case]
    with pytest.raises(SpecError) as caught:
        deployable(make_space(**changes, deploy="hls4ml"))
    assert line_of(caught) == f"deploy: hls4ml takes no network of this space: {rule}"
    assert deployable(make_space(**changes, deploy="c")).left_out == ""


def test_everything_that_is_never_taken_is_named_at_once() -> None:
    space = make_space(squeeze_excite=True, stage={"experts": 2}, deploy="finn")
    with pytest.raises(SpecError, match=r"squeeze_excite: .*; stages\[0\]\.experts: "):
        deployable(space)


def test_depthwise_groups_are_left_out_where_a_width_makes_them_so() -> None:
    wide = {"stem": {"width": 16}, "deploy": "finn"}
    space = make_space(stage={"groups": [1, 8], "width": [8, 16], "depth": 1}, **wide)
    assert deployable(space).space.stages[0].groups == (1, 8)  # the first block reads the stem's 16
    deep = make_space(stage={"groups": [1, 8], "width": [8, 16], "depth": 2}, **wide)
    assert deployable(deep).space.stages[0].groups == (1,)
    with pytest.raises(SpecError, match=r"stages\[0\]\.groups: \[16\], but it takes no groups of one channel"):
        deployable(make_space(stage={"groups": [16], "width": [16], "depth": 1}, **wide))


def test_gates_and_activations_of_stages_are_left_out_where_they_are_not_taken() -> None:
    stage = {"squeeze_excite": [True, False], "activation": ["react", "sign"]}
    space, told = deployable(make_space(stage=stage, squeeze_excite=True, deploy="hls4ml"))
    assert (space.stages[0].squeeze_excite, space.stages[0].activation) == ((False,), ("sign",))
    assert "leaves out squeeze_excite true of stages[0]; leaves out activation react of stages[0]" in told
    assert refused(space, "hls4ml", count=2) == []
    assert deployable(make_space(stage=stage, deploy="finn")).space.stages[0].activation == ("react", "sign")
    with pytest.raises(
        SpecError, match=r"\[0\]\.squeeze_excite: \[True\], but it takes no squeeze-excite; offer false"
    ):
        deployable(make_space(stage={"squeeze_excite": True}, deploy="finn"))


def test_shortcuts_that_are_not_taken_are_left_out() -> None:
    offered = {"kind": ["repeat", "conv", "bottleneck"]}
    space, told = deployable(make_space(shortcut=offered, mix_every=[1, 2], deploy="hls4ml"))
    assert (space.shortcut.kind, space.mix_every) == (("conv",), (1, 2))
    assert "leaves out shortcuts bottleneck, repeat" in told
    assert deployable(make_space(shortcut=offered, deploy="finn")).space.shortcut.kind == (
        "repeat",
        "conv",
        "bottleneck",
    )
    with pytest.raises(
        SpecError, match=r"shortcut\.kind: repeat repeats channels, and bottleneck has PReLU; offer conv"
    ):
        deployable(make_space(shortcut={"kind": ["repeat", "bottleneck"]}, deploy="hls4ml"))


def test_max_poolings_over_the_edge_are_left_out_for_finn() -> None:
    stages = [{"width": 8, "stride": stride, "downsample": ["conv", "max_pool"]} for stride in ([1, 2], 2)]
    for side, offered in ((16, [2, 2]), (12, [2, 2]), (10, [2, 1]), (9, [1, 1])):
        space = make_space(stages=stages, input=[3, side, side], deploy="finn")
        left = deployable(space)
        assert [len(stage.downsample) for stage in left.space.stages] == offered
        assert ("leaves out downsample max_pool of stages[" in left.left_out) == (1 in offered)
        assert refused(left.space, "finn", count=3) == []
    only = make_space(stage={"stride": 2, "downsample": "max_pool"}, input=[3, 9, 9], binarizers={"pad_value": -1})
    with pytest.raises(SpecError, match=r"stages\[0\]\.downsample: max_pool, but it takes none whose windows"):
        deployable(only.model_copy(update={"deploy": "finn"}))
    assert refused(only, "finn", count=1)[0].endswith(
        "finn takes no max pooling whose windows reach over the edge; give downsample: conv, or a size that it divides"
    )
    assert deployable(only.model_copy(update={"deploy": "c"})).left_out == ""


def test_a_binarizer_that_cannot_be_lowered_is_an_error_before_the_search(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("import torch\n\n\ndef half(x):\n    return torch.where(x > 1, 1.0, -1.0)\n")
    space = tiny_space(binarizers={"activation": f"{tmp_path}/parts.py:half"}, deploy="c")
    with pytest.raises(SpecError, match=r"^deploy: c takes no network .* is not the sign with sign\(0\) = \+1$"):
        bnas.search(space, out=tmp_path / "run", progress=False, trust=True)
    assert not (tmp_path / "run").exists()


def test_an_unknown_target_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match=r"deployment target .*'fin'.* finn"):
        bnas.search(tiny_space(), deploy="fin", out=tmp_path / "run", progress=False)
    with pytest.raises(SpecError, match=r"deploy: .* 'c', 'finn', 'hls4ml' or 'packed', but got 'fin'"):
        tiny_space(deploy="fin")
    assert not (tmp_path / "run").exists()


def test_spaces_and_runs_from_before_say_nothing_of_it() -> None:
    assert {"deploy", "prelu"} & set(rich_space().model_dump()) == set()
    space = deployable(small(deploy="hls4ml")).space
    again = parse(SearchSpace, parse_yaml(dump(space), source="again"), source="again")
    assert again == space
    assert deployable(again) == (again, "")


def test_a_search_proposes_only_what_the_target_takes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(dump(tiny_space(deploy="hls4ml")).replace(", pad_value: 0", "").replace("kind: repeat, ", ""))
    with caplog.at_level(logging.INFO, "bnas.images"):  # which the command line prints
        told = CliRunner().invoke(app, ["search", str(file), "--out", str(tmp_path / "run"), "--trials", "5"])
    assert told.exit_code == 0, told.output
    assert caplog.messages[0].startswith("deploy hls4ml: leaves out experts 2 of stages[0], stages[1]; ")
    result = bnas.open_run(tmp_path / "run")
    archs = [result.architecture(name) for name in result.candidates["id"]]
    assert {(s.groups, s.experts) for arch in archs for s in arch.stages} == {(1, 1)}
    assert {(arch.prelu, arch.binarizers.pad_value) for arch in archs} == {(False, -1)}
    best = result.best
    assert refusal(lower(best.load(), best.architecture.input), "hls4ml") is None
    assert (bnas.export(result, to="training", out=tmp_path / "training") / "model.py").exists()
    assert (bnas.export(result, to="c", out=tmp_path / "c") / "network.c").exists()
    again = CliRunner().invoke(app, ["search", str(file), "--out", str(tmp_path / "run"), "--trials", "5"])
    assert again.exit_code == 0, again.output


@pytest.mark.slow
def test_several_budgets_share_a_supernet_of_what_the_target_takes(tmp_path: Path) -> None:
    found = bnas.search_targets(
        tiny_space(), (["ops=8k"], ["ops=12k"]), deploy="finn", trials=2, out=tmp_path / "run", progress=False
    )
    for result in found.values():
        best = result.best
        assert refusal(lower(best.load(), best.architecture.input), "finn") is None


def test_a_target_says_itself_what_is_checked() -> None:
    space, left_out = taken_by(tiny_space(), "finn")
    assert space.deploy == "finn"
    assert "pads bits with -1" in left_out


def test_weight_binarizers_that_a_target_refuses_are_left_out() -> None:
    target = "finn"
    space = make_space(binarizers={"weight": ["xnor", "alpha_beta"]}, shortcut={"kind": "conv"})
    left, said = taken_by(space, target)
    assert left.binarizers.weight == ("xnor",)
    assert "; leaves out binarizers.weight alpha_beta: " in said
    assert said.endswith(f"; {left.size:,} of {space.size:,} networks stay")
    assert said.count("networks stay") == 1
    with pytest.raises(SpecError, match=f"deploy: {target} takes no network of this space: .*offset"):
        taken_by(make_space(binarizers={"weight": "alpha_beta"}, shortcut={"kind": "conv"}), target)
    assert taken_by(space, "packed") == (space.model_copy(update={"deploy": "packed"}), "")


def test_blocks_that_a_target_refuses_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_BLOCKS)
    plain, gated = f"{tmp_path / 'mine.py'}:Plain", f"{tmp_path / 'mine.py'}:Gated"
    stages = [{"width": 8, "depth": [0, 1], "block": ["bnas", gated, plain]}, {"width": 8, "block": [gated, "bnas"]}]
    space = make_space(stem={"width": 8}, stages=stages, prelu=False)
    left, said = taken_by(space, "hls4ml")
    assert [stage.block for stage in left.stages] == [("bnas", plain), ("bnas",)]
    assert said.count("leaves out stages[") == 2
    assert "takes no squeeze-excite" in said
    assert refused(left, "hls4ml", count=1) == []


OWN_BLOCKS = """
import torch
from torch import nn
from bnas.layers import BinaryConv

class Plain(nn.Module):
    def __init__(self, ins, out, *, kernel, stride, groups, precision, **rest):
        super().__init__()
        self.norm = nn.BatchNorm2d(ins)
        self.conv = BinaryConv(ins, out, kernel=kernel, stride=stride, groups=groups, precision=precision, pad_value=-1)

    def forward(self, x):
        return self.conv(self.norm(x))

class Gated(Plain):
    def forward(self, x):
        y = super().forward(x)
        return y * torch.sigmoid(y.mean((2, 3), keepdim=True))
"""
