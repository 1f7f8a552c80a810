"""A model and an image -> what surrounds each of its layers: how often it runs, what it comes from and goes to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnas.cost.trace.plain_model import short_reason, tensors_in
from bnas.cost.trace.planned import NORMS
from bnas.errors import BnasError, DataError
from bnas.lookup import FAILURES
from bnas.select.conversion.flow import Flow


@dataclass
class Seen:
    """What surrounds a layer."""

    calls: int = 0
    start: int = -1  # how many of the layers started before it; -1: it was not called
    after_norm: bool = True  # its input is what a norm gave, in every call
    plain_norm: bool = True  # and that norm computes what torch's does, and nothing else
    sees_input: bool = False  # its input is the model's own, or made of it without weights, as by a norm or a scaling
    gives_output: bool = False  # the model's answer is made of its output without weights, and no other layer is


@contextmanager
def at_rest(model: nn.Module) -> Iterator[ExitStack]:
    """Put a model into eval mode without gradients; afterwards it is as before, and hooks in the stack are gone."""
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, held, None if held is None or held.is_meta else held.clone())
        for module in model.modules()
        for name, held in module._buffers.items()
    ]  # which a model may write while it runs
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # it does not call the layers inside a transformer's
    try:
        with torch.no_grad(), ExitStack() as stack:
            yield stack
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training
        for module, name, held, before in buffers:
            module._buffers[name] = held
            if held is not None and before is not None:
                with torch.no_grad():
                    held.copy_(before)


def observe(model: nn.Module, inputs: Sequence[Tensor], layers: Mapping[str, nn.Module]) -> dict[str, Seen]:
    """Return what surrounds some of a model's modules, seen while it runs on the inputs.

    Args:
        inputs: one tensor [batch, ...] for each argument of the model's forward.
        layers: the modules, by path.
    Raises:
        DataError: the model fails on them.
    """
    seen, given = {path: Seen() for path in layers}, copies(inputs)
    flow = Flow(model, given)

    def starts(path: str, args: Any, kwargs: Any) -> None:
        around = seen[path]
        around.start = sum(other.calls > 0 for other in seen.values()) if not around.calls else around.start
        around.calls += 1
        for x in tensors_in((args, kwargs))[:1]:
            is_plain = flow.norm_before(x)
            around.after_norm &= is_plain is not None
            around.plain_norm &= bool(is_plain)
            around.sees_input |= flow.is_raw(x)

    with at_rest(model) as stack:
        for module in model.modules():
            if isinstance(module, NORMS):
                hook = module.register_forward_hook(lambda norm, _, out: flow.note_norm(out, is_plain=_is_plain(norm)))
                stack.callback(hook.remove)
        for path, layer in layers.items():
            before = layer.register_forward_pre_hook(
                lambda _m, args, kwargs, path=path: starts(path, args, kwargs), with_kwargs=True
            )
            after = layer.register_forward_hook(
                lambda _m, _a, out, path=path: flow.note_layer(out, (path, seen[path].calls))
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        stack.enter_context(flow)
        ends = flow.ends(answer_of(model, given, what="an image"))
    for path, _ in ends:
        seen[path].gives_output = True
    return seen


def _is_plain(norm: nn.Module) -> bool:
    """Say whether a norm computes what torch's does: a subclass may do more, as be an activation too."""
    return any(isinstance(norm, kind) and type(norm).forward is kind.forward for kind in NORMS)


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the input that a layer of torch was called with."""
    x: Tensor = args[0] if args else kwargs["input"]
    return x


def before_sign(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return what stands before the sign of one of our layers that was called with these: its input, normed if it is.

    It is what a forward pre-hook is given.
    """
    x: Tensor = argument(args, kwargs) if "input" in kwargs or args else kwargs["x"]
    return layer.normed(x) if hasattr(layer, "normed") else x


def copies(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of a batch, for a model that may change what it is given."""
    return [x.clone() for x in inputs]


_SIMILAR = "give batches that differ in the number of images only, of the size and type that the model takes"


def answer_of(model: nn.Module, inputs: Sequence[Tensor], *, what: str, remedy: str = _SIMILAR) -> Any:
    """Return what a model answers.

    Args:
        what: the inputs, for the message.
        remedy: what a person can do.
    Raises:
        DataError: the model fails on them; says their shape and type.
    """
    try:
        return model(*inputs)
    except BnasError:  # of what is measured on the way
        raise
    except FAILURES as problem:
        raise DataError(
            f"calibration: the model fails on {what}, {_shown(inputs)}: {short_reason(problem)}; "
            f"{_other_type(model, inputs) or remedy}"
        ) from problem


def _shown(inputs: Sequence[Tensor]) -> str:
    """Return the shape and type of each input."""
    return " and ".join(f"{'x'.join(map(str, x.shape))} of {_type(x)}" for x in inputs)


def _other_type(model: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Return what to do where weights are of another type than inputs; nothing where they are not."""
    given = {_type(x) for x in inputs if x.is_floating_point()}
    own = {_type(parameter) for parameter in model.parameters() if parameter.is_floating_point()}
    if not given or not own or given & own:
        return ""
    return f"its weights are of {own.pop()}; make them {given.pop()} first, as model.float() does"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
