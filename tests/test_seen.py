"""What a person sees while work goes on and when it is done: tables, bars, and results in a notebook."""

import io
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from layerfacts import facts, network
from rich.console import Console

from bnas.api import progress_bars
from bnas.api.progress_bars import ProgressBars, Stand
from bnas.cli.columns import aligned
from bnas.cost.totals import Cost
from bnas.data import load_data
from bnas.select import METRICS
from bnas.select.decide import decide
from bnas.select.metrics import _METRIC_MEANT
from bnas.train.retrain import retrain
from tests.tiny import MemoryStore, tiny_file, tiny_space

ROWS = [
    ("id", "", "from", "validation accuracy", "test accuracy", "epochs", "ops"),
    ("3f2a1b4c5d6e", "best", "search, twin", "98.61 %", "97.20 %", "40", "31.7k"),
    ("a1b2c3d4e5f6", "", "search", "98.06 %", "100.00 %", "8", "3.2k"),
]


def table(width: int | None) -> list[str]:
    return list(aligned(ROWS, to_the_left=3, width=width))


class TestTables:
    """Columns that keep to the width of a terminal."""

    def test_without_a_terminal_each_row_is_one_line(self) -> None:
        assert table(None) == [
            "id                  from          validation accuracy  test accuracy  epochs    ops",
            "------------  ----  ------------  -------------------  -------------  ------  -----",
            "3f2a1b4c5d6e  best  search, twin              98.61 %        97.20 %      40  31.7k",
            "a1b2c3d4e5f6        search                    98.06 %       100.00 %       8   3.2k",
        ]

    def test_where_a_line_is_too_long_cells_break_between_words(self) -> None:
        assert table(70) == [
            "id                  from        validation         test  epochs    ops",
            "                                  accuracy     accuracy",
            "------------  ----  ----------  ----------  -----------  ------  -----",
            "3f2a1b4c5d6e  best  search,        98.61 %      97.20 %      40  31.7k",
            "                    twin",
            "a1b2c3d4e5f6        search         98.06 %     100.00 %       8   3.2k",
        ]

    def test_columns_without_room_follow_below_behind_the_first(self) -> None:
        lines = table(40)
        assert lines.count("") == 1
        assert [line.split()[0] for line in lines if line.startswith(("3f", "a1"))] == [ROWS[1][0], ROWS[2][0]] * 2
        said = " ".join(lines)
        for cell in ("98.61 %", "97.20 %", "31.7k", "validation"):
            assert cell in said

    @pytest.mark.parametrize("width", [20, 40, 50, 80, 120])
    def test_no_line_is_longer_than_asked_and_no_word_is_lost(self, width: int) -> None:
        rows = [*ROWS, ("a_layer.with.a.very.long.path.conv1", "", "search", "1.00 %", "2.00 %", "1", "9")]
        lines = list(aligned(rows, to_the_left=3, width=width))
        assert max(map(len, lines)) <= width
        letters = re.sub(r"[\s-]", "", "".join(lines))
        for cell in (cell for row in ROWS for cell in row):
            for word in cell.split():
                assert word in letters or len(word) > (width - 2) // 2


NAMED = Stand("retrain 3 of 8, stage 2", 40, 120, "3f2a1b4c5d6e, loss 0.310", seconds=4.0, new=40, whole=130.0)


class TestBars:
    """What is said while work goes on."""

    def test_a_bar_names_the_network_and_shows_both_times(self) -> None:
        assert NAMED.picture(80).splitlines() == [
            "retrain 3 of 8, stage 2  3f2a1b4c5d6e, loss 0.310",
            "\u2501" * 11 + "\u2500" * 23 + "  40/120  0:00:08 left  0:02:10 in all  10.0/s",
        ]

    def test_a_bar_fits_a_narrow_terminal(self) -> None:
        assert NAMED.picture(50, full="#", empty="-").splitlines() == [
            "retrain 3 of 8, stage 2  3f2a1b4c5d6e, loss 0.310",
            "####--------  40/120  0:00:08 left  0:02:10 in all",
        ]

    @pytest.mark.parametrize("width", [50, 80, 200])
    def test_no_line_is_wider_than_the_terminal(self, width: int) -> None:
        long = NAMED._replace(phase="measuring the sensitivity of layers", done=12_000, total=360_000, note="x" * 60)
        for stand in (NAMED, long, long._replace(phase="p" * 300)):
            lines = [*stand.picture(width).splitlines(), stand.ended(width)]
            assert max(map(len, lines)) <= width
            assert f"{stand.done}/{stand.total}" in lines[1]
            assert f"{stand.done}/{stand.total}, in 4 s" in lines[2]

    def test_in_a_pipe_there_are_plain_lines_with_an_end_for_each_phase(self, capsys) -> None:
        with ProgressBars() as bars:
            for done in (1, 2, 3):
                bars("supernet", done, 3, f"loss 0.{done}")
            bars("supernet", 3, 3)  # said twice
            bars("search", 4, 6)
            bars("search", 1, 6)  # begun anew
        lines = capsys.readouterr().err.split("\n")
        assert [re.sub(r"\d+ s|\d:\d\d:\d\d", "T", line) for line in lines] == [
            "supernet: 1/3, loss 0.1, T in all",
            "supernet: 3/3, in T, loss 0.3",
            "search: 4/6, T in all",
            "search: 4/6, in T",
            "search: 1/6, T in all",
            "search: 1/6, in T",
            "",
        ]

    def test_a_terminal_keeps_a_line_for_each_phase_and_no_bar(self, monkeypatch) -> None:
        seen = io.StringIO()
        console = partial(Console, file=seen, force_terminal=True, width=50, force_jupyter=False)
        monkeypatch.setattr(progress_bars, "Console", lambda stderr: console())
        with ProgressBars() as bars:
            for done in (1, 2):
                bars("supernet", done, 2, "loss 0.2")
            bars("retrain 1 of 4, stage 1", 5, 5, "3f2a1b4c5d6e, loss 0.1")
        words = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", seen.getvalue())
        assert "supernet: 2/2, in 0 s, loss 0.2" in words
        assert "retrain 1 of 4, stage 1: 5/5, in 0 s" in words

    def test_a_notebook_changes_one_output(self, monkeypatch) -> None:
        shown: list[str] = []

        class Handle:
            def update(self, data: dict[str, str], raw: bool) -> None:
                shown[-1] = data["text/plain"]

        def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
            shown.append(data["text/plain"])
            return Handle()

        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
        monkeypatch.setattr(progress_bars, "Console", lambda stderr: SimpleNamespace(is_jupyter=True))
        with ProgressBars() as bars:
            bars("supernet", 1, 1, "loss 0.2")
            bars("search", 6, 6)
        assert shown == ["supernet: 1/1, in 0 s, loss 0.2\nsearch: 6/6, in 0 s"]

    def test_trainings_that_are_halved_end_at_their_halving(self) -> None:
        told: dict[str, list[tuple[int, int]]] = {}
        notes = set()

        def progress(phase: str, done: int, total: int, note: str = "") -> None:
            told.setdefault(phase, []).append((done, total))
            notes.add(note.partition(",")[0])

        space, data = tiny_space(), load_data("digits")
        archs = [space.smallest(), space.largest()]
        retrain(
            {"search": archs}, space.search.retrain, data, seed=0, store=MemoryStore(), device=torch.device("cpu"),
            progress=progress,
        )  # fmt: skip
        assert told.keys() == {f"retrain {n}, stage {s}" for n, s in (("1 of 2", 1), ("2 of 2", 1), ("1 of 2", 2),
                                                                      ("2 of 2", 2), ("1 of 1", 2))}  # fmt: skip
        assert all(calls[-1][0] == calls[-1][1] for calls in told.values())
        assert notes == {arch.id for arch in archs}

    def test_something_is_said_before_torch_is_there(self, tmp_path) -> None:
        command = [sys.executable, "-m", "bnas", "search", str(tiny_file(tmp_path)), "--data", "nothing_here"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stderr.splitlines()
        assert said[0] == "bnas search: loads torch, then what it was given"
        assert said[1].startswith("bnas: ")
        assert len(said) == 2


class TestResults:
    """What a notebook shows of a result."""

    def test_a_cost_says_its_amounts(self) -> None:
        price = Cost(bops=64_000, flops=2_000, bytes=18_500, parameters=9_000, weights=8_000, activation_bytes=1_024)
        assert repr(price) == ("Cost(ops=3k, bops=64k, flops=2k, bytes=18.5k, parameters=9k, activation_bytes=1.02k)")
        assert repr(Cost(0, 0, 0, 0)) == "Cost()"

    def test_a_selection_says_what_was_kept_and_what_it_costs(self) -> None:
        made = decide(network(facts("a", error=0.4), facts("b", error=0.3)), Cost(0, 0, 0, 0), keep=("a",))
        assert repr(made).startswith("Selection(1 of 2 layers with a choice keep real inputs: ")
        assert len(repr(made)) < 120

    def test_the_curve_of_a_selection_ends_where_no_input_is_binary(self) -> None:
        layers = network(facts("a", error=0.4, macs=640), facts("b", error=0.1), facts("c", error=0.3))
        rows = decide(layers, Cost(0, 0, 0, 0), ratio=0.4).curve()
        assert [row["layer"] for row in rows] == ["", "a", "c", "b"]  # by error for each op that is saved
        assert [row["error"] for row in rows] == pytest.approx([1, 0.4 / 0.8, 0.1 / 0.8, 0])
        ends = 2 * 6400  # the first and the last layer
        assert [row["ops"] - ends for row in rows] == [
            (640 + 6400 + 6400) / 64, 640 + 12800 / 64, 640 + 6400 + 6400 / 64, 640 + 12800
        ]  # fmt: skip

    def test_each_metric_has_a_legend(self) -> None:
        assert _METRIC_MEANT.keys() == METRICS.keys()
