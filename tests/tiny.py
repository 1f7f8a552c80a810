"""A space small enough to search in seconds, reports without figures, and a store in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import bnas.data
from bnas.report import page
from bnas.space.space import SearchSpace
from bnas.spec import parse, parse_yaml

TINY = """
input: [1, 8, 8]
classes: 10
stem: {width: 4}
stages:
  - {depth: [1, 2], width: [4, 8], groups: [1, 2], experts: [1, 2], precision: [binary, weight]}
  - {depth: 1, width: [8, 16], groups: [1, 2], experts: [1, 2], precision: binary, stride: 2}
search:
  budget: {ops: 12k, bytes: 4k}
  trials: 6
  supernet: {epochs: 2, batch: 256, rate: 4.0e-3}
  scoring: {recalibration_images: 256, validation_images: 100, batch: 128}
  retrain:
    top: 2
    halvings: [0.5]
    recipe:
      batch: 256
      stages:
        - {epochs: 1, weights: real, experts: first, rate: 4.0e-3}
        - {epochs: 2, rate: 4.0e-3, distill: {logits: 1.0, attention: 1.0}}
"""


def tiny_space(**changes: Any) -> SearchSpace:
    """Return the tiny space with some top-level keys changed."""
    data = parse_yaml(TINY, source="tiny")
    assert isinstance(data, dict)
    return parse(SearchSpace, data | changes, source="tiny")


def inherits_space() -> SearchSpace:
    """Return the tiny space with networks that begin with the weights of the supernet."""
    search = tiny_space().search.model_dump()
    search["retrain"] |= {"start": "supernet", "recipe": {"batch": 256, "stages": [{"epochs": 2, "rate": 4e-3}]}}
    return tiny_space(search=search)


def tiny_file(folder: Path) -> Path:
    """Write the tiny space to a file."""
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def blank() -> dict[str, Callable[..., Any]]:
    """Return what stands in the place of functions of `bnas.report.page` where figures are left blank."""
    drawn = {name: lambda *_: None for name in vars(page) if name.startswith("draw_")}
    return {**drawn, "painted": lambda _: Image.new("P", (page.DPI, page.DPI))}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the embedded digits as arrays: uint8 [1797, 8, 8], and labels."""
    with np.load(Path(bnas.data.__file__).with_name("digits.npz")) as file:
        return file["images"] * 15, file["labels"]


@dataclass
class Kept:
    """What a store gives back."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class MemoryStore:
    """Keeps checkpoints in memory, and can be told to fail at a save."""

    def __init__(self, *, saves: int | None = None) -> None:
        self.kept: dict[str, Kept] = {}
        self.events: list[dict[str, Any]] = []
        self._saves = saves

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keep it, or stop as a kill would after the allowed number of saves."""
        if self._saves == 0:
            raise KeyboardInterrupt
        if self._saves is not None:
            self._saves -= 1
        dense = torch.contiguous_format  # as files hold them
        self.kept[name] = Kept({key: value.clone(memory_format=dense) for key, value in tensors.items()}, dict(state))

    def load_checkpoint(self, name: str) -> Kept | None:
        """Return it."""
        return self.kept.get(name)

    def log(self, event: str, **fields: Any) -> None:
        """Keep the event."""
        self.events.append({"event": event} | fields)


class MemoryLog:
    """Keeps events in memory, through the JSON that a run's log makes of them."""

    def __init__(self) -> None:
        self._events: list[dict] = []

    def log(self, event: str, **fields) -> None:
        self._events.append({"event": event} | fields)

    def events(self) -> list[dict]:
        return list(self._events)
