"""nn.Module -> planned layers: what `plan` gives for an architecture, for any model."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bnas.cost.plan import PlannedLayer, Uncounted
from bnas.cost.trace.plain_model import check_open, copy_of, short_reason, unwrapped
from bnas.cost.trace.planned import Assembly
from bnas.cost.trace.watch import RunWatch
from bnas.cost.trace.wholes import is_whole
from bnas.errors import ShapeError
from bnas.lookup import FAILURES
from bnas.spec import shown

Sizes = Sequence[int]
MOST_VALUES = 2**24  # of one input; a model keeps dozens of times as many while it runs


class Traced(NamedTuple):
    """The layers of a model in the order in which they run, and what is not in them."""

    layers: tuple[PlannedLayer, ...]
    uncounted: tuple[Uncounted, ...]


def trace(model: nn.Module, input_shape: Sizes | Sequence[Sizes], *, like: Sequence[Tensor | None] = ()) -> Traced:
    """Return the layers of a model, seen while a copy of it runs on one random image in eval mode.

    Convolutions, linear layers and matrix products count wherever they happen, in a module or a function. A module
    called several times gives a layer each time, whose weights are in the first. What depends on parameters only, such
    as a normalised weight, is taken as computed beforehand. The layers of `bnas.layers` say their precision; all others
    are real. Every operator that is neither counted nor left out by convention is listed, with the module that ran it.

    Args:
        model: stays as it is: mode, parameters, buffers, hooks, and torch's random numbers.
        input_shape: of one image, without a batch: (channels, height, width); several if the model takes several.
        like: tensors [batch, ...] of those shapes, one for each; what is no floating-point number, such as the numbers
            of words, is taken from the first of each batch. Left out, or None: floating-point numbers.
    Returns:
        layers, and what was not counted; a warning says the latter too.
    Raises:
        ShapeError: the model fails on such an input or cannot be copied, or memory cannot hold the input.
    """
    shapes = _shapes(input_shape)
    run = _copied(model)
    watch = RunWatch(run, is_whole)
    first = next((p for p in run.parameters() if p.is_floating_point()), torch.zeros((), device="cpu"))
    generator = torch.Generator().manual_seed(0)
    with _undisturbed(first.device):
        images = [_image(shape, generator).to(first) for shape in shapes]
        images = [_of_the_kind(image, example) for image, example in zip_longest(images, like)]
        watch.given(images)
        _run(run, images, watch, shapes)
    assembly = Assembly(watch, run)
    traced = Traced(assembly.layers(), (*watch.uncounted, *assembly.unused()))
    if traced.uncounted:
        warnings.warn(f"not counted: {'; '.join(map(str, traced.uncounted))}", stacklevel=2)
    return traced


def _shapes(given: Any) -> list[tuple[int, ...]]:
    shapes = given if _is_full(given) and all(map(_is_full, given)) else [given]
    for shape in shapes:
        if not _is_full(shape) or not all(isinstance(side, Integral) and int(side) > 0 for side in shape):
            raise ShapeError(
                f"input shape: sides must be positive whole numbers, as in (3, 224, 224), but got {shown(given)}"
            )
    return [tuple(map(int, shape)) for shape in shapes]


def _is_full(given: Any) -> bool:
    return isinstance(given, Sequence) and len(given) > 0


def _image(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if math.prod(shape) > MOST_VALUES:
        raise ShapeError(
            f"trace: an input of {shown(shape)} has more than {MOST_VALUES:,} values, and models that run take dozens "
            "of times their memory; give a smaller one (the MACs of convolutions grow with the area)"
        )
    return torch.randn(1, *shape, generator=generator, device="cpu")


def _of_the_kind(image: Tensor, example: Tensor | None) -> Tensor:
    """Return an image, or the first one of the example where that is no floating-point number."""
    return image if example is None or example.is_floating_point() else example[:1].to(image.device)


def whole_numbers(shape: Sizes) -> Tensor:
    """Return an example of an input of whole numbers, as of words: of the first word of any vocabulary."""
    return torch.zeros(1, *shape, dtype=torch.long, device="cpu")


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode and in memory."""
    model = unwrapped(model)
    check_open(model, where="trace")
    run = copy_of(model, where="trace", error=ShapeError)
    if any(tensor.is_meta for tensor in (*run.parameters(), *run.buffers())):
        run.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*run.parameters(), *run.buffers()):
                tensor.zero_()
    run.eval()  # not what it returns: a user's own `train` may return nothing
    return run


def _run(run: nn.Module, images: list[Tensor], watch: RunWatch, shapes: list[tuple[int, ...]]) -> None:
    try:
        with watch:
            watch.returned(run(*images))
    except FAILURES as problem:
        path, given = watch.failed, " and ".join(map(_written, shapes))
        where = f"trace: the model fails on an input of {given}{f', in {path}' if path else ''}"
        kinds = " and ".join(dict.fromkeys(str(image.dtype).removeprefix("torch.") for image in images))
        looks_up = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in run.modules())
        hint = "; words are whole numbers, as in --input 128:int" if looks_up and "int64" not in kinds else ""
        raise ShapeError(
            f"{where}: {short_reason(problem)}; "
            f"give the shape of each input that it takes, of {kinds} values on {images[0].device}{hint}"
        ) from problem


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Make torch show each product as one of its own, not inside a fused operator, and leave its random numbers."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(device)
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
