"""A model as people hand it over -> the plain module inside it, a copy of it, and the tensors in what it answers."""

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from bnas.errors import BnasError, ShapeError, SpecError
from bnas.lookup import FAILURES, reason
from bnas.torch_inside import tree_leaves

_SHOWN = 200  # characters of what a model fails with


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside of wrappers that compute nothing of their own: compiled, parallel, averaged.

    Raises:
        SpecError: it is no module.
        ShapeError: one of its modules holds itself.
    """
    _check_tree(model)
    for name in wrappers(model):
        model = model.get_submodule(name)
    return model


def wrappers(model: nn.Module) -> tuple[str, ...]:
    """Return the names under which wrappers that compute nothing of their own have what is inside, outermost first."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
        return ("module", *wrappers(model.module))
    # Not by its type, whose import takes a second: `torch.compile` names what it compiles so.
    inside = model._modules.get("_orig_mod") if len(model._modules) == 1 else None
    return () if inside is None else ("_orig_mod", *wrappers(inside))


def _check_tree(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise SpecError(
            f"the model: must be a torch module, but is a {type(model).__name__}; bnas.build_model(name) makes one of "
            "the reference networks"
        )
    try:
        for _ in model.named_modules(remove_duplicate=False):
            pass
    except RecursionError as problem:
        raise ShapeError(
            "the model: one of its modules holds itself, so that train() and eval() of torch never end; keep it in a "
            "list, which torch does not look into"
        ) from problem


def check_open(model: nn.Module, *, where: str) -> None:
    """Raise unless a model shows its operators and knows its sizes.

    Args:
        where: what the message begins with.
    Raises:
        ShapeError: it is scripted, exported as a program, or has lazy layers; says what to give instead.
    """
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise ShapeError(f"{where}: the model has lazy layers without a size yet; run it once on one batch first")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ShapeError(
            f"{where}: a scripted model does not show its operators; give the nn.Module that it was made of"
        )
    if isinstance(model, GraphModule) and "eval" in vars(model):  # torch.export puts one there that raises
        raise ShapeError(
            f"{where}: an exported program is fixed to one batch and mode; give the nn.Module that it was made of"
        )


def check_state(model: nn.Module) -> None:
    """Raise unless the state of a model is tensors, which is what files of weights hold.

    Raises:
        SpecError: it holds something else; says its name.
    """
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise SpecError(
                f"model: its state holds {name!r}, a {type(value).__name__}, as get_extra_state gives it; keep tensors "
                "in it alone"
            )


def copy_of(model: nn.Module, *, where: str, error: type[BnasError]) -> nn.Module:
    """Return a deep copy of a model.

    Modules may keep what they computed last, as pruned ones keep their weight, which deepcopy refuses where it has a
    gradient: such values are copied without it.

    Args:
        where: what the message begins with.
        error: what is raised where it cannot be copied.
    """
    kept = [t for m in model.modules() for t in vars(m).values() if isinstance(t, Tensor) and not t.is_leaf]
    try:
        return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in kept})
    except FAILURES as problem:
        raise error(
            f"{where}: the model cannot be copied ({short_reason(problem)}); make it work with copy.deepcopy"
        ) from problem


def short_reason(problem: BaseException) -> str:
    """Return what went wrong in a model, short enough for one line, without torch's own stack."""
    if isinstance(problem, SystemExit):
        return reason(problem)
    text = str(problem).partition("\nException raised from")[0]
    return " ".join(text.split())[:_SHOWN] or type(problem).__name__


def tensors_in(answer: Any) -> list[Tensor]:
    """Return the tensors in what a module is given or answers, in order, however it holds them."""
    found: list[Tensor] = []
    for leaf in tree_leaves(answer):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):  # one that torch does not know, as a subclass of dict
            found += tensors_in(list(leaf.values()))
        elif isinstance(leaf, tuple | list):  # likewise, as a packed sequence
            found += tensors_in([*leaf])
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += tensors_in([getattr(leaf, field.name) for field in fields(leaf)])
        elif isinstance(logits := getattr(leaf, "logits", None), Tensor):
            found.append(logits)
    return found
