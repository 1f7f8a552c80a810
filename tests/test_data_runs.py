"""What runs do with images: say which they are, keep them, refuse others, resize them, take them as a model wants."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import bnas
from bnas.api.finetuning import accuracies
from bnas.api.rank_checking import check_ranking
from bnas.api.selecting import select_layers
from bnas.api.selecting_by_name import select_model
from bnas.data import DataSet, from_arrays, load_data
from bnas.errors import DataError, RunError, SpecError, Stopped
from bnas.networks.user_model import build_original
from bnas.space.arch import Architecture
from bnas.space.original import Original
from bnas.space.recipe import Recipe, Stage
from bnas.train import Ranks
from tests.test_cli import bnas as command
from tests.test_ranks import in_ranks
from tests.tiny import tiny_file, tiny_space

SHORT = Recipe(batch=50, stages=(Stage(epochs=2, rate=4e-3),))
ARCH = tiny_space().smallest()

CODE = '''
import numpy as np
from dataclasses import replace
from sklearn.datasets import load_digits
from torch import nn
from bnas.data import load_data

x, y = load_digits(return_X_y=True)
x = (x * 15).astype(np.uint8).reshape(-1, 8, 8)

def anew():
    """A split that is drawn anew at every call, as `random_split` without a generator does."""
    order = np.random.default_rng().permutation(len(x))
    return x[order[:300]], y[order[:300]], x[order[300:400]], y[order[300:400]]

def some():
    return x[:300], y[:300], x[300:400], y[300:400]

def plain():
    """The digits without augmentation, under the name that the built-in ones have."""
    return load_data("digits", limit=300).with_augmentation()

def net():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))

def two():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))

def thousand():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1000))
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stop_at(phase: str) -> Any:
    def progress(now: str, done: int, total: int, note: str = "") -> None:
        if now.startswith(phase):
            raise Stopped("here")

    return progress


def put_aside(work: Any, **how: Any) -> None:
    with pytest.raises(Stopped):
        work(**how)


class TestOtherImages:
    """A run that goes on with other images than it was begun with would train on what it is tested on."""

    def test_a_training_does_not_go_on_with_other_images(self, here: Path) -> None:
        how: dict[str, Any] = {"model": ARCH, "data": "mine.py:anew", "recipe": SHORT, "out": "run"}
        put_aside(bnas.train_model, progress=stop_at("train"), **how)
        with pytest.raises(RunError, match=r"^run: was begun with other images of mine\.py:anew: ") as caught:
            bnas.train_model(**how)
        said = str(caught.value)
        assert "the training images, the validation images, the test images differ (270 + 30 + 100 then, 270" in said
        assert "a function must return the same at each call" in said

    def test_a_search_does_not_go_on_with_other_images(self, here: Path) -> None:
        space = tiny_space(search=tiny_space().search.model_dump() | {"supernet": {"batch": 50, "epochs": 1}})
        space = space.model_copy(update={"search": space.search.model_copy(update={
            "retrain": space.search.retrain.model_copy(update={"recipe": SHORT})})})  # fmt: skip
        put_aside(bnas.search, space=space, data="mine.py:anew", out="run", progress=stop_at("supernet"))
        with pytest.raises(RunError, match="was begun with other images"):
            bnas.search(space, data="mine.py:anew", out="run", progress=False)

    def test_what_was_asked_otherwise_is_said_before_the_images(self, here: Path) -> None:
        put_aside(bnas.train_model, model=ARCH, recipe=SHORT, out="run", progress=stop_at("train"))
        with pytest.raises(RunError, match="seed: stored 0, asked 1"):
            bnas.train_model(ARCH, recipe=SHORT, out="run", seed=1, progress=False)

    @pytest.mark.parametrize("change", ["augmentation", "names", "pixels", "labels"])
    def test_any_change_of_the_images_is_noticed(self, change: str, here: Path) -> None:
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (200, 8, 8), dtype=np.uint8), np.arange(200) % 10

        def made(changed: bool) -> DataSet:
            pixels, numbers = images.copy(), labels.copy()
            if changed and change == "pixels":
                pixels[:, 0, 0] += 1
            if changed and change == "labels":
                numbers[[0, 1]] = numbers[[1, 0]]
            names = tuple("abcdefghij") if changed and change == "names" else None
            augmentation = ("flip",) if changed and change == "augmentation" else ("shift",)
            return from_arrays("mine", pixels, numbers, class_names=names, augmentation=augmentation)

        how: dict[str, Any] = {"model": ARCH, "recipe": SHORT, "out": "run"}
        put_aside(bnas.train_model, data=made(False), progress=stop_at("train"), **how)
        with pytest.raises(RunError, match="was begun with other images of mine"):
            bnas.train_model(data=made(True), **how)
        assert bnas.train_model(data=made(False), progress=False, **how).accuracy >= 0

    def test_a_run_from_before_goes_on(self, here: Path) -> None:
        how: dict[str, Any] = {"model": ARCH, "recipe": SHORT, "out": "run"}
        put_aside(bnas.train_model, progress=stop_at("train"), **how)
        path = Path("run/config.yaml")
        config = yaml.safe_load(path.read_text())
        assert config["images"]["fingerprint"] == load_data("digits").fingerprint
        del config["images"]
        path.write_text(yaml.safe_dump(config))
        path.with_name("sums.json").unlink()  # neither was kept then
        manifest = bnas.train_model(progress=False, **how).manifest
        assert manifest["images"]["train"] == 1294

    @pytest.mark.slow
    def test_ranks_that_read_other_images_are_refused(self, here: Path) -> None:
        with pytest.raises(AssertionError, match="1"):  # the exit codes: both ranks end with an error
            in_ranks(_trained, f"{here}/mine.py:anew", here / "anew")
        in_ranks(_trained, f"{here}/mine.py:some", here / "some")
        assert [(here / run / "best").exists() for run in ("anew", "some")] == [False, True]


def _trained(ranks: Ranks, data: str, out: Path) -> None:
    bnas.train_model(ARCH, data=data, recipe=SHORT, out=out, ranks=ranks, progress=False)


class TestSaidFirst:
    """Every command that reads images says in its first line what they are."""

    SAID = r"^data \S+: \d+ training, \d+ validation .* test images .*; 1 x 8 x 8; 10 classes: 0, 1, .*mean 0\.\d+, std"

    def test_every_command_says_what_the_images_are(self, here: Path) -> None:
        tiny_file(here)
        for arguments in (
            ["search", "tiny.yaml", "--trials", 3, "--top", 1, "--out", "run"],
            ["train", "mine.py:net", "--data", "mine.py:some", "--epochs", 1, "--out", "trained"],
            ["select", "mine.py:net", "--data", "mine.py:some", "--ratio", 0.5, "--finetune", 1, "-o", "picked"],
            ["rank-check", "run", "--networks", 3, "--repeated", 0],
        ):
            done = command(*arguments)
            assert done.returncode == 0, done.stderr
            first, *others = done.stderr.splitlines()
            assert re.match(self.SAID, first), first
            assert not any(line.startswith("data ") for line in others)
            assert "training," not in done.stdout
        kept = yaml.safe_load(Path("run/config.yaml").read_text())["images"]
        assert kept == json.loads(Path("run/best/manifest.json").read_text())["images"]
        for run in ("run", "trained"):
            page = Path(run, "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
            facts = yaml.safe_load(Path(run, "config.yaml").read_text())["images"]
            assert facts["summary"] in page
            assert facts["fingerprint"] not in page  # which nobody reads
        assert kept["summary"].startswith("digits: 1294 training")

    def test_python_says_so_too_unless_it_is_told_to_be_silent(self, here: Path, capsys: Any) -> None:
        bnas.train_model(ARCH, data="mine.py:some", recipe=SHORT, out="a")
        reads, said, *_ = capsys.readouterr().err.splitlines()
        assert reads == "train_model: reads mine.py:some"
        assert re.match(self.SAID, said)
        bnas.train_model(ARCH, data="mine.py:some", recipe=SHORT, out="b", progress=False)
        assert capsys.readouterr().err == ""


class TestTheImagesThatAreGiven:
    """Images are those that were given, whatever they are called."""

    def test_fine_tuning_trains_on_what_was_measured_on(self, here: Path) -> None:
        result = select_model(
            "mine.py:net", lambda model, batches: select_layers(model, batches, ratio=0.5), data="mine.py:plain",
            out="picked", finetune=1,
        )  # fmt: skip
        assert result.networks[0]["network"] == "real"
        for name in ("all-binary", "selected"):
            folder = Path("picked/finetuned") / name
            manifest = json.loads((folder / "best" / "manifest.json").read_text())
            assert (manifest["augmentation"], manifest["images"]["train"]) == ([], 270)
            assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == "mine.py:plain"

    def test_a_data_set_of_two_classes_that_has_the_name_of_another(self, here: Path) -> None:
        mine = replace(load_data("digits:2"), name="digits")
        original = Original(model="mine.py:two", input=(1, 8, 8), classes=2)
        made = select_layers(build_original(original), mine.train.take(64, seed=0).batches(32), keep=())
        accuracies(made, original, mine, epochs=1, out=Path("tuned"), seed=0, device="cpu")
        manifest = json.loads(Path("tuned/selected/best/manifest.json").read_text())
        assert manifest["images"]["fingerprint"] == mine.fingerprint

    def test_a_search_takes_arrays(self, here: Path) -> None:
        images, labels = load_digits(return_X_y=True)
        found = bnas.search(
            tiny_space(), data=((images * 15).astype(np.uint8).reshape(-1, 8, 8), labels.astype(str)), out="run",
            trials=2, top=1, progress=False,
        )  # fmt: skip
        assert found.run.config["images"]["class_names"] == [str(digit) for digit in range(10)]

    def test_a_check_of_the_ranking_wants_the_images_of_the_run(self, here: Path) -> None:
        images, labels = load_digits(return_X_y=True)
        mine = from_arrays("mine", (images * 15).astype(np.uint8).reshape(-1, 8, 8), labels)
        bnas.search(tiny_space(), data=mine, out="run", trials=3, top=1, progress=False)
        with pytest.raises(RunError, match="was begun with other images"):
            check_ranking("run", data="digits", networks=3, progress=False)


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Images of digits in several sizes, in folders."""
    images, labels = load_digits(return_X_y=True)
    for row in range(300):
        folder = tmp_path / "mixed" / str(labels[row])
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((images[row] * 15).astype(np.uint8).reshape(8, 8))
        picture.resize((8 + row % 3, 8 + row % 2)).save(folder / f"{row}.png")
    return str(tmp_path / "mixed")


class TestSizes:
    """Images of several sizes are resized to what takes them, and where that is not known the remedy is named."""

    def test_a_search_resizes_to_its_space(self, mixed: str, here: Path) -> None:
        settings = tiny_space().search.model_dump() | {"supernet": {"batch": 50, "epochs": 1}}
        settings["retrain"]["recipe"] = SHORT.model_dump()
        bnas.search(tiny_space(search=settings), data=mixed, out="run", trials=2, top=1, progress=False)

    def test_training_resizes_to_what_a_description_takes(self, mixed: str, here: Path) -> None:
        assert bnas.train_model(ARCH, data=mixed, recipe=SHORT, out="run", progress=False).manifest["input"] == [
            1,
            8,
            8,
        ]
        larger = Architecture.model_validate(ARCH.model_dump() | {"input": (1, 12, 10)})
        result = bnas.train_model(larger, data="mine.py:some", recipe=SHORT, out="larger", progress=False)
        assert result.manifest["images"]["resized_from"] == [1, 8, 8]
        with pytest.raises(SpecError, match=r"takes images of \(1, 8, 8\), as its description says; leave --input out"):
            bnas.train_model(ARCH, data=mixed, input_shape=(1, 9, 9), out="other", progress=False)

    def test_training_resizes_to_the_size_of_a_paper(self, mixed: str, here: Path) -> None:
        made = bnas.train_model("lenet5", data=mixed, epochs=1, out="run", progress=False)
        assert made.manifest["input"] == [1, 28, 28]

    @pytest.mark.parametrize(
        "arguments",
        [
            ["train", "mine.py:net", "--epochs", 1, "--out", "run"],
            ["select", "mine.py:net", "--ratio", 0.5, "-o", "run"],
        ],
    )
    def test_the_remedy_that_is_named_is_one_that_the_command_has(
        self, arguments: list[Any], mixed: str, here: Path
    ) -> None:
        refused = command(*arguments, "--data", mixed)
        remedy = re.search(r"all must have one size: .* on the command line (--input) (\d+x\d+x\d+)", refused.stderr)
        assert remedy, refused.stderr
        done = command(*arguments, "--data", mixed, remedy[1], "1x8x8")
        assert done.returncode == 0, done.stderr
        assert "images of several sizes are resized" in done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of CODE, trained elsewhere on digits from 0 to 255, with no batch norm before its first layer."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.py").write_text(CODE)
    space: dict[str, Any] = {}
    exec(CODE, space)
    torch.manual_seed(0)
    net, images, labels = (
        space["net"](),
        torch.from_numpy(space["x"]).float().unsqueeze(1),
        torch.from_numpy(space["y"]),
    )
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(6):
        for rows in torch.randperm(1400).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    torch.save(net.state_dict(), folder / "trained.pt")
    return folder


class TestTrainedModels:
    """A model that comes trained says how it wants its images."""

    def test_it_is_measured_as_it_was_trained(self, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(trained)
        how = ["select", "mine.py:net", "--weights", "trained.pt", "--ratio", 0.5, "--finetune", 0, "--json"]
        right = json.loads(command(*how, "--normalise", "bytes", "-o", "right").stdout)["networks"][0]["accuracy"]
        wrong = command(*how, "--normalise", "imagenet", "-o", "wrong")
        assert right > 0.9
        assert wrong.returncode == 1
        assert "most likely its images were normalised in another way" in wrong.stderr

    def test_what_is_said_is_kept_and_used_again(self, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(trained)
        done = command("select", "mine.py:net", "--weights", "trained.pt", "--ratio", 0.5, "-o", "kept",
                       "--normalise", "bytes")  # fmt: skip
        assert "mean 0, std 0.00392 (bytes)" in done.stderr
        assert yaml.safe_load(Path("kept/selection.yaml").read_text())["original"]["normalise"] == "bytes"
        result = bnas.train_model(
            "kept/selection.yaml", data="mine.py:some", epochs=1, out="run", trust=True, progress=False
        )
        assert result.manifest["normalisation"] == {"mean": [0.0], "std": [1 / 255]}
        assert (result.run.config["normalise"], result.manifest["images"]["normalised"]) == ("bytes", "bytes")

    def test_a_description_that_does_not_say_it_has_the_id_that_it_had(self) -> None:
        plain = Original(model="m", input=(1, 8, 8), classes=2)
        assert "normalise" not in plain.model_dump()
        assert Original.model_validate(plain.model_dump()) == plain
        said = Original(model="m", input=(1, 8, 8), classes=2, normalise="unit")
        assert Original.model_validate(said.model_dump(mode="json")) == said


class TestOutputs:
    """A network has an output for each class: one that has more was made for other images."""

    @pytest.mark.parametrize(
        "arguments",
        [["train", "mine.py:thousand", "--out", "run"], ["select", "mine.py:thousand", "--ratio", 0.5, "-o", "run"]],
    )
    def test_spare_outputs_are_refused(self, arguments: list[Any], here: Path) -> None:
        done = command(*arguments, "--data", "digits")
        assert done.returncode == 1
        assert "10 classes need logits [batch, 10], but the network gives logits [2, 1000]" in done.stderr
        assert "give a DataSet with 1000 class_names, as from_arrays takes them" in done.stderr
        assert not Path("run").exists()

    def test_spare_outputs_are_taken_where_they_are_named(self, here: Path) -> None:
        images, labels = load_digits(return_X_y=True)
        spare = from_arrays(
            "spare", (images * 15).astype(np.uint8).reshape(-1, 8, 8), labels, class_names=tuple(map(str, range(1000)))
        )
        assert bnas.train_model("mine.py:thousand", data=spare, epochs=1, out="run", progress=False).accuracy > 0

    def test_images_of_one_class_are_refused_before_anything_is_made(self, here: Path) -> None:
        with pytest.raises(DataError, match="are of one class"):
            bnas.search(tiny_space(), data=(np.zeros((99, 8, 8), np.uint8), [0] * 99), out="run")
        assert not Path("run").exists()
