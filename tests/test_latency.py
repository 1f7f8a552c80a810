"""What a network takes is predicted from a table of its parts, which is a limit of searches like any other."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from packed import MANY, worn
from spaces import STEMS, WHOLE, costs_of, later_space, line_of, make_space, rich_space, timed
from test_docs import DOCS, FENCE
from tiny import tiny_space
from typer.testing import CliRunner

import bnas
from bnas.amounts import show
from bnas.api import latency
from bnas.cli.app import app
from bnas.errors import SpecError
from bnas.networks.build import build
from bnas.runs import Run
from bnas.runtime import Network
from bnas.searcher.feasible import cost_of
from bnas.ship import latency as measuring
from bnas.ship.lowering import lower
from bnas.space.latency import LatencyTable, Part, parts_in, parts_of
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse, parse_yaml

SHIPPED = sorted(Path("search_spaces").glob("*.yaml"))
DRAWN = [
    rich_space(),
    rich_space(squeeze_excite=True, shortcut={"kind": "conv"}, binarizers={"activation": "react"}),
    rich_space(shortcut={"pool": "max"}),
    rich_space(mix_every=2, shortcut={"kind": "bottleneck"}, binarizers={"weight": "alpha_beta", "pad_value": -1}),
    *(rich_space(stem=STEMS[kind]) for kind in ("space_to_depth", "thermometer", "several")),
    rich_space(prelu=False),
    later_space(shortcut={"kind": "conv"}),
    later_space(**WHOLE),
    make_space(stem={"kind": "branched", "width": 8, "stride": 4}, stage={"experts": 3, "groups": [1, 4]}),
]


def spaces() -> list[Any]:
    return [pytest.param(SearchSpace.read(path), id=path.stem) for path in SHIPPED] + DRAWN


def table_of(names: list[str], **changes: Any) -> LatencyTable:
    found = {"machine": latency.machine(), "kernels": latency.kernels(), "nanoseconds": dict.fromkeys(names, 1000)}
    return LatencyTable(**found | changes)


@pytest.mark.parametrize("space", spaces())
def test_the_parts_of_a_network_are_among_those_of_its_space(space: SearchSpace) -> None:
    known, random = set(parts_in(space)), Random(0)
    for _ in range(100):
        assert set(parts_of(space.architecture(space.sample(random)))) <= known


@pytest.mark.parametrize("space", spaces())
def test_parts_of_different_kinds_have_different_names(space: SearchSpace) -> None:
    assert len({str(part) for part in parts_in(space)}) == len(parts_in(space))


@pytest.mark.parametrize("space", spaces())
def test_a_network_takes_what_its_parts_take(space: SearchSpace) -> None:
    table, random = timed(space), Random(1)
    for _ in range(100):
        genes = table.sample(random)
        assert cost_of(table, genes) == costs_of(table, table.architecture(genes))


@pytest.mark.parametrize("space", DRAWN[:: 1 if MANY else 3])
@pytest.mark.parametrize("seed", range(3) if MANY else [2])
def test_parts_are_measured_by_just_the_passes_that_they_have_in_a_network(monkeypatch, space, seed: int) -> None:
    ran: list[int] = []
    monkeypatch.setattr(measuring, "seconds_of_passes", lambda _, first, end: ran.append(end - first) or 0.0)
    arch = space.architecture(space.sample(Random(seed)))
    for part in parts_of(arch):
        measuring.measured(part)
    assert sum(ran) == len(Network(lower(worn(build(arch)), arch.input)).code.passes)


def test_stems_are_told_apart_by_all_that_is_chosen_of_them() -> None:
    named = {kind: str(parts_in(rich_space(stem=STEMS[kind]))[1]) for kind in ("space_to_depth", "thermometer", "conv")}
    assert named == {
        "conv": "stem 3x9x7 -> 8: conv 3x3 /1",
        "space_to_depth": "stem 3x9x7 -> 8: space_to_depth 1x1 /2",
        "thermometer": "stem 3x9x7 -> 8: thermometer 3x3 /1, 1 levels, xnor sign 0",
    }


def test_every_part_takes_some_time() -> None:
    for part in parts_of(rich_space().architecture(rich_space().sample(Random(0)))):
        assert measuring.measured(part) > 0


class TestTable:
    """A file that is made once on a machine."""

    def test_it_comes_back_the_same(self, tmp_path) -> None:
        table = timed(rich_space()).latency
        assert table is not None
        (tmp_path / "table.yaml").write_text(dump(table))
        assert LatencyTable.read(tmp_path / "table.yaml") == table
        named = parse(SearchSpace, {**rich_space().model_dump(), "latency": str(tmp_path / "table.yaml")}, source="")
        assert named.latency == table

    def test_it_travels_in_the_yaml_of_a_space(self) -> None:
        space = timed(rich_space())
        assert parse(SearchSpace, parse_yaml(dump(space), source=""), source="") == space

    def test_measuring_goes_on_where_it_was_stopped(self, monkeypatch, tmp_path) -> None:
        space, out = make_space(), tmp_path / "table.yaml"
        measured: list[Part] = []

        def some(part: Part) -> int:
            if len(measured) == 3:
                raise KeyboardInterrupt
            measured.append(part)
            return 5

        monkeypatch.setattr(latency, "measured", some)
        monkeypatch.setattr(latency, "SECONDS_BETWEEN_FILES", 0.0)
        with pytest.raises(KeyboardInterrupt):
            latency.latency_table(space, out=out, progress=False)
        monkeypatch.setattr(latency, "measured", lambda part: measured.append(part) or 7)
        table = latency.latency_table(space, out=out, progress=False)
        assert measured == parts_in(space)
        assert list(table.nanoseconds.values()) == [5] * 3 + [7] * (len(measured) - 3)
        assert LatencyTable.read(out) == table

    @pytest.mark.parametrize("other", [{"machine": "abacus"}, {"kernels": "older"}])
    def test_that_of_another_machine_is_not_added_to(self, tmp_path, other: dict[str, str]) -> None:
        out = tmp_path / "table.yaml"
        out.write_text(dump(table_of([], **other)))
        with pytest.raises(SpecError, match="give a new file"):
            latency.latency_table(make_space(), out=out, progress=False)
        with pytest.raises(SpecError, match="give a new file"):
            latency.check_latency(make_space(), LatencyTable.read(out), progress=False)

    def test_parts_that_are_missing_are_named(self) -> None:
        with pytest.raises(SpecError) as caught:
            bnas.search(make_space(), latency=table_of([]), progress=False)
        assert line_of(caught) == (
            "latency: the table has 0 of 6 parts of the space, and no 'call 3x9x7 -> 5'; "
            "bnas latency-table SPACE -o FILE measures them"
        )

    def test_a_limit_needs_one(self) -> None:
        with pytest.raises(SpecError) as caught:
            bnas.search(make_space(), budget=["latency_ms=2"], progress=False)
        assert line_of(caught).startswith("budget latency_ms: needs a table of what parts take ")
        with pytest.raises(SpecError, match="budget latency_ms: needs a table"):
            bnas.search_targets(make_space(), [["latency_ms=2"], ["ops=1M"]], progress=False)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A table that the command wrote, and a search that the command made with it."""
    folder = tmp_path_factory.mktemp("latency")
    (folder / "tiny.yaml").write_text(dump(tiny_space()))
    run = CliRunner().invoke
    made = run(app, ["latency-table", f"{folder}/tiny.yaml", "-o", f"{folder}/t.yaml", "--check", "3", "--json"])
    table = LatencyTable.read(folder / "t.yaml")
    slow = max(costs.nanoseconds for costs in drawn_costs(table)) / 1e6
    limits = ["--budget", f"latency_ms={0.8 * slow:.4f}", "--budget", "activation_bytes=4k"]
    words = ["search", f"{folder}/tiny.yaml", "--latency", f"{folder}/t.yaml", *limits, "--out", f"{folder}/run"]
    return made, run(app, words), words, folder


def drawn_costs(table: LatencyTable) -> list[Any]:
    space = tiny_space().model_copy(update={"latency": table})
    return [cost_of(space, space.sample(Random(seed))) for seed in range(50)]


class TestSearch:
    """A search under a limit of milliseconds, from the measured table to the report."""

    @pytest.mark.slow
    def test_the_command_measures_every_part_and_whole_networks(self, ran) -> None:
        made, _, _, folder = ran
        said = json.loads(made.stdout.splitlines()[-1])
        assert said["parts"] == len(parts_in(tiny_space()))
        assert said["networks"] == 3
        assert said["median_error"] >= 0
        assert LatencyTable.read(folder / "t.yaml").machine == said["machine"]

    def test_every_candidate_keeps_the_limits(self, ran) -> None:
        _, done, words, folder = ran
        assert done.exit_code == 0, done.output
        result = bnas.open_run(folder / "run")
        limit = float(words[words.index("--budget") + 1].partition("=")[2])
        for table in (result.candidates, result.twin):
            paid = table[table["status"] == "paid"]
            assert (paid["latency_ms"] <= limit).all()
            assert (paid["activation_bytes"] <= 4000).all()
        assert 0 < result.best.cost.latency_ms <= limit

    def test_the_winner_is_measured_beside_what_was_predicted(self, ran) -> None:
        _, _, _, folder = ran
        found = bnas.open_run(folder / "run")
        known = found.best.manifest["latency"]
        assert known["measured_ms"] > 0
        assert known["predicted_ms"] == found.best.cost.latency_ms
        page = (folder / "run" / "report.html").read_text()
        assert f"predicted for {known['machine']}" in page
        assert f"measured {show(known['measured_ms'])}" in page

    def test_the_same_command_changes_nothing(self, ran) -> None:
        _, _, words, folder = ran
        before = (folder / "run" / "candidates.csv").read_bytes()
        again = CliRunner().invoke(app, words)
        assert again.exit_code == 0, again.output
        assert (folder / "run" / "candidates.csv").read_bytes() == before

    def test_the_space_of_the_run_holds_the_table(self, ran) -> None:
        _, _, _, folder = ran
        assert bnas.open_run(folder / "run").space.latency == LatencyTable.read(folder / "t.yaml")

    def test_cost_predicts_from_a_table(self, ran) -> None:
        _, _, _, folder = ran
        best = bnas.open_run(folder / "run").best
        words = ["cost", str(best.folder / "architecture.yaml"), "--latency", f"{folder}/t.yaml"]
        said = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
        assert said["predicted"]["latency_ms"] == best.cost.latency_ms
        assert "predicted latency" in CliRunner().invoke(app, words).stdout
        refused = CliRunner().invoke(app, ["cost", "resnet18", "--latency", f"{folder}/t.yaml"])
        assert refused.exit_code == 2

    def test_on_another_machine_the_winner_is_not_measured(self, ran, tmp_path) -> None:
        _, _, _, folder = ran
        there = LatencyTable.read(folder / "t.yaml").model_copy(update={"machine": "abacus"})
        found = latency.latency_of(*network_of(folder), there)
        assert found["measured_ms"] is None
        assert found["why"].startswith("this is another machine: ")


def network_of(folder: Path) -> tuple[Any, Any]:
    best = bnas.open_run(folder / "run").best
    return best.architecture, best.load()


def test_a_run_of_several_limits_of_latency_holds_one_winner_each(tmp_path) -> None:
    space = timed(tiny_space())
    middle = sorted(cost_of(space, space.sample(Random(seed))).latency_ms for seed in range(50))[25]
    found = bnas.search_targets(
        space, [[f"latency_ms={middle:.6f}"], [f"latency_ms={2 * middle:.6f}"]], out=tmp_path / "run", progress=False
    )
    assert all(
        result.best.cost.latency_ms <= share * middle for share, result in zip((1, 2), found.values(), strict=True)
    )
    assert Run.read(tmp_path / "run").config["targets"]


def test_the_commands_of_the_page_run_as_they_are_written(monkeypatch, tmp_path) -> None:
    # The same words, but a tiny space, and parts that take a microsecond each on whatever machine this is.
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "digits.yaml").write_text(dump(tiny_space()))
    monkeypatch.setattr(latency, "measured", lambda part: 1000)
    page = (DOCS / "latency.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = [line for language, _, text in FENCE.findall(page) if not language for line in text.splitlines()]
    for command in commands:
        done = CliRunner().invoke(app, command.split()[1:])
        assert done.exit_code == 0, (command, done.output)
    assert [command.split()[1] for command in commands] == ["latency-table", "search", "cost"]
    assert "predicted latency" in done.output
