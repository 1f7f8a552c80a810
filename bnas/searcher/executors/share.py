"""Workers on one machine -> the share of its cores, and the GPU, that each has for itself."""

import os
from typing import NamedTuple

import torch

from bnas.allocator import keep_freed_memory


class Share(NamedTuple):
    """What one worker works on."""

    device: str
    threads: int
    cores: tuple[int, ...]  # empty where the system pins no process

    def take(self) -> None:
        """Confine this process to its share."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        torch.set_num_threads(self.threads)
        keep_freed_memory()


def shares(workers: int, device: torch.device) -> list[Share]:
    """Return the share of each worker: equal runs of cores, one at least, and the GPUs in turn.

    Args:
        device: `cuda` spreads the workers over all GPUs, `cuda:1` puts them all on that one.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    most = min(len(cores) or os.cpu_count() or 1, torch.get_num_threads())
    return [
        Share(_device(place, device), max(1, most // workers), tuple(_run(cores, place, workers)))
        for place in range(workers)
    ]


def _run(cores: list[int], place: int, workers: int) -> list[int]:
    if len(cores) < workers:
        return cores[place % len(cores) :][:1] if cores else []
    return cores[place * len(cores) // workers : (place + 1) * len(cores) // workers]


def _device(place: int, device: torch.device) -> str:
    if device.type != "cuda" or device.index is not None:
        return str(device)
    return f"cuda:{place % torch.cuda.device_count()}"
