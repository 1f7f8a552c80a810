"""A run and a progress -> a progress that also writes the start of each phase to the run's log."""

from bnas.progress import Progress
from bnas.runs import Run


class Logged:
    """A progress that also writes the start of each phase to the log."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run, self._progress, self._phase = run, progress, ""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        if phase != self._phase:
            self._run.log("phase", phase=phase, done=done, total=total)
            self._phase = phase
        self._progress(phase, done, total, note)
