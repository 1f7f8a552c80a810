"""Blocks of the user's own in a supernet: of each shape one, with weights that it shares with no other."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bnas.cost.trace.own_block import build_own
from bnas.errors import SpecError
from bnas.space.arch import BlockSpec
from bnas.space.space import SearchSpace
from bnas.space.values import OURS

MOST = 512  # shapes at one place


class OwnBlocks(nn.Module):
    """The user's blocks at one place of a network.

    Args:
        stage, number: the place; the first block of a stage has number 1.
        ins: channels that may come in.
    Raises:
        SpecError: there are too many shapes to keep the weights of each.
    """

    def __init__(self, space: SearchSpace, stage: int, number: int, ins: Sequence[int]) -> None:
        super().__init__()
        shapes = list(dict.fromkeys(_shapes(space, stage, number, ins)))
        if len(shapes) > MOST:
            raise SpecError(
                f"stages[{stage}].block: a block of your own keeps weights for each of its {len(shapes):,} shapes at "
                f"one place, but {MOST} at most; offer fewer widths, groups, experts, kernels, strides or precisions"
            )
        self._places = {shape: place for place, shape in enumerate(shapes)}
        self.blocks = nn.ModuleList(map(build_own, shapes))

    def slices(self, block: BlockSpec) -> dict[str, Tensor]:
        """Return the parameters and buffers of a block, by its names."""
        return _tensors(self.blocks[self._places[block]])

    @torch.no_grad()
    def copy_first_expert(self) -> None:
        """Give a block of several experts what the same block of one has learned; of the other, each the first's."""
        for shape in (shape for shape in self._places if shape.experts > 1):
            learned = self.slices(shape._replace(experts=1))
            for name, tensor in self.slices(shape).items():
                if name in learned and tensor.shape in (learned[name].shape, (shape.experts, *learned[name].shape)):
                    tensor.copy_(learned[name])


def _tensors(block: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers; one that two modules have is there by both names."""
    return dict(block.named_parameters(remove_duplicate=False)) | dict(block.named_buffers(remove_duplicate=False))


def _shapes(space: SearchSpace, stage: int, number: int, ins: Sequence[int]) -> Iterator[BlockSpec]:
    choices = space.stages[stage]
    offered = {key: getattr(choices, key) for key in choices.keys[1:]}
    offered["block"] = [name for name in choices.block if name != OURS]
    offered["experts"] = sorted({1, *choices.experts})  # a training may begin with one
    for values in itertools.product(*offered.values()):
        for precision, shortcut, every, binarizers in itertools.product(
            choices.precision, space.shortcut.shortcuts, space.mix_every, space.binarizers.each
        ):
            made = choices.spec(values, (precision,))
            shared = space.shared()._replace(shortcut=shortcut, mix_every=every, binarizers=binarizers)
            mixed = shared.is_mixed(made.groups, number)
            for channels in ins if number == 1 else (made.width,):
                yield made.block_of(channels, precision, shared, first=number == 1, mixed=mixed)
