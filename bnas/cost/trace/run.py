"""nn.Module -> planned layers: what `plan` gives for an architecture, for any model."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from bnas.cost.plan import PlannedLayer
from bnas.cost.trace.assemble import BINARY, Assembly
from bnas.cost.trace.watch import RunWatch, Uncounted
from bnas.errors import ShapeError
from bnas.lookup import FAILURES, reason
from bnas.spec import shown

Sizes = Sequence[int]


class Traced(NamedTuple):
    """The layers of a model in the order in which they run, and what is not in them."""

    layers: tuple[PlannedLayer, ...]
    uncounted: tuple[Uncounted, ...]


def trace(model: nn.Module, input_shape: Sizes | Sequence[Sizes], *, like: Sequence[Tensor] = ()) -> Traced:
    """Return the layers of a model, seen while a copy of it runs on one random image in eval mode.

    Convolutions, linear layers and matrix products count wherever they happen, in a module or a function. A module
    called several times gives a layer each time, whose weights are in the first. What depends on parameters only, such
    as a normalised weight, is taken as computed beforehand. The layers of `bnas.layers` say their precision; all others
    are real. Every operator that is neither counted nor left out by convention is listed, with the module that ran it.

    Args:
        model: stays as it is: mode, parameters, buffers, hooks, and torch's random numbers.
        input_shape: of one image, without a batch: (channels, height, width); several if the model takes several.
        like: tensors [batch, ...] of those shapes, one for each; what is no floating-point number, such as the numbers
            of words, is taken from the first of each batch. Left out: all inputs are floating-point numbers.
    Returns:
        layers, and what was not counted; a warning says the latter too.
    Raises:
        ShapeError: the model fails on such an input or cannot be copied, or memory cannot hold the input.
    """
    shapes = _shapes(input_shape)
    run = _copied(model)
    watch = RunWatch(run, BINARY)
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
    try:
        return torch.randn(1, *shape, generator=generator, device="cpu")
    except (RuntimeError, TypeError) as problem:  # more values than memory, or than 64 bits, can hold
        raise ShapeError(f"trace: no memory for an input of {_written(shape)}; give a smaller one") from problem


def _of_the_kind(image: Tensor, example: Tensor | None) -> Tensor:
    """Return an image, or the first one of the example where that is no floating-point number."""
    return image if example is None or example.is_floating_point() else example[:1].to(image.device)


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode and in memory."""
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise ShapeError("trace: the model has lazy layers without a size yet; run it once on one batch first")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ShapeError("trace: a scripted model does not show its operators; give the nn.Module that it was made of")
    # Modules may keep what they computed last, which deepcopy refuses where it has a gradient.
    kept = [t for m in model.modules() for t in vars(m).values() if isinstance(t, Tensor) and not t.is_leaf]
    try:
        run = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in kept})
    except Exception as problem:
        raise ShapeError(
            f"trace: the model cannot be copied ({_line(problem)}); make it work with copy.deepcopy"
        ) from problem
    if any(tensor.is_meta for tensor in (*run.parameters(), *run.buffers())):
        run.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*run.parameters(), *run.buffers()):
                tensor.zero_()
    return run.eval()


def _run(run: nn.Module, images: list[Tensor], watch: RunWatch, shapes: list[tuple[int, ...]]) -> None:
    try:
        with watch:
            watch.returned(run(*images))
    except FAILURES as problem:
        where = watch.running[-1].path
        given = " and ".join(map(_written, shapes))
        raise ShapeError(
            f"trace: the model fails on an input of {given}{f', in {where}' if where else ''}: {_line(problem)}; "
            f"give the shape of each input that it takes, of {str(images[0].dtype)[6:]} values on {images[0].device}"
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


def _line(problem: BaseException) -> str:
    """Return what went wrong in one line, without torch's own stack."""
    if isinstance(problem, SystemExit):
        return reason(problem)
    text = str(problem).partition("\nException raised from")[0]
    return " ".join(text.split())[:200] or type(problem).__name__
