"""What only a file names is not run unless that is asked for; and no file leads a write, or markup, elsewhere."""

import os
import stat
import sys
from collections import defaultdict
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import bnas
from bnas.cli.app import main
from bnas.errors import RunError, TrustError
from bnas.report import load_line, words, write_training_report
from bnas.report.findings import read_findings
from bnas.report.page import Picture, render
from bnas.runs import Run
from bnas.runs.files import check_own, replacing
from bnas.runtime import load as load_packed
from bnas.ship import Description, parse_description, training
from bnas.spec import Spec, dump, parse
from bnas.trust import Named, check_code
from tests.exported import trained
from tests.tiny import TINY, tiny_space

FOREIGN = """
from pathlib import Path

from optuna.samplers import RandomSampler
from torch import nn

from bnas.binarize import WEIGHT_BINARIZERS

sign = WEIGHT_BINARIZERS["xnor"]
Path({trace!r}).touch()


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def sampler(space, budget, seed):
    return RandomSampler(seed=seed)
"""


MANIFEST = {
    "accuracy": dict.fromkeys(("validation", "validation_soft", "test"), 0.5),
    "cost": dict.fromkeys(("ops", "bops", "flops", "bytes"), 1.0),
    "normalisation": {"mean": [0.3], "std": [0.4]},
    "recipe": {"batch": 2, "stages": [{"epochs": 1}]},
    "reload": {"images": 8},
}


class Folder:
    """A folder with a stranger's code in it, which leaves a trace when it is run, and files that name it."""

    def __init__(self, path: Path) -> None:
        self.path, self.trace = path, path / "trace"
        (path / "foreign.py").write_text(FOREIGN.format(trace=str(self.trace)))
        self.described: dict[str, Description] = {
            "a model": self._parsed(model="foreign.py:build", input=[1, 8, 8], classes=10),
            "a converted model": self._parsed(
                original={"model": "foreign.py:build", "input": [1, 8, 8], "classes": 10},
                layers={"1": {"precision": "weight"}},
            ),
            "a binarizer": self._parsed(
                **tiny_space().smallest().model_dump(mode="json") | {"binarizers": {"weight": "foreign.py:sign"}}
            ),
            "a binarizer of a model of ours": self._parsed(
                original={"model": "lenet5", "input": [1, 28, 28], "classes": 10},
                binarizers={"weight": "foreign.py:sign"}, layers={"conv2.conv": {"precision": "weight"}},
            ),
        }  # fmt: skip

    def _parsed(self, **data: Any) -> Description:
        return parse_description(data, source="test")

    def yaml(self, kind: str) -> Path:
        file = self.path / "given.yaml"
        file.write_text(dump(self.described[kind]))
        return file

    def run(self, kind: str) -> Path:
        """A finished training of a stranger's, who has the code himself."""
        described = self.described[kind]
        network = trained(described)
        self.forget()
        config = {"model": described.model_dump(mode="json"), "data": "digits", "seed": 0, "recipe": {"stages": []}}
        run = Run.open(self.path / "run", config=config)
        run.best.write(dump(described), network.state_dict(), MANIFEST | {"architecture_id": described.id})
        return run.path

    def exported(self, kind: str, *, to: str) -> Path:
        """An export of it, made by the stranger."""
        with pytest.MonkeyPatch.context() as patch:  # the proof takes seconds, and a process of its own
            patch.setattr(training, "prove_model_file", lambda *_, **__: {})
            bnas.export(self.run(kind), to=to, out=self.path / to, trust=True)
        self.forget()
        return self.path / to

    def space(self, **changes: Any) -> Path:
        file = self.path / "space.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(TINY) | changes))
        return file

    def forget(self) -> None:
        """Forget that the code was run, as in a new process."""
        self.trace.unlink(missing_ok=True)
        for name in [name for name in sys.modules if name.startswith("bnas_file_foreign")]:
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


KINDS = ["a model", "a converted model", "a binarizer", "a binarizer of a model of ours"]
Use = Callable[[Folder, str, bool], object]


def of_command(*words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bnas", *words])
        main()


USES: dict[str, Use] = {
    "load": lambda folder, kind, trust: bnas.load(folder.run(kind) / "best", trust=trust),
    "export": lambda folder, kind, trust: bnas.export(folder.run(kind), out="out", trust=trust),
    "export packed": lambda folder, kind, trust: bnas.export(folder.run(kind), to="packed", out="out", trust=trust),
    "open_run": lambda folder, kind, trust: bnas.open_run(folder.run(kind), trust=trust).load(),
    "train": lambda folder, kind, trust: bnas.train_model(
        folder.yaml(kind), epochs=1, out="trained", trust=trust, progress=False
    ),
    "teacher": lambda folder, kind, trust: bnas.train_model(
        tiny_space().smallest(), teacher=folder.run(kind) / "best", epochs=1, out="trained", trust=trust, progress=False
    ),
    "load an export": lambda folder, kind, trust: bnas.load(folder.exported(kind, to="training"), trust=trust),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", USES)
def test_code_that_only_a_file_names_is_not_run(folder: Folder, use: str, kind: str) -> None:
    with pytest.raises(TrustError) as caught:
        USES[use](folder, kind, False)
    assert not folder.trace.exists()
    said = str(caught.value)
    assert "foreign.py:" in said
    assert "architecture.yaml: " in said or "given.yaml: " in said
    assert said.endswith("which would be run; look at it first, then give --trust (in Python trust=True)")


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_export_runs_no_code(folder: Folder, kind: str) -> None:
    network = load_packed(folder.exported(kind, to="packed") / "network.bnas")
    assert network(np.zeros((2, *folder.described[kind].input), np.float32)).shape == (2, 10)
    assert not folder.trace.exists()


@pytest.mark.parametrize("kind", ["a model", "a binarizer"])
def test_code_that_is_trusted_is_run(folder: Folder, kind: str) -> None:
    network = bnas.load(folder.run(kind) / "best", trust=True)
    assert folder.trace.exists()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_to_be_called_next_is_said_with_trust_where_that_is_needed(folder: Folder, kind: str) -> None:
    run = Run.read(folder.run(kind))
    assert load_line(run) == f"bnas.load({str(run.path / 'best')!r}, trust=True)"
    assert unescape(write_training_report_text(run)).count(load_line(run)) == 1
    assert not folder.trace.exists()
    plain = tiny_space(binarizers={"weight": "foreign.py:sign"}).smallest()
    found = SimpleNamespace(path=Path("a b"), folder=Path("a b"), subject=plain)
    assert words.export_line(found) == "bnas export 'a b' --to training -o 'a b-export' --trust"  # type: ignore[arg-type]
    found.subject = tiny_space().smallest()
    assert words.export_line(found) == "bnas export 'a b' --to training -o 'a b-export'"  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["export {run} -o out", "train {yaml}", "cost {yaml}", "cost {run}"])
@pytest.mark.parametrize("kind", ["a model", "a converted model"])
def test_a_command_says_how_to_trust(folder: Folder, capsys, command: str, kind: str) -> None:
    words = command.format(run=folder.run(kind), yaml=folder.yaml(kind)).split()
    with pytest.raises(SystemExit) as ended:
        of_command(*words)
    assert ended.value.code == 1
    assert "foreign.py:build" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
    assert "--trust" in said
    assert not folder.trace.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"binarizers": {"weight": "foreign.py:sign"}}, "binarizers.weight"),
        ({"binarizers": {"activation": "foreign:sign"}}, "binarizers.activation"),
        ({"search": {"sampler": "foreign.py:sampler"}}, "search.sampler"),
    ],
)
def test_a_space_that_names_code_is_refused_as_a_file_and_taken_as_an_object(
    folder: Folder, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(TrustError, match=rf"space\.yaml: {field} names code"):
        bnas.search(folder.space(**changes), data="digits", out="run")
    assert not folder.trace.exists()
    assert not Path("run").exists()


def searched(folder: Folder, **config: Any) -> Path:
    """A search of a stranger's, whose settings name code."""
    whole = {"data": "digits", "budget": {}, "sampler": "evolution", "seed": 0, "trials": 6, "retrain": 1} | config
    run = Run.open(folder.path / "run", config=whole, space_yaml=dump(tiny_space()))
    rows = [{"id": f"{n:012}", "status": "paid", "genes": "0", "ops": n} for n in range(5)]
    for name in ("candidates", "twin"):
        run.write_table(name, rows)
    return run.path


@pytest.mark.parametrize("config", [{"data": "foreign.py:build"}, {"sampler": "foreign.py:sampler"}])
def test_a_run_that_names_code_is_not_checked_with_it(folder: Folder, config: dict[str, str]) -> None:
    with pytest.raises(TrustError, match=r"config\.yaml: (data|sampler) names code"):
        bnas.check_ranking(searched(folder, **config))
    with pytest.raises(TrustError, match=r"config\.yaml: (data|sampler) names code"):
        bnas.open_run(folder.path / "run").request()
    assert not folder.trace.exists()


def test_a_selection_that_names_code_is_not_applied(folder: Folder) -> None:
    file = folder.yaml("a binarizer of a model of ours")
    with pytest.raises(TrustError, match=r"given\.yaml: weight names code"):
        bnas.convert(nn.Sequential(nn.Linear(2, 2)), file)
    assert not folder.trace.exists()


def test_images_that_a_run_names_as_code_are_not_read_to_prove_an_export(folder: Folder) -> None:
    arch = tiny_space().smallest()
    run = Run.open("run", config={"model": arch.model_dump(mode="json"), "data": "foreign.py:images", "seed": 0})
    manifest = MANIFEST | {"architecture_id": arch.id, "data": "foreign.py:images"}
    run.best.write(dump(arch), trained(arch).state_dict(), manifest)
    out = bnas.export(run.path, to="packed", out="out")
    assert "data names code" in (out / "manifest.json").read_text()
    assert not folder.trace.exists()


def test_counting_an_architecture_and_reporting_run_no_code(folder: Folder, capsys) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        of_command("cost", str(folder.yaml("a binarizer")))
    run = Run.read(folder.run("a model"))
    write_training_report_text(run)
    searched_run = Run.read(_with_foreign_space(folder))
    render(read_findings(searched_run), defaultdict(lambda: Picture("data:,", 1)))
    assert not folder.trace.exists()


def _with_foreign_space(folder: Folder) -> Path:
    space = tiny_space(binarizers={"weight": "foreign.py:sign"})
    config = {"data": "foreign.py:images", "budget": {}, "sampler": "foreign.py:sampler", "seed": 0, "trials": 6}
    return Run.open(folder.path / "other", config=config, space_yaml=dump(space)).path


def write_training_report_text(run: Run) -> str:
    return write_training_report(run).read_text()


MARKUP = "<script>alert(1)</script>&\"'"


def test_names_from_files_are_text_in_every_page(folder: Folder) -> None:
    config = {
        "data": MARKUP,
        "budget": {},
        "sampler": MARKUP,
        "seed": MARKUP,
        "trials": 6,
        "retrain": 1,
        MARKUP: MARKUP,
    }
    run = Run.open(folder.path / "<b>run", config=config, space_yaml=dump(tiny_space()))
    run.log("driver", environment={MARKUP: MARKUP}, host=MARKUP)
    page = render(read_findings(run), defaultdict(lambda: Picture("data:,", 1)))
    described = folder.described["a model"]
    training = {"model": described.model_dump(mode="json"), "data": MARKUP, "seed": 0, "recipe": {"stages": []}}
    other = write_training_report_text(Run.open(folder.path / "<i>trained", config=training))
    for text in (page, other):
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<b>run" not in text
        assert "<i>trained" not in text


def test_the_fields_that_may_name_code_are_known() -> None:
    class Inner(Spec):
        name: Named

    class Outer(Spec):
        one: Inner
        many: tuple[Inner, ...] = ()
        by_key: dict[str, Inner] = {}  # noqa: RUF012
        text: str = ""

    data = {"one": {"name": "ours"}, "many": [{"name": "ours"}, {"name": "a:b"}], "text": "no: name"}
    with pytest.raises(TrustError, match=r"^f\.yaml: many\[1\]\.name names code, 'a:b'"):
        check_code(parse(Outer, data, source=""), source="f.yaml", trust=False)
    with pytest.raises(TrustError, match=r"^f\.yaml: by_key\.x\.name names code, 'c\.d:e'"):
        check_code(
            parse(Outer, {"one": {"name": "x"}, "by_key": {"x": {"name": "c.d:e"}}}, source=""),
            source="f.yaml",
            trust=False,
        )
    check_code(parse(Outer, data, source=""), source="f.yaml", trust=True)


class TestSharedFolders:
    """Where others may write, what they made is not taken for one's own."""

    NOBODY = 65534

    @pytest.fixture
    def shared(self, tmp_path: Path) -> Path:
        if os.geteuid() != 0:
            pytest.skip("to make files of another user takes root")
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o1777)
        return shared

    @pytest.mark.parametrize("made", ["folder", "link", "folder on the way"])
    def test_a_folder_that_somebody_else_made_is_not_taken(self, shared: Path, tmp_path: Path, made: str) -> None:
        out = shared / "out"
        if made == "link":
            (tmp_path / "home").mkdir()
            out.symlink_to(tmp_path / "home")
        else:
            out.mkdir()
        os.chown(out, self.NOBODY, self.NOBODY, follow_symlinks=False)
        target = out / "inner" if made == "folder on the way" else out
        arch = tiny_space().smallest()
        run = Run.open(tmp_path / "run", config={"model": arch.model_dump(mode="json"), "data": "digits", "seed": 0})
        run.best.write(dump(arch), bnas.build(arch).state_dict(), {"architecture_id": arch.id})
        for write in (
            lambda: Run.open(target, config={}, space_yaml="a: 1"),
            lambda: bnas.export(run.path, out=target),
            lambda: check_own(target),
        ):
            with pytest.raises(RunError, match=rf"{out}: somebody else made this \(user {self.NOBODY}\)"):
                write()
        assert not [file for place in (shared, tmp_path / "home") for file in place.rglob("*") if file.is_file()]

    def test_one_s_own_is_taken(self, shared: Path) -> None:
        (shared / "out").mkdir()
        check_own(shared / "out" / "run")
        check_own(shared / "new")

    def test_what_another_made_where_only_he_may_write_is_taken(self, shared: Path) -> None:
        """As a folder of a host's that is mounted in a container, where one is root."""
        volume = shared / "volume"
        (volume / "runs").mkdir(parents=True)
        for path in (volume, volume / "runs"):
            os.chown(path, self.NOBODY, self.NOBODY)
        shared.chmod(0o755)
        check_own(volume / "runs")


# A name in a run folder, and what would write through a link there.
LINKS: dict[str, Callable[[Run], object]] = {
    "study.db": lambda run: run.storage_url,
    "study.db-journal": lambda run: run.storage_url,
    "log.jsonl": lambda run: run.log("event"),
    "best": lambda run: run.best.write("", {}, {}),
    "figures": lambda run: run.figures,
    "report.html": lambda run: run.report,
    "sums.json": lambda run: run.write_ledger({}),
    "ledger.json": lambda run: run.write_ledger({}),
    "candidates.csv": lambda run: run.write_table("candidates", []),
    "supernet": lambda run: run.save_checkpoint("supernet", {}, {}),
    "alone": lambda run: run.save_checkpoint("alone/x", {}, {}),
}


class TestTemporary:
    def test_names_cannot_be_guessed(self, tmp_path: Path) -> None:
        names = set()
        for _ in range(50):
            with replacing(tmp_path / "file.txt") as temporary:
                names.add(temporary.name)
                temporary.write_text("x")
        assert len(names) == 50
        assert not [name for name in names if str(os.getpid()) == name.split(".")[2]]

    def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_is_being_written_stays(self, tmp_path) -> None:
        left, foreign = tmp_path / ".file.0123456789abcdef.tmp.txt", tmp_path / ".other.0123456789abcdef.tmp.txt"
        left.touch()
        foreign.touch()
        with replacing(tmp_path / "file.txt") as first:
            assert not left.exists()
            with replacing(tmp_path / "file.txt") as second:
                assert first.exists()
                second.write_text("x")
            first.write_text("y")
        assert sorted(tmp_path.iterdir()) == [foreign, tmp_path / "file.txt"]

    def test_they_are_this_user_s_from_the_beginning(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "file.txt") as temporary:
            found = temporary.lstat()
            assert stat.S_ISREG(found.st_mode)
            assert found.st_size == 0
            temporary.write_text("x")

    def test_what_stands_at_the_name_is_never_opened(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr("bnas.runs.temporary.secrets.token_hex", lambda _: "0123456789abcdef")
        (tmp_path / "mine").write_text("mine")
        (tmp_path / ".file.0123456789abcdef.tmp.txt").symlink_to(tmp_path / "mine")
        with pytest.raises(RunError, match="File exists"), replacing(tmp_path / "file.txt"):
            raise AssertionError
        assert (tmp_path / "mine").read_text() == "mine"

    @pytest.mark.parametrize("swap", ["link", "hard link", "folder"])
    def test_what_is_put_in_its_place_is_not_taken(self, tmp_path: Path, swap: str) -> None:
        (tmp_path / "file.txt").write_text("old")
        (tmp_path / "other").write_text("a stranger's")

        def write() -> None:
            with replacing(tmp_path / "file.txt") as temporary:
                temporary.unlink()
                if swap == "link":
                    temporary.symlink_to(tmp_path / "other")
                elif swap == "hard link":
                    os.link(tmp_path / "other", temporary)
                else:
                    temporary.mkdir()

        with pytest.raises(RunError, match="somebody else put this in the place of what was being written"):
            write()
        assert (tmp_path / "file.txt").read_text() == "old"

    @pytest.mark.parametrize("link", LINKS)
    def test_links_inside_a_run_lead_no_write_out_of_it(self, tmp_path: Path, link: str) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        run = Run.open(tmp_path / "run", config={"seed": 0}, space_yaml="a: 1")
        (run.path / link).unlink(missing_ok=True)
        (run.path / link).symlink_to(outside / "x")
        with pytest.raises(RunError, match="symbolic link leads out of the folder"):
            LINKS[link](run)
        assert not list(outside.iterdir())
