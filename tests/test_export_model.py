"""model.py: one torch file that gives the same network as `build`, with nothing in it that it does not need."""

import ast
import itertools
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from exported import images_of, imported, shaken, text_of
from spaces import line_of, make_arch, rich_space
from torch import Tensor, nn

from bnas.binarize import ACTIVATION_BINARIZERS, WEIGHT_BINARIZERS
from bnas.errors import ExportError
from bnas.networks.build import build
from bnas.ship.fold import fold
from bnas.space.arch import Architecture

SHORTCUTS = ({"kind": "repeat"}, {"kind": "conv"}, {"kind": "bottleneck", "reduction": 3})
SPACES = [
    rich_space(shortcut=shortcut, squeeze_excite=excite, binarizers=binarizers, **stem)
    for (shortcut, excite), (binarizers, stem) in zip(
        itertools.product(SHORTCUTS, (False, True)),
        itertools.cycle(
            (
                ({"weight": "xnor", "pad_value": -1}, {}),
                ({"weight": "sign", "pad_value": 1}, {"stem": {"kind": "branched", "width": [8, 16], "stride": 4}}),
                ({"weight": "xnor", "pad_value": 0}, {}),
            )
        ),
        strict=False,
    )
]
SAMPLED = [space.architecture(space.sample(random)) for space in SPACES for random in [Random(7)] for _ in range(6)]


def gradients(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    network.train()(images).square().sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_there_are_enough_samples_of_every_kind() -> None:
    assert len(SAMPLED) >= 30
    stages = [stage for arch in SAMPLED for stage in arch.stages]
    assert {p for stage in stages for p in stage.precision} == {"real", "weight", "binary"}
    assert {stage.groups for stage in stages} >= {1, 2, 4}
    assert {stage.experts for stage in stages} >= {1, 2, 3, 4}


def test_model_file_has_shifted_activations_only_where_they_are_used() -> None:
    plain, shifted = (text_of(make_arch(binarizers={"activation": name})) for name in ("sign", "react"))
    assert "RPReLU" not in plain
    assert "class RPReLU" in shifted
    assert "RSign" not in shifted


BINARIZED = [
    make_arch(stage={"experts": experts}, binarizers={kind: name})
    for kind, table in (("weight", WEIGHT_BINARIZERS), ("activation", ACTIVATION_BINARIZERS))
    for name in table
    for experts in (1, 2)
]


@pytest.mark.parametrize("arch", SAMPLED + BINARIZED, ids=lambda arch: arch.id)
def test_model_file_gives_the_logits_and_gradients_of_build(arch: Architecture) -> None:
    network = shaken(build(arch))
    written = imported(text_of(arch)).build()
    written.load_state_dict(network.state_dict(), strict=True)
    images = images_of(arch)
    with torch.no_grad():
        assert torch.equal(written.eval()(images), network.eval()(images))
    expected = gradients(network, images)
    found = gradients(written, images)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("arch", SAMPLED[::4], ids=lambda arch: arch.id)
def test_model_file_imports_torch_and_the_standard_library_only(arch: Architecture) -> None:
    tree = ast.parse(text_of(arch))
    packages = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    packages |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in packages} <= {"torch"} | sys.stdlib_module_names


@pytest.mark.parametrize("arch", SAMPLED[::4], ids=lambda arch: arch.id)
def test_model_file_has_lines_that_people_can_read(arch: Architecture) -> None:
    text = text_of(arch)
    written_here = text.partition('"""\n\n')[0].splitlines() + text.partition("def build()")[2].splitlines()
    assert max(map(len, written_here)) <= 120
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert "\n\n\n\n" not in text


def test_model_file_holds_only_what_the_network_needs() -> None:
    text = text_of(make_arch())
    for absent in ("ExpertConv", "SqueezeExcite", "ConvShortcut", "BottleneckShortcut", "BranchedStem", "def sign("):
        assert absent not in text
    assert "class BinaryConv" in text
    assert "def xnor(" in text


def test_model_file_has_experts_alone_where_every_stage_has_them() -> None:
    text = text_of(make_arch(stage={"experts": 4}))
    assert "class ExpertConv" in text
    assert "class BinaryConv" not in text


def test_model_file_spells_the_blocks_out() -> None:
    arch = make_arch(stage={"groups": 4, "stride": 2, "precision": ["binary", "weight"]}, binarizers={"pad_value": -1})
    text = text_of(arch)
    assert '    Block(8, 16, kernel=3, stride=2, groups=4, experts=1, precision="binary", pad_value=-1),\n' in text
    assert '    Block(16, 16, kernel=3, stride=1, groups=4, experts=1, precision="weight", pad_value=-1),\n' in text
    assert "# 16 x 5 x 4," in text  # 9 x 7 halved, rounded up
    assert f"Binary network {arch.id} " in text
    assert "MIT" in text.split('"""')[1]


OWN = '''
import math
from typing import NamedTuple

import torch

from bnas.binarize import BinaryWeight, clipped_sign, filter_dims

SHARE = math.sqrt(0.25)  # of the mean


class Unused(NamedTuple):
    nothing: int


def scale_of(weight):
    """A helper."""
    return SHARE * weight.detach().abs().mean(filter_dims(weight), keepdim=True)


def halves(weight):
    scale = scale_of(weight)
    return BinaryWeight(clipped_sign(weight), scale, torch.zeros_like(scale))
'''


def own_binarizer(folder: Path, text: str, name: str = "halves") -> Architecture:
    (folder / "own.py").write_text(text)
    return make_arch(binarizers={"weight": f"{folder / 'own.py'}:{name}"})


def test_a_binarizer_of_the_users_own_is_written_into_text_of(tmp_path: Path) -> None:
    arch = own_binarizer(tmp_path, OWN)
    network, text = shaken(build(arch)).eval(), text_of(arch)
    written = imported(text).build()
    written.load_state_dict(network.state_dict())
    assert torch.equal(written.eval()(images_of(arch)), network(images_of(arch)))
    assert "SHARE = math.sqrt(0.25)" in text
    assert "Unused" not in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OWN.replace("import math", "import math\nimport numpy as np").replace("math.sqrt", "np.sqrt"), "numpy"),
        (OWN.replace("SHARE = ", "if True:\n    SHARE = "), "'SHARE' is not defined at the top"),
        (OWN.replace("def scale_of", "def shortcut").replace("scale_of(", "shortcut("), "'shortcut' means"),
        (OWN.replace("def halves", "def other") + "\nfrom own import halves\n", "does not define 'halves'"),
    ],
    ids=["needs numpy", "not at the top", "a name we use", "imported from elsewhere"],
)
def test_a_binarizer_that_one_file_cannot_hold_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ExportError) as caught:
        text_of(own_binarizer(tmp_path, text))
    assert reason in line_of(caught)


def folded(text: str, **facts: Any) -> str:
    return fold(text, facts, function="f")


def test_fold_keeps_the_branch_that_is_taken_with_its_comments() -> None:
    branches = "if a > 1:\n        b = 2  # why\n        # end\n        b += 1\n    else:\n        b = 3\n"
    text = f"def f(a, b):\n    {branches}    return b"
    assert folded(text, a={2, 3}) == "def f(a, b):\n    b = 2  # why\n    # end\n    b += 1\n    return b"
    assert folded(text, a={1}) == "def f(a, b):\n    b = 3\n    return b"
    assert folded(text, a={1, 2}) == text
    assert folded(text, c={1}) == text


def test_fold_drops_what_follows_a_return() -> None:
    head = 'def f(kind):\n    """Say."""\n'
    text = head + '    if kind == "a":\n        return 1\n    if kind == "b":\n        return 2\n    return 3'
    assert folded(text, kind={"a"}) == head + "    return 1"
    assert folded(text, kind={"b"}) == head + "    return 2"
    assert folded(text, kind={"c"}) == head + "    return 3"


def test_fold_turns_an_elif_that_is_left_into_an_if() -> None:
    text = "def f(a, b):\n    if a:\n        b = 1\n    elif b:\n        b = 2\n    return b"
    assert folded(text, a={False}) == "def f(a, b):\n    if b:\n        b = 2\n    return b"


def test_fold_chooses_between_two_values() -> None:
    text = "def f(a):\n    é = 'é' if a else 'ü'; return é"
    assert folded(text, a={True}) == "def f(a):\n    é = 'é'; return é"
    assert folded(text, a={0}) == "def f(a):\n    é = 'ü'; return é"


def test_fold_leaves_a_body_that_would_be_empty_something_to_do() -> None:
    assert folded("def f(a):\n    if a:\n        print(a)", a={False}) == "def f(a):\n    pass"
