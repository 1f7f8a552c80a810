"""A network and one that was made anew -> in what the two differ, if in anything that can be seen."""

from torch import Tensor, nn

from bnas.layers.binarized import Binarized
from bnas.lookup import FAILURES
from bnas.seeds import seeded
from bnas.select.conversion import at_rest

TOLERANCE = 1e-4  # in units of the largest logit


def difference(made: nn.Module, model: nn.Module, images: Tensor) -> str:
    """Return how a network differs from a model: in weights, in a layer of torch, in its answers; nothing where not.

    A dropout that is not a module of torch shows in none of these.

    Args:
        made: with weights of its own; it gets those of the model.
        images: [batch, channels, height, width], that both are asked; a model that fails on them is not compared.
    """
    if _shapes(made) != _shapes(model):
        return "has other weights"
    layers, others = _settings(made), _settings(model)
    for path in sorted(layers.keys() | others.keys()):
        one, other = layers.get(path, "nothing"), others.get(path, "nothing")
        if one != other:
            return f"has {one} at {path or 'its top'!r}, where the model has {other}"
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        return ""
    like = next((value for value in model.state_dict().values() if value.is_floating_point()), images)
    made.load_state_dict(model.state_dict())
    try:
        said, wanted = _answer(model, images.to(like)), _answer(made.to(like), images.to(like))
    except FAILURES:
        return ""
    if not isinstance(said, Tensor) or not isinstance(wanted, Tensor):
        return ""
    apart, size = float((said - wanted).abs().max()), float(said.abs().max())
    return "" if apart <= TOLERANCE * size else f"answers otherwise with the same weights: logits are {apart:.3g} apart"


def _answer(network: nn.Module, images: Tensor) -> object:
    with seeded(0), at_rest(network):
        return network(images.clone())  # a network may change what it is given


def _settings(model: nn.Module) -> dict[str, str]:
    """Return what modules of torch, and binary layers, say of themselves, by path."""
    return {
        path: f"{type(module).__name__}({module.extra_repr()})"
        for path, module in model.named_modules()
        if type(module).__module__.startswith("torch.nn.") or isinstance(module, Binarized)
    }


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
