"""A model, images with labels -> how much the loss rises when one layer after the other goes to one bit."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from bnas.cost.trace.plain_model import short_reason
from bnas.errors import BnasError, DataError
from bnas.layers.binarized import Binarized, binarize_
from bnas.networks.answers import answer_loss
from bnas.progress import Progress, silent
from bnas.select import DEFAULT_BINARIZERS, LayerFacts, LossChanges
from bnas.select.calibrate.batches import Example, answers
from bnas.select.calibrate.fit import Fit
from bnas.select.conversion import at_rest, channel_dim
from bnas.space.arch import Binarizers
from bnas.space.values import Precision

Hook = Callable[[nn.Module, Any, Any, Tensor], Tensor | None]
Loss = Callable[[Any, Any], Tensor]  # (what the model returns, labels) -> mean loss of a batch


def measure_loss_changes(
    model: nn.Module,
    batches: Sequence[Example],
    layers: Sequence[LayerFacts],
    *,
    binarizers: Binarizers = DEFAULT_BINARIZERS,
    loss: Loss | None = None,
    progress: Progress = silent,
) -> dict[str, LossChanges]:
    """Return how the mean loss changes, by the name of the layer that alone is changed.

    `binary` is the true change: loss(layer binary) - loss(model), the layer being what a conversion makes of it, and
    nothing trained. Much of it is a wrong scale, which training mends first, and it blames the input for the weights,
    which become binary in any case. So `input` is what decides: loss(layer binary) - loss(layer with binary weights),
    in both of which the layer's output has the scale and the shift for each channel that fit the real one best over
    all images (`Fit`).

    Args:
        model: stays as it is.
        batches: labelled images; the model runs over them three times for each layer, and twice more.
        layers: what is known of the model.
        loss: None: the cross-entropy of the logits in what the model returns, of as many classes as labels tell of.
    Raises:
        DataError: a batch has no labels, or the model or the loss fails on one, or the loss is not finite.
    """
    if any(batch.labels is None for batch in batches):
        raise DataError("sensitivity: every batch needs labels; give (inputs, labels), or choose another metric")
    loss = loss or partial(answer_loss, classes=_classes(batches))
    free = [layer for layer in layers if not layer.obstacle]
    twins = {layer.name: _Twins(model.get_submodule(layer.name), layer, binarizers) for layer in free}
    changes: dict[str, LossChanges] = {}
    with at_rest(model):
        real = _mean_loss(model, batches, loss)
        if not math.isfinite(real):
            raise DataError(
                f"sensitivity: the loss of the model as it is is {real}; look at the images and the weights"
            )
        _fit(model, batches, twins)
        for done, (name, twin) in enumerate(twins.items(), 1):
            losses = []
            for stand_in in (twin.raw, twin.fitted("binary"), twin.fitted("weight")):
                with _hooked(model.get_submodule(name), stand_in):
                    losses.append(_mean_loss(model, batches, loss))
            changes[name] = LossChanges(losses[0] - real, losses[1] - losses[2])
            progress("measuring sensitivity", done, len(free))
    return changes


def _classes(batches: Sequence[Example]) -> int:
    """Return how many classes the labels of all batches tell of: what has as many columns is not to vary with them."""
    for number, batch in enumerate(batches, 1):
        labels = batch.labels
        if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point() or not len(labels):
            given = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            raise DataError(
                f"sensitivity: labels must be whole numbers [batch], but batch {number} has {given}"
                f"{f' of {labels.dtype}' if isinstance(labels, Tensor) else ''}; give such, or a loss of your own"
            )
    return 1 + max(int(batch.labels.max()) for batch in batches)


class _Twins:
    """One layer with binary weights, and with a binary input too, each with its fit to the real layer.

    They share its weight. A batch norm of their own takes the statistics of each batch.
    """

    def __init__(self, module: nn.Module, layer: LayerFacts, binarizers: Binarizers) -> None:
        precisions: tuple[Precision, ...] = ("weight", "binary")
        self._twins = {precision: _twin(module, layer, binarizers, precision) for precision in precisions}
        self._fits = {precision: Fit(channel_dim(module)) for precision in precisions}

    def learn(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        """Take in one call of the real layer."""
        for precision, fit in self._fits.items():
            fit.add(self._twins[precision](*args, **kwargs), output)

    def raw(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """Answer as the binary layer."""
        answer: Tensor = self._twins["binary"](*args, **kwargs)
        return answer

    def fitted(self, precision: Precision) -> Hook:
        """Return what answers as a layer of this precision does at its best scale."""
        return lambda module, args, kwargs, output: self._fits[precision](self._twins[precision](*args, **kwargs))


def _twin(module: nn.Module, layer: LayerFacts, binarizers: Binarizers, precision: Precision) -> Binarized:
    twin = binarize_(
        copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()}),
        precision=precision,
        norm=layer.needs_norm,
        weights=binarizers.weight,
        activations=binarizers.activation,
        pad_value=binarizers.pad_value,
    ).eval()
    twin._forward_pre_hooks.clear()  # what it is called with has gone through those of the layer
    twin._forward_pre_hooks_with_kwargs.clear()
    if twin.norm is not None:
        twin.norm.train()
    return twin


def _fit(model: nn.Module, batches: Sequence[Example], twins: Mapping[str, _Twins]) -> None:
    """Fit all twins in one pass of the real model."""
    with ExitStack() as stack:
        for name, twin in twins.items():
            stack.enter_context(_hooked(model.get_submodule(name), twin.learn))
        for _ in answers(model, batches):
            pass


@contextmanager
def _hooked(module: nn.Module, hook: Hook) -> Iterator[None]:
    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _mean_loss(model: nn.Module, batches: Sequence[Example], loss: Loss) -> float:
    total, count = 0.0, 0
    for number, (batch, answer) in enumerate(zip(batches, answers(model, batches), strict=True), 1):
        size = len(batch.inputs[0])
        try:
            total += size * float(loss(answer, batch.labels))
        except BnasError as problem:
            raise DataError(f"sensitivity: the loss fails on batch {number}: {problem}") from problem
        except Exception as problem:
            raise DataError(
                f"sensitivity: the loss fails on batch {number}: {short_reason(problem)}; give labels that fit what "
                "the model returns, or a loss of your own"
            ) from problem
        count += size
    return total / count
