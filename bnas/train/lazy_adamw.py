"""AdamW that leaves alone what a step does not use: for weights that many networks share, each a part of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bnas.train.optimizers import TensorByTensor


class LazyAdamW(TensorByTensor):
    """AdamW, but an entry whose gradient is exactly 0 keeps its value and its averages.

    AdamW goes on moving a weight by its old average after its gradient has ended. Of shared weights a step uses a
    slice, and the rest gets a gradient of 0: they would drift, and binary ones flip, by what other networks wanted.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- w (1 - rate * decay) - rate * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), where g != 0.
    t counts the steps in which any entry of the tensor has a gradient. The state is as torch's AdamW keeps it.

    Args:
        params: parameters, or groups of them.
        lr: the rate.
        weight_decay: decoupled, of the entries that a step uses.
    Source: Loshchilov and Hutter, arXiv:1711.05101; lazily, as torch's SparseAdam has it for rows of an embedding.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def move(self, weight: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        """Move the entries that have a gradient."""
        gradient = gradient.reshape(-1)
        used = gradient.nonzero().squeeze(1)
        if not len(used):
            return
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        whole = [tensor.view(-1) for tensor in (weight, state["exp_avg"], state["exp_avg_sq"])]
        if len(used) == len(gradient):
            _adamw(gradient, whole, float(state["step"]), group)
            return
        parts = [tensor[used] for tensor in whole]
        _adamw(gradient[used], parts, float(state["step"]), group)
        for tensor, part in zip(whole, parts, strict=True):
            tensor.index_copy_(0, used, part)


def _adamw(g: Tensor, changed: Sequence[Tensor], step: float, group: Mapping[str, Any]) -> None:
    """Change weights and averages in place, each [entries], as AdamW does in its step of this number."""
    w, m, v = changed
    first, second = group["betas"]
    m.lerp_(g, 1 - first)
    v.mul_(second).addcmul_(g, g, value=1 - second)
    size = v.sqrt().div_((1 - second**step) ** 0.5).add_(group["eps"])
    if group["weight_decay"]:
        w.mul_(1 - group["lr"] * group["weight_decay"])
    w.addcdiv_(m, size, value=-group["lr"] / (1 - first**step))
