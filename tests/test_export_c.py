import re
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from exported import finished_run, manifest_of, trained
from packed import ARCHITECTURES, MANY, exact_logits, hangs_on_rounding, pairs, worn, worn_network
from programs import random_program
from spaces import line_of, make_arch
from test_runtime import SPACES, drawn
from torch import nn

from bnas.api import export, train_model
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import ExportError
from bnas.networks.models import MODELS, build_model
from bnas.runtime import Card, Program
from bnas.runtime.filters import RealFilters, SignFilters
from bnas.runtime.naive import evaluate
from bnas.runtime.program import rounded
from bnas.runtime.simplify import simplified
from bnas.runtime.steps import Add, Affine, Argmax, Channels, Concat, Conv, Pool, PReLU, Step, Threshold
from bnas.ship import load, packed
from bnas.ship.c_code import compiler, exporter
from bnas.ship.c_code.compiler import Ran, run_code, what_fails
from bnas.ship.c_code.text import Code, code
from bnas.ship.lowering import lower
from bnas.ship.packed import card_of
from bnas.ship.training import TrainedNetwork
from bnas.space.recipe import Recipe, Stage

RECIPE = Recipe(stages=(Stage(epochs=1),))
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
CHECKED = (*WARNINGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ZIG = (sys.executable, "-m", "ziglang", "cc")
OLD_POPCOUNT = "-DPORTABLE_POPCOUNT"
ONE_STAGE: dict[str, Any] = {"input": [1, 8, 8], "classes": 10, "stem": {"width": 16}}
DEMO = make_arch(  # the demo's winner, as the README shows it
    input=[1, 8, 8], classes=10, stem={"width": 16},
    stages=[
        {"width": 32, "depth": 2, "groups": 2}, {"width": 32, "stride": 2}, {"width": 64, "depth": 2, "stride": 2}
    ],
)  # fmt: skip
EXPERTS = make_arch(**ONE_STAGE, stage={"experts": 2, "stride": 2, "width": 32, "groups": 2}, squeeze_excite=True)


class Machine(NamedTuple):
    """What compiles code, and what stands before its programs."""

    command: tuple[str, ...]
    start: tuple[str, ...] = ()


GCC, CLANG = Machine(("gcc", *CHECKED)), Machine(("clang", *CHECKED))
ARM = Machine(("arm-linux-gnueabihf-gcc", *WARNINGS, "-O2", "-static"), ("qemu-arm",))
M32 = Machine(("gcc", "-m32", *WARNINGS, "-O2"))
ZIG_CLANG = Machine((*ZIG, *CHECKED))
ZIG_32 = Machine((*ZIG, "-target", "x86-linux-musl", *WARNINGS, "-O2"))
MACHINES: dict[str, Machine] = {
    "gcc": GCC,
    "gcc, optimised": Machine(("gcc", *WARNINGS, "-O3")),
    "gcc, old popcount": Machine((*GCC.command, OLD_POPCOUNT)),
    "clang": CLANG,
    "clang, old popcount": Machine((*CLANG.command, OLD_POPCOUNT)),
    "32 bits": M32,
    "ARM": ARM,
    "clang of zig": ZIG_CLANG,
    "clang of zig, 32 bits": ZIG_32,
}


@cache
def _why_not(machine: Machine) -> str:
    return what_fails(machine.command, start=machine.start)


def ready(machine: Machine) -> Machine:
    """Return a machine, or skip the test with why there is none."""
    if why := _why_not(machine):
        pytest.skip(f"{' '.join(machine.command[:4])}: {why}")
    return machine


def card_for(program: Program) -> Card:
    channels = program.input[0]
    return Card(tuple(np.linspace(0.3, 0.5, channels)), tuple(np.linspace(0.2, 0.4, channels)))


def ran(made: Code, folder: Path, pixels: np.ndarray, machine: Machine) -> Ran:
    folder.mkdir(exist_ok=True)
    for name, text in made.files.items():
        (folder / name).write_text(text)
    return run_code(folder, pixels, command=ready(machine).command, start=machine.start)


def pixels_for(program: Program, *, seed: int = 0, batch: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, *program.input), dtype=np.uint8)


def same_as_it_means(program: Program, folder: Path, machine: Machine, *, word_bits: int, seed: int = 0) -> Code:
    card, pixels = card_for(program), pixels_for(program, seed=seed)
    images = card.normalised(pixels)
    expected = evaluate(program, images)
    made = code(program, card, word_bits=word_bits)
    found = ran(made, folder, pixels, machine)
    far = np.abs(found.logits - expected).max(1) > 1e-4 * np.abs(expected).max()
    if far.any():
        far &= ~hangs_on_rounding(lambda changed: evaluate(program, changed), images)
    assert not far.any()
    assert found.classes.tolist() == found.logits.argmax(1).tolist()
    return made


def same_as_trained(network: nn.Module, shape: tuple[int, ...], folder: Path, *, batch: int = 4) -> None:
    program = lower(network, shape)
    card, pixels = card_for(program), pixels_for(program, batch=batch)
    images = torch.from_numpy(card.normalised(pixels))
    expected = exact_logits(network, images)
    found = ran(code(program, card), folder, pixels, Machine(("gcc", *WARNINGS, "-O2"))).logits
    far = np.abs(found - expected).max(1) > 1e-4 * np.abs(expected).max()
    if far.any():
        far &= ~hangs_on_rounding(lambda changed: exact_logits(network, torch.from_numpy(changed)), images.numpy())
    assert not far.any()


@pytest.mark.parametrize("word_bits", [64, 32])
def test_programs_of_all_steps_compute_what_they_mean(word_bits: int, tmp_path: Path) -> None:
    seen, texts = set(), ""
    for seed in range(12):
        program = rounded(simplified(random_program(seed))) if seed % 2 else random_program(seed)
        made = same_as_it_means(program, tmp_path / str(seed), GCC, word_bits=word_bits, seed=seed)
        seen |= {type(step) for step in program.steps}
        texts += made.files["network.c"]
    assert seen == set(Step.__subclasses__())
    assert {name for name in CALLED if f"    {name}(" not in texts} <= {"compare_bits"}


CALLED = (
    "normalise", "conv_bits", "compare_bits", "conv_signs", "conv_values", "threshold", "affine", "prelu", "clip",
    "sigmoid", "add", "multiply", "pool_mean", "pool_max", "take_channels", "put_channels", "flatten",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "word_bits"), pairs(MACHINES, (64, 32)))
def test_every_compiler_and_machine_gives_the_same(name: str, word_bits: int, tmp_path: Path) -> None:
    for seed in range(20, 28 if MANY else 23):
        program = rounded(simplified(random_program(seed))) if seed % 2 else random_program(seed)
        same_as_it_means(program, tmp_path / str(seed), MACHINES[name], word_bits=word_bits, seed=seed)
    for pad_value in (-1, 0, 1):
        chain = whole_numbers(24, groups=2, pad_value=pad_value, kernel=3)
        exact_whole_numbers(chain, tmp_path / f"whole {pad_value}", MACHINES[name], word_bits=word_bits)


def whole_numbers(width: int, *, groups: int, pad_value: int, kernel: int) -> Program:
    """Return a program in which nothing but whole numbers stands between the first bits and the logits."""
    draw, one, never = np.random.default_rng(width), np.ones((1, 1)), np.zeros(1, np.bool_)

    def conv(slot: int, kernel: int) -> Conv:
        signs = draw.random((1, width, width // groups, kernel, kernel)) < 0.5
        return Conv((slot,), SignFilters.of(signs, one), (1, 1), (kernel // 2,) * 4, (1, 1), groups, pad_value)

    at = draw.integers(-4, 5, width) + draw.choice([0.0, 0.5], width)
    at[:3] = np.inf, -np.inf, 0
    return Program(
        (3, 4, 5),
        (
            Channels((0,), 0, width), Threshold((1,), np.zeros(1), never), conv(2, kernel),
            Threshold((3,), at, draw.random(width) < 0.4), conv(4, kernel), Threshold((5,), np.full(1, 1.0), ~never),
            conv(6, 1), Pool((7,), False, (4, 5), (1, 1)),
        ),
    )  # fmt: skip


def exact_whole_numbers(program: Program, folder: Path, machine: Machine, *, word_bits: int) -> None:
    card, pixels = card_for(program), pixels_for(program)
    made = code(program, card, word_bits=word_bits)
    assert made.files["network.c"].count("    compare_bits(") == 2
    found = ran(made, folder, pixels, machine).logits
    assert found.tolist() == evaluate(program, card.normalised(pixels)).tolist()


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize(
    ("width", "groups", "kernel"), [(32, 1, 3), (6, 6, 3), (40, 4, 1), (130, 2, 3), (64, 1, 5)]
)  # bits of a filter: 288, 9, 10, 585, 1600
def test_whole_numbers_are_exact(width: int, groups: int, kernel: int, pad_value: int, tmp_path: Path) -> None:
    program = whole_numbers(width, groups=groups, pad_value=pad_value, kernel=kernel)
    exact_whole_numbers(program, tmp_path, GCC, word_bits=64 if pad_value else 32)


def test_levels_take_32_bits_where_16_are_too_few(tmp_path: Path) -> None:
    draw, one, never = np.random.default_rng(0), np.ones((1, 1)), np.zeros(1, np.bool_)
    first, last = (SignFilters.of(draw.random((1, 3, ins, 1, 1)) < 0.5, one) for ins in (36_000, 3))
    levels = Threshold((3,), np.array([-35_999.0, np.inf, 40.0]), never)
    steps = (
        Channels((0,), 0, 36_000),
        Threshold((1,), np.zeros(1), never),
        Conv((2,), first),
        levels,
        Conv((4,), last),
    )
    program = Program((5, 1, 1), steps)
    made = same_as_it_means(program, tmp_path, GCC, word_bits=64)
    assert "typedef int32_t level;" in made.files["network.c"]


def test_sizes_take_32_bits_where_16_are_too_few(tmp_path: Path) -> None:
    made = same_as_it_means(linear(70_000), tmp_path, GCC, word_bits=64)
    assert "typedef uint32_t extent;" in made.files["network.c"]


NETWORKS: dict[str, Any] = {
    "experts": {"experts": 3, "groups": 2},
    "real inputs": {"precision": "weight", "groups": 4},
    "real layers": {"precision": "real"},
    "a deep stage": {"depth": 3, "stride": 2, "width": 24},
    "kernels of two sides": {"depth": 2, "kernel": "1x5", "experts": 2},
}


@pytest.mark.parametrize("kind", sorted(NETWORKS))
@pytest.mark.parametrize(
    "whole",
    [
        {"squeeze_excite": True, "binarizers": {"activation": "react", "weight": "alpha_beta", "pad_value": -1}},
        {"shortcut": {"kind": "bottleneck"}, "stem": {"width": 16, "kind": "branched", "stride": 4}},
        {"classifier": "binary", "binarizers": {"weight": "alpha_beta"}, "input": [3, 1, 25]},
    ],
)
def test_networks_give_the_trained_logits(kind: str, whole: dict[str, Any], tmp_path: Path) -> None:
    arch = make_arch(**{"input": [3, 16, 16], "stem": {"width": 16}} | whole, stage={"width": 32} | NETWORKS[kind])
    same_as_trained(worn_network(arch), arch.input, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_networks_of_a_space_give_the_trained_logits(space: str, tmp_path: Path) -> None:
    for seed, arch in enumerate(drawn(space, ARCHITECTURES)):
        same_as_trained(worn_network(arch, seed=seed), arch.input, tmp_path)


QUICK = (
    "cnv",
    "lenet5",
    "resnet20_cifar",
    "tfc",
)  # others take minutes, of compiling or of evaluating what is expected


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS if MANY else QUICK))
def test_reference_networks_give_the_trained_logits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    smallest = list(MODELS[name].presets)[-1]
    same_as_trained(worn(build_model(name, precision=smallest)), MODELS[name].input, tmp_path, batch=1)


def test_values_share_memory_over_time(tmp_path: Path) -> None:
    """Eight steps in place and one that is read at the end: two values are held, not ten."""
    steps: list[Any] = [Affine((0,), None, np.ones(1, np.float32))]
    for slot in range(1, 9):
        steps.append(PReLU((slot,), np.full(1, 0.5, np.float32)) if slot % 2 else Affine((slot,), None, np.ones(1)))
    steps += [Add((9, 0)), Pool((10,), True, (16, 16), (1, 1)), Concat((11, 11))]
    program = Program((4, 16, 16), tuple(steps))
    made = same_as_it_means(program, tmp_path, GCC, word_bits=64)
    assert made.ram_bytes == 4 * (2 * 4 * 16 * 16)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(EXPERTS)


@pytest.mark.parametrize("to", ["c", "c-words32"])
def test_the_export_is_a_file_and_its_header_and_what_was_proved(to: str, tmp_path: Path, network: nn.Module) -> None:
    ready(GCC)
    names = tuple(f"digit */ {number} \u202e??/" for number in range(10))
    run = finished_run(
        tmp_path / "run", network, EXPERTS, RECIPE, data="digits", images={"class_names": names}
    )  # names that would end a comment
    folder = export(run, to=to, out=tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == {"network.c", "network.h", "manifest.json"}
    manifest = manifest_of(folder)
    assert manifest["c"]["word_bits"] == (32 if to == "c-words32" else 64)
    assert manifest["reload"]["same_class"] == manifest["reload"]["images"] == 64
    assert manifest["reload"]["images_from"] == "validation images of digits"
    assert manifest["reload"]["max_difference"] < 1e-5
    for figure in (manifest["c"]["flash_bytes"], manifest["c"]["ram_bytes"]):
        assert f"{figure:,} bytes" in (folder / "network.h").read_text()
    run_code(folder, np.zeros((1, 1, 8, 8), np.uint8), command=GCC.command)  # no warning


@pytest.mark.parametrize("arch", [DEMO, EXPERTS], ids=["the demo's winner", "experts"])
@pytest.mark.parametrize("word_bits", [64, 32])
def test_flash_and_ram_are_what_the_compiler_makes_of_the_code(arch: Any, word_bits: int, tmp_path: Path) -> None:
    ready(GCC)
    program = lower(worn_network(arch), arch.input)
    made = code(program, card_for(program), word_bits=word_bits)
    for name, text in made.files.items():
        (tmp_path / name).write_text(text)
    subprocess.run(["gcc", "-std=c99", "-Os", "-c", "network.c"], cwd=tmp_path, check=True)
    told = subprocess.run(["size", "-A", "network.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    sections = dict(re.findall(r"^(\.\w+)\s+(\d+)", told, re.MULTILINE))
    counted = cost(plan(arch)).bytes
    # What aligns arrays comes to it, up to 31 bytes each; a choice may need no memory at all.
    assert made.flash_bytes <= int(sections[".rodata"]) <= 1.05 * made.flash_bytes
    assert abs(int(sections[".bss"]) - made.ram_bytes) <= 6 * 32
    # A batch norm before a sign is counted as two values, and is one threshold and a bit here.
    folded = 4 * sum(layer.out_channels for layer in plan(arch) if layer.kind == "norm")
    assert counted - folded <= made.flash_bytes <= 1.05 * counted


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("c") / "run"
    train_model(DEMO, data="digits", epochs=3, out=out, progress=False)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("to", ["c", "c-words32"])
@pytest.mark.parametrize("machine", [GCC, CLANG, ARM], ids=["gcc", "clang", "ARM"])
def test_all_digits_get_the_class_of_the_trained_network(
    to: str, machine: Machine, learned: Path, tmp_path: Path
) -> None:
    folder, best = export(learned, to=to, out=tmp_path / "out"), load(learned / "best")
    digits = load_data("digits")
    pixels = torch.cat([split.images for split in (digits.train, digits.validation, digits.test)]).numpy()
    assert len(pixels) == 1797
    card = card_of(TrainedNetwork(DEMO, best.state_dict(), manifest_of(folder)))
    found = run_code(folder, pixels, command=ready(machine).command, start=machine.start)
    expected = exact_logits(best, torch.from_numpy(card.normalised(pixels)))
    assert found.classes.tolist() == expected.argmax(1).tolist()
    assert np.abs(found.logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("command", "why"), [((), "none of"), (("false",), "false does not work here: exit code 1")])
def test_without_a_compiler_the_manifest_says_that_it_was_not_run(
    command: tuple[str, ...], why: str, tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "COMPILERS", command)
    folder = export(finished_run(tmp_path / "run", network, EXPERTS, RECIPE), to="c", out=tmp_path / "out")
    told = manifest_of(folder)["reload"]
    assert told["run"] is False
    assert told["why"].startswith(why)
    assert "same_class" not in told


def test_code_that_computes_something_else_is_no_export(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(GCC)
    run = finished_run(tmp_path / "run", network, EXPERTS, RECIPE)
    monkeypatch.setattr(packed, "exact_logits", lambda network, images: -exact_logits(network, images))
    with pytest.raises(ExportError, match=r"^network\.c: of 8 images 8 get another class"):
        export(run, to="c", out=tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(exporter, "code", partial(broken, was=exporter.code))
    with pytest.raises(ExportError, match=r"does not compile it: .*error") as caught:
        export(run, to="c", out=tmp_path / "out")
    line_of(caught)
    assert not (tmp_path / "out").exists()


def broken(*arguments: Any, was: Any, **options: Any) -> Code:
    made = was(*arguments, **options)
    return made._replace(files=made.files | {"network.c": made.files["network.c"].replace("return", "retrun")})


def linear(ins: int, *, first: float = 1.0, stride: int = 1) -> Program:
    values = np.ones((1, 2, ins, 1, 1), np.float32)
    values[0, 0, 0] = first
    return Program((ins, 1, 1), (Conv((0,), RealFilters(values), (stride, 1)),))


def many_experts(count: int) -> Program:
    filters = SignFilters.of(np.ones((count, 1, 1, 1, 1), np.bool_), np.ones((1, 1)))
    return Program((1, 1, 1), (Channels((0,), 0, count), Argmax((1,)), Conv((0, 2), filters)))


@pytest.mark.parametrize(
    ("program", "card", "reason"),
    [
        (linear(3, stride=2**33), None, r"^step 0 \(Conv\): has a size of 8589934592, but C code holds .* 4294967295$"),
        (many_experts(70_000), None, r"^step 1 \(Argmax\): chooses among 70000, but C code among 65536 at most$"),
        (linear(3, first=np.inf), None, r"^step 0 \(Conv\): holds a value that is not finite"),
        (linear(3), Card(), r"^the network does not say how images are normalised"),
    ],
)
def test_what_cannot_be_had_in_c_is_refused_by_name(program: Program, card: Card | None, reason: str) -> None:
    with pytest.raises(ExportError, match=reason) as caught:
        code(program, card or card_for(program))
    line_of(caught)
