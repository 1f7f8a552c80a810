"""Processes that torchrun or Ray Train started -> ranks that train one model, each on its part of every batch.

The gradient of a step is that of the whole batch: each rank weighs the mean loss of its part by the part's share, and
the gradients are summed. As in ordinary DDP, batch norm sees a rank's own part, and the running averages are those of
rank 0. DistributedDataParallel itself wants one forward pass of fixed parameters; here each step may train another
sub-network.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bnas.errors import TrainingError
from bnas.seeds import derived
from bnas.train.state import Kept, Store

T = TypeVar("T")
# Rank 0 may search for days while the others wait; torchrun sees who dies, so nobody needs a shorter limit.
# Gloo counts milliseconds in 32 bits: no more than 24 days.
_PATIENCE = timedelta(days=20)
_PORT, _LEFT = "bnas/port", "bnas/left"  # keys of the store
_FAREWELL = timedelta(seconds=20)


class RankLost(TrainingError):
    """A process of those that train together is gone."""


@dataclass(frozen=True)
class Ranks:
    """Where this process stands among those that train together; rank 0 leads and has the run folder.

    Args:
        rank: from 0.
        count: how many there are; with one, nothing is sent.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def part(self, batch: int) -> Tensor:
        """Return the places of a batch that are this rank's, int64 [part].

        With place i a rank has place batch - 1 - i, and the part turned round is that of the batch turned round:
        mixup, which mixes the two, gives what it would give in one process.

        Raises:
            TrainingError: the batch is too small to give every rank two images.
        """
        if batch // 2 < self.count and self.count > 1:
            raise TrainingError(
                f"batch: {batch} images are too few for {self.count} processes, which need two each; set batch to "
                f"{2 * self.count} or more, or start fewer"
            )
        half = batch // 2
        low = torch.arange(half).tensor_split(self.count)[self.rank]
        middle = torch.arange(half, batch - half if self.rank == self.count - 1 else half)
        return torch.cat((low, middle, batch - 1 - low.flip(0)))

    def own(self, seed: int) -> int:
        """Return the seed of what this rank draws for its part of a batch; that of rank 0 is the seed itself."""
        return derived(seed, "rank", self.rank) if self.rank else seed

    def told(self, compute: Callable[[], T]) -> T:
        """Return on every rank what `compute` returns on rank 0, where alone it is called."""
        said = [compute() if self.leads else None]
        if self.count > 1:
            with _noticing():
                dist.broadcast_object_list(said)
        return said[0]  # type: ignore[return-value]

    def share(self, model: nn.Module) -> None:
        """Give the model of every rank the parameters and buffers of rank 0."""
        if self.count > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                whole = tensor.detach().contiguous()
                with _noticing():
                    dist.broadcast(whole, 0)
                tensor.detach().copy_(whole)

    def total(self, value: Tensor) -> float:
        """Return the sum of a scalar over all ranks."""
        whole = value.detach().float().clone()
        if self.count > 1:
            with _noticing():
                dist.all_reduce(whole)
        return whole.item()

    def add_gradients(self, model: nn.Module) -> None:
        """Set every gradient to its sum over all ranks."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        with _noticing():
            dist.all_reduce(whole)
        for gradient, summed in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def call(self, work: Callable[["Ranks"], None]) -> None:
        """Have every other rank do its part of the work, which this one, rank 0, is about to do."""
        self.told(lambda: work)

    def follow(self) -> None:
        """Do what rank 0 calls for, until it has ended.

        Raises:
            RankLost: rank 0 ended before its time.
        """
        no_call: Callable[[], Callable[[Ranks], None] | None] = lambda: None  # noqa: E731  never called here
        while work := self.told(no_call):
            work(self)


ALONE = Ranks()


class SharedStore:
    """A store whose checkpoints every rank is given; rank 0 alone writes.

    Args:
        store: of rank 0; None on every other rank.
    """

    def __init__(self, store: Store | None, ranks: Ranks) -> None:
        self._store, self._ranks = store, ranks

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keep it, on rank 0."""
        if self._store:
            self._store.save_checkpoint(name, tensors, state)

    def load_checkpoint(self, name: str) -> Kept | None:
        """Return what rank 0 keeps."""
        return self._ranks.told(lambda: self._store.load_checkpoint(name) if self._store else None)

    def log(self, event: str, **fields: Any) -> None:
        """Write one event, on rank 0."""
        if self._store:
            self._store.log(event, **fields)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Give the ranks that torchrun started, or this process alone; a rank's GPU is that of its local number.

    A process group that is there already, as Ray Train makes one, is used and left as it is.

    Raises:
        RankLost: another rank is gone.
    """
    if dist.is_available() and dist.is_initialized():
        ranks = Ranks(dist.get_rank(), dist.get_world_size())
        yield ranks
        if ranks.leads:
            ranks.told(lambda: None)
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with _noticing():
        ranks, store = _met()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.count, timeout=_PATIENCE)
    try:
        yield ranks
        if ranks.leads:
            ranks.told(lambda: None)  # the others have nothing more to wait for
            _wait_for_the_others(store, ranks)
    finally:
        dist.destroy_process_group()
        if not ranks.leads:
            with suppress(RuntimeError):  # rank 0, where the store is, may be gone before its time
                store.set(f"{_LEFT}/{ranks.rank}", "")


def _wait_for_the_others(store: dist.Store, ranks: Ranks) -> None:
    """Wait until the others have closed their connections: where both sides close at once, Gloo can abort a process."""
    with suppress(RuntimeError):  # one died in closing: nothing is lost by that
        store.wait([f"{_LEFT}/{rank}" for rank in range(1, ranks.count)], _FAREWELL)


def _met() -> tuple[Ranks, dist.Store]:
    """Return the ranks, and a store in which they find each other.

    Not that which torchrun keeps: it outlives a restart, and still has the addresses of processes that are gone.
    """
    shared, rank, count = next(dist.rendezvous("env://", timeout=_PATIENCE))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return Ranks(rank, count), shared
    host = os.environ["MASTER_ADDR"]  # of rank 0
    if rank == 0:
        own = dist.TCPStore(host, 0, count, is_master=True, wait_for_workers=False, timeout=_PATIENCE)
        shared.set(_PORT, str(own.port))
    else:
        while not _listens(host, port := int(shared.get(_PORT))):
            time.sleep(0.1)
        own = dist.TCPStore(host, port, count, is_master=False, timeout=_PATIENCE)
    return Ranks(rank, count), own


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


@contextmanager
def _noticing() -> Iterator[None]:
    """Say in one line that somebody is gone, where a collective operation breaks."""
    try:
        yield
    except RuntimeError as problem:
        said = str(problem).partition(". ")[0].rpartition("] ")[2]  # neither a place in a source file nor advice
        raise RankLost(
            f"torchrun: another process is gone ({said}); with --max-restarts all start again from the last "
            "checkpoint, and so does the same command"
        ) from problem


def together(work: Callable[[Ranks], T]) -> T | None:
    """Do the work on rank 0 and help with it on every other rank, in processes of torchrun, Ray Train, or alone.

    Every process calls it: `together(lambda ranks: bnas.search(space, data=data, out=out, ranks=ranks))`.

    Args:
        work: is given the ranks, which `bnas.search` and `bnas.train_model` take.
    Returns: what the work returns on rank 0; None on every other.
    Raises:
        RankLost: another rank is gone.
    """
    with joined() as ranks:
        if ranks.leads:
            return work(ranks)
        ranks.follow()
        return None
