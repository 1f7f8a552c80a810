"""A request -> the supernet that it asks for, trained to its end."""

from torch import nn

from bnas.api.request import SearchRequest
from bnas.api.teacher import lesson_of
from bnas.data import DataSet
from bnas.progress import Progress
from bnas.runs import Run
from bnas.supernet import Supernet
from bnas.train import Ranks, SharedStore, train_supernet


def trained_supernet(
    run: Run | None,
    request: SearchRequest,
    data: DataSet,
    progress: Progress,
    ranks: Ranks,
    *,
    teacher: nn.Module | None,
) -> Supernet:
    """Return the supernet of a request, from where its run has it or from the start; a rank other than 0 has no run."""
    return train_supernet(
        request.space, request.settings.supernet, data, seed=request.seed, store=SharedStore(run, ranks),
        device=request.device, draws=request.draws, lesson=lesson_of(request.settings, teacher), progress=progress,
        ranks=ranks,
    )  # fmt: skip
