"""The export folder: proved before it is there, loaded back, trained and evaluated with torch alone."""

import ast
import fcntl
import os
import shutil
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import files_of, finished_run, importing_from, manifest_of, ran, trained
from safetensors.torch import load_file
from spaces import line_of, make_arch
from torch import Tensor, nn
from typer.testing import CliRunner

from bnas.api import export
from bnas.cli.app import app
from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.data import AUGMENTATIONS, load_data
from bnas.data.transforms import normalised
from bnas.data.user_objects import KEYS
from bnas.errors import BnasError, ExportError, LookupFailed, RunError
from bnas.layers.blocks import Network
from bnas.networks.build import build
from bnas.runs import Run
from bnas.seeds import derived
from bnas.ship import EXPORTERS, TrainedNetwork, count_again, load, prove_reload
from bnas.ship.model_file import ModelFiles, literal, model_files
from bnas.ship.training import Known, Normalisation, training_files
from bnas.space.arch import Architecture, Binarizers
from bnas.space.recipe import BopSettings, Distillation, Recipe, Stage
from bnas.spec import dump
from bnas.train import build_for, train_staged
from tests.packed import pairs
from tests.tiny import MemoryStore

FILES = {
    "model.py", "layers.py", "train.py", "training.py", "images.py", "requirements.txt", "architecture.yaml",
    "weights.safetensors", "manifest.json",
}  # fmt: skip
ARCH = make_arch(
    input=[1, 8, 8], classes=10, stem={"width": 16}, stage={"experts": 2, "stride": 2, "width": 32, "groups": 2}
)
RECIPE = Recipe(
    stages=(
        Stage(epochs=2, weights="real", experts="first", rate=5e-3, weight_decay=1e-4),
        Stage(epochs=4, rate=5e-3, label_smoothing=0.05, distill=Distillation(attention=1.0, temperature=2.0)),
    ),
    batch=32,
)


def finished(path: Path, network: nn.Module, arch: Architecture = ARCH, **known: Any) -> Path:
    return finished_run(path, network, arch, RECIPE, **known)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(ARCH)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    return finished(tmp_path_factory.mktemp("runs") / "run", network)


@pytest.fixture(scope="module")
def exported(run_folder: Path) -> Path:
    return export(run_folder, out=run_folder.parent / "out")


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """An export that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def images(arch: Architecture = ARCH) -> Tensor:
    return torch.randn(4, *arch.input, generator=torch.Generator().manual_seed(3))


def left_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_export_writes_its_files_and_nothing_beside_them(exported: Path) -> None:
    assert left_in(exported) == FILES
    assert left_in(exported.parent) == {"run", "out"}


def test_manifest_says_that_the_network_came_back(exported: Path, network: nn.Module) -> None:
    manifest = manifest_of(exported)
    assert manifest["reload"]["identical"]
    assert manifest["reload"]["max_difference"] == 0
    assert manifest["reload"]["without_bnas"]
    assert manifest["reload"]["batch_norm"]["fewest_batches"] == 1
    assert manifest["counted_again"] == cost(plan(ARCH)).as_dict()
    assert manifest["accuracy"]["test"] == 0.125
    assert manifest["needs"] == []
    assert manifest["export"]["files"].keys() == FILES - {"manifest.json"}
    assert manifest["weights_sha256"] == manifest["export"]["files"]["weights.safetensors"]


def test_model_file_says_what_it_is(exported: Path) -> None:
    text = (exported / "model.py").read_text()
    assert f"Binary network {ARCH.id} " in text
    assert f"{cost(plan(ARCH)).bops} BOPs" in text
    assert "25.00 % on validation images, 12.50 % on test images" in text


def test_load_gives_the_network_ready_to_evaluate(exported: Path, run_folder: Path, network: nn.Module) -> None:
    for folder in (exported, run_folder / "best"):
        loaded = load(folder)
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(images()), network(images()))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export of one file, without a proof."""

    def other(best: TrainedNetwork, folder: Path) -> dict[str, Any]:
        (folder / "other.txt").write_text(best.described.id)
        return {"made": "quickly"}

    monkeypatch.setitem(EXPORTERS, "training", other)


def test_an_export_may_be_written_again_over_itself(copied: Path, run_folder: Path, quick: None) -> None:
    (copied / "__pycache__").mkdir()
    assert export(run_folder, out=copied) == copied
    assert left_in(copied) == {"other.txt", "manifest.json"}
    assert manifest_of(copied)["made"] == "quickly"


def test_what_lies_beside_an_export_is_left_alone(copied: Path, run_folder: Path, quick: None) -> None:
    for name in ("copy.previous", ".copy.previous", ".copy.4194305.tmp"):  # no process has that number
        (copied.parent / name).mkdir()
        (copied.parent / name / "mine.txt").touch()
    before = left_in(copied.parent)
    export(run_folder, out=copied)
    assert left_in(copied.parent) == before
    assert all(left_in(copied.parent / name) == {"mine.txt"} for name in before - {"copy"})


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_killed_export_left_is_cleared_up_and_what_it_moved_away_put_back(
    copied: Path, run_folder: Path, tmp_path: Path, moved: bool
) -> None:
    left, alive = tmp_path / ".copy.4194305.tmp", tmp_path / ".copy.0123456789abcdef.tmp"
    (left / "new").mkdir(parents=True)
    (alive / "new").mkdir(parents=True)
    handle = os.open(alive, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as who is at work in it does
    (copied / "notes.txt").write_text("mine")
    if moved:
        copied.rename(left / "old")
    with pytest.raises(ExportError, match=r"notes\.txt would be lost"):
        export(run_folder, out=copied)
    assert left_in(tmp_path) == {"copy", alive.name}
    assert (copied / "notes.txt").read_text() == "mine"
    os.close(handle)


def test_a_folder_that_holds_something_else_is_refused(copied: Path, run_folder: Path, tmp_path: Path) -> None:
    other = make_arch(input=[1, 8, 8], classes=10)
    second = finished(tmp_path / "other", trained(other), other)
    with pytest.raises(ExportError, match=f"other than an export of architecture {other.id}"):
        export(second, out=copied)
    with pytest.raises(ExportError, match="other than an export"):
        export(run_folder, out=run_folder)
    with pytest.raises(ExportError, match="is a file"):
        export(run_folder, out=copied / "model.py")


def test_another_training_of_the_same_architecture_is_kept(copied: Path, run_folder: Path, tmp_path: Path) -> None:
    before, other = manifest_of(copied), trained(ARCH)
    with torch.no_grad():
        other.head.classifier.bias.add_(1)
    second = finished(tmp_path / "second", other)
    with pytest.raises(ExportError, match="with other weights, of another training; give another folder"):
        export(second, out=copied)
    assert manifest_of(copied) == before


def test_the_current_folder_is_not_replaced(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match=r"^\.: is the current folder, which cannot be replaced as a whole"):
        export(run_folder, out=Path())
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("text", ["\U0001f600", "\U00020bb7", "a\u2028b", "\x7f\U0001f600\n", "\ud83d", "é'\"\\", ""])
def test_any_text_is_written_as_source_that_means_it(text: str) -> None:
    assert ast.literal_eval(literal(text)) == text
    assert literal(text).startswith('"')


def test_what_a_person_changed_in_an_export_is_not_overwritten(copied: Path, run_folder: Path) -> None:
    (copied / "train.py").write_text("my own")
    (copied / "notes").mkdir()
    (copied / "notes" / "one.txt").write_text("mine")
    with pytest.raises(ExportError) as caught:
        export(run_folder, out=copied)
    assert "notes/one.txt, train.py would be lost" in line_of(caught)
    assert (copied / "train.py").read_text() == "my own"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("stride=2", "stride=1", "logits differ"),
        ("    return Network(", "    import bnas\n    return Network(", "import of bnas"),
    ],
    ids=["other logits", "needs bnas"],
)
def test_a_failed_proof_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, reason: str
) -> None:
    def wrong(arch: Architecture, network: nn.Module, price: Cost, **how: Any) -> ModelFiles:
        made = model_files(arch, network, price, **how)
        return made._replace(files=made.files | {"model.py": made.files["model.py"].replace(before, after)})

    monkeypatch.setattr(sys.modules["bnas.ship.training"], "model_files", wrong)
    with pytest.raises(ExportError) as caught:
        export(run_folder, out=tmp_path / "out")
    assert reason in line_of(caught)
    assert left_in(tmp_path) == set()


def test_an_unfinished_run_and_an_unknown_target_are_refused(run_folder: Path, tmp_path: Path) -> None:
    Run.open(tmp_path / "run", config={}, space_yaml="stem: 1\n")
    with pytest.raises(RunError):
        export(tmp_path / "run", out=tmp_path / "out")
    with pytest.raises(LookupFailed, match="training"):
        export(run_folder, to="trainin", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('weights')", "its code fails: KeyError: 'weights'"),
        ("return None", "must return a dict, of entries for the manifest, but gave NoneType"),
        ("return {'made': {1, 2}}", "its code fails: TypeError: "),
        ("raise SystemExit(0)", "its code fails: its code ends Python, with sys.exit(0); take that out"),
    ],
)
def test_an_exporter_of_a_user_that_fails_is_said_to(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, body: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(f"def names(trained, folder):\n    {body}\n")
    with pytest.raises(ExportError) as caught:
        export(run_folder, to="own.py:names", out="out", trust=True)
    assert line_of(caught).startswith(f"export target 'own.py:names': {reason}")
    assert left_in(tmp_path) == {"own.py"}


def test_a_variant_is_the_entry_of_its_target(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setitem(EXPORTERS, "training-rest", EXPORTERS["training"])
    done = CliRunner().invoke(app, ["export", str(run_folder), "--for", "rest", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert manifest_of(tmp_path / "out")["export"]["to"] == "training-rest"


@pytest.mark.parametrize(
    ("to", "variant", "reason"),
    [
        ("training", "rets", "variant of export target 'training' 'rets' is not known; did you mean 'rest'? choose"),
        ("packed", "rest", "export target 'packed' has no variants; leave 'rest' out"),
        ("trainin", "rest", "export target 'trainin' is not known; did you mean 'training'?"),
    ],
)
def test_a_variant_that_is_not_there_is_refused(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, variant: str, reason: str
) -> None:
    monkeypatch.setitem(EXPORTERS, "training-rest", EXPORTERS["training"])
    with pytest.raises(LookupFailed) as caught:
        export(run_folder, to=to, for_=variant, out=tmp_path / "out")
    assert reason in line_of(caught)
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("known", "where"),
    [
        ({"recipe": {"stages": []}}, "recipe.stages: "),
        ({"recipe": {"stages": [{"epochs": 1, "speed": 2}]}}, "recipe.stages[0].speed: unknown key"),
        ({"normalisation": {"mean": [0.5]}}, "normalisation.std: this key is required"),
        ({"augmentation": ["own.py:blur"]}, "augmentation[0]: "),
        ({"architecture_id": "none"}, "but manifest.json says none"),
    ],
    ids=["no stages", "unknown key", "no deviation", "own augmentation", "other architecture"],
)
def test_a_manifest_that_does_not_say_enough_is_named(
    tmp_path: Path, network: nn.Module, known: dict[str, Any], where: str
) -> None:
    run = finished(tmp_path / "run", network, **known)
    with pytest.raises(BnasError) as caught:
        export(run, out=tmp_path / "out")
    assert where in line_of(caught)
    assert left_in(tmp_path) == {"run"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"no weights"), "sha256"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors: is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: is missing"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "it must hold keys and values"),
        (lambda folder: shutil.rmtree(folder), "is no folder"),
        (lambda folder: (folder / "architecture.yaml").write_text(dump(make_arch())), "architecture.yaml: is damaged"),
    ],
    ids=["damaged weights", "no weights", "no manifest", "other manifest", "no folder", "other architecture"],
)
def test_load_says_in_one_line_what_is_wrong(copied: Path, spoil: Any, reason: str) -> None:
    spoil(copied)
    with pytest.raises(BnasError) as caught:
        load(copied)
    assert reason in line_of(caught)


def test_prove_reload_finds_a_network_that_is_not_the_one(network: nn.Module) -> None:
    tensors = dict(network.state_dict())
    assert prove_reload(ARCH, tensors, network=network)["identical"]
    spoiled = tensors | {"head.classifier.bias": tensors["head.classifier.bias"] + 1}
    with pytest.raises(ExportError, match="logits differ"):
        prove_reload(ARCH, spoiled, network=network)
    with pytest.raises(ExportError, match="Missing key"):
        prove_reload(ARCH, {}, network=network)


def test_prove_reload_finds_batch_norm_that_cannot_be_right(network: nn.Module) -> None:
    fresh = build(ARCH)
    with pytest.raises(ExportError, match=r"stem\.norm: this batch norm has never seen an image"):
        prove_reload(ARCH, fresh.state_dict(), network=fresh)
    broken = trained(ARCH)
    assert isinstance(broken, Network)
    assert isinstance(broken.head.norm, nn.BatchNorm2d)
    assert broken.head.norm.running_var is not None
    broken.head.norm.running_var[0] = -1e-9  # too little for a wrong logit
    with pytest.raises(ExportError, match=r"head\.norm"):
        prove_reload(ARCH, broken.state_dict(), network=broken)


def test_count_again_finds_a_network_that_costs_something_else() -> None:
    assert count_again(build(ARCH), ARCH) == cost(plan(ARCH))
    with pytest.raises(ExportError, match=r"costs bops \d+ instead of \d+"):
        count_again(build(ARCH), make_arch(input=[1, 8, 8], classes=10, stem={"width": 16}))


# train.py


@pytest.fixture
def script(copied: Path) -> Iterator[types.ModuleType]:
    """train.py as a module; like a script it finds what lies beside it."""
    with importing_from(copied) as module:
        yield module("train")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    shown, labels = (data.images[order] / 16).astype(np.float32), data.target[order]
    file = tmp_path_factory.mktemp("data") / "digits.npz"
    parts = {"train": slice(400, None), "test": slice(400)}
    arrays = {f"{part}_images": shown[rows, None] for part, rows in parts.items()}
    np.savez(file, **arrays, **{f"{part}_labels": labels[rows] for part, rows in parts.items()})
    return file


def said(script: types.ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run train.py in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--device", "cpu", *map(str, arguments)])
    script.main()


def accuracy_in(output: str) -> float:
    return float(output.rpartition("test accuracy ")[2].split()[0]) / 100


def test_train_script_learns_and_saves_what_it_learnt(
    script: types.ModuleType,
    copied: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (copied / "train.py").read_text()
    (copied / "train.py").write_text(text.replace('("flip", "shift")', "()"))  # mirrored digits are hard to tell apart
    done = ran(copied, "--data", digits, "--epochs", "4")
    assert done.returncode == 0, done.stderr
    assert accuracy_in(done.stdout) > 0.6  # chance is 0.1
    said(script, monkeypatch, "--data", digits, "--epochs", 0, "--weights", copied / "trained.safetensors")
    assert accuracy_in(capsys.readouterr().out) == accuracy_in(done.stdout)


def test_train_script_evaluates_the_weights_beside_it(
    script: types.ModuleType,
    digits: Path,
    network: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with np.load(digits) as data:
        shown, labels = torch.from_numpy(data["test_images"]), torch.from_numpy(data["test_labels"])
    with torch.no_grad():
        right = (network((shown - 0.3) / 0.37).argmax(1) == labels).float().mean()
    said(script, monkeypatch, "--data", digits, "--epochs", 0)
    assert accuracy_in(capsys.readouterr().out) == pytest.approx(float(right), abs=5e-5)  # two decimals of a percentage


def test_finetuning_goes_on_from_the_weights_with_the_last_stage(
    script: types.ModuleType,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "tuned.safetensors"
    said(script, monkeypatch, "--data", digits, "--finetune", "--epochs", 1, "--batch", 500, "--out", out)
    assert "stage 1/1: binary weights, experts: all" in capsys.readouterr().out
    start, tuned = load_file(script.HERE / "weights.safetensors"), load_file(out)
    moved = {name: float((tuned[name] - start[name]).abs().max()) for name in start if name.endswith("weight")}
    # Adam moves a weight by about the rate a step, and there are two: far less than fresh weights would differ by.
    assert all(0 < distance < 3 * RECIPE.stages[-1].rate for distance in moved.values())


def as_written(stage: Stage) -> dict[str, Any]:
    """Return a stage as the script's `Stage` has it."""
    return {"one_expert": 0.0, "ema": 0.0} | stage.model_dump(exclude={"steps"})


def test_train_script_has_the_recipe(script: types.ModuleType) -> None:
    assert [asdict(written) for written in script.STAGES] == [as_written(stage) for stage in RECIPE.stages]
    text = (script.HERE / "train.py").read_text()
    assert "type: ignore" not in text
    assert max(map(len, text.splitlines())) <= 120
    assert (32, (1, 8, 8), tuple("0123456789")) == (script.BATCH, script.INPUT, script.CLASSES)
    assert (script.MEAN, script.STD, script.AUGMENTATION) == ((0.3,), (0.37,), ("flip", "shift"))


UNUSUAL = Stage(
    epochs=1, inputs="real", weights="real", optimizer="sgd", momentum=0.5, warmup=0.5, weight_decay=1e-3,
    centre_latent=True, clip_latent=True, label_smoothing=0.1, mixup=0.4, dtype="bfloat16",
    bop=BopSettings(adaptivity=0.5, threshold=0.5),
)  # fmt: skip
RECIPES = {
    "experts": RECIPE,
    "everything": Recipe(
        stages=(UNUSUAL, UNUSUAL.model_copy(update={"inputs": "binary", "weights": "binary"})), batch=64
    ),
    "one expert first": Recipe(stages=(Stage(epochs=2, rate=1e-2, one_expert=0.5),), batch=64),
    "averaged": Recipe(stages=(Stage(epochs=1, weights="real", ema=0.5), Stage(epochs=2, ema=0.9)), batch=64),
    "bop": Recipe(
        stages=(Stage(epochs=2, optimizer="bop", bop=BopSettings(adaptivity=0.1, threshold=1e-8)),), batch=64
    ),
}


@pytest.mark.parametrize(
    ("name", "weights"),
    [at for at in pairs(sorted(RECIPES), ("xnor", "group")) if at != ("averaged", "group")],
)
def test_train_script_trains_as_our_own_loop_does(
    name: str, weights: str, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same batches it ends in the same bits."""
    arch, recipe, digits = (
        ARCH.model_copy(update={"binarizers": Binarizers(weight=weights)}),
        RECIPES[name],
        load_data("digits"),
    )
    known, made = (
        Known(recipe=recipe, normalisation=Normalisation(mean=(0.3,), std=(0.37,)), accuracy={}),
        files_of(arch),
    )
    for file, text in {**made.files, **training_files(arch, known, made.layers)}.items():
        (copied / file).write_text(text)
    cpu, store = torch.device("cpu"), MemoryStore()
    ours = train_staged(partial(build_for, arch), recipe, digits, name="a", seed=3, store=store, device=cpu)
    passes = iter(
        [(derived(3, "stage", n), epoch) for n, stage in enumerate(recipe.stages) for epoch in range(stage.epochs)]
    )

    def as_dealt(data: Any, size: int, device: torch.device, generator: torch.Generator) -> Any:
        seed, epoch = next(passes)
        return digits.train.batches(size, seed=seed, epoch=epoch)

    with importing_from(copied) as module:
        script = module("train")
        assert [asdict(stage) for stage in script.STAGES] == [as_written(stage) for stage in recipe.stages]
        monkeypatch.setattr(script, "batches", as_dealt)
        data = (digits.train.images, digits.train.labels)
        theirs = script.train(script.STAGES, data, batch=recipe.batch, device=cpu, seed=3)
    assert [*passes] == []
    expected, found = ours.state_dict(), theirs.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_first_stage_has_one_expert(script: types.ModuleType) -> None:
    assert repr(script.make(script.STAGES[0])) == repr(build(ARCH.with_one_expert()))
    assert repr(script.make(script.STAGES[1])) == repr(build(ARCH))


def test_a_network_without_experts_is_not_asked_for_one(tmp_path: Path) -> None:
    made = files_of(make_arch())
    known = Known(recipe=RECIPE, normalisation=Normalisation(mean=(0.3,), std=(0.37,)), accuracy={})
    for file, text in {**made.files, **training_files(make_arch(), known, made.layers)}.items():
        (tmp_path / file).write_text(text)
    with importing_from(tmp_path) as module:
        script = module("train")
        assert [stage.experts for stage in script.STAGES] == ["all", "all"]
        assert repr(script.make(script.STAGES[0])) == repr(build(make_arch()))


def test_a_loss_that_is_not_finite_ends_training_with_one_line(copied: Path, digits: Path) -> None:
    text = (copied / "train.py").read_text()
    (copied / "train.py").write_text(text.replace("rate=0.005", "rate=1e30"))
    done = ran(copied, "--data", digits)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("stage 1: the loss is nan at epoch 1, step ")
    assert not (copied / "trained.safetensors").exists()


def test_image_folders_and_keras_files_are_read(script: types.ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 1)):
        for kind in ("ant", "bee"):
            folder = tmp_path / part / kind
            folder.mkdir(parents=True)
            for index in range(count):
                shade = np.full((16, 16), 250 if kind == "bee" else 5, np.uint8)
                Image.fromarray(shade).save(folder / f"{index}.png")
    (x, y), (u, _) = script.load_data(tmp_path)
    assert (x.shape, u.shape, y.tolist()) == ((4, 1, 8, 8), (2, 1, 8, 8), [0, 0, 1, 1])
    assert x.flatten(1).float().mean(1).tolist() == [5, 5, 250, 250]
    shown = rng.integers(0, 256, (6, 8, 8), np.uint8)
    np.savez(tmp_path / "k.npz", x_train=shown, y_train=np.arange(6), x_test=shown[:2], y_test=np.arange(2))
    (x, y), _ = script.load_data(tmp_path / "k.npz")
    many, kinds = np.repeat(shown, 10, 0), np.repeat(np.arange(2), 30)
    np.savez(tmp_path / "two.npz", images=many, labels=kinds)
    (a, b), (c, d) = script.load_data(tmp_path / "two.npz")
    ours = load_data(tmp_path / "two.npz")
    assert (len(a), len(b), len(c), len(d)) == (48, 48, 12, 12)
    assert torch.equal(d, ours.test.labels)
    np.savez(tmp_path / "none.npz", pictures=many)
    with pytest.raises(SystemExit, match=r"none\.npz: needs arrays train_images and train_labels, but has pictures"):
        script.load_data(tmp_path / "none.npz")
    assert torch.allclose(
        script.normalised(x, (0.3,), (0.37,)), (torch.from_numpy(shown)[:, None].float() / 255 - 0.3) / 0.37, atol=1e-6
    )


GREY, KINDS = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 3
TEST, VALIDATION = slice(20), slice(20, 40)
SPLITS: dict[str, tuple[dict[str, Any], slice | None]] = {
    "validation alone": ({"val_images": GREY[VALIDATION], "val_labels": KINDS[VALIDATION]}, VALIDATION),
    "both": (
        {"val_images": GREY[VALIDATION], "val_labels": KINDS[VALIDATION],
         "test_images": GREY[TEST], "test_labels": KINDS[TEST]}, TEST,
    ),
    "a test split without labels": ({"test_images": GREY[TEST], "test_labels": np.full(20, -1)}, None),
    "and validation": (
        {"val_images": GREY[VALIDATION], "val_labels": KINDS[VALIDATION],
         "test_images": GREY[TEST], "test_labels": np.full(20, -1)}, VALIDATION,
    ),
    "a column": ({"test_images": GREY[TEST], "test_labels": KINDS[TEST, None]}, TEST),
    "capitals": ({"X_test": GREY[TEST], "y_test": KINDS[TEST]}, TEST),
}  # fmt: skip


def test_names_of_arrays_are_those_that_bnas_knows(script: types.ModuleType) -> None:
    assert script.ARRAYS == KEYS


@pytest.mark.parametrize("name", SPLITS)
def test_the_images_that_train_py_tests_on_are_those_of_bnas(
    script: types.ModuleType, tmp_path: Path, name: str
) -> None:
    arrays, where = SPLITS[name]
    np.savez(tmp_path / "a.npz", train_images=np.repeat(GREY, 2, 0), train_labels=np.repeat(KINDS, 2), **arrays)
    (x, _), (u, v) = script.load_data(tmp_path / "a.npz")
    ours = load_data(tmp_path / "a.npz")
    assert isinstance(ours.test.images, Tensor)
    assert torch.equal(u, ours.test.images)
    assert torch.equal(v, ours.test.labels)
    assert where is None or torch.equal(u, torch.from_numpy(GREY[where])[:, None])
    assert len(x) == 2 * len(GREY) - (len(u) if where is None else 0)


def test_labels_of_an_npz_may_be_names(
    script: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "CLASSES", ("ant", "bee", "cat"))
    names = np.array(["cat", "ant", "bee"])[KINDS]
    np.savez(tmp_path / "a.npz", images=GREY, labels=names, test_images=GREY[TEST], test_labels=names[TEST])
    (_, y), (_, v) = script.load_data(tmp_path / "a.npz")
    assert torch.equal(v, y[TEST])
    assert y[:3].tolist() == [2, 0, 1]


def test_a_test_folder_without_classes_is_passed_over(script: types.ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(30):
        folder = tmp_path / "train" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY[number]).save(folder / f"{number}.png")
    (tmp_path / "test").mkdir()
    Image.fromarray(GREY[0]).save(tmp_path / "test" / "0.png")
    (x, _), (u, v) = script.load_data(tmp_path)
    ours = load_data(tmp_path)
    assert (len(x), len(u)) == (24, 6) == (len(ours.train) + len(ours.validation), len(ours.test))
    assert torch.equal(v, ours.test.labels)


def test_images_that_do_not_fit_the_network_end_with_one_line(script: types.ModuleType) -> None:
    shown, labels = torch.zeros(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(SystemExit, match=r"^test images are \[1, 9, 9\], but the network takes \[1, 8, 8\]$"):
        script.check((torch.zeros(4, 1, 9, 9), labels), "test")
    with pytest.raises(SystemExit, match=r"^there are 4 test images and 3 labels; give one label each$"):
        script.check((shown, labels[:3]), "test")
    with pytest.raises(SystemExit, match=r"^test labels go from 7 to 10; the network has 10 classes$"):
        script.check((shown, labels + 7), "test")


def test_training_images_are_augmented_and_others_are_not(script: types.ModuleType) -> None:
    data = (torch.rand(10, 1, 8, 8), torch.arange(10))
    cpu, generator, twin = torch.device("cpu"), torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    order = torch.randperm(10, generator=twin)[:8]
    for (images, labels), places in zip(script.batches(data, 4, cpu, generator), order.split(4), strict=True):
        expected = data[0][places]
        for name in ("flip", "shift"):
            expected = AUGMENTATIONS[name](expected, twin)
        assert torch.equal(images, normalised(expected, (0.3,), (0.37,)))
        assert torch.equal(labels, places)
    assert torch.equal(
        torch.cat([images for images, _ in script.batches(data, 4, cpu)]), normalised(data[0].clone(), (0.3,), (0.37,))
    )
