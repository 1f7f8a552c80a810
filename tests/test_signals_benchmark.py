"""The benchmark on signals: what it reads, the network it compares with, and the whole of it on few."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("signals")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Signals of nine speakers, as `aeon` writes them: 12 channels of 25 values, the speaker's number last."""
    random = np.random.default_rng(0)
    for part, each in (("TRAIN", 20), ("TEST", 10)):
        lines = ["#by nobody", "@problemName drawn", "@classLabel true 1 2 3 4 5 6 7 8 9", "@data"]
        for speaker in np.arange(9 * each) % 9:
            values = random.normal(speaker / 3 - 1, 0.3, (12, 25)).round(4)
            lines.append(":".join([*(",".join(map(str, channel)) for channel in values), str(speaker + 1)]))
        (tmp_path / f"JapaneseVowels_eq_{part}.ts").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_signals_are_images_of_one_row(signals: ModuleType, folder: Path) -> None:
    values, labels = signals.read_series(folder / "JapaneseVowels_eq_TRAIN.ts")
    assert (values.shape, labels.min(), labels.max()) == ((180, 12, 1, 25), 0, 8)
    images = signals.signals(folder)
    assert images.test.images.shape == (90, 12, 1, 25)
    assert 0 <= float(images.train.images.min()) < float(images.train.images.max()) <= 1


def test_the_real_twin_has_the_same_topology_and_nothing_in_bits() -> None:
    arch = SearchSpace.read(space_file("signals")).largest()
    twin = arch.as_real()
    price = cost(plan(twin))
    assert (price.bops, price.flops) == (0, cost(plan(arch)).macs)
    assert [layer.name for layer in plan(twin)] == [layer.name for layer in plan(arch)]


def test_it_goes_on_where_it_was(signals: ModuleType, folder: Path, tmp_path: Path, capsys: Any) -> None:
    space = signals.quick(SearchSpace.read(space_file("signals")))
    rows = signals.Rows(tmp_path / "rows.csv", signals.COLUMNS, texts=("network", "id"))
    for _ in range(2):
        signals.measured(rows, space, signals.signals(folder), 0)
    frame = rows.frame()
    assert list(frame.network) == [signals.FOUND, signals.BINARY, signals.REAL]
    assert (frame.bytes[:2] <= 4000).all()
    assert frame.accuracy.between(0, 1).all()
    assert capsys.readouterr().out.count("seed 0, ") == 3
