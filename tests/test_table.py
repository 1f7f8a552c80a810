"""The tabular benchmark: its space, its file, the look-up that replays a search, and the command that makes it."""

import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest

from bnas.api.opening import load_matching
from bnas.api.request import resolve
from bnas.cost.plan import plan, plan_stem
from bnas.cost.totals import cost
from bnas.errors import LookupFailed
from bnas.searcher.feasible import cheapest, cost_of, dearest
from bnas.searcher.ranking import Alone, Table, Terms, every_network
from bnas.searcher.ranking.table import COLUMNS, add, training
from bnas.space.settings import SupernetRecipe
from bnas.space.space import SearchSpace
from tests.tiny import tiny_file, tiny_space

ROOT = Path(__file__).parents[1]
BENCH = SearchSpace.read(ROOT / "search_spaces" / "bench.yaml")
SPACE = tiny_space()
NETWORKS = every_network(SPACE)[:3]


def write(path: Path, *, genes=NETWORKS, seeds=(0, 1)) -> Path:
    for place, each in enumerate(genes):
        for seed in seeds:
            reached = Alone(0.5 + 0.1 * place, 0.4 + 0.1 * place - 0.01 * seed, 2.0)
            add(path, training(SPACE.architecture(each), each, seed, reached))
    return path


class TestSpace:
    def test_has_a_few_hundred_networks(self) -> None:
        stem, first, second = 1, 2 * 2, 2 * 2 * 2
        third = 2 * (2 + 2 * 2)  # experts; precision of one block or of two
        assert BENCH.size == stem * first * second * third == len(every_network(BENCH))

    def test_its_choices_move_ops_more_than_six_times(self) -> None:
        least, most = (cost(plan(end(BENCH, "ops"))).ops for end in (cheapest, dearest))
        assert most > 6 * least

    def test_its_stem_decides_little_and_its_shortcuts_nothing(self) -> None:
        arch = BENCH.largest()
        stem = cost(plan_stem(arch.stem, 3, (16, 16), "xnor")[0]).ops
        assert stem == 8 * 27 * (8 * 8)
        median = sorted(cost_of(BENCH, genes).ops for genes in every_network(BENCH))[BENCH.size // 2]
        assert stem < 0.2 * median
        assert all(layer.macs == 0 for layer in plan(arch) if layer.role == "shortcut")

    def test_its_images_may_be_limited(self) -> None:
        settings = SPACE.search.model_copy(update={"limit": 500, "validation": 0.2})
        request = resolve(SPACE.model_copy(update={"search": settings}), "digits", device="cpu")
        data = load_matching(request)
        assert (len(data.train), len(data.validation)) == (400, 100)


class TestTable:
    def test_gives_back_what_was_added(self, tmp_path) -> None:
        table = Table.read(write(tmp_path / "table.csv"))
        arch = SPACE.architecture(NETWORKS[1])
        assert len(table) == 3
        assert arch.id in table
        assert table.accuracy(arch.id) == 0.6
        row = table.networks.loc[arch.id]
        assert (row["ops"], row["bytes"]) == (cost(plan(arch)).ops, cost(plan(arch)).bytes)
        assert tuple(map(int, row["genes"].split("-"))) == NETWORKS[1]

    def test_networks_come_once_from_their_first_seed(self, tmp_path) -> None:
        networks = Table.read(write(tmp_path / "table.csv", seeds=(2, 1))).networks
        assert networks["seed"].tolist() == [1, 1, 1]
        assert networks["ops"].is_monotonic_increasing

    def test_repeated_trainings_are_paired_by_network(self, tmp_path) -> None:
        write(tmp_path / "table.csv", genes=NETWORKS[:2])
        first, second = Table.read(write(tmp_path / "table.csv", genes=NETWORKS[2:], seeds=(0,))).repeated()
        assert sorted(first) == pytest.approx([0.4, 0.5])
        assert second == pytest.approx(first - 0.01)

    def test_a_torn_row_and_one_that_is_there_twice_do_not_count(self, tmp_path) -> None:
        path = write(write(tmp_path / "table.csv"))
        text = path.read_text()
        path.write_text(text + text.splitlines()[1][:30])
        assert len(Table.read(path).trainings) == 3 * 2

    def test_a_row_after_a_torn_one_stands_on_its_own_line(self, tmp_path) -> None:
        path = write(tmp_path / "table.csv", genes=NETWORKS[:2])
        path.write_text(path.read_text()[:-10])
        assert len(Table.read(write(path, genes=NETWORKS[2:])).trainings) == 3 + 2

    @pytest.mark.parametrize("lost", range(1, 60, 3))
    def test_a_torn_row_never_passes_for_a_whole_one(self, tmp_path, lost) -> None:
        path = write(tmp_path / "table.csv", genes=NETWORKS[:1])
        whole = Table.read(path).trainings
        path.write_text(path.read_text()[:-lost])  # in its last cell, or in the ones before
        assert Table.read(path).trainings["seed"].tolist() == [0]
        found = Table.read(write(path, genes=NETWORKS[:1], seeds=(1,))).trainings
        pd.testing.assert_frame_equal(found, whole)

    def test_a_file_that_was_made_and_not_begun_gets_its_columns(self, tmp_path) -> None:
        (tmp_path / "table.csv").touch()
        assert len(Table.read(write(tmp_path / "table.csv"))) == 3

    def test_a_network_that_is_not_there_is_named(self, tmp_path) -> None:
        table = Table.read(write(tmp_path / "table.csv"))
        with pytest.raises(LookupFailed, match=r"table\.csv: network abc is not among its 3"):
            table.accuracy("abc")

    def test_a_file_that_is_no_table_is_refused(self, tmp_path) -> None:
        with pytest.raises(LookupFailed, match=r"make it with benchmarks/table\.py"):
            Table.read(tmp_path / "table.csv")
        (tmp_path / "other.csv").write_text("id,genes\nx,0\n")
        with pytest.raises(LookupFailed, match=f"has no column ops; its columns must be {','.join(COLUMNS)}"):
            Table.read(tmp_path / "other.csv")

    def test_an_optuna_sampler_can_search_it(self, tmp_path) -> None:
        networks = every_network(SPACE)[::2]
        table = Table.read(write(tmp_path / "table.csv", genes=networks, seeds=(0,)))
        study = optuna.create_study(directions=("maximize", "minimize"), sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(table.objective(SPACE), n_trials=20, catch=LookupFailed)
        found = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
        assert 0 < len(found) < 20  # half the networks are there
        values = table.networks.set_index("ops")["validation_accuracy"]
        assert all(trial.values[0] in values.loc[[trial.values[1]]].tolist() for trial in found)


class TestTerms:
    def test_stay_those_that_were_written_first(self, tmp_path) -> None:
        terms = Terms.of("digits", SPACE.search)
        for _ in range(2):
            terms.keep(tmp_path / "table.csv")
        with pytest.raises(LookupFailed, match=r"table\.csv: .* resize false, but true is asked for"):
            terms.model_copy(update={"resize": True}).keep(tmp_path / "table.csv")
        terms.check(tmp_path / "table.csv")

    def test_are_what_the_best_of_a_search_are_trained_with(self) -> None:
        searched = SPACE.search.model_copy(update={"trials": 7, "supernet": SupernetRecipe(epochs=9)})
        assert Terms.of("digits", searched) == Terms.of("digits", SPACE.search) != Terms.of("mnist", SPACE.search)

    def test_images_that_are_augmented_otherwise_are_other_terms(self, tmp_path) -> None:
        own, terms = SPACE.search.model_copy(update={"augment": ("flip",)}), Terms.of("digits", SPACE.search)
        terms.keep(tmp_path / "table.csv")
        with pytest.raises(LookupFailed, match="were trained with augment"):
            Terms.of("digits", own).check(tmp_path / "table.csv")
        recipe = SPACE.search.retrain.recipe.model_copy(update={"augment": ()})
        said = own.retrain.model_copy(update={"recipe": recipe})
        assert Terms.of("digits", own.model_copy(update={"retrain": said})).augment is None

    def test_of_the_committed_table_are_those_of_its_space(self) -> None:
        Terms.of("cifar10", BENCH.search).check(ROOT / "benchmarks" / "results" / "bench_table.csv")
        copied = SearchSpace.read(ROOT / "benchmarks" / "bench_copied.yaml")
        Terms.of("cifar10", copied.search).check(ROOT / "benchmarks" / "results" / "bench_table_copied.csv")


@pytest.mark.slow
def test_the_command_trains_what_is_missing_and_nothing_twice(tmp_path) -> None:
    def made(*options: str) -> str:
        command = [sys.executable, "benchmarks/table.py", "--space", str(tiny_file(tmp_path)), "--data", "digits"]
        rest = ["--out", str(tmp_path / "table.csv"), "--seeds-of", "1", "2", *options]
        return subprocess.run([*command, *rest], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    made("--networks", "2", "--shard", "1/2")
    made("--networks", "2", "--shard", "2/2")
    before = (tmp_path / "table.csv").read_text()
    assert sorted(Table.read(tmp_path / "table.csv").trainings["seed"]) == [0, 0, 1]
    assert Terms.read(tmp_path / "table.yaml") == Terms.of("digits", SPACE.search)
    assert made("--networks", "2") == ""
    assert (tmp_path / "table.csv").read_text() == before
    assert "seed 0" in made("--networks", "3")
    assert (tmp_path / "table.csv").read_text().startswith(before)
