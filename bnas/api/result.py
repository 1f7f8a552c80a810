"""A run folder -> what its search found, and every candidate of it, with the weights that it inherits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from bnas.amounts import percent, show
from bnas.api.opening import load_matching
from bnas.api.request import SearchRequest, pick_device
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import NANOSECONDS_PER_MS, Cost, cost
from bnas.errors import DataError, LookupFailed, RunError
from bnas.networks.build import build
from bnas.report.final_training import is_final
from bnas.runs import Run
from bnas.runs.contents import CONFIG, CONFUSION, IN_PYTHON, SPACE, TARGETS
from bnas.searcher.score import Scorer
from bnas.ship import load
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace, genes_of
from bnas.spec import parse, parse_yaml
from bnas.train import load_supernet
from bnas.trust import check_code, check_name

CPU = torch.device("cpu")
SHORTEST_ID = 4  # hexadecimal digits by which a candidate may be called, where no other begins with them


@dataclass(frozen=True)
class Best:
    """The network that a search hands over."""

    folder: Path
    architecture: Architecture
    manifest: dict[str, Any]
    trust: bool = False

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images."""
        return float(self.manifest["accuracy"]["test"])

    @property
    def validation_accuracy(self) -> float:
        """Accuracy on the held-out images, by which it was chosen: before it was trained on all, where it was."""
        return float(self.manifest["accuracy"]["validation"])

    @property
    def is_trained_on_all(self) -> bool:
        """Whether it was trained once more after it was chosen, on the held-out images too."""
        return is_final(self.manifest)

    @property
    def cost(self) -> Cost:
        """What it costs, by its plan; and its latency as a table predicts it, if the search had one."""
        predicted = self.manifest.get("latency", {}).get("predicted_ms", 0.0)
        return cost(plan(self.architecture))._replace(nanoseconds=round(predicted * NANOSECONDS_PER_MS))

    def build(self) -> nn.Module:
        """Return a fresh network of the found architecture, to train from the start."""
        return build(self.architecture)

    def load(self) -> nn.Module:
        """Return the found network with its trained weights, checked against the manifest."""
        return load(self.folder, trust=self.trust)

    def __repr__(self) -> str:
        price = self.cost
        return (
            f"Best({self.architecture.id}: test accuracy {percent(self.accuracy)}, {show(price.ops)} ops, "
            f"{show(price.bytes)} bytes{', trained on all training images' if self.is_trained_on_all else ''})"
        )


@dataclass(frozen=True, repr=False)
class SearchResult:
    """What a search found; everything is read from the run folder, so an old run gives one too.

    Args:
        trust: whether code that the folder names, as `file.py:attr`, may be run.
    """

    run: Run
    trust: bool = False

    @cached_property
    def space(self) -> SearchSpace:
        """The space that was searched, with the settings that were asked for."""
        return self.run.space

    @cached_property
    def front(self) -> pd.DataFrame:
        """The Pareto front over quality and ops, cheapest first."""
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

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """How many test images of each class the best network takes for which, by the numbers of the classes."""
        return self.run.read_table(CONFUSION)

    @property
    def ledger(self) -> dict[str, dict[str, int]]:
        """How many candidates had which fate, in the search and in its twin."""
        return self.run.read_ledger()

    @cached_property
    def best(self) -> Best:
        """The best network."""
        text, _, manifest = self.run.best.read()
        folder, source = self.run.best.folder, str(self.run.best.folder)
        arch = parse(Architecture, parse_yaml(text, source=source), source=source)
        return Best(folder, arch, manifest, self.trust)

    def architecture(self, candidate: str) -> Architecture:
        """Return the architecture of a candidate of the search or of its twin.

        Args:
            candidate: its id, or the first digits of it, four at least, that no other has.
        Raises:
            LookupFailed: no candidate has this id, or several do.
        """
        rows = pd.concat([self.candidates, self.twin])
        found = rows[rows["id"].str.startswith(candidate)].drop_duplicates("id")
        if len(candidate) < SHORTEST_ID or len(found) != 1:
            said = f"{len(found)} candidates begin with it" if len(found) else "no candidate has it"
            raise LookupFailed(f"{self.run.path}: id {candidate!r}: {said}; take one from candidates.csv or twin.csv")
        return self.space.architecture(genes_of(str(found["genes"].iloc[0])))

    def network(self, candidate: str, *, data: Any = None, device: str | None = None) -> nn.Module:
        """Return a candidate's network as it was scored: weights of the supernet, batch norm set anew.

        Args:
            candidate: as in `architecture`.
            data: what the run was given, where that was no name or path: the images that set batch norm.
        Raises:
            LookupFailed: as `architecture`.
            TrainingError: the supernet is not in the run folder.
        """
        return self._scorer(data, pick_device(device)).network(self.architecture(candidate))

    def proxy_accuracy(self, candidate: str) -> float | None:
        """Return the accuracy of a candidate with shared weights, on held-out images; None where it was not scored."""
        rows = pd.concat([self.candidates, self.twin])
        scored = rows.loc[(rows["id"] == candidate) & (rows["status"] == "paid"), "proxy_accuracy"]
        return None if scored.empty else float(scored.iloc[0])

    def request(self, *, data: Any = None, device: torch.device = CPU) -> SearchRequest:
        """Return what was asked of the run; `data` is what it was given, where that was no name or path."""
        return request_of(self.run, self.space, data=data, device=device, trust=self.trust)

    def _scorer(self, data: Any, device: torch.device) -> Scorer:
        request = self.request(data=data, device=device)
        supernet = load_supernet(self.space, store=self.run)
        return Scorer(supernet, load_matching(request), self.space.search.scoring, seed=request.seed, device=device)

    def __repr__(self) -> str:
        found = self.best if self.run.best.is_sound() else "unfinished"
        return f"SearchResult({str(self.run.path)!r}: {found})"


@dataclass(frozen=True, repr=False)
class TrainResult:
    """A trained network; everything is read from the run folder, so an old run gives one too.

    Args:
        held: the module that was trained, where it was given in Python.
        trust: as of `SearchResult`.
    """

    run: Run
    held: nn.Module | None = None
    trust: bool = False

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Accuracies, cost, recipe, versions and the proof that the weights reload."""
        return self.run.best.read()[2]

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images."""
        return float(self.manifest["accuracy"]["test"])

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """How many test images of each class the network takes for which, by the numbers of the classes."""
        return self.run.read_table(CONFUSION)

    def load(self) -> nn.Module:
        """Return the network with its trained weights, checked against the manifest."""
        return load(self.run.best.folder, model=self.held, trust=self.trust)

    def __repr__(self) -> str:
        found = f"test accuracy {percent(self.accuracy)}" if self.run.best.is_sound() else "unfinished"
        return f"TrainResult({str(self.run.path)!r}: {found})"


UNLIMITED = "unlimited"  # what a target without limits is called


@dataclass(frozen=True, repr=False)
class TargetResults(Mapping[str, SearchResult]):
    """What was found under each budget, by the budget as text, in the order in which they were given."""

    run: Run
    trust: bool = False

    def __getitem__(self, target: str) -> SearchResult:
        return SearchResult(Run.read(self.folders[target]), self.trust)

    def __iter__(self) -> Iterator[str]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)

    def __repr__(self) -> str:
        return f"TargetResults({str(self.run.path)!r}: {', '.join(self)})"

    @cached_property
    def folders(self) -> dict[str, Path]:
        """The run folder of each budget."""
        budgets = (Budget.parse(items, source="config.yaml: targets") for items in self.run.config["targets"])
        names = [
            ",".join(f"{name}={limit.written()}" for name, limit in budget.limits) or UNLIMITED for budget in budgets
        ]
        return {name: self.run.path / TARGETS / name for name in names}

    @cached_property
    def table(self) -> pd.DataFrame:
        """The winner of each budget, one a row, beside the best of its random twin."""
        return self.run.read_table(TARGETS)


def open_run(path: str | Path, *, trust: bool = False) -> SearchResult | TargetResults | TrainResult:
    """Return what `bnas.search`, `search_targets` or `train_model` gave, from its folder; of an unfinished run too.

    Args:
        path: the run folder.
        trust: run code that the folder names, as `file.py:attr`, where a network or data set is asked for.
    Raises:
        RunError: it is no run folder, or one of the files that make it one is damaged.
    """
    run = Run.read(path)
    if run.is_training:
        return TrainResult(run, trust=trust)
    return TargetResults(run, trust) if run.has_targets else SearchResult(run, trust)


def searched(path: str | Path, *, trust: bool = False) -> SearchResult:
    """Return what a search found, from its folder.

    Raises:
        RunError: it is no run folder, that of a training, or of several budgets.
    """
    found = open_run(path, trust=trust)
    if isinstance(found, TrainResult):
        raise RunError(f"{path}: one network was trained here, and no candidates were searched; leave the id out")
    if isinstance(found, TargetResults):
        raise RunError(f"{path}: has candidates for each of several budgets; give the run of one, below targets/")
    return found


def candidate_of(run: str | Path, candidate: str) -> Architecture:
    """Return the architecture of a candidate of a search, by its id.

    Raises:
        LookupFailed: no candidate has this id, or several do.
        RunError: the folder is no run of one search.
    """
    return searched(run).architecture(candidate)


def request_of(run: Run, space: SearchSpace, *, data: Any, device: torch.device, trust: bool) -> SearchRequest:
    """Return what a run was asked of space, images, budget, sampler and seed, to score or train networks of it again.

    Args:
        data: what the run was given; None takes the name or path that the run keeps.
        trust: whether code that the run names may be run.
    Raises:
        TrustError: the run names code, which is not trusted.
        DataError: it was given neither a name nor a path, and nothing is given now.
    """
    config = run.config
    if data is None and str(config["data"]).endswith(IN_PYTHON):
        raise DataError(f"{run.path}: its images were given in Python, as {config['data']}; give them again, as data=")
    check_code(space, source=str(run.path / SPACE), trust=trust)
    for field in ("sampler",) if data is not None else ("sampler", "data"):
        check_name(str(config[field]), field=field, source=str(run.path / CONFIG), trust=trust)
    budget = Budget.parse(config["budget"], source=f"{CONFIG}: budget")
    given = config["data"] if data is None else data
    return SearchRequest(space, given, budget, config["sampler"], config["seed"], device, images=config.get("images"))
