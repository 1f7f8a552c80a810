"""A network in training -> what its binary layers do: bits that flip, values of a filter, experts that win."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnas.layers.binary_layer import BinaryLayer
from bnas.layers.expert_conv import ExpertConv
from bnas.supernet import SharedUnit

COLLAPSED = 0.1  # of the largest entropy that N experts can have: one of four has won some 98 % of the images
_logger = logging.getLogger(__name__)


class BinaryWatch:
    """Measures the binary layers of a network each time it is called, best after each epoch.

    Args:
        network: what is trained; layers with real weights are left out.
        beside: measures more of it; what it returns comes first.
    """

    def __init__(self, network: nn.Module, *, beside: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._beside = beside
        self._layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, BinaryLayer) and module.has_binary_weights
        }
        self._signs = self._binarized_signs()
        self._warned: set[str] = set()

    def __call__(self) -> dict[str, Any]:
        """Return what is measured beside, and of binary layers where there are any:

        flips: share of their weights whose sign is not what it was at the call before.
        filters: by layer, the larger and the smaller value of its first filter, learned output scale not included.
        usage: by layer with experts, the entropy of their wins over the largest possible; 0 is a collapsed gate.
        """
        beside = dict(self._beside())
        if not self._layers:
            return beside
        usage = {name: evenness(share) for name, share in self._usages().items()}
        warn_of_collapse(usage, self._warned)
        found: dict[str, Any] = {"flips": self._flips(), "filters": {n: _values(m) for n, m in self._layers.items()}}
        return beside | found | ({"usage": usage} if usage else {})

    def state(self) -> dict[str, Tensor]:
        """Return the signs that flips are counted from, and the averages of the gates' choices."""
        signs = {f"signs.{name}": signs for name, signs in self._signs.items()}
        return signs | {f"usage.{name}": share for name, share in self._usages().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Count flips and choices from where another watch of such a network was."""
        for name, signs in self._signs.items():
            signs.copy_(state.get(f"signs.{name}", signs))
        for name, share in self._usages().items():
            share.copy_(state.get(f"usage.{name}", share))

    def _usages(self) -> dict[str, Tensor]:
        """Return the shares of images that each expert wins, by layer with several."""
        return {n: m.usage for n, m in self._layers.items() if isinstance(m, ExpertConv) and m.experts > 1}

    def _flips(self) -> float:
        before, self._signs = self._signs, self._binarized_signs()
        flipped = sum(int((before[name] != signs).sum()) for name, signs in self._signs.items())
        return flipped / sum(signs.numel() for signs in self._signs.values())

    @torch.no_grad()
    def _binarized_signs(self) -> dict[str, Tensor]:
        return {name: module.binarize_weight(module.weight).sign > 0 for name, module in self._layers.items()}


class SupernetWatch:
    """Measures the gates of a supernet each time it is called, best after each epoch.

    Args:
        supernet: what is trained; units without experts are left out.
    """

    def __init__(self, supernet: nn.Module) -> None:
        self._usages = {
            f"{name}, {len(usage)} experts": usage
            for name, unit in supernet.named_modules()
            if isinstance(unit, SharedUnit)
            for kind, usage in unit.named_buffers(recurse=False)
            if kind.startswith("usage_") and len(usage) > 1
        }
        self._warned: set[str] = set()

    def __call__(self) -> dict[str, Any]:
        """Return `usage` as `BinaryWatch` does, by unit and number of experts, where there are any."""
        usage = {name: evenness(usage) for name, usage in self._usages.items()}
        warn_of_collapse(usage, self._warned)
        return {"usage": usage} if usage else {}

    def state(self) -> dict[str, Tensor]:
        """Return nothing: the supernet's own state has the gates' choices."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing, for the same reason."""


def evenness(usage: Tensor) -> float:
    """Return the entropy of shares over the largest that so many can have: 1 for equal ones, 0 for one that is all."""
    return round(-float(torch.special.xlogy(usage, usage).sum()) / math.log(len(usage)), 4)


def warn_of_collapse(usage: dict[str, float], warned: set[str]) -> None:
    """Warn of each gate that hardly ever picks any but one expert, and remember that it was done."""
    for name, share in usage.items():
        if share < COLLAPSED and name not in warned:
            warned.add(name)
            _logger.warning(
                "%s: the gate has collapsed: its experts' usage has %.0f %% of the entropy it could have; fewer "
                "experts would do as well, or train longer with one expert before the others are copied from it",
                name, 100 * share,
            )  # fmt: skip


@torch.no_grad()
def _values(layer: BinaryLayer) -> list[float]:
    """Return alpha and beta of the first filter: its weights are one or the other."""
    return [float(f"{value.flatten()[0]:.5g}") for value in layer.binarize_weight(layer.weight).values()]
