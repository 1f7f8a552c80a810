"""A run folder -> what its search found."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from bnas.networks.build import build
from bnas.runs import Run
from bnas.ship import load
from bnas.space.arch import Architecture
from bnas.spec import parse, parse_yaml


@dataclass(frozen=True)
class Best:
    """The network that a search hands over."""

    folder: Path
    architecture: Architecture
    manifest: dict[str, Any]

    def build(self) -> nn.Module:
        """Return a fresh network of the found architecture, to train from the start."""
        return build(self.architecture)

    def load(self) -> nn.Module:
        """Return the found network with its trained weights, checked against the manifest."""
        return load(self.folder)


@dataclass(frozen=True)
class SearchResult:
    """What a search found; everything is read from the run folder, so an old run gives one too."""

    run: Run

    @cached_property
    def front(self) -> pd.DataFrame:
        """The Pareto front over proxy accuracy and ops, cheapest first."""
        return self.run.read_table("pareto")

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """Every candidate with its fate."""
        return self.run.read_table("candidates")

    @cached_property
    def twin(self) -> pd.DataFrame:
        """The candidates of the random search that paid for as many."""
        return self.run.read_table("twin")

    @cached_property
    def retrained(self) -> pd.DataFrame:
        """The networks trained alone, the best on validation first."""
        return self.run.read_table("retrained")

    @property
    def ledger(self) -> dict[str, dict[str, int]]:
        """How many candidates had which fate, in the search and in its twin."""
        return self.run.read_ledger()

    @cached_property
    def best(self) -> Best:
        """The best network."""
        text, _, manifest = self.run.read_best()
        folder = self.run.best_folder
        return Best(folder, parse(Architecture, parse_yaml(text, source=str(folder)), source=str(folder)), manifest)
