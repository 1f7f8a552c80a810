"""`bnas cost`: tables for people, JSON and CSV for machines, one line for what is wrong."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported import finished_run, trained
from spaces import make_arch

from bnas.api.exporting import export
from bnas.cli.app import main
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.networks.model_spec import ModelSpec
from bnas.select.conversion import ConvertedModel
from bnas.ship import Description
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, Stage
from bnas.spec import dump

DESCRIBED: tuple[Description, ...] = (
    make_arch(stage={"experts": 2, "stride": 2, "width": 32, "groups": 2}),
    ModelSpec(model="lenet5", input=(1, 28, 28), classes=10, precision="weight"),
    ConvertedModel.model_validate({
        "original": {"model": "lenet5", "input": [1, 28, 28], "classes": 10},
        "layers": {"conv2.conv": {"precision": "binary"}},
    }),
)  # fmt: skip
EXPERT_NET = Path(__file__).parents[1] / "architectures" / "expert_net.yaml"
SMALL_MODEL = """
import sys

import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
table = {}


def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1))


def needs(width):
    return nn.Conv2d(3, width, 3)


class Transformed(nn.Conv2d):
    def forward(self, x):
        return torch.fft.rfft(super().forward(x)).real


def transformed():
    return Transformed(3, 4, 3)


def reads_words():
    return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 5))


def two():
    return nn.Bilinear(3, 4, 5)


def lazy():
    return nn.LazyConv2d(4, 3)


def words():
    return nn.Embedding(10, 4)


def leaves():
    sys.exit(3)


class Leaves(nn.Module):
    def forward(self, x):
        sys.exit(0)


class Talks(nn.Conv2d):
    def forward(self, x):
        print("a word from forward")
        return super().forward(x)


def talks():
    return Talks(3, 4, (1, 3), stride=(1, 2))


class OnAnotherDevice(nn.Module):
    def forward(self, x):
        return x.to("cuda:99")
"""


@pytest.fixture
def bnas(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a caller of the command line that gives (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bnas", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SMALL_MODEL)
    for name, text in (("raises", "raise RuntimeError('no\\nway')"), ("leaves", "exit(4)"), ("syntax", "def f(:")):
        path.with_name(f"{name}.py").write_text(text)
    space = "input: [1, 8, 8]\nclasses: 10\nstem: {width: [4, 8]}\nstages: [{width: [4, 8]}]\n"
    path.with_name("space.yaml").write_text(space)
    path.with_name("typo.yaml").write_text(space.replace("[4, 8]", "8").replace("[{width", "[{widht"))
    path.with_name("model.yaml").write_text("model: lenet6\ninput: [1, 28, 28]\nclasses: 10\n")
    path.with_name("held.yaml").write_text("held: Net\ninput: [1, 28, 28]\nclasses: 10\n")
    return path


class TestArchitectureFiles:
    """Planned, without torch."""

    def test_json_holds_every_figure(self, bnas: Any) -> None:
        code, out, err = bnas("cost", EXPERT_NET, "--json")
        made, layers = json.loads(out), plan(Architecture.read(EXPERT_NET))
        whole = cost(layers)
        assert (code, err) == (0, "")
        assert made["total"]["bops"] == whole.bops == 1_706_786_816
        assert made["total"]["counted"] == made["total"]["ops"] == whole.ops
        assert made["total"]["parameters_by_bits"] == {str(bits): n for bits, n in whole.parameters_by_bits.items()}
        assert made["total"]["float32_bytes"] == 4 * whole.parameters
        assert made["convention"]["formula"] == "OPs = FLOPs + BOPs / 64"
        assert [row["name"] for row in made["layers"]] == [layer.name for layer in layers]
        assert sum(row["share"] for row in made["layers"]) == pytest.approx(1)
        assert sum(part["bops"] for part in made["stages"].values()) == whole.bops

    def test_csv_has_a_line_for_each_layer(self, bnas: Any) -> None:
        _, out, _ = bnas("cost", EXPERT_NET, "--csv")
        rows = list(csv.DictReader(io.StringIO(out)))
        layers = plan(Architecture.read(EXPERT_NET))
        assert [(row["name"], int(row["macs"])) for row in rows] == [(layer.name, layer.macs) for layer in layers]

    def test_the_table_names_convention_and_totals(self, bnas: Any) -> None:
        _, out, _ = bnas("cost", EXPERT_NET)
        assert "BOPs 1,706,786,816 (1.71G)" in out
        assert "convention literature: batch norm, activations, bias, pooling and adds are not counted" in out
        assert "stages.3.3.mix.conv" in out

    def test_another_input(self, bnas: Any) -> None:
        _, out, _ = bnas("cost", EXPERT_NET, "--input", "3x64x64", "--json")
        arch = Architecture.read(EXPERT_NET).model_copy(update={"input": (3, 64, 64)})
        assert json.loads(out)["total"]["bops"] == cost(plan(arch)).bops

    @pytest.mark.parametrize(("name", "unit"), [("larq", "macs"), ("qonnx", "bit_ops")])
    def test_other_conventions(self, bnas: Any, name: str, unit: str) -> None:
        made = json.loads(bnas("cost", EXPERT_NET, "--convention", name, "--json")[1])
        assert (made["convention"]["name"], made["convention"]["unit"]) == (name, unit)
        assert made["total"][unit] == made["total"]["counted"] == sum(row[unit] for row in made["layers"])
        out = bnas("cost", EXPERT_NET, "--convention", name)[1]
        assert out.count(f"share of {unit}") == 2
        assert f"\n{unit} {made['total'][unit]:,} (" in out
        assert f"\nconvention {name}: batch norm, " in out

    def test_another_divisor(self, bnas: Any) -> None:
        made = json.loads(bnas("cost", EXPERT_NET, "--divisor", "32", "--json")[1])["total"]
        assert made["counted"] == made["ops"] == made["flops"] + made["bops"] / 32
        assert made["saving"]["counted"] == made["macs"] / made["ops"]
        out = bnas("cost", EXPERT_NET, "--divisor", "32")[1]
        assert f"OPs = FLOPs + BOPs / 32; BOPs {made['bops']:,}" in out
        assert f"so {made['macs'] / made['ops']:.2f}x fewer ops" in out

    def test_torch_is_not_imported(self) -> None:
        code = (
            "import sys; from bnas.cli.app import app; "
            f"app(['cost', {str(EXPERT_NET)!r}], standalone_mode=False); "
            "print(sorted({'torch', 'optuna', 'pandas', 'numpy'} & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n"


class TestModels:
    """Traced."""

    def test_a_known_model_at_a_precision(self, bnas: Any) -> None:
        conv1, conv2, fc3, fc4 = 25 * 32, 25 * 32 * 64, 64 * 4 * 4 * 512, 512 * 10
        made = json.loads(bnas("cost", "lenet5", "--precision", "weight", "--json")[1])
        assert made["total"]["binary_weights"] == conv2 + fc3
        every = json.loads(
            bnas("cost", "lenet5", "--precision", "weight", "--first", "weight", "--last", "weight", "--json")[1]
        )
        assert every["total"]["binary_weights"] == conv1 + conv2 + fc3 + fc4
        assert made["inputs"] == [[1, 28, 28]]

    @pytest.mark.parametrize(
        ("command", "ops", "weights"),
        [
            ("alexnet --precision hybrid --last binary", "ops 175,180,448 (175M): OPs = FLOPs + BOPs / 64", "31.46x"),
            ("resnet18 --precision binary", "BOPs 1,676,279,808 (1.68G)", "13.42x"),
        ],
    )
    def test_published_counts(self, bnas: Any, command: str, ops: str, weights: str) -> None:
        _, out, _ = bnas("cost", *command.split())
        assert ops in out
        assert f"weights alone {weights}" in out

    def test_what_training_a_model_writes(self, bnas: Any, tmp_path: Path) -> None:
        path = tmp_path / "architecture.yaml"
        described = ModelSpec(model="lenet5", input=(1, 28, 28), classes=10, precision="weight")
        path.write_text(dump(described))
        made = json.loads(bnas("cost", path, "--json")[1])
        assert made["inputs"] == [[1, 28, 28]]
        assert made["total"]["binary_weights"] == 25 * 32 * 64 + 64 * 4 * 4 * 512

    def test_what_fine_tuning_a_converted_model_writes(self, bnas: Any, tmp_path: Path) -> None:
        path = tmp_path / "architecture.yaml"
        original = {"model": "lenet5", "input": [1, 28, 28], "classes": 10}
        layers = {"conv2.conv": {"precision": "binary"}}
        path.write_text(dump(ConvertedModel.model_validate({"original": original, "layers": layers})))
        made = json.loads(bnas("cost", path, "--json")[1])
        assert made["total"]["bops"] == 25 * 32 * 64 * 8 * 8

    @pytest.mark.parametrize("attribute", ["build", "model"])
    def test_a_model_of_the_users_own(self, bnas: Any, model_file: Path, attribute: str) -> None:
        code, out, _ = bnas("cost", f"{model_file}:{attribute}", "--input", "3x8x8", "--json")
        assert code == 0
        second = 4 * 4 * 36 if attribute == "build" else 0
        assert json.loads(out)["total"]["macs"] == 4 * 27 * 36 + second

    def test_what_the_model_prints_is_kept_off_the_figures(self, bnas: Any, model_file: Path) -> None:
        _, out, err = bnas("cost", f"{model_file}:talks", "--input", "3x8x8", "--json")
        assert json.loads(out)["total"]["macs"] == 4 * 9 * 8 * 3
        assert err == "a word from forward\n"

    def test_a_stride_of_two_sides_is_written_as_two(self, bnas: Any, model_file: Path) -> None:
        assert "1x3 s1x2" in bnas("cost", f"{model_file}:talks", "--input", "3x8x8")[1]

    @pytest.mark.parametrize(("option", "expected"), [("--csv", ""), ("--input", "ops 0: OPs = FLOPs")])
    def test_a_model_without_layers(self, bnas: Any, option: str, expected: str) -> None:
        options = [option] if option == "--csv" else []
        code, out, _ = bnas("cost", "torch.nn:Identity", "--input", "4", *options)
        assert code == 0
        assert expected in out
        assert "0.00x" not in out

    def test_what_is_not_counted_is_said(self, bnas: Any, model_file: Path) -> None:
        code, out, err = bnas("cost", f"{model_file}:transformed", "--input", "3x4x4", "--json")
        assert code == 0
        assert err.startswith("not counted: the model itself: _fft_r2c: ")
        assert len(json.loads(out)["not_counted"]) == 1

    def test_what_is_not_counted_stands_in_the_table_itself(self, bnas: Any, model_file: Path) -> None:
        _, out, _ = bnas("cost", f"{model_file}:transformed", "--input", "3x4x4")
        assert [line.split() for line in out.splitlines() if line.startswith("(itself)  _fft")] == [
            ["(itself)", "_fft_r2c", "not", "counted", "?", "?", "?"]
        ]
        assert "left out of all figures: what is marked `not counted` in the table (_fft_r2c)" in out
        rows = list(
            csv.DictReader(io.StringIO(bnas("cost", f"{model_file}:transformed", "--input", "3x4x4", "--csv")[1]))
        )
        assert [(row["role"], row["kind"], row["macs"]) for row in rows] == [
            ("other", "conv", str(4 * 27 * 4)),
            ("not counted", "_fft_r2c", ""),
        ]

    def test_words(self, bnas: Any, model_file: Path) -> None:
        made = json.loads(bnas("cost", f"{model_file}:reads_words", "--input", "7:int", "--json")[1])
        assert (made["inputs"], made["total"]["macs"]) == ([[7]], 7 * 4 * 5)
        *_, err = bnas("cost", f"{model_file}:reads_words", "--input", "7")
        assert err.endswith("; words are whole numbers, as in --input 128:int\n")


class TestFolders:
    """A folder that holds what describes a network counts as that."""

    def test_a_run_its_best_and_an_export_cost_the_same_as_their_model_file_says(
        self, bnas: Any, tmp_path: Path
    ) -> None:
        for described in DESCRIBED:
            network, place = trained(described), tmp_path / described.id
            run = finished_run(place / "run", network, described, Recipe(stages=(Stage(epochs=1),)))
            handed = export(run, out=place / "out")
            totals = [json.loads(bnas("cost", folder, "--json")[1])["total"] for folder in (run, run / "best", handed)]
            assert totals[0] == totals[1] == totals[2]
            said = " ".join((handed / "model.py").read_text().partition('"""\n')[0].split())
            assert f"= {totals[0]['flops']} FLOPs + {totals[0]['bops']} BOPs / 64; " in said
            assert f"{totals[0]['bytes']} bytes packed, {totals[0]['parameters']} parameters" in said

    @pytest.mark.parametrize("place", [0, 2, pytest.param(1, marks=pytest.mark.slow)])
    def test_an_exported_model_file_costs_what_its_own_text_says(self, place: int, tmp_path: Path) -> None:
        described = DESCRIBED[place]
        run = finished_run(tmp_path / "run", trained(described), described, Recipe(stages=(Stage(epochs=1),)))
        handed = export(run, out=tmp_path / "out")
        image = "x".join(map(str, described.input))
        command = [sys.executable, "-m", "bnas", "cost", f"{handed / 'model.py'}:build", "--input", image, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # alone: it may import from beside
        made = json.loads(done.stdout)["total"]
        said = " ".join((handed / "model.py").read_text().partition('"""\n')[0].split())
        assert f"= {made['flops']} FLOPs + {made['bops']} BOPs / 64; " in said
        assert f"{made['bytes']} bytes packed, {made['parameters']} parameters" in said

    def test_a_selection(self, bnas: Any, tmp_path: Path) -> None:
        (tmp_path / "selection.yaml").write_text(dump(DESCRIBED[2]))
        made = json.loads(bnas("cost", tmp_path, "--json")[1])
        assert made["total"]["bops"] == 25 * 32 * 64 * 8 * 8

    def test_a_folder_without_any_is_one_line(self, bnas: Any, tmp_path: Path) -> None:
        assert bnas("cost", tmp_path)[2].startswith(f"bnas: {tmp_path}: the folder holds no network (none of archit")

    def test_a_folder_that_is_called_as_a_model_hides_it_not(
        self, bnas: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "lenet5").mkdir()
        monkeypatch.chdir(tmp_path)
        assert bnas("cost", "lenet5", "--json")[0] == 0


class TestBadInput:
    """One line, exit code 1; 2 for wrong usage."""

    @pytest.mark.parametrize(
        ("source", "options", "expected"),
        [
            ("lenet5", ["--input", "3x"], "--input: '3x' is not a shape; write channels x height x width"),
            ("lenet5", ["--input", "axb"], "--input: 'axb' is not a shape"),
            ("lenet5", ["--input", "0x8x8"], "--input: '0x8x8' is not a shape"),
            ("lenet5", ["--input", ""], "--input: '' is not a shape"),
            ("lenet5", ["--input", "3*8*8"], "--input: '3*8*8' is not a shape"),
            ("lenet5", ["--input", "٣x8x8"], "--input: '٣x8x8' is not a shape"),
            ("lenet5", ["--input", "9" * 5000], "--input: '999"),
            ("lenet5", ["--input", "x" * 5000], "--input: 'xxx"),
            (
                "lenet5",
                ["--input", "1x999999999x999999999"],
                "trace: an input of (1, 999999999, 999999999) has more than 16,777,216 values",
            ),
            ("lenet5", ["--input", "3x28x28"], "trace: the model fails on an input of 3x28x28, in conv1.conv: "),
            ("lenet5", ["--input", "1x28"], "trace: the model fails on an input of 1x28, in conv1.conv: "),
            ("lenet6", [], "model 'lenet6' is not known; did you mean 'lenet5'?"),
            ("lenet5", ["--precision", "binary"], "lenet5: it has no preset 'binary'; choose from real, weight"),
            ("lenet5", ["--convention", "x"], "convention: 'x' is not known; choose from literature, larq, qonnx"),
            ("lenet5", ["--divisor", "0"], "divisor: must be at least 1, but got 0"),
            ("lenet5", ["--divisor", "8", "--convention", "larq"], "divisor: larq divides nothing, but got 8"),
            ("{mine}", [], "model '{mine}': is a file; say which model in it, as in {mine}:attr"),
            ("{mine}:", [], "model '{mine}:': a reference is pkg.mod:attr or file.py:attr, with both parts"),
            ("{mine}:build", [], "{mine}:build: a model's cost depends on its input; add --input"),
            ("{mine}:two", ["--input", "3"], "trace: the model fails on an input of 3: "),
            ("{mine}:lazy", ["--input", "3x8x8"], "trace: the model has lazy layers without a size yet; run it once"),
            ("{mine}:words", ["--input", "7"], "trace: the model fails on an input of 7: "),
            ("{mine}:OnAnotherDevice", ["--input", "7"], "trace: the model fails on an input of 7: "),
            (
                "{mine}:leaves",
                ["--input", "3x8x8"],
                "model '{mine}:leaves': calling it without arguments fails: its code ends Python, with sys.exit(3); ",
            ),
            (
                "{mine}:Leaves",
                ["--input", "3x8x8"],
                "trace: the model fails on an input of 3x8x8: its code ends Python, with sys.exit(0); take that out",
            ),
            ("{folder}/raises.py:build", ["--input", "3x8x8"], "model: {folder}/raises.py fails to import: RuntimeErr"),
            ("{folder}/leaves.py:build", ["--input", "3x8x8"], "model: {folder}/leaves.py fails to import: its code"),
            ("{folder}/syntax.py:build", ["--input", "3x8x8"], "model: {folder}/syntax.py fails to import: SyntaxErr"),
            ("{mine}:biuld", ["--input", "3x8x8"], "model '{mine}:biuld': {mine} has no 'biuld'; it has build"),
            ("{mine}:table", ["--input", "3x8x8"], "model '{mine}:table': must be an nn.Module, or make one when"),
            ("{mine}:needs", ["--input", "3x8x8"], "model '{mine}:needs': calling it without arguments fails"),
            ("{folder}/no.py:build", ["--input", "3x8x8"], "model: {folder}/no.py does not exist"),
            ("{folder}/no.yaml", [], "{folder}/no.yaml: no such file"),
            (
                "{arch}",
                ["--input", "3x64"],
                "--input: channels, height and width are needed, as in 3x224x224, but got (3, 64)",
            ),
            ("{arch}", ["--input", "3x9999999x64"], "--input: input[1]: "),
            ("{arch}", ["--input", "3x6x6", "--input", "3"], "--input: an architecture takes one image, but 2 shapes"),
            ("{space}", [], "{space}: holds a space; give one architecture"),
            ("{folder}/space.yaml", [], "{folder}/space.yaml: holds a space; give one architecture"),
            ("{folder}/typo.yaml", [], "{folder}/typo.yaml: stages[0].width: this key is required"),
            ("{folder}/model.yaml", [], "model 'lenet6' is not known; did you mean 'lenet5'?"),
            (
                "{folder}/held.yaml",
                [],
                "model Net: was given in Python, and nothing says how it is made; give it again",
            ),
        ],
    )
    def test_is_one_line(self, bnas: Any, model_file: Path, source: str, options: list[str], expected: str) -> None:
        space = EXPERT_NET.parents[1] / "search_spaces" / "digits.yaml"
        places = {"mine": model_file, "folder": model_file.parent, "arch": EXPERT_NET, "space": space}
        code, out, err = bnas("cost", source.format(**places), *options)
        assert (code, out) == (1, "")
        assert err.startswith("bnas: " + expected.format(**places))
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        "options", [["--json", "--csv"], ["--precision", "binary"], ["--first", "weight"], ["--last", "real"]]
    )
    def test_options_that_do_not_go_together(self, bnas: Any, options: list[str]) -> None:
        assert bnas("cost", EXPERT_NET, *options)[0] == 2

    def test_an_architecture_that_is_written_reads_back(self, bnas: Any, tmp_path: Path) -> None:
        path = tmp_path / "architecture.yaml"
        path.write_text(dump(Architecture.read(EXPERT_NET)))
        assert json.loads(bnas("cost", path, "--json")[1])["total"]["bops"] == 1_706_786_816
