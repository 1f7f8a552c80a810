"""The shared weights of blocks: the largest of each kind, and the slices that one block takes of them."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnas.binarize import is_annealed, weight_binarizer
from bnas.cost.plan import narrowed, squeezed
from bnas.errors import SpecError
from bnas.layers.binary_layer import LatentWeights, fresh_alpha, fresh_hardness, fresh_latent
from bnas.space.arch import Binarizers, BlockSpec
from bnas.space.space import SearchSpace
from bnas.space.values import OURS, Precision, sides
from bnas.supernet.own_blocks import OwnBlocks

Tensors = dict[str, Tensor]
Pairs = list[tuple[int, int]]  # (in, out) channels that occur


def check_shared(space: SearchSpace) -> None:
    """Raise unless the weight binarizers of a space can share the weights behind the bits.

    Raises:
        SpecError: of several, one is annealed: at every step the weights would be as hard as another wants them.
    """
    names = space.binarizers.weight
    annealed = next((name for name in names if len(names) > 1 and is_annealed(weight_binarizer(name))), None)
    if annealed is not None:
        raise SpecError(
            f"binarizers.weight: {annealed} is annealed, so it shares no weights with others; offer it alone"
        )


class SharedBlock(nn.Module):
    """The shared weights of one block: its unit, and the unit that mixes groups where the space has any.

    Args:
        number: the place in the stage, from 1.
        pairs: channels that may come in and go out.
    """

    def __init__(self, space: SearchSpace, stage: int, number: int, pairs: Pairs) -> None:
        super().__init__()
        choices, first = space.stages[stage], number == 1
        mixed = any(number % every == 0 for every in space.mix_every)
        own = any(name != OURS for name in choices.block)
        self.own = OwnBlocks(space, stage, number, sorted({ins for ins, _ in pairs})) if own else None
        if OURS not in choices.block:
            return
        self.main = SharedUnit(space, stage, pairs, choices.kernel, choices.groups)
        kinds = space.shortcut.kind if first else ()
        shortcuts: dict[str, nn.Module] = {
            kind: SharedShortcut(space.shortcut.reduction, pairs, choices.stride, kind=kind) for kind in kinds
        }
        # One alone has the name that it has had since there was no choice: checkpoints hold it.
        self.shortcut = shortcuts[kinds[0]] if len(kinds) == 1 else None
        self.shortcuts = nn.ModuleDict(shortcuts) if len(kinds) > 1 else None
        grouped = mixed and any(groups > 1 for groups in choices.groups)
        widths = [(width, width) for width in choices.width]
        self.mix = SharedUnit(space, stage, widths, (1,), (1,)) if grouped else None

    def slices(self, block: BlockSpec) -> Tensors:
        """Return the parameters and buffers of a plain block, by its names."""
        if block.block != OURS:
            assert self.own is not None
            return self.own.slices(block)
        tensors = prefixed("main", self.main.slices(block))
        if block.in_channels != block.out_channels or block.stride > 1:
            shared = self.shortcut if self.shortcuts is None else self.shortcuts[block.shortcut.kind]
            assert isinstance(shared, SharedShortcut)
            tensors |= prefixed("main.shortcut", shared.slices(block))
        if block.groups > 1 and block.mixed:
            assert self.mix is not None
            tensors |= prefixed("mix", self.mix.slices(block.mixing()))
        return tensors


class SharedWeights(LatentWeights):
    """Latent weights that several shapes share, and perhaps several binarizers, with an alpha for each of them.

    The names of alphas hold the binarizer only where there are several: those of builds from before stay what they are.
    """

    def take_on(self, space: SearchSpace) -> None:
        """Get ready for the binarizers of a space, which must be `check_shared`."""
        names = space.binarizers.weight
        self._binarize = {name: weight_binarizer(name) for name in names}
        self.weights, self._several = names[0], len(names) > 1
        self.alphas = nn.ParameterDict()
        self.register_buffer("hardness", fresh_hardness(self._binarize[self.weights]), persistent=False)

    def add_alphas(self, part: Tensor, precision: Precision, factor: float, *shape: object) -> None:
        """Add the alpha of a slice [..., out, in, height, width] of the weights, one for each binarizer."""
        for name, binarize in self._binarize.items():
            alpha = torch.ones(part.shape[-4]) if precision == "real" else fresh_alpha(part, binarize)
            self.alphas[self._key(name, precision, *shape)] = nn.Parameter(alpha * factor)

    def alpha_of(self, binarizers: Binarizers, precision: Precision, *shape: object) -> Tensor:
        """Return the alpha of a slice."""
        alpha: Tensor = self.alphas[self._key(binarizers.weight, precision, *shape)]
        return alpha

    def _key(self, name: str, *shape: object) -> str:
        return key(*shape, name.replace(".", "-")) if self._several else key(*shape)


class SharedUnit(SharedWeights):
    """The shared weights of one unit: [experts, out, in, kernel height, kernel width], and what stands beside them.

    Batch norm is kept apart for each precision and input width; alpha for each shape, because the scale of what it
    multiplies depends on the fan-in.
    """

    def __init__(
        self, space: SearchSpace, stage: int, pairs: Pairs, kernels: tuple[int | str, ...], groups: tuple[int, ...]
    ) -> None:
        super().__init__()
        choices = space.stages[stage]
        ins, outs = (max(channels) for channels in zip(*pairs, strict=True))
        experts, widest = max(choices.experts), map(max, zip(*map(sides, kernels), strict=True))
        self.weight = nn.Parameter(fresh_latent(experts, outs, ins, *widest))
        self.gate = nn.Linear(ins, experts) if experts > 1 else None
        for count in choices.experts:
            self.register_buffer(f"usage_{count}", torch.full((count,), 1 / count))
        norms = itertools.product(choices.precision, sorted({i for i, _ in pairs}))
        self.norms = nn.ModuleDict({key(precision, width): nn.BatchNorm2d(width) for precision, width in norms})
        self.take_on(space)
        self._ever_binary = set(choices.precision) != {"real"}
        largest = math.prod(self.weight.shape[2:])
        for precision, (i, o), g, k in itertools.product(choices.precision, pairs, groups, kernels):
            part = centre(self.weight[:, :o, : i // g], k).detach()
            self.add_alphas(part, precision, math.sqrt(largest / math.prod(part.shape[2:])), i, o, g, k)
        self.slope = nn.Parameter(torch.full((outs,), 0.25)) if space.prelu else None
        shifts = ("before", "after") if "react" in (choices.activation or [space.binarizers.activation]) else ()
        self.shifts = nn.ParameterDict({name: nn.Parameter(torch.zeros(outs)) for name in shifts})
        self.excite = SharedExcite(ins, outs) if any(choices.squeeze_excite or [space.squeeze_excite]) else None

    @property
    def has_binary_weights(self) -> bool:
        return self._ever_binary

    def slices(self, unit: BlockSpec) -> Tensors:
        """Return the parameters and buffers of a plain unit but for its shortcut, by its names."""
        ins, outs, experts = unit.in_channels, unit.out_channels, unit.experts
        weight = centre(self.weight[:experts, :outs, :ins], unit.kernel)
        if unit.groups > 1:
            weight = block_diagonal(weight, unit.groups)
        if experts == 1:
            weight = weight[0]
        alpha = self.alpha_of(unit.binarizers, unit.precision, ins, outs, unit.groups, unit.kernel)
        tensors = prefixed("norm", own(self.norms[key(unit.precision, ins)]))
        if unit.precision == "real":  # a real layer has no alpha of its own
            tensors["conv.weight"] = weight * alpha.view(-1, 1, 1, 1)
        else:
            tensors |= {"conv.weight": weight, "conv.alpha": alpha}
        if self.hardness is not None:
            tensors["conv.hardness"] = self.hardness
        if experts > 1:
            assert self.gate is not None
            tensors["conv.gate.weight"] = matrix(self.gate.weight, experts, ins)
            tensors["conv.gate.bias"] = self.gate.bias[:experts]
            tensors["conv.usage"] = getattr(self, f"usage_{experts}")
        if unit.squeeze_excite:
            assert self.excite is not None
            tensors |= prefixed("excite", self.excite.slices(unit))
        shifts = self.shifts.items() if unit.binarizers.shifts else ()
        if self.slope is not None:
            tensors["act.slope" if shifts else "act.weight"] = self.slope[:outs]
        return tensors | prefixed("act", {name: shift[:outs] for name, shift in shifts})


class SharedExcite(nn.Module):
    """The shared weights of squeeze-excite."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(ins, squeezed(outs), bias=False)
        self.expand = nn.Linear(squeezed(outs), outs, bias=False)

    def slices(self, unit: BlockSpec) -> Tensors:
        """Return the weights that a plain module of this unit's widths takes."""
        hidden = squeezed(unit.out_channels)
        return {
            "squeeze.weight": matrix(self.squeeze.weight, hidden, unit.in_channels),
            "expand.weight": matrix(self.expand.weight, unit.out_channels, hidden),
        }


class SharedShortcut(nn.Module):
    """The shared weights of the shortcut round the first unit of a stage; `repeat` has none."""

    def __init__(self, reduction: int, pairs: Pairs, strides: tuple[int, ...], *, kind: str) -> None:
        super().__init__()
        self.kind, self.reduction = kind, reduction
        ins, outs = (max(channels) for channels in zip(*pairs, strict=True))
        needed = [(i, o) for i, o in pairs if i != o or max(strides) > 1]
        if self.kind == "conv":
            self.conv = nn.Conv2d(ins, outs, 1, bias=False)
        elif self.kind == "bottleneck":
            hidden = narrowed(ins, self.reduction)
            self.reduce, self.expand = nn.Conv2d(ins, hidden, 1, bias=False), nn.Conv2d(hidden, outs, 1, bias=False)
            self.reduce_slope = nn.Parameter(torch.full((hidden,), 0.25))
            self.expand_slope = nn.Parameter(torch.full((outs,), 0.25))
            middles = sorted({i for i, _ in needed})
            self.reduce_norms = nn.ModuleDict({key(i): nn.BatchNorm2d(narrowed(i, self.reduction)) for i in middles})
        if self.kind != "repeat":
            self.norms = nn.ModuleDict({key(*pair): nn.BatchNorm2d(pair[1]) for pair in needed})

    def slices(self, unit: BlockSpec) -> Tensors:
        """Return the parameters and buffers of a plain shortcut, by its names."""
        ins, outs = unit.in_channels, unit.out_channels
        if self.kind == "repeat":
            return {}
        norm = own(self.norms[key(ins, outs)])
        if self.kind == "conv":
            return {"conv.weight": self.conv.weight[:outs, :ins]} | prefixed("norm", norm)
        hidden = narrowed(ins, self.reduction)
        tensors = {
            "reduce.conv.weight": self.reduce.weight[:hidden, :ins],
            "reduce.act.weight": self.reduce_slope[:hidden],
            "expand.conv.weight": self.expand.weight[:outs, :hidden],
            "expand.act.weight": self.expand_slope[:outs],
        }
        return tensors | prefixed("reduce.norm", own(self.reduce_norms[key(ins)])) | prefixed("expand.norm", norm)


class SharedClassifier(SharedWeights):
    """The shared weights of a classifier that may be in bits; alpha is kept apart for each precision and width."""

    def __init__(self, space: SearchSpace, widths: Sequence[int]) -> None:
        super().__init__()
        self.classes = space.classes
        self.weight = nn.Parameter(fresh_latent(self.classes, max(widths), 1, 1).flatten(1))
        self.bias = nn.Parameter(torch.zeros(self.classes))
        self.take_on(space)
        for precision, width in itertools.product(space.classifier, widths):
            part = self.weight[:, :width, None, None].detach()
            self.add_alphas(part, precision, math.sqrt(max(widths) / width), width)

    def slices(self, width: int, precision: Precision, binarizers: Binarizers) -> Tensors:
        """Return the parameters and buffers of a plain classifier, by its names."""
        weight, alpha = matrix(self.weight, self.classes, width), self.alpha_of(binarizers, precision, width)
        if precision == "real":
            return {"weight": weight * alpha.view(-1, 1), "bias": self.bias}
        tensors = {"weight": weight, "alpha": alpha, "bias": self.bias}
        return tensors if self.hardness is None else tensors | {"hardness": self.hardness}


def block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Return a grouped convolution's weight: the blocks on the diagonal of a dense one.

    Args:
        weight: [experts, out, in, kernel height, kernel width].
    Returns: [experts, out, in / groups, kernel height, kernel width].
    """
    experts, outs, ins, *kernel = weight.shape
    blocks = weight.reshape(experts, groups, outs // groups, groups, ins // groups, *kernel)
    diagonal = blocks.diagonal(dim1=1, dim2=3)  # [experts, out / groups, in / groups, *kernel, groups]
    return diagonal.movedim(-1, 1).reshape(experts, outs, ins // groups, *kernel)


def centre(weight: Tensor, kernel: int | str) -> Tensor:
    """Return the middle of a wider kernel."""
    for dim, side in zip((-2, -1), sides(kernel), strict=True):
        margin = (weight.shape[dim] - side) // 2
        weight = weight.narrow(dim, margin, side) if margin else weight
    return weight


def matrix(weight: Tensor, outs: int, ins: int) -> Tensor:
    """Return the first rows and columns of a linear layer's weight.

    Contiguous, as in a plain network: the order in which a matrix product sums may depend on how its rows lie.
    """
    return weight[:outs, :ins].contiguous()


def key(*parts: object) -> str:
    """Return the name of a variant; module names may not hold dots."""
    return "_".join(map(str, parts))


def own(module: nn.Module) -> Tensors:
    """Return a module's parameters and buffers by name, not detached."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """Return tensors with their names behind a prefix and a dot."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
