"""A model and labelled images -> how much the loss changes when one layer alone is binary."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bnas.arch import Binarizers
from bnas.calibrate.batches import Example, answers, reason
from bnas.conversion import at_rest
from bnas.errors import DataError
from bnas.layers.binarized import Binarized, binarize_
from bnas.progress import Progress, silent
from bnas.selection import DEFAULT_BINARIZERS, LayerFacts

Loss = Callable[[Any, Any], Tensor]  # (what the model returns, labels) -> mean loss of a batch


def measure_loss_changes(
    model: nn.Module,
    batches: Sequence[Example],
    layers: Sequence[LayerFacts],
    *,
    binarizers: Binarizers = DEFAULT_BINARIZERS,
    loss: Loss = F.cross_entropy,
    progress: Progress = silent,
) -> dict[str, float]:
    """Return the change of the mean loss, by the name of the layer that alone is binary.

    The layer's output has the scale and the shift for each channel that fit the real output best on each batch: what
    its own free parameters, and a batch norm after it, would learn first. So a change says what the bits have lost.

    Args:
        model: stays as it is.
        batches: labelled images; the model runs over them once for each layer, and once more.
        layers: what is known of the model.
    Raises:
        DataError: a batch has no labels, or the model or the loss fails on one, or the loss is not finite.
    """
    if any(batch.labels is None for batch in batches):
        raise DataError("sensitivity: every batch needs labels; give (inputs, labels), or choose another metric")
    free = [layer for layer in layers if not layer.obstacle]
    changes: dict[str, float] = {}
    with at_rest(model) as stack:
        real = _mean_loss(model, batches, loss)
        if not math.isfinite(real):
            raise DataError(
                f"sensitivity: the loss of the model as it is is {real}; look at the images and the weights"
            )
        for done, layer in enumerate(free, 1):
            module = model.get_submodule(layer.name)
            twin = _twin(module, layer, binarizers)
            hook = module.register_forward_hook(_standing_in(twin, layer), with_kwargs=True)
            stack.callback(hook.remove)
            changes[layer.name] = _mean_loss(model, batches, loss) - real
            hook.remove()
            progress("measuring sensitivity", done, len(free))
    return changes


def fitted(binary: Tensor, real: Tensor, channels: int) -> Tensor:
    """Return binary values, each channel with the scale and the shift that bring it closest to the real ones."""
    dims = [dim for dim in range(real.ndim) if dim != channels % real.ndim]
    middle, centre = (values.mean(dims, keepdim=True) for values in (binary, real))
    binary = binary - middle
    energy = binary.square().sum(dims, keepdim=True)
    scale = (binary * (real - centre)).sum(dims, keepdim=True) / energy.clamp_min(1e-30)
    return scale * binary + centre


def _twin(module: nn.Module, layer: LayerFacts, binarizers: Binarizers) -> Binarized:
    """Return the layer with one bit for weight and input, whose own batch norm takes the statistics of each batch."""
    twin = binarize_(
        copy.deepcopy(module),
        precision="binary",
        norm=layer.needs_norm,
        weights=binarizers.weight,
        activations=binarizers.activation,
        pad_value=binarizers.pad_value,
    ).eval()
    if twin.norm is not None:
        twin.norm.train()
    return twin


def _standing_in(twin: Binarized, layer: LayerFacts) -> Callable[..., Tensor]:
    channels = -1 if layer.planned.kind == "linear" else 1

    def answer(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        return fitted(twin(*args, **kwargs), output, channels)

    return answer


def _mean_loss(model: nn.Module, batches: Sequence[Example], loss: Loss) -> float:
    total, count = 0.0, 0
    for number, (batch, answer) in enumerate(zip(batches, answers(model, batches), strict=True), 1):
        size = len(batch.inputs[0])
        try:
            total += size * float(loss(answer, batch.labels))
        except Exception as problem:
            raise DataError(
                f"sensitivity: the loss fails on batch {number}: {reason(problem)}; give labels that fit what the "
                "model returns, or a loss of your own"
            ) from problem
        count += size
    return total / count
