"""What each part of torch that is not public must do for us: see bnas/torch_inside.py."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bnas import torch_inside


class Names(torch_inside.OperatorMode):
    """A record of the operators that run, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_operators_inside_functions_of_torch() -> None:
    with Names() as names:
        torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3), torch.ones(4))
    assert any("addmm" in name for name in names.seen)
    count = len(names.seen)
    torch.ones(1) + 1
    assert len(names.seen) == count, "a mode that was left sees nothing more"


def test_a_mode_does_not_load_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from bnas.torch_inside import OperatorMode\n"
        "class Mode(OperatorMode):\n"
        "    def __torch_dispatch__(self, func, types, args=(), kwargs=None):\n"
        "        return func(*args, **(kwargs or {}))\n"
        "with Mode():\n"
        "    torch.ones(2) + 1\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("parent", "children"),
    [
        (torch_inside.AnyConv, [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d]),
        (torch_inside.AnyTransposedConv, [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]),
        (torch_inside.AnyBatchNorm, [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm]),
    ],
)
def test_a_parent_covers_every_dimension(parent: type, children: list[type]) -> None:
    assert all(issubclass(child, parent) for child in children)
    assert not issubclass(nn.Linear, parent)


def test_leaves_of_nested_containers_come_in_order() -> None:
    assert torch_inside.tree_leaves({"a": [1, (2, 3)], "b": 4}) == [1, 2, 3, 4]


def test_an_operator_names_its_overload() -> None:
    assert isinstance(torch.ops.aten.add.Tensor, torch_inside.OpOverload)
    assert torch_inside.DispatchKey.CPU.name == "CPU"


def test_functions_are_as_torch_has_them_where_modes_are_disabled() -> None:
    class Twice(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return 2 * func(*args, **(kwargs or {}))

    with Twice():
        assert torch.ones(()).add(1).item() != 2
        with torch_inside.DisableTorchFunction():
            assert torch.ones(()).add(1).item() == 2
