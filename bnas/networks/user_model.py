"""A model by reference, and a file of its weights -> the model; and the packages that its code is from."""

import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

from bnas.cost.trace.plain_model import unwrapped
from bnas.errors import LookupFailed
from bnas.lookup import FAILURES, load_reference, reason, unknown
from bnas.networks.models import MODELS, build_model
from bnas.networks.weights import load_weights
from bnas.seeds import seeded
from bnas.space.original import Original

_NOT_FOREIGN = frozenset({"torch", "bnas", "builtins", "__main__"}) | frozenset(sys.stdlib_module_names)
_INSTALLED_IN = frozenset({"site-packages", "dist-packages"})


def load_model(reference: str) -> nn.Module:
    """Return the module that `file.py:attr` or `pkg.mod:attr` names, or that what it names makes without arguments.

    Of one that is compiled, or wrapped to run in parallel, it is the module inside.

    Importing runs the named code: give only files that you trust.

    Raises:
        LookupFailed: the file or attribute does not exist, cannot be called without arguments, or is no module; or
            one whose `train` does not return it.
    """
    if ":" not in reference:
        raise LookupFailed(unknown(reference, MODELS, what="model"))
    found = load_reference(reference, what="model")
    if callable(found) and not isinstance(found, nn.Module):
        try:
            found = found()
        except FAILURES as problem:
            raise LookupFailed(
                f"model {reference!r}: calling it without arguments fails: {reason(problem)}; "
                "name a module, or a function or class that needs no arguments"
            ) from problem
    if not isinstance(found, nn.Module):
        raise LookupFailed(
            f"model {reference!r}: must be an nn.Module, or make one when called, but is of type {type(found).__name__}"
        )
    model = unwrapped(found)
    _check_train(model, reference)
    return model


def _check_train(model: nn.Module, reference: str) -> None:
    """Raise unless a model's `train` returns the model, as torch's does, on which `eval` builds.

    Raises:
        LookupFailed: it does not.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        returned = model.train(model.training)
    except FAILURES:  # an exported program has none; whoever needs its operators says so
        return
    for module, training in modes.items():
        module.training = training
    if returned is not model:
        raise LookupFailed(
            f"model {reference!r}: its method train returns {type(returned).__name__}, so that model.eval() is none; "
            "end it with `return self`"
        )


def build_original(original: Original) -> nn.Module:
    """Return a float model with its weights; where it has none, they are drawn alike each time.

    Raises:
        LookupFailed: there is no such model.
        SpecError: the weights cannot be read, or are not those of the model.
    """
    is_known = original.model in MODELS or ":" not in original.model
    with seeded(0):
        model = build_model(original.model, classes=original.classes) if is_known else load_model(original.model)
    if original.weights is not None:
        load_weights(model, original.weights)
    return model


def packages_of(model: nn.Module) -> list[str]:
    """Return the installed packages beside torch that a model's modules are from, or that their methods use.

    What those packages use themselves is not looked at.
    """
    kinds = {base for module in model.modules() for base in type(module).__mro__}
    names = {kind.__module__ for kind in kinds}
    waiting = [f for kind in kinds for f in vars(kind).values() if isinstance(f, FunctionType) and _is_own(f)]
    seen = set(waiting)
    while waiting:
        for used in _used_by(waiting.pop()):
            names.add(used.__name__ if isinstance(used, ModuleType) else str(getattr(used, "__module__", None)))
            if isinstance(used, FunctionType) and used not in seen and _is_own(used):
                seen.add(used)
                waiting.append(used)
    return sorted(package for package in {name.partition(".")[0] for name in names} if _is_foreign(package))


def _is_own(function: FunctionType) -> bool:
    """Say whether a function is the user's, neither torch's nor an installed package's."""
    package = str(function.__module__).partition(".")[0]
    return package not in _NOT_FOREIGN and not _is_foreign(package)


def _used_by(function: FunctionType) -> Iterator[Any]:
    """Yield what a function's code names at the top of its module."""
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        yield from (function.__globals__[name] for name in code.co_names if name in function.__globals__)


@cache
def _is_foreign(package: str) -> bool:
    """Say whether a package beside torch lies where packages are installed, and not beside a user's file."""
    if package in _NOT_FOREIGN:
        return False
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return False
    return bool(spec and spec.origin and _INSTALLED_IN & set(Path(spec.origin).parts))
