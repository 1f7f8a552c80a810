"""A convolution or linear layer of torch, trained perhaps -> the same layer with binary weights, or input and weights.

Whatever the layer has (bias, padding, dilation, hooks, a shared place) stays, and its parameters keep their names, so
that the state dict of the real layer loads into the binary one.
"""

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import activation_binarizer, weight_binarizer
from bnas.errors import SpecError
from bnas.layers.binary_layer import BinaryLayer, fresh_alpha
from bnas.torch_inside import AnyConv, AnyTransposedConv

BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}  # by the dimensions of an image


class Binarized(BinaryLayer):
    """What a layer of torch is besides, once `binarize_` has been at it; not made on its own.

    y = layer(sign(norm(x)), alpha * binarize(weight)) + bias for precision `binary`; of x as it is for `weight`.

    Attributes:
        weight: latent weights, those of the real layer.
        norm: batch norm before the sign, or None.
        pad_value: as in `BinaryConv`.
        others: as in `BinaryLayer`.
    """

    def become(self, *, precision: str, norm: bool, weights: str, activations: str, pad_value: int) -> None:
        """Take on what a binary layer has and a real one has not."""
        self.take_on(precision=precision, weights=weights, activations=activations)
        self.pad_value = pad_value if precision == "binary" else 0
        self.norm = self.fresh_norm().train(self.training) if norm and precision == "binary" else None
        self.to(self.weight)

    def fresh_norm(self) -> nn.Module:
        """Return a batch norm for the layer's input."""
        raise NotImplementedError

    def normed(self, x: Tensor) -> Tensor:
        """Return the layer's input as it stands before the sign."""
        return x if self.norm is None else cast(Tensor, self.norm(x))

    def operand(self, x: Tensor) -> Tensor:
        return super().operand(self.normed(x))  # there is a norm before a binary input alone

    def as_filters(self, weight: Tensor) -> Tensor:
        return to_filters(self, weight)

    def from_filters(self, filters: Tensor) -> Tensor:
        return filters.reshape(self.weight.shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, precision={self.precision!r}, weights={self.weights!r}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load the state of a binary layer; or of a real one, where alpha and norm become what they are at first."""
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and f"{prefix}alpha" not in state_dict:
            state_dict[f"{prefix}alpha"] = fresh_alpha(to_filters(self, weight), self.binarize_weight)
            if self.norm is not None:
                fresh = self.fresh_norm().state_dict()
                state_dict.update({f"{prefix}norm.{name}": value for name, value in fresh.items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)


class BinarizedImages(Binarized):
    """A convolution of torch, or a transposed one: of images [batch, in, ...], or of one without a batch [in, ...]."""

    convolve: ClassVar[Callable[..., Tensor]]
    in_channels: int
    kernel_size: tuple[int, ...]

    def fresh_norm(self) -> nn.Module:
        return BATCH_NORMS[len(self.kernel_size)](self.in_channels)

    def normed(self, x: Tensor) -> Tensor:
        if x.ndim > len(self.kernel_size) + 1:
            return super().normed(x)
        return super().normed(x.unsqueeze(0)).squeeze(0)  # a batch norm would take the channels for the batch


class BinarizedConv(BinarizedImages, AnyConv):
    """[batch, in, ...] -> [batch, out, ...]; the input is padded after its sign."""

    def forward(self, input: Tensor) -> Tensor:
        x, weight = self.operand(input), self.binary_weight()
        padding: Any = self.padding
        if self.padding_mode != "zeros" or self.pad_value:
            mode, value = (self.padding_mode, None) if self.padding_mode != "zeros" else ("constant", self.pad_value)
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=mode, value=value), 0
        return self.convolve(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


class BinarizedConv1d(BinarizedConv, nn.Conv1d):
    """[batch, in, width] -> [batch, out, width']."""

    convolve = staticmethod(F.conv1d)


class BinarizedConv2d(BinarizedConv, nn.Conv2d):
    """[batch, in, height, width] -> [batch, out, height', width']."""

    convolve = staticmethod(F.conv2d)


class BinarizedTransposed(BinarizedImages, AnyTransposedConv):
    """[batch, in, ...] -> [batch, out, ...]."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        sizes: Any = (self.stride, self.padding, self.kernel_size, len(self.kernel_size), self.dilation)
        more = self._output_padding(input, output_size, *sizes)
        x, weight = self.operand(input), self.binary_weight()
        return self.convolve(x, weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation)

    def from_filters(self, filters: Tensor) -> Tensor:
        return filters.unflatten(0, (self.groups, -1)).transpose(1, 2).reshape(self.weight.shape)


class BinarizedConvTranspose1d(BinarizedTransposed, nn.ConvTranspose1d):
    """[batch, in, width] -> [batch, out, width']."""

    convolve = staticmethod(F.conv_transpose1d)


class BinarizedConvTranspose2d(BinarizedTransposed, nn.ConvTranspose2d):
    """[batch, in, height, width] -> [batch, out, height', width']."""

    convolve = staticmethod(F.conv_transpose2d)


class BinarizedLinear(Binarized, nn.Linear):
    """[..., in] -> [..., out]."""

    def fresh_norm(self) -> nn.Module:
        return nn.BatchNorm1d(self.in_features)

    def normed(self, x: Tensor) -> Tensor:
        return super().normed(x.reshape(-1, self.in_features)).view(x.shape)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(self.operand(input), self.binary_weight(), self.bias)


BINARIZED: dict[type[nn.Module], type[Binarized]] = {
    nn.Conv1d: BinarizedConv1d,
    nn.Conv2d: BinarizedConv2d,
    nn.Linear: BinarizedLinear,
    nn.ConvTranspose1d: BinarizedConvTranspose1d,
    nn.ConvTranspose2d: BinarizedConvTranspose2d,
}


def to_filters(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return the weight of a layer of torch as [out, in / groups, pixels, 1]: how pixels lie is no matter to a filter.

    Torch has the weight of a transposed convolution input first, [in, out / groups, ...].
    """
    if not isinstance(layer, AnyTransposedConv):
        return weight.reshape(*weight.shape[:2], -1, 1)
    grouped = weight.flatten(2).unflatten(0, (layer.groups, -1))  # [groups, in / groups, out / groups, pixels]
    return grouped.transpose(1, 2).flatten(0, 1).unsqueeze(-1)


def binarize_(
    layer: nn.Module,
    *,
    precision: str,
    norm: bool = True,
    weights: str = "xnor",
    activations: str = "sign",
    pad_value: int = 0,
) -> Binarized:
    """Turn a layer of torch into a binary one, in place, and return it.

    The object stays the same one, as in torch's own parametrizations: whatever refers to it goes on doing so.

    Args:
        layer: of a kind in `BINARIZED`, and no subclass, which may compute something else.
        precision: `weight` or `binary`.
        norm: whether a batch norm stands before the sign of a binary input.
        weights, activations: names of binarizers, or `pkg.mod:attr`.
        pad_value: what surrounds a binary input that is padded with zeros: -1, 0 or +1.
    Raises:
        SpecError: another kind of layer or precision.
        LookupFailed: a binarizer has no such name.
    """
    if type(layer) not in BINARIZED or precision not in ("weight", "binary"):
        kinds = ", ".join(kind.__name__ for kind in BINARIZED)
        raise SpecError(f"binarize: {kinds} can become weight or binary, but not {type(layer).__name__} {precision!r}")
    weight_binarizer(weights), activation_binarizer(activations)  # an error now leaves the layer as it was
    layer.__class__ = BINARIZED[type(layer)]
    binary = cast(Binarized, layer)
    binary.become(precision=precision, norm=norm, weights=weights, activations=activations, pad_value=pad_value)
    return binary


def stop_fusing(model: nn.Module) -> None:
    """Let torch's transformer layers call their linear layers.

    In evaluation they would read the weights past the layers that hold them, and compute with the latent ones.
    """
    for module in model.modules():
        if any(isinstance(part, Binarized) for part in module.modules()):
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0
            if isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False
