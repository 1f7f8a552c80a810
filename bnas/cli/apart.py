"""What is said while work is done, by models, libraries and us -> stderr, at once; standard output is for results."""

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

_OUT, _ERR = 1, 2  # file descriptors


@contextmanager
def apart() -> Iterator[None]:
    """Let whatever is written to standard output go to stderr: prints of a model's code, and what C code writes.

    A solver's line between two of a JSON object would spoil it.
    """
    with redirect_stdout(sys.stderr), _descriptor_apart():
        yield


@contextmanager
def _descriptor_apart() -> Iterator[None]:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    try:
        kept = os.dup(_OUT)
    except OSError:  # it is closed: nothing can be written there
        yield
        return
    try:
        with suppress(OSError):
            os.dup2(_ERR, _OUT)
        yield
    finally:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # what C code has not written yet
        os.dup2(kept, _OUT)
        os.close(kept)


@contextmanager
def warnings_at_once() -> Iterator[None]:
    """Print each warning when it comes, in one line, and once."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        line = " ".join(str(message).split())
        if line not in said:
            said.add(line)
            print(line, file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
