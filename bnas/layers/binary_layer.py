"""What every layer of binary weights is, whatever its geometry: latent weights, their scale, their precision.

`BinaryConv`, `ExpertConv` and `BinaryLinear` are made binary, a `Binarized` one of torch's own becomes so.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import (
    BinaryWeight,
    WeightBinarizer,
    activation_binarizer,
    at_binary_magnitude,
    filter_dims,
    is_annealed,
    weight_binarizer,
)
from bnas.errors import SpecError


class LatentWeights(nn.Module):
    """A module with real weights that a binarizer makes binary.

    Attributes:
        weight: the latent weights.
        weights: name of the weight binarizer.
        hardness: for an annealed weight binarizer, how close to binary it is in training mode; see `set_hardness`.
            Evaluation mode always computes with binary weights.
    """

    weight: Tensor
    weights: str
    hardness: Tensor | None

    @property
    def has_binary_weights(self) -> bool:
        """Whether a binarizer makes the weights binary at all."""
        return True


class BinaryLayer(LatentWeights):
    """y = layer(binarize(x), alpha * binarize(weight)), with a learned alpha for each output channel.

    Precision `real` is a plain layer without alpha, `weight` binarizes the weights only, `binary` the weights and the
    input.

    Attributes:
        alpha: output scales [out], in the unit of weight; None when precision is `real`.
        real_weights: compute with the latent weights, at the magnitude of their binary form;
            for a stage of training where only activations are binary.
        real_inputs: compute with the input as it is, for a stage of training where nothing is binary yet.
        precision, weights, activations: as they were given.
    """

    precision: str
    alpha: Tensor | None

    def take_on(self, *, precision: str, weights: str, activations: str) -> None:
        """Give the layer, whose weight is there already, what else a layer of binary weights has.

        Args:
            precision: `real`, `weight` or `binary`.
            weights: name of a weight binarizer, or `pkg.mod:attr`.
            activations: name of an activation binarizer, or `pkg.mod:attr`.
        Raises:
            LookupFailed: a binarizer has no such name.
        """
        self.precision, self.weights, self.activations = precision, weights, activations
        self.binarize_weight = weight_binarizer(weights)
        self.binarize_input = activation_binarizer(activations)
        self.real_weights = self.real_inputs = False
        filters = self.as_filters(self.weight)
        self.alpha = None if precision == "real" else nn.Parameter(fresh_alpha(filters, self.binarize_weight))
        self.register_buffer("hardness", fresh_hardness(self.binarize_weight), persistent=False)

    @property
    def has_binary_weights(self) -> bool:
        return self.precision != "real"

    def operand(self, x: Tensor) -> Tensor:
        """Return what the layer multiplies its weights with: the input, binary where it is to be."""
        return self.binarize_input(x) if self.precision == "binary" and not self.real_inputs else x

    def binary_weight(self) -> Tensor:
        """Return the weights that the layer computes with, alpha included, in the shape of the latent ones."""
        return self.from_filters(self.effective_weight(self.as_filters(self.weight)))

    def effective_weight(self, latent: Tensor) -> Tensor:
        """Return what the layer computes with where these are its latent weights, alpha included.

        Args:
            latent: filters [..., out, in, kh, kw].
        """
        if self.alpha is None:
            return latent
        binary = self.binarizer()(latent)
        alpha = self.alpha.view(-1, 1, 1, 1)  # on the weights, not on the output: the same, on far fewer numbers
        if self.real_weights:
            return at_binary_magnitude(latent, binary.dense()) * alpha
        return binary.times(alpha).dense()

    def binarizer(self) -> WeightBinarizer:
        """Return the weight binarizer as it is now: in training, an annealed one is not yet hard."""
        if self.hardness is None or not self.training:
            return self.binarize_weight
        return partial(self.binarize_weight, hardness=self.hardness)

    def as_filters(self, weight: Tensor) -> Tensor:
        """Return weights that lie as this layer's do as filters [..., out, in, kh, kw]."""
        return weight

    def from_filters(self, filters: Tensor) -> Tensor:
        """Return filters [..., out, in, kh, kw] as this layer's weights lie."""
        return filters


class BinaryLinear(BinaryLayer):
    """y = alpha * (binarize(x) @ binarize(weight)^T) + bias, with a learned alpha for each output.

    Attributes:
        weight: latent weights [out, in].
        bias: [out], or None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        precision: str = "binary",
        weights: str = "xnor",
        activations: str = "sign",
    ) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise SpecError(f"linear layer: features must be positive, but got {in_features=}, {out_features=}")
        check_precision("linear layer", precision, 0)
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(fresh_latent(out_features, in_features, 1, 1).flatten(1))
        self.take_on(precision=precision, weights=weights, activations=activations)
        self.bias = nn.Parameter(self.weight.new_zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(self.operand(x), self.binary_weight(), self.bias)

    def as_filters(self, weight: Tensor) -> Tensor:
        return weight[..., None, None]

    def from_filters(self, filters: Tensor) -> Tensor:
        return filters.flatten(1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {shown_settings(self, 'precision', 'weights', 'activations')}"


def check_precision(where: str, precision: str, pad_value: int) -> None:
    """Raise SpecError unless there is such a precision, and an input of it may be surrounded by this value."""
    if precision not in ("real", "weight", "binary"):
        raise SpecError(f"{where}: precision must be real, weight or binary, but got {precision!r}")
    if pad_value not in ((-1, 0, 1) if precision == "binary" else (0,)):
        raise SpecError(
            f"{where}: pad_value must be -1, 0 or 1 for a binary input and 0 for a real one, "
            f"but got {pad_value} with precision {precision!r}"
        )


def fresh_latent(*shape: int) -> Tensor:
    """Return new latent weights [..., out, in, kh, kw]: normal, variance 1 / fan-in, four deviations below 1 at most.

    Beyond 1 the straight-through gradient is zero, and a weight that starts there never moves.
    """
    return torch.randn(*shape) * min(math.prod(shape[-3:]) ** -0.5, 0.25)


def fresh_alpha(latent: Tensor, binarize: WeightBinarizer) -> Tensor:
    """Return the output scales [out] for which binarizing the weights keeps their mean magnitude.

    Where the binary weights of a filter are zero, as `xnor` has them for one of zeros, any scale does: 1.

    Raises:
        SpecError: the binarizer, one of a user's own, returns something else than a `BinaryWeight`, signs other than -1
            and 1, or what has no gradient.
    """
    dims = filter_dims(latent)
    with torch.enable_grad():
        made = binarize(latent.detach().requires_grad_())
        _check_binary_weight(made, binarize)
    with torch.no_grad():
        binary = made.dense().abs().mean(dims)
        ratio = torch.where(binary == 0, 1, latent.abs().mean(dims) / binary)
    return ratio.reshape(-1, latent.shape[-4]).mean(0)


def _check_binary_weight(made: Any, binarize: WeightBinarizer) -> None:
    """Raise unless a binarizer gave what can be trained, and stored in bits."""
    named = f"weight binarizer {getattr(binarize, '__name__', binarize)}"
    if not isinstance(made, BinaryWeight):
        raise SpecError(f"{named}: must return a BinaryWeight of signs and scale, but returned a {type(made).__name__}")
    if is_annealed(binarize):
        return  # it is soft while it is trained, and has a gradient only then
    is_trained = any(part is not None and part.requires_grad for part in made)
    if not is_trained and not torch.is_inference_mode_enabled():
        raise SpecError(
            f"{named}: its result has no gradient, so that no weight would be trained; make the signs with "
            "bnas.binarize.clipped_sign, or an autograd function of your own"
        )
    signs = made.sign.detach().abs()
    if not signs.is_meta and not (signs == 1).all():
        raise SpecError(
            f"{named}: signs must be -1 and 1, one bit each, but some are {float(signs[signs != 1][0]):.3g}; leave "
            "what is to be 0 to the scale of its filter"
        )


def fresh_hardness(binarize: WeightBinarizer) -> Tensor | None:
    """Return the hardness in which a binarizer trains unless told otherwise; None for one that is not annealed."""
    return torch.tensor(0.5) if is_annealed(binarize) else None


def set_hardness(model: nn.Module, hardness: float) -> None:
    """Set how hard all annealed weight binarizers in a model are in training mode; the training loop raises it.

    From 0, where a filter is hardly changed or its gradient hardly bent, to 1 at the end. To measure
    how far the soft weights still are from the hard ones, put the model in evaluation mode and its
    binary convolutions alone in training mode.

    Raises:
        SpecError: hardness is not in [0, 1].
    """
    if not 0 <= hardness <= 1:
        raise SpecError(f"hardness must be in [0, 1], but got {hardness}")
    for module in model.modules():
        if isinstance(module, LatentWeights) and module.hardness is not None:
            module.hardness.fill_(hardness)


def shown_settings(module: nn.Module, *names: str) -> str:
    """Return attributes of a module as `print(module)` shows them, in the words of its constructor."""
    return ", ".join(f"{name}={getattr(module, name)!r}" for name in names)
