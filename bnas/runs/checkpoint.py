"""Tensors and a JSON-able state <-> one safetensors file that knows its own checksum."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bnas.errors import RunError
from bnas.runs.files import previous_of, replacing

# One key only: safetensors writes several in no fixed order, and equal content should be equal bytes.
_KEY = "checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: tensors by name, on the CPU, and the state, as JSON gives it back."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class _Damaged(Exception):
    """The file is not the one that was written."""


def write_checkpoint(
    path: Path, *, tensors: dict[str, Tensor], state: dict[str, Any], check: Callable[[], object] = lambda: None
) -> None:
    """Write a checkpoint, whole or not at all, and keep the sound one before it.

    Args:
        path: the file.
        tensors: of any device and dtype; names that share memory are written once each.
        state: JSON-able, with text as keys.
        check: is called right before the file is put in its place.
    Raises:
        RunError: it cannot be written; the checkpoint before it is intact.
    """
    plain = own_memory(tensors)
    text = json.dumps(state)
    metadata = {_KEY: json.dumps({"sha256": _sha256(plain, text), "state": text})}
    # A damaged file must not push the sound one before it out of its place.
    previous = previous_of(path) if _is_sound(path) else None
    with replacing(path, previous=previous, check=check) as temporary:
        temporary.write_bytes(save(plain, metadata))


def newest_checkpoint(path: Path, *, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the checkpoint, or the one before it where it is damaged or missing; None where neither was written.

    Args:
        path: the file that `write` wrote.
        warn: is told of a damaged file that was skipped.
    Raises:
        RunError: every checkpoint that is there is damaged.
    """
    damaged = []
    for file in (path, previous_of(path)):
        try:
            found = _read(file)
        except FileNotFoundError:
            continue
        except _Damaged as problem:
            damaged.append(f"{file} is damaged ({problem})")
            continue
        if damaged:
            warn(f"{damaged[0]}; going on from {file}, the checkpoint before it")
        return found
    if damaged:
        raise RunError(
            f"{' and '.join(damaged)}, and no sound checkpoint is left; "
            f"put a copy back, or remove {path.parent} to do this part of the run again"
        )
    return None


def own_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors detached, dense in memory, on the CPU, no two of them in the same memory."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return result


def _read(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            stored = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        state = json.loads(stored["state"])
        sound = stored["sha256"] == _sha256(tensors, stored["state"])
    except FileNotFoundError:
        raise
    except PermissionError as problem:
        raise RunError(f"{path}: cannot be read: {problem.strerror}; make it readable") from problem
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
        raise _Damaged(f"{type(problem).__name__}: {problem}") from problem
    if not sound:
        raise _Damaged("its checksum does not match its content")
    return Checkpoint(tensors=tensors, state=state)


def _is_sound(path: Path) -> bool:
    try:
        _read(path)
    except (FileNotFoundError, _Damaged):
        return False
    return True


def _sha256(tensors: dict[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
