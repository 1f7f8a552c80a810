"""A module's place in the network -> the role of its layers, where the modules round it tell."""

from collections import Counter
from dataclasses import replace
from typing import Any, Literal

from torch import nn
from torch.nn.utils import parametrize

from bnas.cost.plan import PlannedLayer, Role, Uncounted, scale_values
from bnas.cost.trace.operators import Product
from bnas.cost.trace.values import Memory, real_values
from bnas.cost.trace.watch import Call, Operand, RunWatch, Seen
from bnas.cost.trace.wholes import is_kind, is_whole, parts_of, precision_of, spatial
from bnas.layers.activations import RPReLU
from bnas.layers.binarized import Binarized
from bnas.layers.blocks import Block, Head, Network, SqueezeExcite
from bnas.layers.expert_conv import ExpertConv
from bnas.layers.shortcuts import BottleneckShortcut, ConvShortcut
from bnas.layers.stems import Thermometer

# (the module around, the name of its child on the way; None for any) -> role; the innermost that matches counts.
_ROLES: dict[tuple[type[nn.Module], str | None], Role] = {
    (ExpertConv, "gate"): "gate",
    (SqueezeExcite, None): "squeeze_excite",
    (ConvShortcut, None): "shortcut",
    (BottleneckShortcut, None): "shortcut",
    (Block, "main"): "main",
    (Block, "mix"): "mix",
    (Head, "classifier"): "classifier",
    (Network, "stem"): "stem",
}
FOLDED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMS = (*FOLDED, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
ACTIVATIONS = (nn.PReLU, RPReLU, Thermometer)
CHANNELS_LAST = (nn.LayerNorm, nn.RMSNorm)


def role_of(path: str, model: nn.Module) -> Role:
    """Return the role of the convolution or linear layer at a path, `other` if nothing tells."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        around, child = type(model.get_submodule(".".join(parts[:depth]))), parts[depth]
        role = _ROLES.get((around, child)) or _ROLES.get((around, None))
        if role:
            return role
    return "other"


class Assembly:
    """Gives each parameter of a model to the first layer that uses it, and to no other."""

    def __init__(self, watch: RunWatch, model: nn.Module) -> None:
        self.watch, self.model = watch, model
        self._parameters = dict(model.named_parameters())
        self._sizes = {name: real_values(tensor.numel(), tensor) for name, tensor in self._parameters.items()}
        self._placed: Counter[str | None] = Counter()  # how many values of each parameter are in a layer
        self._keys: set[object] = set()  # the weights, and modules, that are in a layer
        self._room: dict[object, int] = {}  # of what was computed from some parameters: how many values are in no layer

    def layers(self) -> tuple[PlannedLayer, ...]:
        """Return the layers in the order in which they start."""
        found = [(done.step - 1, self._product(done)) for done in self.watch.done]
        for call in self.watch.calls:
            if is_whole(call.module):
                found += [(call.start, layer) for layer in self._whole(call)]
            elif isinstance(call.module, NORMS):
                found.append((call.start, self._beside(call, "norm")))
            elif isinstance(call.module, ACTIVATIONS):
                found.append((call.start, self._beside(call, "activation")))
        found.sort(key=lambda pair: pair[0])
        return self._with_the_rest([layer for _, layer in found])

    def unused(self) -> list[Uncounted]:
        """Return the modules whose parameters the model did not use."""
        counts: Counter[str] = Counter()
        for name, parameter in self._parameters.items():
            if self.watch.memory(parameter).used < 0:
                counts[_owner(name)] += self._sizes[name]
        why = "{} values are not used on this input, so they are not counted"
        return [Uncounted(path, "parameters", why.format(count)) for path, count in counts.items()]

    def _product(self, done: Seen) -> PlannedLayer:
        """Return the layer of a product: a matrix product with only one side computed from the input is linear."""
        product, data, weight = done.product, done.left, done.right
        held = self._held(done.step - 1, done.step, (data.memory, weight.memory))
        if product.kind == "matmul" and data.memory.from_input and weight.memory.from_input:
            held += weight.values
        elif product.kind == "matmul":
            if weight.memory.from_input:
                data, weight, product = weight, data, _turned(product)
            product = _linear(product, weight.values)
        name = _owner(weight.memory.name) if weight.memory.name in self._parameters else done.call.path
        layer = PlannedLayer(name, role_of(name, self.model), **product._asdict(), held_values=held)
        own = 0 if weight.memory.from_input else self._own(weight)
        layer = layer if own == layer.weights else replace(layer, own_weights=own)
        if is_kind(done.call.module, Binarized):
            return _binarized(layer, done.call.module)
        scales = done.bits.scales * layer.out_channels if layer.weights else 0
        return replace(layer, precision=done.bits.precision, real_values=scales)

    def _whole(self, call: Call) -> list[PlannedLayer]:
        """Return the layers of a module that is counted as a whole; weights are in the first layer that has them."""
        parts = parts_of(call, role_of(call.path, self.model))
        held = self._held(call.start, call.end, () if parts[0].layer.precision == "binary" else call.reads)
        found = []
        for layer, weights in parts:
            own = sum(self._take(call.module, name) for name in weights)
            scaled = own + self._take(call.module, "alpha")
            found.append(
                replace(
                    layer, held_values=held, real_values=layer.real_values if scaled else 0,
                    own_weights=layer.own_weights if own == layer.weights else own,
                )
            )  # fmt: skip
        return found

    def _take(self, module: nn.Module, name: str) -> int:
        """Give a parameter of a module to its layer, and return how many of its values no layer has had.

        Of a parametrized one that are no more than it is computed from.
        """
        if parametrize.is_parametrized(module, name):
            parametrizations: Any = module.parametrizations
            values, behind = getattr(module, name).numel(), list(parametrizations[name].parameters())
        else:
            behind = [tensor for tensor in (module._parameters.get(name),) if tensor is not None]
            values = sum(tensor.numel() for tensor in behind)
        names = {known for tensor in behind if (known := self.watch.memory(tensor).name) in self._sizes}
        taken = sum(self._sizes[known] - self._placed[known] for known in names)
        self._placed.update({known: self._sizes[known] - self._placed[known] for known in names})
        return min(values, taken)

    def _beside(self, call: Call, kind: Literal["norm", "activation"]) -> PlannedLayer:
        """Return the layer of a norm or activation; a batch norm folds to a factor and a shift for each channel."""
        shape = call.shape
        if isinstance(call.module, CHANNELS_LAST):
            shape = (shape[0], shape[-1], *shape[1:-1])
        channels = shape[1] if len(shape) > 1 else 1
        outs = channels * call.module.levels if isinstance(call.module, Thermometer) else channels
        layer = PlannedLayer(call.path, kind, kind, channels, outs, spatial(shape), spatial(shape))
        if isinstance(call.module, FOLDED) and call.module not in self._keys:
            self._keys.add(call.module)
            self._take(call.module, "weight"), self._take(call.module, "bias")
            return replace(layer, real_values=2 * channels)
        return layer

    def _own(self, weight: Operand) -> int:
        """Return how many weights a product brings, none if a layer has them; they belong to its layer from now on."""
        memory, count = weight.memory, weight.values
        source: object = memory.name or memory.sources or memory
        key = (source, weight.offset, count)
        if key in self._keys:
            return 0
        self._keys.add(key)
        if memory.name is not None:  # slices may have values in common
            left = self._sizes[memory.name] - self._placed[memory.name] if memory.name in self._sizes else count
            self._placed[memory.name] += min(count, left)
            return min(count, left)
        own = min(count, self._room_of(memory, source))
        self._room[source] -= own
        return own

    def _room_of(self, memory: Memory, source: object) -> int:
        """Return how many values of a computed weight no layer has yet; what it was computed from has its place in it.

        It is one folded weight, whole or in parts, a smaller one that is repeated, or a part of a larger one.
        """
        if source not in self._room:
            sizes = {name: self._sizes[name] for name in memory.sources & self._sizes.keys()}
            is_known = sizes and all(self._placed[name] >= size for name, size in sizes.items())
            self._room[source] = 0 if is_known else min(memory.values, sum(sizes.values()) or memory.values)
            self._placed.update({} if is_known else {name: min(n, memory.values) for name, n in sizes.items()})
        return self._room[source]

    def _held(self, start: int, end: int, but: tuple[Memory, ...]) -> int:
        """Return how many values were there before a step, are needed after another, and are no input of the layer."""
        return sum(
            memory.values
            for memory in self.watch.memories.made
            if memory.from_input and memory.made <= start and memory.used > end and memory not in but
        )

    def _with_the_rest(self, layers: list[PlannedLayer]) -> tuple[PlannedLayer, ...]:
        """Return the layers with the values that no weight holds (biases, slopes) in the first layer of their module.

        Modules without a layer, such as an embedding, get one of kind `values`.
        """
        rest: Counter[str] = Counter()
        for name, parameter in self._parameters.items():
            if self.watch.memory(parameter).used >= 0:
                rest[_owner(name)] += max(0, self._sizes[name] - self._placed[name])
        whole = [replace(x, real_values=x.real_values + count) if (count := rest.pop(x.name, 0)) else x for x in layers]
        for path, count in rest.items():
            if count:
                whole.append(PlannedLayer(path, "other", "values", 0, 0, (1, 1), (1, 1), real_values=count))
        return tuple(whole)


def _turned(product: Product) -> Product:
    """Return a matrix product with its sides exchanged."""
    (batches, rows), columns = product.out_size, product.out_channels
    return product._replace(out_channels=rows, in_size=(batches, columns), out_size=(batches, columns))


def _linear(product: Product, weights: int) -> Product:
    """Return a matrix product as a linear layer, in groups where each batch has weights of its own."""
    (batches, rows), ins, outs = product.out_size, product.in_channels, product.out_channels
    if weights <= ins * outs:
        return product._replace(kind="linear")
    return Product("linear", batches * ins, batches * outs, (1, rows), (1, rows), groups=batches)


def _binarized(layer: PlannedLayer, module: Any) -> PlannedLayer:
    """Return the layer of a product whose weights, or weights and input, were binarized right before."""
    precision = precision_of(module)
    scales = scale_values(precision, module.weights, experts=1, out_channels=layer.out_channels) if layer.weights else 0
    return replace(layer, precision=precision, real_values=scales)


def _owner(name: str) -> str:
    """Return the module path of a parameter."""
    return name.rpartition(".")[0]
