"""Rows <-> a CSV file that grows one row at a time, by several processes, and stays sound where a kill tears a row."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import LookupFailed
from bnas.runs.files import append_line, cannot_write
from bnas.searcher.ranking.alone import Alone
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace, genes_text

COSTS = ("ops", "bytes", "parameters")
COLUMNS = ("id", "genes", *COSTS, "seed", *Alone._fields)
ACCURACY_DIGITS = 5  # of an accuracy; more images than 100,000 are not held out


def append_row(path: Path, *, columns: Sequence[str], cells: Iterable[object]) -> None:
    """Append a row, its cells free of commas; the first one comes after the names of the columns.

    A torn row before it gets more cells than there are columns, so that it never passes for a whole one.

    Raises:
        RunError: the file cannot be written; what it held is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            if file.tell() == 0:
                file.write(",".join(columns).encode() + b"\n")
            elif _is_torn(path.read_bytes()):
                file.write(b"," * len(columns))
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    append_line(path, ",".join(map(str, cells)))


def read_rows(path: Path, *, types: Mapping[str, type]) -> pd.DataFrame:
    """Return the whole rows of a file.

    Args:
        types: of columns whose cells are no numbers, or look like some.
    Raises:
        OSError, ValueError: it cannot be read, or is no table.
    """
    content = path.read_bytes()
    lines = content.decode().splitlines()[: -1 if _is_torn(content) else None]
    whole = [line for line in lines if line.count(",") == lines[0].count(",")]
    return pd.read_csv(io.StringIO("\n".join(whole)), dtype=dict(types)).dropna()


def _is_torn(content: bytes) -> bool:
    return not content.endswith(b"\n")


class Draws(Protocol):
    """What an objective needs of an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Return a whole number from low to high."""


@dataclass(frozen=True)
class Table:
    """Networks trained alone, some from several seeds."""

    name: str  # in errors
    trainings: pd.DataFrame  # one a row: the columns of COLUMNS

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the table in a file; a row that a kill tore is left out, and so is one that is there twice.

        Raises:
            LookupFailed: there is no such file, or it is no such table.
        """
        path = Path(path)
        try:
            rows = read_rows(path, types={"id": str, "genes": str})
        except (OSError, ValueError) as problem:
            raise LookupFailed(
                f"table {path}: cannot be read: {problem}; make it with benchmarks/table.py"
            ) from problem
        missing = [column for column in COLUMNS if column not in rows]
        if missing:
            raise LookupFailed(f"table {path}: has no column {missing[0]}; its columns must be {','.join(COLUMNS)}")
        return cls.of(rows, name=str(path))

    @classmethod
    def of(cls, rows: pd.DataFrame, *, name: str) -> Self:
        """Return the table of some trainings."""
        whole = rows.dropna().drop_duplicates(["id", "seed"]).astype({"seed": int})
        return cls(name, whole.sort_values(["ops", "id", "seed"], ignore_index=True))

    @cached_property
    def networks(self) -> pd.DataFrame:
        """Every network with what its first training reached, by id, cheapest first."""
        return self.trainings.drop_duplicates("id").set_index("id")

    def __len__(self) -> int:
        return len(self.networks)

    def __contains__(self, arch_id: str) -> bool:
        return arch_id in self.networks.index

    def accuracy(self, arch_id: str) -> float:
        """Return the validation accuracy that a network reached at its first training.

        Raises:
            LookupFailed: it is not in the table.
        """
        if arch_id not in self:
            raise LookupFailed(f"table {self.name}: network {arch_id} is not among its {len(self)}")
        return self._look_up(arch_id, "validation_accuracy")

    def repeated(self, column: str = "test_accuracy") -> tuple[np.ndarray, np.ndarray]:
        """Return a column at the first and at the second training of all networks that were trained twice."""
        second = self.trainings.groupby("id").nth(1)
        return self.networks.loc[second["id"], column].to_numpy(), second[column].to_numpy()

    def objective(self, space: SearchSpace) -> Callable[[Draws], tuple[float, float]]:
        """Return an Optuna objective over the dimensions of a space: (validation accuracy, ops) of the network drawn.

        For a network that is not in the table it raises LookupFailed: `study.optimize(..., catch=LookupFailed)`.
        """

        def look_up(trial: Draws) -> tuple[float, float]:
            genes = [trial.suggest_int(d.name, 0, len(d.choices) - 1) for d in space.dimensions]
            arch_id = space.architecture(space.canonical(genes)).id
            return self.accuracy(arch_id), self._look_up(arch_id, "ops")

        return look_up

    def _look_up(self, arch_id: str, column: str) -> float:
        value: Any = self.networks.at[arch_id, column]
        return float(value)


def training(arch: Architecture, genes: Genes, seed: int, reached: Alone) -> dict[str, Any]:
    """Return the row of one training."""
    costs = {name: value for name, value in cost(plan(arch)).as_dict().items() if name in COSTS}
    return {
        "id": arch.id, "genes": genes_text(genes), **costs, "seed": seed,
        "validation_accuracy": round(reached.validation_accuracy, ACCURACY_DIGITS),
        "test_accuracy": round(reached.test_accuracy, ACCURACY_DIGITS), "seconds": round(reached.seconds, 1),
    }  # fmt: skip


def add(path: Path, row: dict[str, Any]) -> None:
    """Append the row of one training to the table in a file; several processes may do so at once.

    Raises:
        RunError: the file cannot be written; what it held is intact.
    """
    append_row(path, columns=COLUMNS, cells=[row[column] for column in COLUMNS])
