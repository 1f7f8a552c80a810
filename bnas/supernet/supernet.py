"""Architecture -> its network without memory for weights, put together from blocks that are built only once."""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnas.errors import SpecError
from bnas.layers.binary_layer import BinaryLayer
from bnas.layers.blocks import Network
from bnas.networks.build import build_block, build_head, build_stem
from bnas.space.arch import Architecture, Binarizers
from bnas.space.space import SearchSpace
from bnas.space.stem import Stem
from bnas.supernet.own_blocks import OwnBlocks
from bnas.supernet.shared import (
    SharedBlock,
    SharedClassifier,
    SharedUnit,
    Tensors,
    check_shared,
    key,
    matrix,
    own,
    prefixed,
)

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
        stem = self._part(
            ("stem", arch.stem, arch.binarizers), partial(build_stem, arch.stem, arch.input[0], arch.binarizers)
        )
        head = self._part(("head", arch.last_width, arch.classifier, arch.binarizers), partial(build_head, arch))
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


class Supernet(nn.Module):
    """Weights for every architecture of a space: the largest of each kind, of which others take slices.

    Shared by all: latent weights, gates, slopes, classifier. Kept apart: stems, for each shape of their weights; batch
    norm, for each precision and width; alpha, for each precision and shape.
    Groups are the block-diagonal slices of one weight; a narrow kernel is the centre of a wide one.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        check_shared(space)
        self.space = space
        self._several = len(space.binarizers.weight) > 1
        self.stems = nn.ModuleDict()
        for stem, binarizers in itertools.product(space.stem.stems(), space.binarizers.each):
            if (shape := self._shape(stem, binarizers)) not in self.stems:  # of one shape, the first
                self.stems[shape] = build_stem(stem, space.input[0], binarizers)
        self.stages = nn.ModuleList()
        for index, stage in enumerate(space.stages):
            into = list(itertools.product(space.widths_before(index), stage.width))
            inside = [(width, width) for width in stage.width]
            blocks = [
                SharedBlock(space, index, number, into if number == 1 else inside)
                for number in range(1, max(stage.depth) + 1)
            ]
            self.stages.append(nn.ModuleList(blocks))
        before = space.widths_before(len(space.stages))
        self.head_norms = nn.ModuleDict({key(width): nn.BatchNorm2d(width) for width in before})
        plain = set(space.classifier) == {"real"}
        self.classifier = nn.Linear(max(before), space.classes) if plain else SharedClassifier(space, before)
        self._skeletons = Skeletons()

    def forward(self, images: Tensor, arch: Architecture, *, real_weights: bool = False) -> Tensor:
        """Return the logits [batch, classes] of one sub-network.

        Args:
            images: [batch, channels, height, width].
            arch: an architecture of the space, whose stages may also have one expert.
            real_weights: compute with the latent weights, as the teacher of a sandwich step does.
        """
        skeleton = _with_weights(self._skeletons.network(arch), real=real_weights).train(self.training)
        logits: Tensor = functional_call(skeleton, self.slices(arch), (images,), tie_weights=False)  # none are
        return logits

    @torch.no_grad()
    def extract(self, arch: Architecture) -> Network:
        """Return a plain network with copies of the weights that `arch` uses; it gives the same logits.

        Raises:
            SpecError: the architecture is not in the space; says which choice is not offered.
        """
        self._check(arch)
        network = _with_weights(self._skeletons.copy(arch), real=False)
        modules = dict(network.named_modules())
        for name, tensor in self.slices(arch).items():
            owner, _, leaf = name.rpartition(".")
            module = modules[owner]
            if leaf in module._buffers:
                module._buffers[leaf] = tensor.clone()
            else:
                module._parameters[leaf] = nn.Parameter(tensor.clone())
        return network.train(self.training)

    def slices(self, arch: Architecture) -> Tensors:
        """Return the parameters and buffers of a plain network of `arch`, by its names, as views where possible."""
        tensors = prefixed("stem", own(self.stems[self._shape(arch.stem, arch.binarizers)]))
        for stage, blocks in enumerate(arch.blocks()):
            shared = self.stages[stage]
            assert isinstance(shared, nn.ModuleList)
            for index, (block, weights) in enumerate(zip(blocks, shared, strict=False)):
                assert isinstance(weights, SharedBlock)
                tensors |= prefixed(f"stages.{stage}.{index}", weights.slices(block))
        width = arch.last_width
        tensors |= prefixed("head.norm", own(self.head_norms[key(width)]))
        if isinstance(self.classifier, SharedClassifier):
            return tensors | prefixed(
                "head.classifier", self.classifier.slices(width, arch.classifier, arch.binarizers)
            )
        tensors["head.classifier.weight"] = matrix(self.classifier.weight, self.space.classes, width)
        tensors["head.classifier.bias"] = self.classifier.bias
        return tensors

    def _check(self, arch: Architecture) -> None:
        """Raise SpecError unless there are weights for an architecture; stages may also have one expert."""
        if len(arch.stages) != len(self.space.stages):
            raise SpecError(
                f"stages: the architecture has {len(arch.stages)}, the space {len(self.space.stages)}; weights go by "
                "their places, so write one that is absent with depth 0"
            )
        stages = list(arch.stages)
        for index, (stage, choices) in enumerate(zip(arch.stages, self.space.stages, strict=False)):
            if stage.experts == 1:
                stages[index] = stage.model_copy(update={"experts": choices.experts[0]})
        self.space.genes(arch.model_copy(update={"stages": tuple(stages)}))

    def _shape(self, stem: Stem, binarizers: Binarizers) -> str:
        """Return what of a stem is in its weights, and with it the channels that its convolution reads."""
        reads: dict[str, tuple[Any, ...]] = {"space_to_depth": (stem.stride,), "thermometer": (stem.levels,)}
        bits = (binarizers.weight.replace(".", "-"),) if self._several and stem.kind == "thermometer" else ()
        kind = (stem.kind,) if len(self.space.stem.kind) > 1 else ()
        return key(stem.width, stem.kernel, *reads.get(stem.kind, ()), *bits, *kind)

    @torch.no_grad()
    def copy_first_expert(self, states: Sequence[Mapping[Tensor, Mapping[str, Tensor]]] = ()) -> None:
        """Give every expert the weights of the first, so that from here on only the gates tell them apart.

        Args:
            states: of the optimizers, by parameter; averages of gradients are copied too.
        """
        for weight in (module.weight for module in self.modules() if isinstance(module, SharedUnit)):
            kept = [value for state in states for value in state.get(weight, {}).values()]
            for tensor in (weight, *(value for value in kept if value.shape == weight.shape)):
                tensor.copy_(tensor[:1].expand_as(tensor))
        for blocks in (module for module in self.modules() if isinstance(module, OwnBlocks)):
            blocks.copy_first_expert()


def _with_weights(network: Network, *, real: bool) -> Network:
    """Return the network, set to compute with latent weights or with binary ones: what used it before may differ."""
    for module in network.modules():
        if isinstance(module, BinaryLayer):
            module.real_weights = real
    return network
