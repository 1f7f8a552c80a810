"""Blocks of the user's own: counted as they run, searched, trained and exported like ours, and held to a contract."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from spaces import make_arch, make_space

import bnas
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.cost.trace import trace
from bnas.errors import BnasError, LookupFailed, SpecError, TrustError
from bnas.networks.build import build
from bnas.searcher.ways import ways_of
from bnas.space.latency import parts_in, parts_of
from bnas.supernet import Supernet
from tests.test_cli import bnas as command
from tests.tiny import TINY

OURS_BY_NAME = "bnas.layers.blocks:Block"

CODE = """
import functools
import torch
from torch import nn
from bnas.layers import BinaryConv, ExpertConv

class Good(nn.Module):
    def __init__(self, ins, out, *, kernel, stride, groups, precision, **rest):
        super().__init__()
        self.norm = nn.BatchNorm2d(ins)
        self.conv = BinaryConv(ins, out, kernel=kernel, stride=stride, groups=groups, precision=precision)
        self.act = nn.PReLU(out)

    def forward(self, x):
        return self.act(self.conv(self.norm(x)))

class Wide(Good):
    def forward(self, x):
        y = super().forward(x)
        return torch.cat((y, y), 1)

class Unpadded(Good):
    def forward(self, x):
        return super().forward(x)[:, :, 1:] if x.shape[2] > 2 else super().forward(x)

class Unused(Good):
    def __init__(self, ins, out, **rest):
        super().__init__(ins, out, **rest)
        self.more = nn.Parameter(torch.ones(out))

class Detached(Good):
    def forward(self, x):
        return self.act(self.conv(self.norm(x)).detach())

class Together(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0))

class Random(Good):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))

class Hidden(Good):
    def __init__(self, ins, out, **rest):
        super().__init__(ins, out, **rest)
        self.hidden = torch.rand(1, ins, 1, 1)

    def forward(self, x):
        return super().forward(x) * self.hidden.mean()

class Fourier(Good):
    def forward(self, x):
        return super().forward(torch.fft.fft2(x).real)

class OneChannel(Good):
    def __init__(self, ins, out, **rest):
        if ins > 8:
            raise ValueError("no more than 8 channels")
        super().__init__(ins, out, **rest)

class Tied(nn.Module):
    def __init__(self, ins, out, *, kernel, stride, groups, **rest):
        super().__init__()
        self.first = nn.Conv2d(ins, out, 1, stride)
        self.norm = nn.BatchNorm2d(out)
        self.one, self.other = nn.Conv2d(out, out, 1), nn.Conv2d(out, out, 1)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(self.one(self.norm(self.first(x))))

class More(BinaryConv):
    def __init__(self, ins, out, *, kernel, stride, groups, **rest):
        super().__init__(ins, out, kernel=kernel, stride=stride, groups=groups)
        self.more = nn.Parameter(torch.randn(out, ins, 1, 1))

    def forward(self, x):
        return super().forward(x) + nn.functional.conv2d(x, self.more, stride=self.stride)

class Experts(nn.Module):
    def __init__(self, ins, out, *, experts, kernel, stride, **rest):
        super().__init__()
        kind = BinaryConv if experts == 1 else functools.partial(ExpertConv, experts=experts)
        self.conv, self.norm = kind(ins, out, kernel=kernel, stride=stride), nn.BatchNorm2d(out)

    def forward(self, x):
        return self.norm(self.conv(x))

def nothing(ins, out, **rest):
    return None

number = 3
"""


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a file, another one for each test: what is counted is remembered by name."""
    name = f"{tmp_path.name}.py"
    (tmp_path / name).write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return name


def test_ours_by_its_name_costs_and_computes_what_ours_does() -> None:
    for stage in ({"groups": 2, "stride": 2}, {"experts": 3, "kernel": "1x3"}, {"precision": "weight"}):
        ours, named = make_arch(stage=stage), make_arch(stage=stage | {"block": OURS_BY_NAME})
        assert cost(plan(named)) == cost(plan(ours))
        assert [layer.name for layer in plan(named)] == [layer.name for layer in plan(ours)]
        torch.manual_seed(0)
        one = build(ours)
        torch.manual_seed(0)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), build(named).parameters(), strict=True))


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    kernels = {"one": 1, "two": 5}
    for folder, kernel in kernels.items():
        (tmp_path / folder).mkdir()
        code = f"def Mine(i, o, stride=1, **rest):\n    return nn.Conv2d(i, o, {kernel}, stride, {kernel // 2})\n"
        (tmp_path / folder / "same.py").write_text(f"from torch import nn\n\n{code}")
    archs = [make_arch(stage={"block": f"{tmp_path / folder}/same.py:Mine"}) for folder in kernels]
    costs = [cost(plan(arch)).flops for arch in archs]
    assert costs[0] < costs[1]
    for arch, kernel in zip(archs, kernels.values(), strict=True):
        assert kernel in {m.kernel_size[0] for m in build(arch).modules() if isinstance(m, torch.nn.Conv2d)}


def test_ours_keeps_the_contract() -> None:
    assert bnas.check_block(OURS_BY_NAME) == 3 * 2 * 2 * 2 * 2 * 3


def test_a_good_one_keeps_the_contract(blocks: str) -> None:
    assert bnas.check_block(f"{blocks}:Good", experts=[1], strides=[1, 2, 3]) == 3 * 2 * 3 * 2 * 3


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Wide", "must make (8, 9, 7) of (8, 9, 7), height and width divided by its stride 1 and rounded up, but gave"),
        ("Unpadded", "but gave (8, 8, 7)"),
        ("Unused", "cannot be counted: the model itself: parameters: 8 values are not used on this input"),
        ("Detached", "in training norm.weight must get a finite gradient"),
        ("Together", "in evaluation an image's answer must not hang on the images beside it"),
        ("Random", "in evaluation it must answer the same each time"),
        ("Hidden", "with the parameters and buffers of another one it must answer as that one does"),
        ("Fourier", "cannot be counted: "),
        ("OneChannel", "could not be built: ValueError: no more than 8 channels"),
        ("nothing", "must make a torch module, but made NoneType"),
    ],
)
def test_every_rule_is_checked(blocks: str, name: str, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        bnas.check_block(f"{blocks}:{name}", channels=[(8, 8), (16, 8)], experts=[1])
    assert rule in str(caught.value)
    assert str(caught.value).startswith(f"block {blocks}:{name} (")


@pytest.mark.parametrize(
    ("name", "said"),
    [("blocks.py:Missing", "blocks.py does not exist"), ("number", "must be a class or a function, but is int")],
)
def test_a_name_that_leads_to_no_block_is_refused(blocks: str, name: str, said: str) -> None:
    with pytest.raises(LookupFailed, match=said):
        bnas.check_block(name if ":" in name else f"{blocks}:{name}")


def test_a_word_that_is_no_block_is_refused() -> None:
    with pytest.raises(
        BnasError, match=r"stages\[0\].block\[0\]: 'Twice' is no block; give bnas for ours, or file.py:attr"
    ):
        make_space(stage={"block": "Twice"})


def own_space(name: str, **changes: Any) -> Any:
    stage = {"depth": [1, 2], "groups": [1, 2], "stride": [1, 2], "precision": ["binary", "weight"]}
    return make_space(stage=stage | {"block": ["bnas", name]}, **changes)


def test_counted_part_by_part_as_it_is_built(blocks: str) -> None:
    space, random = own_space(f"{blocks}:Good", mix_every=[2, 1]), Random(0)
    seen = set()
    for _ in range(30):
        genes = space.sample(random)
        arch = space.architecture(genes)
        seen.add(arch.stages[0].block)
        assert space.genes(arch) == genes
        assert ways_of(space).cost(genes) == cost(plan(arch)) == cost(trace(build(arch), arch.input).layers)
        assert set(map(str, parts_of(arch))) <= set(map(str, parts_in(space)))
    assert len(seen) == 2


@pytest.mark.parametrize("name", ["Good", "Tied", "More", OURS_BY_NAME])
def test_a_supernet_has_weights_for_each_of_its_shapes(blocks: str, name: str) -> None:
    space = own_space(name if ":" in name else f"{blocks}:{name}", mix_every=[1, 2])
    supernet, random = Supernet(space).eval(), Random(1)
    images = torch.randn(4, *space.input)
    for _ in range(20):
        arch = space.architecture(space.sample(random))
        with torch.no_grad():
            assert torch.equal(supernet.extract(arch)(images), supernet(images, arch))


def test_a_subclass_of_ours_has_what_it_adds(blocks: str) -> None:
    arch = make_arch(stage={"block": f"{blocks}:More"})
    counted, network = cost(plan(arch)), build(arch)
    added = [parameter.numel() for name, parameter in network.named_parameters() if name.endswith("more")]
    assert counted == cost(trace(network, arch.input).layers)
    assert counted.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert sum(added) > 0


def test_a_block_of_experts_begins_as_what_the_same_of_one_has_learned(blocks: str) -> None:
    supernet = Supernet(make_space(stage={"experts": 4, "block": f"{blocks}:Experts"}))
    arch = supernet.space.largest()
    images = torch.randn(8, *arch.input)
    for _ in range(3):
        supernet(images, arch.with_one_expert())  # its batch norms learn
    supernet.copy_first_expert()
    supernet.eval()
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, arch), supernet(images, arch.with_one_expert()))


def test_too_many_shapes_are_refused(blocks: str) -> None:
    wide = {"width": list(range(8, 8 * 40, 8)), "block": f"{blocks}:Good", "kernel": [1, 3, 5, 7, 9, 11, 13]}
    with pytest.raises(SpecError, match=r"stages\[0\].block: a block of your own keeps weights for each of its .* 512"):
        Supernet(make_space(stage=wide, stem={"width": [8, 16]}))


def test_searched_exported_and_loaded_without_bnas(blocks: str, tmp_path: Path) -> None:
    space = TINY.replace("precision: [binary, weight]}", f"block: '{blocks}:Good'}}")
    Path("own.yaml").write_text(space)
    with pytest.raises(TrustError, match=r"stages\[0\].block names code"):
        bnas.search("own.yaml", data="digits", out="run", progress=False)
    found = bnas.search("own.yaml", data="digits", out="run", trials=3, trust=True, progress=False)
    assert found.best.architecture.stages[0].block == f"{blocks}:Good"
    done = command("export", "run", "--to", "training", "-o", "out", "--trust")
    assert done.returncode == 0, done.stderr
    assert "Good(" in Path("out/model.py").read_text()
    packed = command("export", "run", "--to", "packed", "-o", "packed", "--trust")
    assert packed.returncode == 0, packed.stderr
