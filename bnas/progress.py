"""What long work tells whoever watches it. Nothing here prints."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; may be called often."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps of a phase are done; a note is one short remark, as `loss 0.31`."""


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Watch without a word."""
