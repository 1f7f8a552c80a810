"""A small network and a seed -> the rows of the table of `selection.py`, from the file or freshly trained."""

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from nowhere import NoStore
from rows import Rows
from selection_networks import BATCH, FBIN, NETWORKS, ON_BINARY, REAL, Setting, choices, chosen, measured
from torch import nn

from bnas.data import DataSet, load_data
from bnas.runs.files import replacing
from bnas.select import Selection
from bnas.select.conversion import Survey, convert
from bnas.space.recipe import Recipe, Stage
from bnas.train import evaluate, train_staged

RESULTS = Path(__file__).parent / "results" / "selection.csv"
WEIGHTS = Path("runs") / "selection"  # of the networks that several rows need, so that a run may be stopped
COLUMNS = (
    "network", "seed", "real_epochs", "epochs", "budget", "choice", "kept", "ops", "ops_share", "bytes",
    "validation_accuracy", "test_accuracy", "seconds",
)  # fmt: skip
NONE_KEPT = "-"

Group = tuple[str, int]  # a network and a seed


def groups(names: Sequence[str], seeds: int) -> list[Group]:
    """Return the networks and seeds, in an order in which shards get as much of each network."""
    return [(name, seed) for seed in range(seeds) for name in (names[::-1] if seed % 2 else names)]


def results(path: Path = RESULTS) -> Rows:
    """Return the file of results."""
    return Rows(path, COLUMNS, texts=("network", "choice", "kept"))


def of_group(table: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    """Return the rows of a network and a seed, trained as they are trained now."""
    setting = NETWORKS[name]
    trained = (table["real_epochs"] == setting.real_epochs) & (table["epochs"] == setting.epochs)
    return table[(table["network"] == name) & (table["seed"] == seed) & trained]


def add_missing(file: Rows, name: str, seed: int) -> Iterator[dict[str, object]]:
    """Train what the file does not have of one group, and yield each row once it is written."""
    setting, bench = NETWORKS[name], Bench(name, seed)
    known = of_group(file.frame(), name, seed)
    have = set(zip(known["choice"], known["budget"], strict=True))
    reached = {  # by what tells networks apart
        (row.kept, int(row.bytes)): (row.validation_accuracy, row.test_accuracy) for row in known.itertuples()
    }
    for choice, budget in choices(setting):
        if (choice, budget) in have:
            continue
        started = time.process_time()
        made = bench.chosen(choice, budget)
        same = " ".join(made.kept) or NONE_KEPT, made.cost.bytes
        if same not in reached:
            reached[same] = bench.accuracies(choice, made)
        row = {
            "network": name, "seed": seed, "real_epochs": setting.real_epochs, "epochs": setting.epochs,
            "budget": budget, "choice": choice, "kept": same[0], "ops": made.cost.ops,
            "ops_share": made.cost.ops / made.real_cost.ops, "bytes": same[1], "validation_accuracy": reached[same][0],
            "test_accuracy": reached[same][1], "seconds": time.process_time() - started,
        }  # fmt: skip
        file.add(**row)
        yield row


class Bench:
    """One float network, trained when it is first needed, and its converted copies.

    Args:
        setting: that of the network; None for one of `NETWORKS`.
        keep: the weights that several rows need on the disk, and use those that lie there.
    """

    def __init__(self, name: str, seed: int, *, setting: Setting | None = None, keep: bool = True) -> None:
        self.setting: Setting = setting or NETWORKS[name]
        self._name, self._seed, self._keep = name, seed, keep
        self._copies: dict[tuple[object, ...], nn.Module] = {}

    @cached_property
    def data(self) -> DataSet:
        """The images, CIFAR-10 at a quarter of its pixels unless the setting has others."""
        setting = self.setting
        return load_data(setting.data, seed=self._seed, input_shape=setting.shape, limit=setting.images)

    @cached_property
    def real(self) -> nn.Module:
        """The trained float network."""
        torch.manual_seed(self._seed)
        return self._trained_once("real", self.setting.build(), self.setting.real_epochs)

    @cached_property
    def binary(self) -> nn.Module:
        """Its copy with all inputs binary, trained."""
        made = chosen(self.facts, self.setting, FBIN, 0, seed=self._seed)
        return self._trained_once("binary", convert(self.real, made), self.setting.epochs)

    @cached_property
    def facts(self) -> Survey:
        """What is measured on the float network."""
        return measured(self.real, self.data, seed=self._seed)

    @cached_property
    def facts_on_binary(self) -> Survey:
        """The same with errors measured on the trained binary network."""
        return measured(self.real, self.data, seed=self._seed, on=self.binary)

    def chosen(self, choice: str, budget: int) -> Selection:
        """Return the selection of one row."""
        facts = self.facts_on_binary if choice.endswith(ON_BINARY) else self.facts
        return chosen(facts, self.setting, choice, budget, seed=self._seed)

    def accuracies(self, choice: str, made: Selection) -> tuple[float, float]:
        """Return the accuracy of a row's network on the validation and the test images."""
        network = self.network(choice, made)
        first, second = (evaluate(network, split.batches(500))[0] for split in (self.data.validation, self.data.test))
        return first, second

    def network(self, choice: str, made: Selection) -> nn.Module:
        """Return a row's network, trained; equal choices are trained once."""
        if choice in (REAL, FBIN):
            return self.real if choice == REAL else self.binary
        same = (tuple(made.kept), made.cost.bytes)
        if same not in self._copies:
            self._copies[same] = self._train(convert(self.real, made), self.setting.epochs)
        return self._copies[same]

    def _trained_once(self, what: str, network: nn.Module, epochs: int) -> nn.Module:
        """Return a network with the weights that an earlier run trained, or trained and kept now."""
        kept = WEIGHTS / f"{self._name}-{self._seed}-{what}-{self.setting.real_epochs}-{self.setting.epochs}.pt"
        if self._keep and kept.exists():
            network.load_state_dict(torch.load(kept, weights_only=True))
            return network.eval()
        self._train(network, epochs).to(memory_format=torch.contiguous_format)  # as one that is read back is laid out
        if not self._keep:
            return network
        with replacing(kept) as temporary:
            torch.save(network.state_dict(), temporary)
        return network

    def _train(self, network: nn.Module, epochs: int) -> nn.Module:
        # bfloat16 and channels last take half the time on a CPU that knows both, and every row is trained so.
        stage = Stage(epochs=epochs, rate=2e-3, clip_latent=True, dtype="bfloat16")
        network.to(memory_format=torch.channels_last)
        return train_staged(
            lambda stage: network, Recipe(stages=(stage,), batch=BATCH), self.data, name="selection", seed=self._seed,
            store=NoStore(), device=torch.device("cpu"),
        )  # fmt: skip
