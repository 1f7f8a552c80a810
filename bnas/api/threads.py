"""A search on a CPU -> how many threads it uses, which its run keeps: sums of several may be rounded otherwise."""

from functools import partial

import torch
import torch.nn.functional as F

from bnas.api.request import SearchRequest
from bnas.data import DataSet
from bnas.runs import Run
from bnas.seeds import seeded
from bnas.space.recipe import batch_for
from bnas.supernet import Supernet
from bnas.train.supernet_loss import Draws
from bnas.train.thread_count import is_chosen_by_user, worthwhile


def threads_for(run: Run, request: SearchRequest, data: DataSet) -> int:
    """Return the threads with which a run began; at its start those that the user says, or else that are worth it."""
    known = [event["threads"] for event in run.events() if event["event"] == "threads"]
    if known:
        return int(known[-1])
    found = threads_here(request, data)
    if _is_open(request):
        run.log("threads", threads=found)
    return found


def threads_here(request: SearchRequest, data: DataSet) -> int:
    """Return the threads that the user says, or else that are worth it for a search."""
    if not _is_open(request):
        return torch.get_num_threads()
    with seeded(0):
        return worthwhile(partial(_step, Supernet(request.space), request, request.draws, data))


def _is_open(request: SearchRequest) -> bool:
    return request.device.type == "cpu" and not is_chosen_by_user()


def _step(supernet: Supernet, request: SearchRequest, draws: Draws, data: DataSet, number: int) -> None:
    """Do what a step of training does, but that no weight is changed."""
    batch = batch_for(request.settings.supernet.batch, len(data.train))
    images, labels = next(iter(data.train.batches(batch, seed=request.seed, epoch=0, drop_last=True)))
    F.cross_entropy(supernet(images, draws(number)), labels).backward()
