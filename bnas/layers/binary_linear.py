"""A linear layer that binarizes its weights, or its weights and its input."""

import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import activation_binarizer, weight_binarizer
from bnas.layers.binary_conv import at_hardness, check_conv, effective_weight, fresh_alpha, fresh_hardness, fresh_latent


class BinaryLinear(nn.Module):
    """y = alpha * (binarize(x) @ binarize(weight)^T) + bias, with a learned alpha for each output.

    Precision, alpha, real_weights, real_inputs and hardness are those of `BinaryConv`.

    Attributes:
        weight: latent weights [out, in].
        alpha: output scales [out], in the unit of weight; None when precision is `real`.
        bias: [out], or None.
    """

    hardness: Tensor | None

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
        check_conv(in_features, out_features, 1, 1, 1, precision, 0)
        self.in_features, self.out_features = in_features, out_features
        self.precision, self.weights, self.activations = precision, weights, activations
        self.binarize_weight = weight_binarizer(weights)
        self.binarize_input = activation_binarizer(activations)
        self.real_weights = self.real_inputs = False
        self.weight = nn.Parameter(fresh_latent(out_features, in_features, 1, 1).flatten(1))
        self.alpha = None if precision == "real" else nn.Parameter(fresh_alpha(self._filters(), self.binarize_weight))
        self.bias = nn.Parameter(self.weight.new_zeros(out_features)) if bias else None
        self.register_buffer("hardness", fresh_hardness(self.binarize_weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if self.precision == "binary" and not self.real_inputs:
            x = self.binarize_input(x)
        binarize = at_hardness(self.binarize_weight, self.hardness) if self.training else self.binarize_weight
        weight = effective_weight(self._filters(), self.alpha, binarize, real_weights=self.real_weights)
        return F.linear(x, weight.flatten(1), self.bias)

    def extra_repr(self) -> str:
        names = ("precision", "weights", "activations")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.in_features}, {self.out_features}, {settings}"

    def _filters(self) -> Tensor:
        """Return the latent weights as 1x1 filters [out, in, 1, 1]."""
        return self.weight[..., None, None]
