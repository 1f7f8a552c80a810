"""The weights of a model in training -> their exponential moving average, which is what a stage ends with.

Like `step`, which keeps it going, it needs torch alone: an export carries it whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bnas.binarize import has_exact_gradient
from bnas.errors import SpecError
from bnas.layers.binary_layer import LatentWeights
from bnas.torch_inside import AnyBatchNorm


class Averages:
    """Averages of trainable weights, latent ones included, and of the statistics of batch norm.

    After step t of the stage, counted from 0: average <- d average + (1 - d) weight, d = min(ema, t / (9 + t)). So a
    short training, or one that is looked at early, averages about the last ninth of its steps, and the weights that
    it began with count for nothing; with d = ema from the start they would count for 1 / (1 - ema) steps. The model
    itself is trained as if there were no averages. What `clip_latent` and `centre_latent` say of weights holds for
    averages of them.

    Torch's AveragedModel is not used: it copies the module, while those who watch a network hold this one's layers,
    and it averages every buffer or none, counters and the hardness of annealed layers among them.

    Args:
        model: in training; its tensors change in place.
        stage: as a recipe has it; with `ema: 0` nothing is averaged.
    Raises:
        SpecError: a binarizer of the model leaves its latent weights no average; see `check_averages`.
    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; the d of early steps is
        that of TensorFlow's ExponentialMovingAverage with num_updates, (1 + n) / (10 + n), from the second step on.
    """

    def __init__(self, model: nn.Module, stage: Any) -> None:
        check_averages(stage, weight_binarizers_of(model), where="recipe: a stage")
        self._decay = stage.ema
        self._weights = _averaged(model) if stage.ema else {}
        self._averages = {name: tensor.clone() for name, tensor in self._weights.items()}

    def take_in(self, step: int) -> None:
        """Bring the averages nearer to the weights as they are after a step of this number."""
        if self._weights:
            decay = min(self._decay, step / (9 + step))
            get_ema_multi_avg_fn(decay)(list(self._averages.values()), list(self._weights.values()), step)

    def exchange(self) -> None:
        """Give the model the averages, and keep its weights in their place; once more, and all is as it was."""
        for name, tensor in self._weights.items():
            weights = tensor.clone()
            tensor.copy_(self._averages[name])
            self._averages[name].copy_(weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model compute with the averages in the block."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def state(self) -> dict[str, Tensor]:
        """Return the averages by the names that the tensors have in the model."""
        return dict(self._averages)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the averages of another."""
        for name, average in self._averages.items():
            average.copy_(state[name])


def check_averages(stage: Any, binarizers: Iterable[str], *, where: str) -> None:
    """Raise unless the latent weights of all binarizers can be averaged over the steps of a stage.

    Those of one that softens what it returns cannot: the same latent weights were other weights in each step before,
    and so the statistics of batch norm belong to others. Of `irnet` only the gradient changes from step to step.

    Raises:
        SpecError: one of them softens; says which.
    """
    soft = [name for name in binarizers if has_exact_gradient(name)] if stage.ema and stage.weights == "binary" else []
    if soft:
        raise SpecError(
            f"{where} has ema: {stage.ema:g}, which averages latent weights over steps, but what {soft[0]} makes of "
            "the same ones is another network at each step; leave ema out, or choose sign, xnor, alpha_beta or irnet"
        )


def weight_binarizers_of(model: nn.Module) -> list[str]:
    """Return the names of the binarizers that make weights of a model binary, each once."""
    layers = [m for m in model.modules() if isinstance(m, LatentWeights) and m.has_binary_weights]
    return list(dict.fromkeys(layer.weights for layer in layers))


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    """Return what is averaged of a model, by name: tensors that share its memory."""
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    norms = [(path, module) for path, module in model.named_modules() if isinstance(module, AnyBatchNorm)]
    statistics = [pair for path, norm in norms for pair in norm.named_buffers(path, recurse=False)]
    return weights | {name: buffer for name, buffer in statistics if buffer.is_floating_point()}
