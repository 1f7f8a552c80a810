"""A `Program` -> the same network in the ways that torch has to run it, to be measured side by side."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnas.runtime import Network
from bnas.runtime.program import Program
from bnas.ship.torch_program import TorchProgram

Images = NDArray[np.float32]  # [batch, channels, height, width]
Run = Callable[[], Any]  # computes the logits of the images that it was made for


class Rival(NamedTuple):
    """A network in one runtime, for the images of one batch."""

    name: str
    run: Run


class Missing(NamedTuple):
    """A runtime that is not here, or does not take the network."""

    name: str
    why: str


def rivals(program: Program, images: Images, *, threads: int = 1, compiled: bool = False) -> Iterator[Rival | Missing]:
    """Yield the network packed and in torch, ready to run on these images; what is missing, with the reason.

    Args:
        program: with float32 arrays.
        threads: that each may use.
        compiled: whether torch compiles too, which takes a minute.
    """
    network = Network(program, threads=threads)
    yield Rival("packed", lambda: network(images))
    torch.set_num_threads(threads)
    yield from _of_torch(program, images, compiled=compiled)


def _made(name: str, make: Callable[[], Run]) -> Iterator[Rival | Missing]:
    try:
        yield Rival(name, make())
    except Exception as problem:  # whatever a runtime of others raises
        yield Missing(name, " ".join(f"{type(problem).__name__}: {problem}".split())[:200])


def _of_torch(program: Program, images: Images, *, compiled: bool) -> Iterator[Rival | Missing]:
    module, batch = TorchProgram(program), torch.from_numpy(images)
    yield Rival("torch float32", _in_torch(module, batch))
    last = TorchProgram(program)
    for buffer in last.buffers():
        if buffer.ndim == 4:
            buffer.data = buffer.data.contiguous(memory_format=torch.channels_last)
    yield Rival("torch float32, channels last", _in_torch(last, batch.contiguous(memory_format=torch.channels_last)))
    if not compiled:
        return
    if shutil.which("c++") is None and shutil.which("g++") is None:
        yield Missing("torch compiled", "needs a C++ compiler")
        return
    yield from _made("torch compiled", lambda: _in_torch(torch.compile(module), batch))


def _in_torch(module: nn.Module | Callable[..., Any], batch: torch.Tensor) -> Run:
    def run() -> Any:
        with torch.inference_mode():
            return module(batch).numpy()

    run()
    return run
