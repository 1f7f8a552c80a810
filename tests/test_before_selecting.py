"""What `bnas select` says before it measures anything, and what it keeps off standard output."""

import json
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from spaces import line_of
from test_cli import bnas
from torch import nn

from bnas.api.selecting import select_layers
from bnas.api.selecting_by_name import SelectResult, select_model
from bnas.data import load_data
from bnas.errors import BnasError
from bnas.networks.user_model import load_model, packages_of

FILE = '''
import ctypes
import os

import numpy as np
import scipy.special
import torch
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8),
        nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10),
    )


def seeded():
    torch.manual_seed(3)
    return build()


def zeroed():
    torch.manual_seed(3)
    model = build()
    nn.init.xavier_normal_(model[9].weight)
    nn.init.zeros_(model[9].bias)
    return model


def brings():
    model = build()
    model.load_state_dict(torch.load(os.path.join(os.path.dirname(__file__), "trained.pt"), weights_only=True))
    return model


def brings_under_a_seed():
    torch.manual_seed(3)
    return brings()


def brings_a_backbone():
    model = brings()
    model[9] = nn.Linear(8, 10)
    return model


ready = build()
try:
    ready_trained = brings()
except FileNotFoundError:
    ready_trained = None


def smoothed(x):
    return x * float(scipy.special.expit(3.0))


class Uses(nn.Sequential):
    def forward(self, x):
        return super().forward(smoothed(x))


def uses():
    return Uses(*build())


def noisy(problem):
    """A method whose solver writes where C programs do."""
    print("a word from python")
    os.write(1, b"a word from a descriptor\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"a word from C")
    libc.printf(b"a word that waits in a buffer")
    return set()
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's file, beside weights trained on images from 0 to 255."""
    folder = tmp_path_factory.mktemp("mine")
    path = folder / "mine.py"
    path.write_text(FILE)
    model = load_model(f"{path}:seeded")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(4):
        for images, labels in load_data("digits", seed=0, normalisation="bytes").train.batches(
            64, seed=0, epoch=epoch, augment=False
        ):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    torch.save(model.state_dict(), folder / "trained.pt")
    return path


def selected(reference: str, out: Path, **more: Any) -> SelectResult:
    return select_model(reference, partial(select_layers, ratio=0.5), data="digits", out=out, images=144, **more)


class TestStanding:
    """Whether a model knows the images that it is given."""

    @pytest.mark.parametrize("name", ["brings", "brings_under_a_seed", "ready_trained"])
    def test_one_that_comes_trained_and_knows_nothing_is_an_error(self, mine: Path, name: str, tmp_path: Path) -> None:
        with pytest.raises(BnasError) as caught:
            selected(f"{mine}:{name}", tmp_path / "d")
        assert line_of(caught).startswith(f"model {mine}:{name}: comes trained, but gets ")
        assert "; most likely its images were normalised in another way (here mean 0.287, deviation " in line_of(caught)
        assert not (tmp_path / "d").exists()

    def test_so_is_a_file_of_weights(self, mine: Path, tmp_path: Path) -> None:
        with pytest.raises(BnasError, match=r"comes trained, but gets .* say how with --normalise"):
            selected(f"{mine}:build", tmp_path / "d", weights=str(mine.with_name("trained.pt")), finetune=1)

    @pytest.mark.parametrize("name", ["brings", "brings_under_a_seed", "ready_trained"])
    def test_it_is_none_where_the_images_are_as_it_knows_them(self, mine: Path, name: str, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            result = selected(f"{mine}:{name}", tmp_path / "d", normalise="bytes")
        assert result.standing.accuracy > 0.5

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("build", "it is not trained; the errors"),
            ("seeded", "it is not trained; the errors"),
            ("zeroed", "it is not trained; the errors"),
            ("ready", "it is not trained; the errors"),
            ("brings_a_backbone", "it is not trained; the errors"),
        ],
    )
    def test_an_untrained_one_is_only_warned_of(self, mine: Path, name: str, said: str, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match="no better than guessing") as warned:
            selected(f"{mine}:{name}", tmp_path / "d")
        assert any(said in str(warning.message) for warning in warned)

    def test_so_is_a_reference_network(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match=r"model lenet5: gets .*: it is not trained"):
            selected("lenet5", tmp_path / "d", input_shape=(1, 28, 28))

    def test_making_it_again_leaves_random_numbers_and_files_alone(self, mine: Path, tmp_path: Path) -> None:
        before = torch.get_rng_state()
        with pytest.warns(UserWarning, match="is not trained"):
            selected(f"{mine}:build", tmp_path / "d")
        assert torch.equal(torch.get_rng_state(), before)


def file_at(place: Path) -> Path:
    place.write_text("a file")
    return place


class TestOrder:
    """What can be known before images are read, or layers measured, is said before."""

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--budget", "ops=25p"], "--budget ops: '25p' is not an amount"),
            (["--budget", "opps=25%"], "--budget: quantity 'opps' is not known"),
            (["--budget", "ops"], "--budget: 'ops' must be QUANTITY=AMOUNT"),
            (["--budget", "ops=1M..2M"], "--budget ops: a selection has upper limits only"),
            (["--ratio", 1.5], "ratio: must be between 0 and 1, but got 1.5"),
            (["--ratio", 0.5, "--method", "nothing"], "method 'nothing' is not known"),
            (["--ratio", 0.5, "--metric", "nothing"], "metric 'nothing' is not known"),
        ],
    )
    def test_before_images_are_read(self, mine: Path, options: list[Any], said: str, tmp_path: Path) -> None:
        done = bnas("select", f"{mine}:build", "--data", "no-such-folder/", *options, "-o", tmp_path / "d")
        assert done.returncode == 1
        assert done.stderr.startswith(f"bnas: {said}"), done.stderr

    def test_a_folder_that_cannot_be_written_too(self, mine: Path, tmp_path: Path) -> None:
        for out, said in (
            (file_at(tmp_path / "f"), "is a file; give a folder as -o"),
            (file_at(tmp_path / "g") / "d", "cannot be written, as"),
        ):
            done = bnas("select", f"{mine}:build", "--data", "no-such-folder/", "--ratio", 0.5, "-o", out)
            assert done.stderr.startswith(f"bnas: {out}: {said}"), done.stderr

    def test_one_with_a_damaged_selection_too(self, mine: Path, tmp_path: Path) -> None:
        (tmp_path / "selection.yaml").write_text("layers: 3\n")
        done = bnas("select", f"{mine}:build", "--data", "no-such-folder/", "--ratio", 0.5, "-o", tmp_path)
        assert done.stderr.startswith(f"bnas: {tmp_path / 'selection.yaml'}: layers: "), done.stderr

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--ratio", 0.5, "--exclude", "77"], "pattern '77' matches no layer"),
            (["--keep", "77"], "pattern '77' matches no layer"),
            (["--budget", "ops=1%"], "budget ops <= "),
            (["--keep", "3", "--budget", "ops=40%"], "budget ops <= "),
            (["--ratio", 0.5, "--include", "3", "--exclude", "3"], "layer '3': is both included and excluded"),
        ],
    )
    def test_before_layers_are_measured(self, mine: Path, options: list[Any], said: str, tmp_path: Path) -> None:
        done = bnas("select", f"{mine}:build", "--data", "digits", *options, "-o", tmp_path / "d")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"bnas: {said}"), done.stderr
        assert "measuring" not in done.stderr

    def test_a_selection_that_does_not_fit_too(self, mine: Path, tmp_path: Path) -> None:
        (tmp_path / "s.yaml").write_text("layers: {'77': {precision: binary}}\n")
        done = bnas(
            "select", f"{mine}:build", "--data", "digits", "--selection", tmp_path / "s.yaml", "-o", tmp_path / "d"
        )
        assert done.stderr.splitlines()[-1].startswith("bnas: layer '77' is not known"), done.stderr
        assert "measuring" not in done.stderr

    def test_what_the_network_needs_beside_torch_is_said_first(self, mine: Path, tmp_path: Path) -> None:
        done = bnas("select", f"{mine}:uses", "--data", "digits", "--ratio", 0.5, "-o", tmp_path / "d")
        lines = done.stderr.splitlines()
        said = next(place for place, line in enumerate(lines) if "uses scipy beside torch, so that whoever" in line)
        assert said < next(place for place, line in enumerate(lines) if line.startswith("measuring"))
        assert packages_of(load_model(f"{mine}:build")) == []  # what its file imports for other things is no matter


def test_only_the_result_is_on_standard_output(mine: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "bnas", "select", f"{mine}:build", "--data", "digits", "--ratio", "0.5", "--method",
        f"{mine}:noisy", "-o", str(tmp_path / "d"), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "d")
    for word in ("python", "a descriptor", "C"):
        assert f"a word from {word}" in done.stderr
    assert "a word that waits in a buffer" in done.stderr
