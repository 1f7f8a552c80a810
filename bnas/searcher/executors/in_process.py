"""A scorer -> an executor that scores in this process, when it is asked."""

from collections.abc import Callable
from concurrent.futures import Future

from bnas.allocator import is_out_of_memory
from bnas.errors import TrainingError
from bnas.searcher.candidate import Score
from bnas.space.arch import Architecture


class InProcess:
    """Scores one architecture after the other."""

    def __init__(self, score: Callable[[Architecture], Score]) -> None:
        self._score = score

    def submit(self, arch: Architecture) -> "Future[Score]":
        """Score an architecture; the future is done when this returns."""
        future: Future[Score] = Future()
        try:
            future.set_result(self._score(arch))
        except Exception as problem:
            future.set_exception(
                TrainingError(f"candidate {arch.id}: out of memory") if is_out_of_memory(problem) else problem
            )
        return future
