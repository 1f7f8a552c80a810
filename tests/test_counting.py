"""`bnas.count`: what a network costs, from Python."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import bnas
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import ShapeError, SpecError
from bnas.networks.build import build
from bnas.space.arch import Architecture

EXPERT_NET = Path(__file__).parents[1] / "architectures" / "expert_net.yaml"
ARCH = Architecture.read(EXPERT_NET)


def test_of_an_architecture_and_of_its_file() -> None:
    assert bnas.count(ARCH) == bnas.count(EXPERT_NET) == bnas.count(str(EXPERT_NET)) == cost(plan(ARCH))


def test_of_an_architecture_on_another_input() -> None:
    assert bnas.count(ARCH, (3, 64, 64)) == cost(plan(ARCH.model_copy(update={"input": (3, 64, 64)})))


def test_of_a_module() -> None:
    counted = bnas.count(nn.Conv2d(3, 4, 3), (3, 8, 8))
    assert (counted.flops, counted.parameters) == (4 * 27 * 6 * 6, 4 * 27 + 4)
    assert bnas.count(build(ARCH), ARCH.input) == bnas.count(ARCH)


def test_of_a_module_with_several_inputs() -> None:
    class Two(nn.Linear):
        def forward(self, x, y):
            return super().forward(x) + super().forward(y)

    assert bnas.count(Two(3, 5), [(3,), (3,)]).flops == 2 * 3 * 5


def test_what_cannot_be_counted_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="not counted: the model itself: _trilinear"):
        assert bnas.count(nn.Bilinear(3, 4, 5), [(3,), (4,)]).macs == 0


def test_bad_input_is_one_line() -> None:
    with pytest.raises(ShapeError, match=r"give its shape, as in count\(model, \(3, 224, 224\)\)"):
        bnas.count(nn.Conv2d(3, 4, 3))
    with pytest.raises(SpecError, match=r"count: input\[1\]: "):
        bnas.count(ARCH, (3, 0, 8))
    with pytest.raises(SpecError, match="no such file"):
        bnas.count("nothing.yaml")


def test_of_an_architecture_without_torch() -> None:
    code = f"import sys, bnas; bnas.count({str(EXPERT_NET)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
