"""The one training loop, staged training of one network, supernet training, and evaluation."""

from bnas.train.binary_watch import BinaryWatch
from bnas.train.evaluate import confusion, evaluate, evaluate_soft, recalibrate
from bnas.train.loop import fit
from bnas.train.oneshot import load_supernet, train_supernet
from bnas.train.ranks import ALONE, RankLost, Ranks, SharedStore, joined, together
from bnas.train.staged import build_for, train_staged
from bnas.train.state import Kept, Store
from bnas.train.step import Objective

__all__ = [
    "ALONE",
    "BinaryWatch",
    "Kept",
    "Objective",
    "RankLost",
    "Ranks",
    "SharedStore",
    "Store",
    "build_for",
    "confusion",
    "evaluate",
    "evaluate_soft",
    "fit",
    "joined",
    "load_supernet",
    "recalibrate",
    "together",
    "train_staged",
    "train_supernet",
]
