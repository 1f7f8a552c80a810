"""A model and calibration images -> what a binary input and binary weights would lose in each layer, in one pass."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import WEIGHT_BINARIZERS
from bnas.binarize.error import InputError, input_error, summed, weight_error
from bnas.cost.trace.plain_model import tensors_in
from bnas.errors import DataError
from bnas.layers.binarized import Binarized, to_filters
from bnas.progress import Progress, silent
from bnas.select import LayerErrors, LayerFacts
from bnas.select.calibrate.batches import Example, answers
from bnas.select.conversion import Signs, argument, at_rest, channel_dim


def measure_errors(
    model: nn.Module, batches: Sequence[Example], layers: Sequence[LayerFacts], *, progress: Progress = silent
) -> dict[str, LayerErrors]:
    """Return the errors of the layers that can be binarized, by name.

    An input is measured as it will stand before the sign: normalised over each batch, channel by channel, where a batch
    norm will be put there; as it is where the model has one. In a model that was converted it is what its own batch
    norm gives, which is how the paper measures: on the trained binary network.

    Args:
        model: what is measured; its modules have the names of the layers. It stays as it is.
        batches: the calibration images.
        layers: what is known of the model before its conversion.
    Raises:
        DataError: an input, a weight or an output is not finite, a batch has one image only, or none reaches a layer;
            says the layer. Or the model fails on a batch; says which.
    """
    modules = {layer.name: model.get_submodule(layer.name) for layer in layers if not layer.obstacle}
    weights = {name: _weight_errors(name, module) for name, module in modules.items()}
    inputs: dict[str, list[InputError]] = {name: [] for name in modules}
    signs = {name: Signs(channel_dim(module)) for name, module in modules.items()}

    def note(layer: LayerFacts) -> Any:
        def starts(module: nn.Module, args: Any, kwargs: Any) -> None:
            x = _before_sign(module, argument(args, kwargs), layer)
            inputs[layer.name].append(_checked(layer.name, input_error(x)))
            signs[layer.name].add(x)

        return starts

    with at_rest(model) as stack:
        for path, module in model.named_modules():
            if path in modules or not any(module.children()):
                stack.callback(module.register_forward_hook(_output_of(path, is_layer=path in modules)).remove)
        for layer in layers:
            if layer.name in modules:
                stack.callback(modules[layer.name].register_forward_pre_hook(note(layer), with_kwargs=True).remove)
        for done, answer in enumerate(answers(model, batches), 1):
            _look_at(answer, "the result of the model", has_infinity=True)
            progress("measuring errors", done, len(batches))
    if uncalled := [name for name, parts in inputs.items() if not parts]:
        raise DataError(
            f"calibration: layer {uncalled[0]!r} is called for none of the batches, so what a binary input loses there "
            "is not known; give images that reach it"
        )
    totals = {name: summed(parts) for name, parts in inputs.items()}
    return {
        name: LayerErrors(e.plain, e.scale_invariant, weights[name], constant_signs=signs[name].constant)
        for name, e in totals.items()
    }


def normalized_over_batch(x: Tensor, channels: int) -> Tensor:
    """Return values with each channel's mean taken away and divided by its deviation, over the batch.

    Args:
        channels: the dimension of the channels, from the right.
    """
    values = x.reshape(-1, x.shape[-1]) if channels == -1 else x.reshape(-1, *x.shape[channels:])
    return F.batch_norm(values, None, None, training=True).view(x.shape)


def _before_sign(module: nn.Module, x: Tensor, layer: LayerFacts) -> Tensor:
    if isinstance(module, Binarized) and module.precision == "binary":
        return module.normed(x)
    if not layer.needs_norm:
        return x
    channels = channel_dim(module)
    if x.numel() <= x.shape[channels]:
        raise DataError(f"calibration: layer {layer.name!r} sees one value a channel; give batches of several images")
    return normalized_over_batch(x, channels)


def _checked(name: str, error: InputError) -> InputError:
    if not math.isfinite(error.energy):
        raise _not_finite(f"the input of layer {name!r}")
    return error


def _output_of(path: str, *, is_layer: bool) -> Any:
    """Return a hook that raises where an output has NaN; of a layer, infinity too: a mask may hold that on purpose."""
    return lambda module, args, output: _look_at(
        output, f"the output of {'layer' if is_layer else type(module).__name__} {path!r}", has_infinity=not is_layer
    )


def _look_at(output: Any, what: str, *, has_infinity: bool) -> None:
    for x in tensors_in(output):
        if x.is_floating_point() and x.numel():
            ends = torch.stack(x.detach().aminmax())  # NaN if any value is
            if torch.isnan(ends).any() or not (has_infinity or torch.isfinite(ends).all()):
                raise _not_finite(what)


def _not_finite(what: str) -> DataError:
    return DataError(
        f"calibration: {what} is not finite (NaN or infinity); look at the images, and at the layers before it"
    )


def _weight_errors(name: str, module: nn.Module) -> Mapping[str, float]:
    weight = to_filters(module, module.get_parameter("weight").detach())
    if not torch.isfinite(weight).all():
        raise DataError(f"calibration: the weight of layer {name!r} is not finite (NaN or infinity); train it again")
    return {kind: weight_error(weight, binarize) for kind, binarize in WEIGHT_BINARIZERS.items()}
