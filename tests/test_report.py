"""The report on a run: what the page says, finished or not, what the figures are made of. The numbers are made up."""

import itertools
import re
import shlex
from collections import Counter, defaultdict
from html import unescape
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from bnas.amounts import clock, duration, percent, show
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import RunError
from bnas.report import front_table, ledger_table, write_report
from bnas.report.classes import MOST_CLASSES, class_table, classes_of, mixed_table
from bnas.report.confusion_figure import draw_confusion
from bnas.report.figures import draw_layers, draw_losses, draw_pareto, draw_search, part_of
from bnas.report.findings import Work, front_so_far, read_findings, work_of
from bnas.report.ink import DARK, LIGHT
from bnas.report.page import Picture, render
from bnas.report.tables import cost_table, facts_table, layer_table, stage_table
from bnas.report.topology import draw_topology, topology_graph
from bnas.report.words import search_line, twin_sentence
from bnas.runs import Run, environment
from bnas.searcher.candidate import Candidate, Score, front
from bnas.searcher.feasible import cost_of
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace
from bnas.space.stem import Stem
from bnas.spec import dump, parse
from bnas.train import confusion

pytestmark = pytest.mark.draws

SPACE = parse(
    SearchSpace,
    {
        "input": [1, 8, 8],
        "classes": 10,
        "stem": {"width": [8, 16]},
        "stages": [
            {
                "depth": [1, 2],
                "width": [16, 32],
                "groups": [1, 2],
                "experts": [1, 2],
                "precision": ["binary", "weight"],
            },
            {"depth": [1, 2], "width": [32, 64], "groups": [1, 4], "stride": 2, "precision": ["binary", "real"]},
        ],
        "shortcut": {"kind": "conv"},
    },
    source="test",
)
BUDGET = Budget.parse(["ops=150k", "bytes=12k"])
TRIALS = 20
STAGES = ("created", "searching", "searched", "finished")  # how far a run came
TEST_ACCURACY = 0.9834


def make_run(path: Path, *, until: str, data: str = "made-up digits", **more: Any) -> Run:
    """Return a run folder that came `until` one of STAGES, written through Run's own methods."""
    config = {
        "data": data, "budget": BUDGET.as_dict(), "sampler": "evolution", "seed": 3, "trials": TRIALS, "retrain": 2
    } | more  # fmt: skip
    run = Run.open(path, config=config, space_yaml=dump(SPACE))
    run.log("driver", host="test", pid=1, environment=environment())
    if until == "created":
        return run
    for epoch in (1, 2, 2, 3):  # the second one was trained again after a stop
        run.log("epoch", phase="supernet", epoch=epoch, epochs=3, loss=2.0 / epoch)
    search = made_up_candidates(seed=1, paid=TRIALS // 2 if until == "searching" else TRIALS)
    run.write_table("candidates", [c.row() for c in search])
    if until == "searching":
        return run
    run.write_table("twin", [c.row() for c in made_up_candidates(seed=2, paid=TRIALS)])
    run.write_table("pareto", [c.row() for c in front(search)])
    if until == "searched":
        return run
    first, second = [c for c in search if c.status == "paid"][:2]
    for name, stage, epochs in ((first.id, 0, 2), (first.id, 1, 3), (second.id, 0, 2), (second.id, 1, 1)):
        for epoch in range(1, epochs + 1):
            run.log("epoch", phase=f"retrain/{name}-{stage}", epoch=epoch, epochs=epochs, loss=1.0 / epoch)
    run.write_table("retrained", [retrained_row(first, TEST_ACCURACY, 20), retrained_row(second, 0.97, 12)])
    arch = SPACE.architecture(first.genes)
    assert first.score is not None
    manifest = {
        "architecture_id": arch.id,
        "accuracy": {"proxy": first.score.proxy_accuracy, "validation": 0.985, "test": TEST_ACCURACY},
        "cost": first.cost.as_dict(),
        "counted_again": first.cost.as_dict(),
        "reload": {"images": 8, "identical": True},
        "seed": 3,
        "versions": environment(),
    }
    run.best.write(dump(arch), {"made_up": torch.zeros(1)}, manifest)
    return run


def made_up_candidates(*, seed: int, paid: int) -> list[Candidate]:
    """Return candidates with made-up scores, of which `paid` have one."""
    random, found, seen = Random(seed), list[Candidate](), set[tuple[int, ...]]()
    while sum(c.status == "paid" for c in found) < paid:
        genes = SPACE.sample(random)
        price = cost_of(SPACE, genes)
        status: Any = "over_budget" if not BUDGET.admits(price) else "repeated" if genes in seen else "paid"
        score = Score(round(0.8 + 0.1 * random.random(), 3), random.random()) if status == "paid" else None
        seen.add(genes)
        found.append(Candidate(len(found), SPACE.architecture(genes).id, status, genes, price, score))
    return found


def retrained_row(candidate: Candidate, test_accuracy: float, epochs: int) -> dict[str, Any]:
    assert candidate.score is not None
    trained = {"validation_accuracy": 0.98, "test_accuracy": test_accuracy, "epochs": epochs, "seconds": 74.0}
    return {"id": candidate.id, **candidate.score._asdict()} | trained | candidate.cost.as_dict()


def table_of(*rows: tuple[str, float | None, float]) -> pd.DataFrame:
    """Return candidates from (status, proxy accuracy, ops), with a proxy loss of one less the accuracy."""
    return pd.DataFrame(
        [
            {
                "id": f"{number:03}",
                "status": status,
                "proxy_accuracy": accuracy,
                "proxy_loss": None if accuracy is None else 1 - accuracy,
                "ops": ops,
            }
            for number, (status, accuracy, ops) in enumerate(rows)
        ]
    )


def text_of(page: str) -> str:
    """Return the words of a page, without styles and tags."""
    without = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", unescape(without))


def page_without_pictures(run: Run) -> str:
    """Return the page of a run; drawing would take seconds."""
    return render(read_findings(run), defaultdict(lambda: Picture("data:,", 100)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with its report."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    make_run(folder, until="finished")
    assert write_report(Run.read(folder)) == folder / "report.html"
    return folder


def test_finished_page_answers_first(finished: Path) -> None:
    text = text_of((finished / "report.html").read_text(encoding="utf-8"))
    manifest = Run.read(finished).best.read()[2]
    ops, size = show(manifest["cost"]["ops"]), show(manifest["cost"]["bytes"])
    assert f"98.34 % test accuracy with {ops} ops and {size} bytes" in text[:400]
    for part in (
        "budget <= 150k",
        "none is measured",
        "pooling and adds are not counted",
        "on the built network: the same",
    ):
        assert part in text
    assert f"bnas export {finished} --to training -o finished-export" in text


def test_proxy_accuracy_is_never_called_accuracy(finished: Path) -> None:
    for said in re.finditer(r"(\S+ )accuracy", text_of((finished / "report.html").read_text(encoding="utf-8"))):
        assert said[1].strip(" ,.;:(") in ("proxy", "test", "validation"), said[0]


def test_page_needs_no_other_file(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|srcset|href)=[\"']([^\"']{0,30})", html)
    assert len(sources) == 5 * 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in html
    assert "url(" not in html


def test_figures_are_written_on_light_and_dark_paper(finished: Path) -> None:
    drawn = ("pareto", "search", "topology", "layers", "losses")
    names = {f"{name}{paper}.png" for name in drawn for paper in ("", "-dark")}
    assert {path.name for path in (finished / "figures").iterdir()} == names
    corners = {name: Image.open(finished / "figures" / name).convert("RGB").getpixel((2, 2)) for name in names}
    for name, corner in corners.items():
        paper = DARK.paper if "-dark" in name else LIGHT.paper
        assert corner == tuple(bytes.fromhex(paper[1:]))


def test_losses_are_drawn_epoch_by_epoch_with_the_stages_joined(finished: Path) -> None:
    found = read_findings(Run.read(finished))
    shared, alone = draw_losses(found, LIGHT).axes
    assert shared.lines[0].get_xydata().tolist() == [[1, 2.0], [2, 1.0], [3, 2 / 3]]
    curves = {line.get_label(): line.get_xydata().tolist() for line in alone.lines}
    assert curves["best when trained alone"] == [[1, 1.0], [2, 0.5], [3, 1.0], [4, 0.5], [5, 1 / 3]]
    assert len(alone.lines) == 2


def test_figures_leave_no_global_state(finished: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("until", "said", "not_said"),
    [
        ("created", "No candidate has been scored yet", "test accuracy"),
        ("searching", f"The search has not ended: {TRIALS // 2} of {TRIALS} evaluations", "98.34"),
        ("searched", "retraining has not: no accuracy is known yet", "98.34"),
    ],
)
def test_unfinished_page_says_what_is_missing(tmp_path: Path, until: str, said: str, not_said: str) -> None:
    text = text_of(page_without_pictures(make_run(tmp_path / "run", until=until)))
    assert said in text
    assert not_said not in text
    assert "bnas export" not in text


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", until="created", data="<script>alert(1)</script>")
    assert "<script" not in page_without_pictures(run)


def test_run_without_candidates_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", until="created")
    assert write_report(run) == run.report
    assert not run.figures.exists()


def test_damaged_table_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", until="searching")
    (run.path / "candidates.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"candidates\.csv"):
        write_report(run)


def test_search_command_asks_the_same_again(tmp_path: Path) -> None:
    words = shlex.split(search_line(read_findings(make_run(tmp_path / "a run", until="created"))))
    asked: dict[str, list[str]] = {}
    for option, value in zip(words[3::2], words[4::2], strict=True):
        asked.setdefault(option, []).append(value)
    assert words[:3] == ["bnas", "search", str(tmp_path / "a run" / "space.yaml")]
    assert Budget.parse(asked.pop("--budget")) == BUDGET
    assert asked == {
        "--data": ["made-up digits"], "--trials": [str(TRIALS)], "--sampler": ["evolution"], "--seed": ["3"],
        "--top": ["2"], "--out": [str(tmp_path / "a run-again")],
    }  # fmt: skip


def test_leading_candidate_is_the_best_by_proxy_loss(tmp_path: Path) -> None:
    found = read_findings(make_run(tmp_path / "run", until="searching"))
    paid = found.candidates[found.candidates["status"] == "paid"]
    assert found.subject is not None
    assert paid.set_index("id")["proxy_loss"][found.subject.id] == paid["proxy_loss"].min()


def test_front_so_far_is_the_front_of_the_search() -> None:
    random = Random(0)
    for _ in range(8):  # few values, so that there are ties in both
        candidates = [
            c._replace(score=c.score and Score(random.randrange(4) / 4, random.randrange(3)))
            for c in made_up_candidates(seed=random.randrange(10**6), paid=15)
        ]
        rows = pd.DataFrame([c.row() for c in candidates])
        assert front_so_far(rows)["id"].tolist() == [c.id for c in front(candidates)]


def test_front_table_marks_best_and_trained() -> None:
    costs = {"bytes": 17300, "bops": 1, "flops": 1, "parameters": 1}
    pareto = pd.DataFrame(
        [{"id": f"{n}", "proxy_loss": 0.25, "proxy_accuracy": 0.9, "ops": 2950e3 + n} | costs for n in range(3)]
    )
    table = front_table(pareto, best="1", retrained=["0", "1"])
    assert [row[1] for row in table.rows] == ["trained alone", "best", ""]
    assert table.rows[0][2:6] == ("0.2500", "90.00 %", "2.95M", "17.3k")
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_ledger_counts_every_fate() -> None:
    ours = table_of(("paid", 0.9, 1), ("over_budget", None, 9), ("repeated", None, 1), ("over_budget", None, 8))
    twin = table_of(("paid", 0.8, 1), ("failed", None, 2))
    assert ledger_table(ours, twin).rows == (
        ("search", "4", "1", "2", "1", "0"),
        ("random twin", "2", "1", "0", "0", "1"),
    )


def test_twin_is_compared_at_equal_paid_evaluations() -> None:
    ours = table_of(("paid", 0.80, 1), ("over_budget", None, 9), ("paid", 0.90, 1), ("paid", 0.92, 1))
    twin = table_of(("paid", 0.85, 1), ("paid", 0.84, 1))
    said = twin_sentence(ours, twin)
    assert said.startswith("After 2 paid evaluations each")  # the third of ours is left out
    assert "ahead by 0.0500" in said  # 0.15 - 0.10
    assert "from its evaluation 2 on" in said


def test_twin_that_wins_is_said_to_win() -> None:
    ours, twin = table_of(("paid", 0.80, 1)), table_of(("paid", 0.85, 1))
    assert "random search did better by 0.0500" in twin_sentence(ours, twin)
    assert "as well as chance" in twin_sentence(ours, ours)
    assert "no random search" in twin_sentence(ours, twin[:0])


def test_layer_table_sums_to_the_cost() -> None:
    arch = SPACE.largest()
    layers = plan(arch)
    *rows, total = layer_table(layers).rows
    price = cost(layers)
    for column, whole in ((-1, price.bytes), (-2, price.ops), (-3, price.bops + price.flops)):
        parts = [row[column] for row in rows if row[column] != "not counted"]
        assert sum(map(number, parts)) == pytest.approx(whole)
        assert number(total[column]) == pytest.approx(whole)


def test_all_real_network_has_no_bops() -> None:
    arch = SPACE.smallest()
    table = {row[0]: row for row in cost_table(cost(plan(arch)), cost(plan(arch.as_real()))).rows}
    macs = cost(plan(arch)).bops + cost(plan(arch)).flops
    assert number(table["BOPs"][2]) == 0
    assert number(table["FLOPs"][2]) == macs


def test_stage_table_names_mixed_precision() -> None:
    arch = SPACE.largest()
    mixed = arch.stages[1].model_copy(update={"precision": ("binary", "real")})
    rows = stage_table(arch.model_copy(update={"stages": (arch.stages[0], mixed)})).rows
    assert [row[1] for row in rows] == ["real", "weight", "binary, real"]


@pytest.mark.parametrize(
    ("stem", "row"),
    [
        ({"kind": "thermometer", "width": 8, "levels": 4}, ("stem (thermometer, 4 levels)", "binary")),
        ({"kind": "space_to_depth", "width": 8, "stride": 2}, ("stem (space_to_depth)", "real")),
    ],
)
def test_stage_table_says_what_a_stem_is(stem: dict[str, Any], row: tuple[str, str]) -> None:
    arch = SPACE.largest().model_copy(update={"stem": Stem(**stem)})
    assert stage_table(arch).rows[0][:2] == row


def test_stage_table_says_what_a_stage_has_for_itself() -> None:
    stage = SPACE.largest().stages[0].model_copy(update={"activation": "react", "squeeze_excite": True})
    rows = stage_table(SPACE.largest().model_copy(update={"stages": (stage,)})).rows
    assert rows[1][1] == "weight, react, squeeze-excite"


def test_poolings_are_seen_in_the_table_and_in_the_topology() -> None:
    stage = {"width": 16, "stride": 2, "downsample": "max_pool", "precision": ["binary"]}
    arch = Architecture.model_validate(
        {"input": [1, 8, 8], "classes": 10, "stem": {"width": 16}, "stages": [stage, stage], "prelu": False}
    )
    assert [row[-1] for row in stage_table(arch).rows] == ["1", "2, max pool", "2, max pool"]
    graph, times = topology_graph(plan(arch)), "\u00d7"
    assert graph.nodes["stages.0.0.main.conv"]["text"] == f"3{times}3, 16 → 16\nmax pool"
    assert graph.nodes["stage 2, row 1"]["text"] == f"stage 2\n16 channels\n2{times}2 pixels"
    kinds = [kind for _, _, kind in graph.edges(data="kind") if kind not in ("flow", "next row")]
    assert kinds == ["fitted", "fitted"]


@pytest.mark.parametrize("kind", ["repeat", "conv", "bottleneck"])
def test_topology_has_a_shortcut_round_every_convolution(kind: str) -> None:
    arch = with_shortcut(SPACE.largest(), kind)
    layers = plan(arch)
    graph = topology_graph(layers)
    boxes = [layer for layer in layers if layer.role in ("main", "mix")]
    shortcuts = [kind for _, _, kind in graph.edges(data="kind") if kind not in ("flow", "next row")]
    assert sum(shape == "sum" for _, shape in graph.nodes(data="shape")) == len(boxes) == len(shortcuts)
    changing = sum((b.in_channels, b.in_size) != (b.out_channels, b.out_size) for b in boxes)
    assert shortcuts.count("fitted" if kind == "repeat" else "convolved") == changing
    assert shortcuts.count("as it is") == len(boxes) - changing


def test_topology_boxes_carry_what_was_chosen() -> None:
    stage = {"width": 32, "groups": 4, "experts": 2, "stride": 2, "precision": ["weight"] * 3}
    arch = Architecture.model_validate(
        {"input": [1, 8, 8], "classes": 10, "stem": {"width": 16}, "stages": [stage], "squeeze_excite": True}
    )
    graph = topology_graph(plan(arch))
    times = "\u00d7"
    assert graph.nodes["stages.0.0.main.conv"]["text"] == f"3{times}3, 16 → 32\n4 groups, stride 2\n2 experts, SE"
    assert graph.nodes["stages.0.0.main.conv"]["precision"] == "weight"
    # Three blocks with a mixing convolution each make six boxes; five fit in a row.
    assert {row for name, row in graph.nodes(data="row") if name.startswith("stages")} == {1, 2}
    ends = [name for name in graph if graph.in_degree(name) == 0 or graph.out_degree(name) == 0]
    assert ends == ["stem, row 1", "head.classifier"]


def test_largest_and_branched_networks_can_be_drawn() -> None:
    stem = {"kind": "branched", "width": 16, "kernel": 3, "stride": 4}
    arch = Architecture.model_validate(
        {"input": [3, 32, 32], "classes": 10, "stem": stem, "stages": [{"width": 16, "depth": 7}]}
    )
    for layers in (plan(arch), plan(SPACE.largest()), plan(SPACE.smallest())):
        draw_topology(layers, LIGHT).canvas.draw()


def test_parts_of_a_network_are_in_order() -> None:
    parts = [name for name, _ in itertools.groupby(plan(SPACE.largest()), key=part_of)]
    assert parts == ["stem", "stage 1", "stage 2", "classifier"]


def test_bars_of_each_quantity_make_a_whole() -> None:
    for axes in draw_layers(plan(SPACE.largest()), LIGHT).axes:
        bars = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
        assert sum(bars) == pytest.approx(100)


def test_budget_lines_stand_at_the_limits(tmp_path: Path) -> None:
    found = read_findings(make_run(tmp_path / "run", until="searched"))
    panels = draw_pareto(found, LIGHT).axes
    limits = [axes.lines[-1].get_xdata()[0] for axes in panels]  # type: ignore[index]
    assert limits == [150e3, 12e3]


def test_one_candidate_can_be_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", until="created")
    run.write_table("candidates", [c.row() for c in made_up_candidates(seed=5, paid=1)])
    found = read_findings(run)
    for figure in (draw_pareto(found, LIGHT), draw_search(found, LIGHT)):
        figure.canvas.draw()


def test_work_does_not_count_the_time_between_two_starts() -> None:
    times = [("driver", "01:00:00"), ("phase", "01:00:40"), ("driver", "05:00:00"), ("phase", "05:00:02")]
    events = [{"event": event, "time": f"2026-01-02T{time}.000+00:00"} for event, time in times]
    assert work_of(events) == Work("2026-01-02 01:00", "2026-01-02 05:00", starts=2, seconds=40 + 2)


def test_durations_and_shares_read_well() -> None:
    assert [duration(seconds) for seconds in (48.2, 134, 3900)] == ["48 s", "2 min 14 s", "1 h 05 min"]
    assert [clock(seconds) for seconds in (0.9, 134, 3900)] == ["0:00:00", "0:02:14", "1:05:00"]
    assert percent(0.98612) == "98.61 %"
    assert percent(float("nan")) == percent(None) == "\u2013"


def test_numbers_of_a_page_stay_with_their_units(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert "98.34\u00a0% test accuracy" in html
    assert re.findall(r"\d %", re.sub(r"<style>.*?</style>|<p.*?</p>|<figcaption>.*?</figcaption>", "", html)) == []


def test_facts_read_as_words() -> None:
    facts = {"reload": {"identical": True, "batch_norm": {"layers": 5}}, "max_difference": 1 / 3, "input": [1, 8, 8]}
    assert [row[1] for row in facts_table(facts).rows] == [
        "identical: yes, batch norm (layers: 5)",
        "0.333333",
        "1, 8, 8",
    ]


def number(text: str) -> float:
    return float(text.replace("\u202f", ""))


def with_shortcut(arch: Architecture, kind: str) -> Architecture:
    return Architecture.model_validate(arch.model_dump() | {"shortcut": {"kind": kind}})


NAMES = ("ant", "bee", "cat")
CONFUSED = [(0, 0, 8), (0, 1, 2), (1, 1, 10), (2, 0, 1), (2, 1, 3), (2, 2, 4)]  # class, taken for, images


def confused(*pairs: tuple[int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["class", "taken_for", "images"])


class TestClasses:
    """What the best network takes test images for."""

    found = classes_of(confused(*CONFUSED), {"class_names": NAMES})

    def test_each_class_has_its_accuracy_and_what_it_is_taken_for(self) -> None:
        assert class_table(self.found).rows == (
            ("ant", "bee (2)", "10", "8", "80.00 %"),
            ("bee", "\u2013", "10", "10", "100.00 %"),
            ("cat", "bee (3)", "8", "4", "50.00 %"),
        )

    def test_pairs_are_counted_either_way_the_worst_first(self) -> None:
        assert mixed_table(self.found).rows == (
            ("bee, cat", "3", "0", "3"), ("ant, bee", "2", "2", "0"), ("ant, cat", "1", "0", "1")
        )  # fmt: skip

    def test_the_picture_has_a_row_for_each_class_that_adds_up(self) -> None:
        (image,) = draw_confusion(self.found, LIGHT).axes[0].images
        shares = image.get_array()
        assert shares.shape == (3, 3)
        assert shares.sum(1).tolist() == [1, 1, 1]
        assert shares[2].tolist() == [1 / 8, 3 / 8, 1 / 2]

    def test_of_many_classes_the_worst_are_shown(self) -> None:
        many = [(place, place, 9) for place in range(100)] + [(70, 3, 5), (99, 3, 1)]
        found = classes_of(confused(*many), {})
        rows = class_table(found).rows
        assert len(rows) == MOST_CLASSES
        assert [row[0] for row in rows if row[1] != "\u2013"] == ["70", "99"]
        draw_confusion(found, LIGHT).canvas.draw()

    def test_a_class_without_test_images_has_no_accuracy(self) -> None:
        found = classes_of(confused((0, 2, 4)), {"class_names": NAMES})
        assert [row[-1] for row in class_table(found).rows] == ["0.00 %", "\u2013", "\u2013"]

    def test_a_page_has_them_and_the_number_of_images(self, tmp_path: Path) -> None:
        images = {"train": 90, "validation": 10, "test": 28, "class_names": list(NAMES)}
        run = make_run(tmp_path / "run", until="finished", images=images)
        without = text_of(page_without_pictures(run))
        assert "90 training, 10 validation, 28 test images; 3 classes: ant, bee, cat." in without
        assert "Class by class" not in without  # of a run from before it was kept
        run.write_table("confusion", confused(*CONFUSED))
        said = text_of(page_without_pictures(run))
        assert "Of 28 test images" in said
        assert "cat bee (3) 8 4 50.00" in said

    def test_a_table_that_is_no_confusion_is_damaged(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", until="finished")
        run.write_table("confusion", confused((0, -1, 3)))
        with pytest.raises(RunError, match=r"confusion\.csv: is damaged"):
            read_findings(run)


def test_a_confusion_counts_what_the_network_says() -> None:
    logits = torch.eye(3)[torch.tensor([0, 1, 1, 2, 2, 2])]
    labels = torch.tensor([0, 0, 1, 2, 2, 1])
    batches = [(logits[:4], labels[:4]), (logits[4:], labels[4:])]
    rows = confusion(torch.nn.Identity(), batches)
    expected = Counter(zip(labels.tolist(), logits.argmax(1).tolist(), strict=True))
    assert {(row["class"], row["taken_for"]): row["images"] for row in rows} == expected
    assert sum(row["images"] for row in rows if row["class"] == row["taken_for"]) == 4
