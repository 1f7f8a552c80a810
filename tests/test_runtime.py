import itertools
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed import MANY, exact_logits, far_apart, images_for, worn, worn_network
from programs import random_program
from spaces import line_of, make_arch

from bnas.errors import DataError, ProgramError, ShapeError
from bnas.networks.build import build
from bnas.networks.models import build_model
from bnas.runtime import Card, Network, Program, compiled, selftest
from bnas.runtime.cpu import cpu
from bnas.runtime.file import encoded
from bnas.runtime.filters import SignFilters
from bnas.runtime.naive import evaluate
from bnas.runtime.passes import passes_of
from bnas.runtime.places import SLACK, lay_out
from bnas.runtime.program import rounded
from bnas.runtime.simplify import simplified
from bnas.runtime.steps import Conv, Pool, Threshold
from bnas.ship.lowering import lower
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

CLOSE = 1e-5  # float32 against float64; 1e-4 is what must hold
SPACES = sorted(path.stem for path in Path("search_spaces").glob("*.yaml"))


def same_as_it_means(program: Program, *, batch: int = 3, seed: int = 0) -> None:
    images = np.random.default_rng(seed).standard_normal((batch, *program.input)).astype(np.float32)
    assert not far_apart(selftest.run(program, images), lambda changed: evaluate(program, changed), images).any()


def same_as_trained(network: torch.nn.Module, shape: tuple[int, ...], *, batch: int = 4) -> None:
    images = images_for(shape, batch=batch)
    expected = exact_logits(network, images)
    found = Network(lower(network, shape))(images.numpy())
    logits = lambda changed: exact_logits(network, torch.from_numpy(changed))  # noqa: E731
    assert not far_apart(found, logits, images.numpy(), close=CLOSE).any()
    other = found.argmax(1) != expected.argmax(1)
    assert not (other & (np.abs(found - expected).max(1) <= CLOSE * np.abs(expected).max())).any()


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in (0, 20, 40)])
def test_programs_of_all_steps_compute_what_they_mean(seeds: range) -> None:
    for seed in seeds:
        program = random_program(seed)
        same_as_it_means(program, seed=seed)
        same_as_it_means(rounded(simplified(program)), seed=seed)


@pytest.mark.slow
def test_many_programs_compute_what_they_mean() -> None:
    for seed in range(60, 3000 if MANY else 160):
        program = random_program(seed, length=6 + seed % 20)
        same_as_it_means(program, seed=seed)
        same_as_it_means(rounded(simplified(program)), seed=seed)


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize(
    ("ins", "out", "groups", "kernel", "stride", "size"),
    [(64, 32, 1, 3, 1, (5, 6)), (33, 7, 1, 5, 2, (3, 9)), (8, 8, 8, 3, 1, (4, 4)), (96, 48, 3, 1, 1, (1, 1)),
     (130, 17, 1, 3, 3, (2, 2)), (512, 64, 1, 3, 1, (7, 7))],
)  # fmt: skip
def test_dot_products_of_bits_are_exact(
    ins: int, out: int, groups: int, kernel: int, stride: int, size: tuple[int, int], pad_value: int
) -> None:
    draw = np.random.default_rng(0)
    signs = draw.random((1, out, ins // groups, kernel, kernel)) < 0.5
    pads, one = (kernel // 2,) * 4, np.ones((1, 1))
    conv = Conv((1,), SignFilters.of(signs, one), (stride, stride), pads, (1, 1), groups, pad_value)
    threshold = Threshold((0,), np.zeros(1), np.zeros(1, np.bool_))
    made = conv.value(Program((ins, *size), (threshold, conv, _mean(ins, size, conv))).values[1])
    last = Pool((2,), False, (made.height, made.width), (1, 1))  # the largest of whole numbers is exact
    program = Program((ins, *size), (threshold, conv, last))
    images = draw.standard_normal((2, ins, *size)).astype(np.float32)
    assert selftest.run(program, images).tolist() == evaluate(program, images).tolist()


def _mean(ins: int, size: tuple[int, int], conv: Conv) -> Pool:
    rows, columns = ((side + 2 * conv.padding[0] - conv.filters.shape[3]) // conv.stride[0] + 1 for side in size)
    return Pool((2,), True, (rows, columns), (1, 1))


def drawn(space: str, count: int) -> list[Architecture]:
    found, random_ = SearchSpace.read(f"search_spaces/{space}.yaml"), random.Random(1)
    return [found.architecture(found.sample(random_)) for _ in range(count)]


@pytest.mark.parametrize("space", SPACES)
def test_networks_of_a_space_give_the_trained_logits(space: str) -> None:
    (arch,) = drawn(space, 1)
    same_as_trained(worn_network(arch), arch.input)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_many_networks_of_a_space_give_the_trained_logits(space: str) -> None:
    for seed, arch in enumerate(drawn(space, 50 if MANY else 3)):
        same_as_trained(worn_network(arch, seed=seed), arch.input, batch=8)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["sign", "xnor", "alpha_beta", "irnet", "group"])
@pytest.mark.parametrize("precision", ["binary", "weight"])
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_every_binarizer_precision_and_padding_gives_the_trained_logits(
    weights: str, precision: str, pad_value: int
) -> None:
    forms = list(itertools.product((1, 3), (1, 4), (False, True), ("sign", "react")))
    for experts, groups, excite, activation in (
        forms if MANY else random.Random(weights + str(pad_value)).sample(forms, 1)
    ):
        arch = make_arch(
            stage={"precision": precision, "experts": experts, "groups": groups, "kernel": 3, "stride": 2, "width": 40},
            stem={"width": 16}, squeeze_excite=excite,
            binarizers={"weight": weights, "activation": activation, "pad_value": pad_value},
        )  # fmt: skip
        same_as_trained(worn_network(arch), arch.input)


@pytest.mark.slow
def test_the_published_expert_network_gives_the_trained_logits() -> None:
    arch = Architecture.read("architectures/expert_net.yaml")
    same_as_trained(worn_network(arch), arch.input, batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18 binary", "resnet18 hybrid", "googlenet binary", "alexnet hybrid-last"])
def test_large_reference_networks_give_the_trained_logits(name: str) -> None:
    model, precision = name.split()
    torch.manual_seed(0)
    same_as_trained(worn(build_model(model, precision=precision)), (3, 224, 224), batch=2)


def test_images_of_any_number_and_layout_give_the_same_logits() -> None:
    network = Network(random_program(1))
    images = np.random.default_rng(0).standard_normal((7, *network.program.input))
    logits = network(images)
    assert logits.dtype == np.float32
    assert network(images[:0]).shape == (0, network.program.classes)
    assert np.array_equal(network(images[2:3]), logits[2:3])
    strided = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(network(strided.astype(np.float16).astype(np.float64)), network(images.astype(np.float16)))


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_threads_share_images_and_change_nothing(threads: int | None) -> None:
    program = random_program(1)
    images = np.random.default_rng(0).standard_normal((9, *program.input)).astype(np.float32)
    assert np.array_equal(Network(program, threads=threads)(images), selftest.run(program, images))


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads: int) -> None:
    with pytest.raises(ProgramError, match=f"threads must be 1 or more, or None, but got {threads}"):
        Network(random_program(1), threads=threads)


def test_callers_do_not_disturb_each_other() -> None:
    network = Network(random_program(1), threads=1)
    images = np.random.default_rng(0).standard_normal((8, 50, *network.program.input)).astype(np.float32)
    expected, found = [network(part) for part in images], [np.empty(0)] * 8

    def call(index: int) -> None:
        found[index] = network(images[index])

    callers = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("images", "error", "reason"),
    [
        (np.zeros((1, 3, 9, 8)), ShapeError, r"\[n, 3, 9, 7\] is needed, but got float64 \[1, 3, 9, 8\]"),
        (np.zeros((3, 9, 7)), ShapeError, "but got float64"),
        (np.zeros((1, 3, 9, 7), np.uint8), ShapeError, "but got uint8"),
        ([[1.0], [1.0, 2.0]], ShapeError, "but a list was given, which NumPy takes for none"),
        (torch.zeros(1, 3, 9, 7, requires_grad=True), ShapeError, "but a Tensor was given"),
        (torch.zeros(1, 3, 9, 7, dtype=torch.bfloat16), ShapeError, "but a Tensor was given"),
        (np.full((1, 3, 9, 7), np.nan), DataError, r"images\[0\] holds a value that is not finite"),
        (np.full((1, 3, 9, 7), -np.inf), DataError, r"images\[0\] holds"),
        (np.full((1, 3, 9, 7), 1e300), DataError, r"images\[0\] holds"),  # not finite in float32
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_images_that_are_none_are_refused(images: Any, error: type[Exception], reason: str) -> None:
    network = Network(lower(worn_network(make_arch()), (3, 9, 7)))
    with pytest.raises(error, match=reason):
        network(images)


_COPIED = """
import copy, gc, pickle, sys
import numpy as np
from bnas.runtime import load
network = load(sys.argv[1])
images = np.random.default_rng(0).standard_normal((3, *network.program.input))
first = network(images)
for again in (copy.copy(network), copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
    gc.collect()
    assert np.array_equal(again(images), first) and np.array_equal(network(images), first)
    assert again.card == network.card
"""


def test_a_copy_and_a_pickle_compute_the_same(tmp_path: Path) -> None:
    (tmp_path / "one.bnas").write_bytes(encoded(lower(worn_network(make_arch()), (3, 9, 7)), Card(name="one")))
    subprocess.run([sys.executable, "-c", _COPIED, str(tmp_path / "one.bnas")], check=True, timeout=300)


def test_the_image_that_is_not_finite_is_named_whoever_computes_it() -> None:
    network = Network(lower(worn_network(make_arch()), (3, 9, 7)), threads=3)
    images = np.zeros((12, 3, 9, 7))
    images[7, 1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"images\[7\] "):
        network(images)
    assert np.isfinite(network(images[:7])).all()


def test_pixels_are_normalised_as_in_training() -> None:
    program = lower(worn_network(make_arch()), (3, 9, 7))
    network = Network(program, Card((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 7), dtype=np.uint8)
    by_hand = (pixels / 255 - np.reshape((0.1, 0.2, 0.3), (3, 1, 1))) / np.reshape((0.4, 0.5, 0.6), (3, 1, 1))
    assert np.abs(network.normalised(pixels) - by_hand).max() < 1e-6
    with pytest.raises(ShapeError):
        network.normalised(by_hand)
    with pytest.raises(ProgramError, match="does not say how"):
        Network(program).normalised(pixels)


@pytest.mark.parametrize(
    "card", [Card((0.1,), (0.2,)), Card((0.1,) * 3, (0.2, 0.0, 0.1)), Card(class_names=("cat", "dog"))]
)
def test_a_card_of_another_network_is_refused(card: Card) -> None:
    with pytest.raises(ProgramError):
        Network(lower(worn_network(make_arch()), (3, 9, 7)), card)


def test_memory_is_used_again_but_never_of_two_at_once() -> None:
    for seed in range(40):
        program = random_program(seed, length=20)
        passes = passes_of(program)
        layout = lay_out(program, passes)
        assert all(place.offset - place.before + place.size + SLACK <= layout.size for place in layout.places.values())
    deep = lower(build(make_arch(stage={"depth": 20})).eval(), (3, 9, 7))
    shallow = lower(build(make_arch(stage={"depth": 5})).eval(), (3, 9, 7))
    sizes = [lay_out(program, passes_of(program)).size for program in (deep, shallow)]
    assert sizes[0] == sizes[1]


def test_every_pass_comes_after_those_whose_memory_it_reads() -> None:
    for seed in range(40):
        program = random_program(seed, length=20)
        written = {0}
        for made in passes_of(program):
            assert set(made.reads()) <= written | set(made.writes())
            written.update(made.writes())


def test_a_cpu_that_computes_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "run", lambda program, images: evaluate(program, images) * 1.01)
    name, program = next(selftest.programs())
    with pytest.raises(ProgramError, match=rf"^{name}: compiled code computes something else .* on {cpu()}"):
        selftest.check(name, program)


def test_the_self_test_covers_every_kernel() -> None:
    """Every source, every part of a chain and every tile runs in it."""
    from bnas.runtime import codes
    from bnas.runtime.codegen import assemble

    sources, parts = set(), set()
    for _, program in selftest.programs():
        code = assemble(program)
        for start in code.starts:
            sources.add(int(code.words[start + codes.SOURCE]))
            at = start + int(code.words[start + codes.CHAIN])
            while code.words[at + codes.PART_KIND] != codes.END:
                parts.add(int(code.words[at + codes.PART_KIND]))
                at += int(code.words[at + codes.PART_LENGTH])
    assert sources == set(range(codes.FLATTEN + 1))
    assert parts == set(range(codes.FUSED, codes.FUSED_EXCITED + 1))


CALLS = """
import sys, warnings
warnings.simplefilter("error" if sys.argv[2] == "quiet" else "always")
sys.path.insert(0, sys.argv[1])
import numpy as np
from programs import random_program
from bnas.runtime import Network
program = random_program(3)
print(Network(program)(np.ones((2, *program.input), np.float32)).tolist())
assert "torch" not in sys.modules
"""


def test_machine_code_that_is_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled._keep(tmp_path / "code", b"a name\0code")
    assert compiled._kept(tmp_path / "code") == b"a name\0code"
    for data in (b"", b"short", (tmp_path / "code").read_bytes()[:-1]):
        (tmp_path / "code").write_bytes(data)
        assert compiled._kept(tmp_path / "code") is None
    assert compiled._kept(tmp_path / "none") is None


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_said_and_done_without(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    results = {}
    for cache, how in ((blocked / "cache", "loud"), (tmp_path / "cache", "quiet"), (tmp_path / "cache", "quiet")):
        done = subprocess.run(
            [sys.executable, "-c", CALLS, str(Path(__file__).parent), how],
            env={"BNAS_CACHE": str(cache), "PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ("cannot be written" in done.stderr) == (how == "loud")
        results[how] = done.stdout
    assert results["loud"] == results["quiet"]
    assert list((tmp_path / "cache").rglob("checked"))


def test_machine_code_is_named_for_all_that_it_is_made_of() -> None:
    """A module that compiled code comes from, or whose values it holds, must be in the name of its folder."""
    folder = Path(compiled.__file__).parent
    found, waiting = {"codes"}, ["machine", "jit"]
    while waiting:
        found.add(name := waiting.pop())
        text = (folder / f"{name}.py").read_text()
        used = {other.stem for other in folder.glob("*.py") if f"bnas.runtime.{other.stem} import" in text}
        waiting += used - found
    assert found == set(compiled.MADE_OF)


def test_what_goes_wrong_is_said_in_one_line() -> None:
    with pytest.raises(ProgramError) as caught:
        Network(random_program(1), Card(class_names=("one",)))
    line_of(caught)
