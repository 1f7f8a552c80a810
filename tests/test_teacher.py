"""A real teacher: trained once, kept in the run, and what it teaches; refused before any training where it cannot."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spaces import line_of
from torch import nn
from typer.testing import CliRunner

import bnas
from bnas.api import searching, shared_weights, teacher, timing
from bnas.api.appointing import appointed
from bnas.api.opening import load_matching
from bnas.api.pace import Pace, fitted, pace_of, planned
from bnas.api.request import resolve
from bnas.cli.app import app
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import BnasError, LookupFailed, RunError, SpecError
from bnas.networks.build import build
from bnas.runs import Run
from bnas.runs.saved_network import manifest_text
from bnas.space.arch import Architecture
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.space.settings import SearchSettings, SupernetRecipe, Teacher
from bnas.space.shipped import read_recipe
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse, parse_yaml
from bnas.supernet import Supernet
from bnas.train import Ranks, build_for, evaluate, train_staged
from bnas.train.oneshot import WholeSpace
from bnas.train.supernet_loss import Lesson, SupernetLoss
from tests.mortal import bnas as command
from tests.test_ranks import in_ranks
from tests.test_targets import trainings
from tests.tiny import MemoryStore, tiny_space

CPU = torch.device("cpu")
NETWORK = {
    "input": [1, 8, 8], "classes": 10, "stem": {"kind": "thermometer", "levels": 2, "width": 8},
    "stages": [{"width": 8}, {"width": 16, "stride": 2, "precision": ["weight"]}], "classifier": "binary",
}  # fmt: skip
STAGES = [{"epochs": 2, "rate": 1e-2}]
TAUGHT = [{"epochs": 1, "rate": 4e-3, "distill": {"logits": 1.0}}]


def described(**changes: Any) -> Architecture:
    return parse(Architecture, NETWORK | changes, source="network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the file of the teacher's architecture lies."""
    made = tmp_path_factory.mktemp("teacher")
    (made / "large.yaml").write_text(dump(described()), encoding="utf-8")
    return made


def space_with(model: object, *, recipe: Any = None, stages: Any = None, **settings: Any) -> SearchSpace:
    """The tiny space, taught."""
    search = tiny_space().search.model_dump()
    search["teacher"] = {"model": str(model), "recipe": recipe and {"batch": 256, "stages": recipe}} | settings
    if stages:
        search["retrain"]["recipe"]["stages"] = stages
    return tiny_space(search=search)


@pytest.fixture
def space(folder) -> SearchSpace:
    return space_with(folder / "large.yaml", recipe=STAGES)


@pytest.fixture(scope="module")
def found(folder):
    """A taught search that nobody interrupted."""
    asked = space_with(folder / "large.yaml", recipe=STAGES)
    return bnas.search(asked, out=folder / "run", progress=False)


def ends(run: Run) -> dict[str, bytes]:
    """What decides how a run ended."""
    names = ("candidates.csv", "twin.csv", "best/weights.safetensors", "teacher/weights.safetensors")
    return {name: (run.path / name).read_bytes() for name in names}


class TestTheRun:
    """What a taught search leaves in its folder."""

    def test_it_holds_a_real_network_that_loads(self, found) -> None:
        network = bnas.load(found.run.path / "teacher")
        assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
        text, _, manifest = found.run.teacher.read()
        arch = parse(Architecture, parse_yaml(text, source="teacher"), source="teacher")
        assert arch == described().as_real()
        assert manifest["cost"]["bops"] == 0
        assert manifest["epochs"] == 2
        assert not (found.run.path / "teacher" / "state").exists()

    def test_it_is_trained_first_and_once(self, found) -> None:
        assert trainings(found.run)[:3] == ["teacher-0", "teacher-0", "supernet"]
        assert trainings(found.run).count("teacher-0") == 2

    def test_its_accuracy_is_that_on_the_held_out_images(self, found) -> None:
        data = load_data("digits", validation=0.1, input_shape=(1, 8, 8))
        accuracy, _ = evaluate(bnas.load(found.run.path / "teacher"), data.validation.batches(100))
        (said,) = [event for event in found.run.events() if event["event"] == "teacher"]
        assert said["validation_accuracy"] == accuracy
        assert found.run.teacher.read().manifest["accuracy"] == {"validation": accuracy}

    def test_config_manifest_and_report_name_it(self, found, folder) -> None:
        assert found.run.config["teacher"] == described().as_real().id
        said = found.best.manifest["teacher"]
        assert said["model"] == str(folder / "large.yaml")
        assert said["weights_sha256"] == found.run.teacher.read().manifest["weights_sha256"]
        page = " ".join(found.run.report.read_text(encoding="utf-8").split())
        assert "teaches the supernet and the networks trained alone." in page.replace("\u2060", "")

    def test_it_changes_what_it_teaches(self, found, tmp_path) -> None:
        alone = bnas.search(tiny_space(), out=tmp_path / "run", progress=False)
        ours, theirs = (run.load_checkpoint("supernet").tensors for run in (found.run, alone.run))
        assert any(not torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        assert "teacher" not in alone.run.config
        assert "teacher" not in parse_yaml(alone.run.space_yaml, source="space")["search"]
        assert "teacher" not in alone.best.manifest
        assert not (alone.run.path / "teacher").exists()

    def test_the_same_call_trains_nothing_again(self, found, space, monkeypatch) -> None:
        for module, name in ((teacher, "train_staged"), (shared_weights, "train_supernet")):
            monkeypatch.setattr(module, name, None)
        bnas.search(space, out=found.run.path, progress=False)

    def test_another_teacher_is_another_run(self, found, folder) -> None:
        other = folder / "other.yaml"
        other.write_text(dump(described(stem={"width": 4})), encoding="utf-8")
        with pytest.raises(RunError, match="holds another run"):
            bnas.search(space_with(other, recipe=STAGES), out=found.run.path, progress=False)

    def test_one_that_is_damaged_is_made_again_of_its_checkpoint(self, found, space, tmp_path) -> None:
        whole = ends(found.run)
        stopped(space, tmp_path / "run", "supernet")
        (tmp_path / "run" / "teacher" / "weights.safetensors").write_bytes(b"")
        again = bnas.search(space, out=tmp_path / "run", progress=False)
        assert trainings(again.run).count("teacher-0") == 2
        assert ends(again.run) == whole

    def test_another_training_is_taught_by_it(self, found, tmp_path) -> None:
        arch = tmp_path / "arch.yaml"
        arch.write_text(dump(tiny_space().largest()), encoding="utf-8")
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(dump(Recipe(batch=256, stages=(Stage(epochs=1, distill=Distillation()),))), encoding="utf-8")
        words = ["train", str(arch), "--recipe", str(recipe), "--out", str(tmp_path / "run")]
        done = CliRunner().invoke(app, [*words, "--teacher", str(found.run.path / "teacher")])
        assert done.exit_code == 0, done.output
        assert bnas.open_run(tmp_path / "run").run.config["teacher"].endswith("teacher")


@pytest.mark.slow
class TestInterrupted:
    """Stopped and killed, on several ranks: the same end."""

    def test_stopped_in_every_phase_the_same_call_goes_on_to_the_same_end(self, found, space, tmp_path) -> None:
        for phase in ("teacher, stage 1", "supernet", "search", "retrain 1 of 4, stage 2"):
            stopped(space, tmp_path / "run", phase)
        again = bnas.search(space, out=tmp_path / "run", progress=False)
        assert ends(again.run) == ends(found.run)
        assert not [phase for phase in trainings(again.run)[3:] if phase == "teacher-0"]  # one epoch was lost

    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_killed_while_it_is_trained_and_written_it_ends_alike(self, whole, tmp_path, share) -> None:
        file, run, done = whole
        moments = [place for place, what in enumerate(done) if what.startswith("teacher")]
        at, words = moments[round(share * (len(moments) - 1))], ("search", file, "--out", tmp_path / "run")
        assert command(*words, folder=tmp_path, at=at, report=False).code == -9
        ended = command(*words, folder=tmp_path, report=False)
        assert ended.code == 0, ended.said
        assert ends(Run.read(tmp_path / "run")) == ends(run)
        assert not list((tmp_path / "run").rglob("*.tmp*"))

    def test_two_ranks_train_it_together_and_are_both_taught(self, folder, tmp_path) -> None:
        file = tmp_path / "space.yaml"
        file.write_text(dump(space_with(folder / "large.yaml", recipe=STAGES)), encoding="utf-8")
        for name in ("a", "b"):
            in_ranks(searched, file, tmp_path / name)
        assert ends(Run.read(tmp_path / "a")) == ends(Run.read(tmp_path / "b"))
        # Called again, rank 1 is given what rank 0 has kept.
        (tmp_path / "b" / "best" / "weights.safetensors").unlink()
        in_ranks(searched, file, tmp_path / "b")
        assert ends(Run.read(tmp_path / "a")) == ends(Run.read(tmp_path / "b"))
        assert trainings(Run.read(tmp_path / "b")).count("teacher-0") == 2

    def test_workers_score_without_it(self, found, space, tmp_path) -> None:
        crew = bnas.Engine("processes", workers=1)
        again = bnas.search(space, out=tmp_path / "run", engine=crew, progress=False)
        assert ends(again.run)["candidates.csv"] == ends(found.run)["candidates.csv"]


def stopped(space: SearchSpace, out: Path, phase: str) -> None:
    """Search, and stop in the middle of a phase, as a person does."""

    def progress(now: str, done: int, total: int, note: str = "") -> None:
        if now == phase and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnas.search(space, out=out, progress=progress)


def searched(ranks: Ranks, space: Path, out: Path) -> None:
    searching.report.write_report = lambda run: None
    bnas.search(space, out=out, ranks=ranks)


@pytest.fixture(scope="module")
def whole(folder) -> tuple[Path, Run, list[str]]:
    """A taught search by the command, that nobody interrupted, and what it did."""
    file = folder / "space.yaml"
    file.write_text(dump(space_with(folder / "large.yaml", recipe=STAGES)), encoding="utf-8")
    (folder / "whole").mkdir()
    ended = command("search", file, "--out", folder / "whole" / "run", folder=folder / "whole", report=False)
    assert ended.code == 0, ended.said
    return file, Run.read(folder / "whole" / "run"), ended.done


class TestThatOfAFolder:
    """A network that comes trained."""

    def test_it_is_not_trained_but_kept_and_teaches_alike(self, found, tmp_path) -> None:
        source = found.run.path / "teacher"
        again = bnas.search(space_with(source), out=tmp_path / "run", progress=False)
        assert trainings(again.run)[0] == "supernet"
        assert ends(again.run) == ends(found.run)
        assert again.run.config["teacher"].endswith(found.run.teacher.read().manifest["weights_sha256"])

    def test_what_it_may_have_been_trained_on_is_no_validation(self, found, tmp_path) -> None:
        large = described().as_real()
        recipe = Recipe(batch=256, stages=(Stage(epochs=1, rate=1e-2),))
        other = bnas.train_model(large, recipe=recipe, seed=1, out=tmp_path / "other", progress=False)
        final = tmp_path / "final"
        shutil.copytree(found.run.path / "teacher", final)
        manifest = found.run.teacher.read().manifest | {"final_training": {"done": True}}
        (final / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
        for number, source in enumerate((other.run.path / "best", final)):
            taught = bnas.search(space_with(source), trials=2, top=1, out=tmp_path / f"{number}", progress=False)
            (accuracy,) = taught.run.teacher.read().manifest["accuracy"].items()
            assert accuracy[0] == "maybe_seen"
            assert taught.best.manifest["teacher"]["maybe_seen_accuracy"] == accuracy[1]
            assert "validation_accuracy" not in taught.best.manifest["teacher"]
            page = " ".join(taught.run.report.read_text(encoding="utf-8").replace("\u2060", "").split())
            assert "of the held-out images right, which it may have been trained on, teaches" in page

    def test_a_recipe_for_it_is_refused(self, found, tmp_path) -> None:
        with pytest.raises(SpecError) as caught:
            bnas.search(space_with(found.run.path / "teacher", recipe=STAGES), out=tmp_path / "run", progress=False)
        assert line_of(caught).endswith("teacher comes trained; leave the recipe out")


class TestOfAnotherRun:
    """`--from RUN` takes the run's teacher with it."""

    @pytest.mark.parametrize("named", [True, False])
    def test_it_comes_with_the_supernet(self, found, space, tmp_path, named) -> None:
        asked = space if named else tiny_space()
        again = bnas.search(asked, supernet_of=found, trials=4, out=tmp_path / "run", progress=False)
        assert not [phase for phase in trainings(again.run) if phase.startswith(("teacher", "supernet"))]
        assert ends(again.run)["teacher/weights.safetensors"] == ends(found.run)["teacher/weights.safetensors"]
        assert again.best.manifest["teacher"] == found.best.manifest["teacher"]
        if named:  # on the same terms
            reused = {name for event in again.run.events() if event["event"] == "reused" for name in event["networks"]}
            assert reused
            assert reused == set(found.retrained["id"]) & set(again.retrained["id"])

    def test_another_teacher_is_refused(self, found, folder, tmp_path) -> None:
        asked = space_with(folder / "large.yaml", recipe=STAGES, temperature=2.0)
        with pytest.raises(RunError, match="its space has other settings of the teacher; search the space of that run"):
            bnas.search(asked, supernet_of=found, out=tmp_path / "run", progress=False)

    def test_on_the_command_line_after_the_file_of_its_architecture_is_gone(self, found, folder, tmp_path) -> None:
        (folder / "large.yaml").rename(folder / "moved.yaml")
        words = ["search", "--from", str(found.run.path), "--trials", "3", "--out", str(tmp_path / "run"), "--json"]
        done = CliRunner().invoke(app, words)
        (folder / "moved.yaml").rename(folder / "large.yaml")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["teacher"] == found.best.manifest["teacher"]

    @pytest.mark.slow
    def test_several_targets_have_one(self, space, tmp_path) -> None:
        family = bnas.search_targets(space, (["ops=8k"], ["ops=12k"]), out=tmp_path / "run", trials=3, progress=False)
        assert trainings(family.run)[:3] == ["teacher-0", "teacher-0", "supernet"]
        own = (family.run.path / "teacher" / "weights.safetensors").read_bytes()
        for result in family.values():
            assert (result.run.path / "teacher" / "weights.safetensors").read_bytes() == own
            assert not [phase for phase in trainings(result.run) if phase.startswith("teacher")]


class TestRefused:
    """What cannot teach is said in one line, before anything is made."""

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"classes": 5}, "tells 5 classes apart, but the space 10; give one for these"),
            ({"input": [1, 16, 16]}, "takes images of 1x16x16, but the space of 1x8x8; give one for these"),
            ({"input": [3, 8, 8]}, "takes images of 3x8x8, but the space of 1x8x8; give one for these"),
        ],
    )
    def test_a_network_for_other_images(self, tmp_path, changes, says) -> None:
        (tmp_path / "other.yaml").write_text(dump(described(**changes)), encoding="utf-8")
        with pytest.raises(SpecError) as caught:
            bnas.search(space_with(tmp_path / "other.yaml"), out=tmp_path / "run", progress=False)
        assert line_of(caught) == f"search.teacher.model: {tmp_path / 'other.yaml'} {says}"
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("model", "error", "says"),
        [
            (
                "resnet20_cifar",
                SpecError,
                "search.teacher.model: resnet20_cifar: fails on images of 1x8x8: RuntimeError",
            ),
            ("resnet20_cifra", LookupFailed, "did you mean 'resnet20_cifar'?"),
            ("nowhere.yaml", SpecError, "nowhere.yaml"),
            (".", RunError, "give RUN/best, RUN/teacher or an export"),
        ],
    )
    def test_a_name_that_leads_to_none(self, tmp_path, model, error, says) -> None:
        with pytest.raises(error) as caught:
            bnas.search(space_with(model), out=tmp_path / "run", progress=False)
        assert says in line_of(caught)
        assert not (tmp_path / "run").exists()

    def test_one_that_was_trained_on_images_normalised_otherwise(self, tmp_path) -> None:
        recipe, large = Recipe(batch=256, stages=(Stage(epochs=1, distill=Distillation()),)), described().as_real()
        other = bnas.train_model(large, recipe=recipe, normalise="unit", out=tmp_path / "other", progress=False)
        said = "was trained on images normalised by mean 0 and std 1, but these are by mean 0.2"
        with pytest.raises(SpecError, match=f"search.teacher.model: .*best: {said}"):
            bnas.search(space_with(other.run.path / "best"), out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()
        how = {"recipe": recipe, "teacher": other.run.path / "best", "progress": False}
        with pytest.raises(SpecError, match=f"teacher .*best: {said}"):
            bnas.train_model(large, out=tmp_path / "a", **how)
        bnas.train_model(large, normalise="unit", out=tmp_path / "b", **how)

    def test_one_without_the_maps_that_a_stage_compares(self, folder, tmp_path) -> None:
        (tmp_path / "other.yaml").write_text(dump(described(stages=[{"width": 8}, {"width": 8}])), encoding="utf-8")
        with pytest.raises(SpecError) as caught:
            bnas.search(space_with(tmp_path / "other.yaml"), out=tmp_path / "run", progress=False)
        said = line_of(caught)
        assert said.startswith("search.retrain.recipe.stages[1].distill.attention: compares what each stage gives")
        assert "gives [(8, 8), (4, 4)] and the teacher [(8, 8), (8, 8)]" in said

    def test_one_that_would_teach_nothing(self, tmp_path) -> None:
        with pytest.raises(SpecError, match=r"search\.teacher: teaches nothing, for its logits are 0 and no stage"):
            bnas.search(
                space_with("resnet20_cifar", logits=0.0, stages=[{"epochs": 1}]), out=tmp_path / "run", progress=False
            )

    def test_a_batch_of_more_than_all_images(self, folder, tmp_path) -> None:
        space = space_with(folder / "large.yaml", recipe=STAGES)
        settings = space.search.model_dump()
        settings["teacher"]["recipe"]["batch"] = 5000
        with pytest.raises(BnasError, match=r"search\.teacher\.recipe\.batch: 5000 is more than the"):
            bnas.search(tiny_space(search=settings), out=tmp_path / "run", progress=False)

    def test_code_that_a_file_names(self, tmp_path) -> None:
        (tmp_path / "space.yaml").write_text(dump(space_with("net.py:build")), encoding="utf-8")
        with pytest.raises(BnasError, match=r"search\.teacher\.model names code, 'net.py:build', which would be run"):
            bnas.search(tmp_path / "space.yaml", out=tmp_path / "run", progress=False)

    def test_a_training_with_one_of_other_classes(self, tmp_path) -> None:
        with pytest.raises(SpecError, match=r"teacher: gives logits \[2, 5\] for a batch of 2, but 10 classes need"):
            bnas.train_model(
                tiny_space().smallest(), teacher=build(described(classes=5)), epochs=1, out=tmp_path / "run",
                progress=False,
            )  # fmt: skip

    def test_one_that_learned_nothing_is_warned_of(self, folder, tmp_path, caplog) -> None:
        space = space_with(folder / "large.yaml", recipe=[{"epochs": 1, "rate": 1e-9}])
        stopped(space, tmp_path / "run", "supernet")
        assert "no better than guessing" in caplog.text
        assert "it has nothing to teach; train it longer, or give another" in caplog.text
        assert CliRunner().invoke(app, ["report", str(tmp_path / "run")]).exit_code == 0
        page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert "of the held-out images right" in " ".join(page.replace("\u00a0", " ").split())


class TestLessons:
    """What a step and a stage learn from a teacher."""

    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_a_step_of_the_supernet_adds_the_divergence_of_its_logits(self, temperature) -> None:
        torch.manual_seed(0)
        net, draws, images = Supernet(tiny_space()), WholeSpace(tiny_space(), seed=0), torch.randn(16, 1, 8, 8)
        labels, large = torch.arange(16) % 10, build(described()).eval()
        weights = Teacher(model="x", logits=0.5, temperature=temperature).of_supernet
        untaught = SupernetLoss(net, SupernetRecipe(), draws)
        taught = replace(untaught, lesson=Lesson(large, weights))
        extra = taught(images, labels, 3) - untaught(images, labels, 3)
        with torch.no_grad():
            wanted, given = large(images) / temperature, net(images, draws(3)) / temperature
        divergence = (wanted.softmax(1) * (wanted.log_softmax(1) - given.log_softmax(1))).sum(1).mean()
        assert extra.item() == pytest.approx(0.5 * temperature**2 * divergence.item(), rel=1e-3)

    def test_of_a_sandwich_the_largest_alone_is_taught(self) -> None:
        torch.manual_seed(0)
        net, draws, images = Supernet(tiny_space()), WholeSpace(tiny_space(), seed=0), torch.randn(16, 1, 8, 8)
        labels, large = torch.arange(16) % 10, build(described()).eval()
        untaught = SupernetLoss(net, SupernetRecipe(mode="sandwich", teacher="binary"), draws)
        taught = replace(untaught, lesson=Lesson(large, Distillation()))
        extra = taught(images, labels, 3) - untaught(images, labels, 3)
        with torch.no_grad():
            given, wanted = net(images, draws.largest).log_softmax(1), large(images).log_softmax(1)
        divergence = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
        assert extra.item() == pytest.approx(divergence.item(), rel=1e-3)

    @pytest.mark.parametrize(("distilled", "who"), [((0,), [True]), ((1,), [True]), ((0, 1), [True, False]), ((), [])])
    def test_it_teaches_the_first_stage_that_is_taught(self, monkeypatch, distilled, who) -> None:
        taught = []

        class Teaches(nn.Module):
            def forward(self, images):
                taught.append(True)
                return torch.zeros(len(images), 10)

        arch, data = tiny_space().smallest(), load_data("digits", limit=300)

        class Learns(nn.Module):
            def __init__(self, stage: Stage) -> None:
                super().__init__()
                self.inner = build_for(arch, stage)

            def forward(self, images):
                if not self.training:
                    taught.append(False)
                return self.inner(images)

        stages = tuple(Stage(epochs=1, distill=Distillation() if n in distilled else None) for n in range(2))
        recipe = Recipe(batch=250, stages=stages)  # one step each
        train_staged(Learns, recipe, data, name="a", seed=0, store=MemoryStore(), device=CPU, teacher=Teaches())
        assert taught == who

    def test_finalists_are_taught(self, found, space, monkeypatch, tmp_path) -> None:
        given = []
        monkeypatch.setattr(searching, "retrain", lambda *args, teacher, **more: given.append(teacher) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bnas.search(space, out=tmp_path / "run", progress=False)
        own, kept = given[0].state_dict(), found.run.teacher.read().tensors
        assert all(torch.equal(own[name], tensor) for name, tensor in kept.items())
        assert not any(weight.requires_grad for weight in given[0].parameters())

    def test_a_rank_check_trains_its_networks_with_it(self, found, monkeypatch) -> None:
        from bnas.api import rank_checking

        given = []
        monkeypatch.setattr(rank_checking, "train_alone", lambda *args, teacher, **more: given.append(teacher) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bnas.check_ranking(found.run.path, networks=3, repeated=0, progress=False)
        assert torch.equal(given[0].head.classifier.weight, found.run.teacher.read().tensors["head.classifier.weight"])


@pytest.fixture(scope="module")
def asked(folder):
    """A taught search that is not begun, and its images."""
    request = resolve(space_with(folder / "large.yaml", recipe=STAGES), "digits")
    data = load_matching(request)
    return appointed(request, data, trust=False).on(data), data


class TestItsTime:
    """What a teacher takes is planned with."""

    def test_its_pace_is_measured(self, asked) -> None:
        assert pace_of(*asked).teacher_step > 0

    def test_it_grows_and_shrinks_with_the_others(self, asked) -> None:
        request, data = asked
        pace = Pace(supernet_step=0.01, score=0.02, alone_step=0.008, teacher_step=0.01)
        made = fitted(request, pace, data, 60, trials=None)
        assert planned(made.settings, pace, data).seconds <= 60
        assert made.settings.teacher.recipe.epochs > request.settings.teacher.recipe.epochs
        steps = data.train.steps(256)
        assert planned(made.settings, pace, data).teacher == made.settings.teacher.recipe.epochs * steps * 0.01

    def test_what_comes_trained_takes_none_and_stays(self, asked) -> None:
        request, data = asked
        taken = replace(request, supernet_of="runs/other")
        pace = Pace(supernet_step=0.01, score=0.02, alone_step=0.008, teacher_step=0.01)
        made = fitted(taken, pace, data, 60, trials=None)
        assert planned(made.settings, pace, data, is_trained=True).teacher == 0
        assert made.settings.teacher == request.settings.teacher
        assert made.settings.supernet == request.settings.supernet

    @pytest.mark.slow
    def test_a_search_of_some_minutes_says_its_part_and_searches_a_trained_supernet_too(
        self, space, tmp_path, caplog, monkeypatch
    ) -> None:
        caplog.set_level("INFO", logger="bnas.images")
        monkeypatch.setattr(timing.TimeUp, "__call__", lambda self: True)
        found = bnas.search(space, minutes=0.3, out=tmp_path / "run", progress=False)
        assert "by the pace measured here: teacher " in caplog.text
        assert "plan teacher of the supernet and the networks trained alone, " in caplog.text
        own = parse(SearchSpace, parse_yaml(found.run.space_yaml, source="space"), source="space")
        assert own.search.teacher.recipe.epochs == trainings(found.run).count("teacher-0")
        again = bnas.search(own, supernet_of=found, minutes=0.2, out=tmp_path / "again", progress=False)
        assert again.run.teacher.is_sound()


class TestSettings:
    def test_those_of_runs_begun_before_stay_as_they_were(self) -> None:
        assert "teacher" not in SearchSettings().model_dump()
        assert "teacher" not in parse_yaml(dump(tiny_space()), source="space")["search"]

    def test_ours_is_the_recipe_of_a_real_network_where_none_is_given(self, folder) -> None:
        request = resolve(space_with(folder / "large.yaml"), "digits")
        recipe = appointed(request, load_matching(request), trust=False).settings.teacher.recipe
        assert recipe == read_recipe("straight_through").for_one_expert()

    def test_a_network_by_name_has_the_classes_and_images_of_the_space(self) -> None:
        space = tiny_space(input=[3, 8, 8], search=space_with("resnet20_cifar", stages=TAUGHT).search.model_dump())
        images = torch.rand(400, 3, 8, 8)
        request = resolve(space, (images, torch.arange(400) % 10))
        made = appointed(request, load_matching(request), trust=False)
        assert made.teacher.described.model_dump(include={"model", "input", "classes", "precision"}) == {
            "model": "resnet20_cifar", "input": (3, 8, 8), "classes": 10, "precision": "real"
        }  # fmt: skip

    def test_nothing_of_a_network_made_real_is_binary(self) -> None:
        arch = described().as_real()
        assert cost(plan(arch)).bops == 0
        assert {layer.precision for layer in plan(arch) if layer.macs} == {"real"}
        assert arch.as_real() == arch
