"""A file of weights, as people's trainings leave them -> loaded into a model; no file is ever unpickled."""

import argparse
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnas.cost.trace.plain_model import unwrapped
from bnas.errors import SpecError

_IN_RUNS = "weights.safetensors"  # what the weights in a run folder are called

State = Mapping[str, Tensor]

# Keys under which people's checkpoints hold the state dict, in the order in which they are looked for.
NESTED_IN = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params",
    "ema_state_dict", "model_ema", "ema",
)  # fmt: skip
_TRACKED = ".num_batches_tracked"  # which old checkpoints lack, and torch does without


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a model: safetensors, or what `torch.save` wrote, read without running its code.

    One prefix before all names of the model, as wrappers put there (`module.`, `_orig_mod.`, `model.`), is taken off,
    with a warning that says so.

    Raises:
        SpecError: the file cannot be read so, or its names or shapes are not the model's.
    """
    model = unwrapped(model)
    own = model.state_dict()
    fitting = dict(_under_their_names(_read(Path(path)), own, path))
    if strange := _misfit(fitting, own):
        raise SpecError(f"{path}: the weights are not those of the model: {strange}")
    try:
        model.load_state_dict(fitting, strict=True)
    except RuntimeError as problem:
        reason = " ".join(" ".join(str(problem).splitlines()[1:]).split())[:200]
        raise SpecError(f"{path}: the weights are not those of the model: {reason}") from problem


def _under_their_names(state: State, own: State, path: str | Path) -> State:
    """Return the weights by the names that they have in the model, where one prefix is all that keeps them from it.

    Raises:
        SpecError: they are those of the model under several prefixes, as of a student and its teacher.
    """
    wanted = {name for name in own if not name.endswith(_TRACKED)}
    if not wanted or wanted <= state.keys():
        return state
    parts = {prefix: _under(state, prefix) for prefix in _prefixes(state)}
    fitting = [prefix for prefix, part in parts.items() if wanted <= part.keys() <= own.keys()]
    if len(fitting) > 1:
        names = " and ".join(map(repr, fitting))
        raise SpecError(f"{path}: holds the weights of the model {len(fitting)} times, under {names}; save one of them")
    if not fitting:
        return state
    others = [name for name in state if not name.startswith(fitting[0])]
    rest = f", and so were {len(others)} others, such as {others[0]!r}" if others else ""
    _say(f"{path}: the names of the weights begin with {fitting[0]!r}, which was left out{rest}")
    return parts[fitting[0]]


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _prefixes(state: State) -> Iterator[str]:
    """Yield what names begin with up to a dot, the shortest first."""
    parts = [name.split(".") for name in state]
    for depth in range(1, max(map(len, parts), default=1)):
        yield from dict.fromkeys(".".join(part[:depth]) + "." for part in parts if len(part) > depth)


def _misfit(state: State, own: State) -> str:
    """Return how weights differ from a model's: one name that lacks, one that is too much, or one shape."""
    missing = [name for name in own if name not in state and not name.endswith(_TRACKED)]
    strange = [name for name in state if name not in own]
    said = [f"{missing[0]!r} is missing{_and_more(missing)}"] if missing else []
    said += [f"{strange[0]!r} is not in the model{_and_more(strange)}"] if strange else []
    if said:
        return "; ".join(said)
    apart = [name for name, tensor in state.items() if not is_lazy(own[name]) and tensor.shape != own[name].shape]
    shapes = (f"{name!r} is {list(state[name].shape)}, but {list(own[name].shape)} in the model" for name in apart)
    return f"{next(shapes)}{_and_more(apart)}" if apart else ""


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _read(path: Path) -> State:
    if not path.is_file():
        inside = [file for file in (path / _IN_RUNS, path / "best" / _IN_RUNS) if file.is_file()]
        file = "the weights as a .safetensors file, or what torch.save wrote"
        give = f"{inside[0]}, which lies in it" if inside else file
        raise SpecError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; give {give}")
    try:
        read: Any = load_file(path) if path.suffix == ".safetensors" else _loaded(path)
    except (OSError, SafetensorError) as problem:
        raise SpecError(f"{path}: cannot be read: {' '.join(str(problem).split())[:200]}") from problem
    except Exception as problem:  # whatever a file that is no zip, or no pickle of tensors, makes torch raise
        raise SpecError(
            f"{path}: holds more than weights, or none ({type(problem).__name__}); save model.state_dict() alone, with "
            "safetensors or torch.save"
        ) from problem
    return _state_in(read, path)


def _loaded(path: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]):  # settings beside the weights: plain values only
        return torch.load(path, map_location="cpu", weights_only=True)


def _state_in(read: Any, path: Path) -> State:
    """Return the state dict of a checkpoint, however deep it lies; what is beside the tensors is no weight.

    Raises:
        SpecError: there is none.
    """
    held = read if isinstance(read, Mapping) else {}
    nested = [key for key in NESTED_IN if isinstance(held.get(key), Mapping) and held[key]]
    if nested:
        if len(nested) > 1:
            _say(f"{path}: the weights under {nested[0]!r} were taken, not those under {nested[1]!r}")
        return _state_in(held[nested[0]], path)
    tensors = {name: tensor for name, tensor in held.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if tensors:
        return tensors
    keys = f" with the keys {', '.join(map(str, list(held)[:6]))}" if held else ""
    raise SpecError(f"{path}: holds a {type(read).__name__}{keys}, no state dict; save model.state_dict()")


def _say(message: str) -> None:
    warnings.warn(message, stacklevel=5)
