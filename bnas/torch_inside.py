"""The parts of torch that are not public and that we use, in one place: an upgrade that breaks one breaks here.

tests/test_torch_inside.py says what each of them must do.
"""

from typing import Any

from torch._C import DisableTorchFunction, DispatchKey
from torch._C._dynamo import eval_frame
from torch._ops import OpOverload
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm
from torch.nn.modules.conv import _ConvNd as AnyConv
from torch.nn.modules.conv import _ConvTransposeNd as AnyTransposedConv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = [
    "AnyBatchNorm", "AnyConv", "AnyTransposedConv", "DisableTorchFunction", "DispatchKey", "OpOverload",
    "OperatorMode", "tree_leaves",
]  # fmt: skip


class OperatorMode(TorchDispatchMode):
    """A context that sees every operator of torch while it is entered, those inside fused ones too."""

    supports_higher_order_operators = True  # torch.cond and its kin come here too

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keep torch's compiler, where a model uses it, from compiling what the mode does."""
        super().__init_subclass__(**kwargs)
        skip = eval_frame._FrameAction.SKIP
        strategy = eval_frame._FrameExecStrategy(skip, skip)  # the function, and all that it calls
        eval_frame.set_code_exec_strategy(vars(cls)["__torch_dispatch__"].__code__, strategy)

    @classmethod
    def _should_skip_dynamo(cls) -> Any:
        """Refuse torch's own way to that, for which it loads the whole compiler."""
        return False
