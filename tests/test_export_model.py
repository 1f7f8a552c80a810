"""model.py and layers.py: plain torch that gives the same network as `build`, and reads like what it is."""

import ast
import itertools
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from exported import built, files_of, images_of, shaken, text_of
from spaces import STEMS, later_space, line_of, make_arch, rich_space
from torch import Tensor, nn

from bnas.binarize import ACTIVATION_BINARIZERS, WEIGHT_BINARIZERS
from bnas.errors import ExportError
from bnas.networks.build import build
from bnas.networks.models import MODELS
from bnas.ship.source import with_imports
from bnas.space.arch import Architecture

SHORTCUTS = ({"kind": "repeat"}, {"kind": "conv"}, {"kind": "bottleneck", "reduction": 3}, {"pool": "max"})
SPACES = [
    rich_space(shortcut=shortcut, squeeze_excite=excite, binarizers=binarizers, **stem)
    for (shortcut, excite), (binarizers, stem) in zip(
        itertools.product(SHORTCUTS, (False, True)),
        itertools.cycle(
            (
                ({"weight": "xnor", "pad_value": -1}, {}),
                ({"weight": "sign", "pad_value": 1}, {"stem": {"kind": "branched", "width": [8, 16], "stride": 4}}),
                ({"weight": "xnor", "pad_value": 0}, {"stem": STEMS["space_to_depth"]}),
                ({"weight": "alpha_beta", "pad_value": -1}, {"stem": STEMS["thermometer"]}),
            )
        ),
        strict=False,
    )
] + [later_space(squeeze_excite=True)]
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


BINARIZED = [
    make_arch(stage={"experts": experts}, binarizers={kind: name})
    for kind, table in (("weight", WEIGHT_BINARIZERS), ("activation", ACTIVATION_BINARIZERS))
    for name in table
    for experts in (1, 2)
]


@pytest.mark.parametrize("arch", SAMPLED + BINARIZED, ids=lambda arch: arch.id)
def test_it_gives_the_logits_and_gradients_of_build(arch: Architecture) -> None:
    network = shaken(build(arch))
    written = built(files_of(arch).files)
    written.load_state_dict(network.state_dict(), strict=True)
    assert repr(written) == repr(network)
    images = images_of(arch)
    with torch.no_grad():
        assert torch.equal(written.eval()(images), network.eval()(images))
    expected = gradients(network, images)
    found = gradients(written, images)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("arch", SAMPLED[::6], ids=lambda arch: arch.id)
def test_it_imports_torch_and_the_standard_library_only(arch: Architecture) -> None:
    for text in files_of(arch).files.values():
        nodes = list(ast.walk(ast.parse(text)))
        packages = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
        packages |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in packages} <= {"torch", "layers"} | sys.stdlib_module_names


@pytest.mark.parametrize("arch", SAMPLED + BINARIZED, ids=lambda arch: arch.id)
def test_it_has_lines_that_people_can_read(arch: Architecture) -> None:
    for text in files_of(arch).files.values():
        assert max(map(len, text.splitlines())) <= 120
        assert not any(line.endswith(" ") for line in text.splitlines())
        assert "\n\n\n\n" not in text


def test_layers_are_our_modules_as_they_are() -> None:
    text = files_of(make_arch()).files["layers.py"]
    layers = Path(sys.modules["bnas.layers.blocks"].__file__ or "").parent
    for module in ("binary_layer", "binary_conv", "expert_conv", "blocks"):
        source = (layers / f"{module}.py").read_text()
        last_import = max(node.end_lineno or 0 for node in ast.parse(source).body if isinstance(node, ast.ImportFrom))
        assert f"# bnas.layers.{module}\n" in text
        assert "\n".join(source.splitlines()[last_import:]).strip() in text


def test_no_two_modules_of_an_export_give_one_name_to_two_things() -> None:
    """They share one file, where the last would win; what they import counts too."""
    roots = ["bnas.layers", "bnas.data.transforms", "bnas.train.evaluate", "bnas.train.objective", "bnas.train.step"]
    makers = [reference.build for reference in MODELS.values()]
    roots += sorted({getattr(make, "func", make).__module__ for make in makers})
    meanings: dict[str, set[str]] = {}
    for module in with_imports(roots):
        tree = ast.parse(Path(sys.modules[module].__file__ or "").read_text())
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                ours = str(node.module).startswith("bnas")
                assert not ours or all(alias.asname in (None, alias.name) for alias in node.names)
                names = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names if not ours}
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("bnas") for alias in node.names)
                names = {a.asname or a.name.partition(".")[0]: a.name for a in node.names if a.asname}
            else:
                names = {name: f"{module}.{name}" for name in _defined(node) - {"__all__"}}
            for name, meaning in names.items():
                meanings.setdefault(name, set()).add(meaning)
    assert {name: meant for name, meant in meanings.items() if len(meant) > 1} == {}


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def test_the_blocks_are_spelt_out() -> None:
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


def scale_of(weight):
    """A helper."""
    return SHARE * weight.detach().abs().mean(filter_dims(weight), keepdim=True)


def halves(weight):
    scale = scale_of(weight)
    return BinaryWeight(clipped_sign(weight), scale, torch.zeros_like(scale))
'''


def own_binarizer(folder: Path, text: str = OWN, name: str = "halves") -> Architecture:
    (folder / "own.py").write_text(text)
    return make_arch(binarizers={"weight": f"{folder / 'own.py'}:{name}"})


def test_a_binarizer_of_the_users_own_goes_with_it_whole(tmp_path: Path) -> None:
    arch = own_binarizer(tmp_path)
    network, files = shaken(build(arch)).eval(), files_of(arch).files
    written = built(files)
    written.load_state_dict(network.state_dict())
    assert torch.equal(written.eval()(images_of(arch)), network(images_of(arch)))
    assert files["own.py"] == OWN.replace("bnas.binarize", "layers")
    assert 'weights="own:halves"' in files["model.py"]
    assert str(tmp_path) not in "".join(files.values())


def test_what_of_ours_does_not_run_with_torch_alone_is_refused(tmp_path: Path) -> None:
    text = OWN.replace("import torch\n", "import torch\nfrom bnas.space.arch import Architecture\n")
    with pytest.raises(ExportError) as caught:
        files_of(own_binarizer(tmp_path, text))
    assert "imports pydantic, so it cannot go where there is torch alone; import what you need from" in line_of(caught)
