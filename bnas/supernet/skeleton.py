"""Architecture -> its network without memory for weights, put together from blocks that are built only once."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from bnas.layers.blocks import Network
from bnas.networks.build import build_block, build_head, build_stem
from bnas.space.arch import Architecture

CAPACITY = 4096  # parts kept; a part has no weights, so this is a few megabytes


class Skeletons:
    """Networks on the meta device. Building one anew costs more than running it; its blocks are few and kept."""

    def __init__(self) -> None:
        self._parts: OrderedDict[Any, nn.Module] = OrderedDict()

    def network(self, arch: Architecture) -> Network:
        """Return a network that shares its parts with those of other calls."""
        stages = [
            [self._part((s, b, block), partial(build_block, block)) for b, block in enumerate(blocks)]
            for s, blocks in enumerate(arch.blocks())
        ]
        stem = self._part(("stem", arch.stem), partial(build_stem, arch.stem, arch.input[0]))
        head = self._part(("head", arch.stages[-1].width), partial(build_head, arch))
        return Network(stem, stages, head)

    def copy(self, arch: Architecture) -> Network:
        """Return a network that shares no part with others."""
        network = unshared(self.network(arch))
        assert isinstance(network, Network)
        return network

    def _part(self, key: Any, make: Callable[[], nn.Module]) -> nn.Module:
        if key in self._parts:
            self._parts.move_to_end(key)
            return self._parts[key]
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are thrown away: leave the caller's stream
            part = make().to("meta")
        self._parts[key] = part
        if len(self._parts) > CAPACITY:
            self._parts.popitem(last=False)
        return part

    def __deepcopy__(self, memo: dict[int, Any]) -> "Skeletons":
        return Skeletons()


def unshared(module: nn.Module) -> nn.Module:
    """Return a copy with modules and tables of its own and the same tensors: what deepcopy gives, without its cost."""
    twin = copy.copy(module)
    twin.__dict__.update({key: value.copy() for key, value in vars(module).items() if isinstance(value, dict | set)})
    for name, child in module.named_children():
        twin._modules[name] = unshared(child)
    return twin
