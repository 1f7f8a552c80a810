"""A command that torchrun started several times over -> rank 0, which does it, and others, which help it train."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bnas.cli.stop import SIGNALS
from bnas.train import RankLost, Ranks, joined


@contextmanager
def leading() -> Iterator[Ranks]:
    """Give rank 0 the ranks; in any other, help until rank 0 has ended, and end the command.

    Raises:
        RankLost: another rank is gone.
    """
    with joined() as ranks:
        if ranks.leads:
            yield ranks
            return
        # torchrun passes signals on to every rank; rank 0 alone decides when the work is put down.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        try:
            ranks.follow()
        except RankLost as problem:
            raise typer.Exit(1) from problem  # rank 0 says what there is to say
        raise typer.Exit
