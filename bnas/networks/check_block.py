"""The contract of a block of the user's own, tried on the shapes that a space may ask of it."""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnas.cost.trace.own_block import build_own, plan_own, where
from bnas.errors import SpecError
from bnas.networks.wear import wear
from bnas.space.arch import Binarizers, BlockSpec, Shortcut
from bnas.space.values import PRECISIONS, Precision, Size

SIZES: tuple[Size, ...] = ((9, 7), (1, 5), (1, 1))


def check_block(
    name: str,
    *,
    channels: Sequence[tuple[int, int]] = ((8, 8), (8, 16), (16, 8)),
    kernels: Sequence[int | str] = (3, "1x3"),
    strides: Sequence[int] = (1, 2),
    groups: Sequence[int] = (1, 2),
    experts: Sequence[int] = (1, 2),
    precisions: Sequence[Precision] = PRECISIONS,
) -> int:
    """Check that a block of your own does what a search, a training and an export need of it.

    Of every shape: it is built from its channels and settings; its output has the size that its stride leaves, also of
    an image of one row and of one pixel; all that it computes can be counted; every parameter gets a finite gradient;
    in evaluation an image's answer is the same each time, and whatever images are beside it; all that it remembers is
    in its parameters and buffers, so that another one with these answers the same.

    Args:
        name: as `file.py:attr` or `pkg.mod:attr`.
        channels: (in, out) pairs.
        kernels, strides, groups, experts, precisions: what a space may offer. Leave out what yours does not take, and
            do not offer it.
    Returns: how many shapes were tried.
    Raises:
        SpecError: the first rule that is broken, and the shape.
        LookupFailed: the name leads to nothing.
    """
    tried = 0
    for (ins, outs), kernel, stride, split, banks, precision in itertools.product(
        channels, kernels, strides, groups, experts, precisions
    ):
        block = BlockSpec(
            ins, outs, kernel, stride, split, banks, precision, Shortcut(), False, Binarizers(), block=name
        )  # fmt: skip
        for size in SIZES:
            plan_own("block", block, size)
            for rule in _broken(block, size):
                raise SpecError(f"{where(block)}: on an input of {(block.in_channels, *size)}: {rule}")
        tried += 1
    return tried


def _broken(block: BlockSpec, size: Size) -> Iterator[str]:
    """Yield the rules that a block breaks."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, block.in_channels, *size, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made, other = build_own(block), build_own(block)
        yield from _without_gradient(made, images)
        wear(made.eval())
    with torch.no_grad():
        answers = made(images)
        alone = torch.cat([made(image[None]) for image in images])
        if not torch.equal(answers, made(images)):
            yield "in evaluation it must answer the same each time"
        if not torch.allclose(answers, alone, rtol=1e-4, atol=1e-5 * float(answers.abs().max())):
            yield "in evaluation an image's answer must not hang on the images beside it"
        state = dict(made.named_parameters()) | dict(made.named_buffers())
        try:
            again: Tensor = functional_call(other.to("meta").eval(), state, (images,))
        except (RuntimeError, NotImplementedError) as problem:
            yield f"all tensors that it uses must be parameters or buffers; with another one's it fails: {problem}"
            return
        if not torch.allclose(answers, again, rtol=1e-5, atol=1e-6 * float(answers.abs().max())):
            yield "with the parameters and buffers of another one it must answer as that one does"


def _without_gradient(made: nn.Module, images: Tensor) -> Iterator[str]:
    made.train()
    out = made(images + 0)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    (out * weights).sum().backward()
    for name, parameter in made.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not math.isfinite(float(parameter.grad.sum()))):
            yield f"in training {name} must get a finite gradient"
