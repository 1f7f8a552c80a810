"""Something that may go wrong -> its result, or an error that can travel to another process."""

import traceback
from collections.abc import Callable
from typing import TypeVar

import torch

from bnas.errors import BnasError
from bnas.searcher.executors.pool import Lost

T = TypeVar("T")

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # what a RuntimeError of torch says then


def attempt(action: Callable[[], T]) -> T | Exception:
    """Return what `action` returns; or our own error, `Lost` where memory ran out, any other with its traceback."""
    try:
        return action()
    except BnasError as problem:
        return problem
    except Exception as problem:
        if is_out_of_memory(problem):
            return Lost("out of memory")
        error = RuntimeError(f"{type(problem).__name__}: {problem}")  # the original may not survive pickling
        error.add_note("".join(traceback.format_exception(problem)))
        return error


def is_out_of_memory(problem: Exception) -> bool:
    """Whether memory ran out, of the machine or of a GPU."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(said in str(problem).lower() for said in _NO_MEMORY)
