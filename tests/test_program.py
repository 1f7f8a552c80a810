from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed import apart

from bnas.errors import ProgramError
from bnas.runtime.filters import RealFilters, SignFilters
from bnas.runtime.naive import evaluate, every_slot
from bnas.runtime.program import Program, rounded
from bnas.runtime.simplify import simplified
from bnas.runtime.steps import (
    Add,
    Affine,
    Argmax,
    Channels,
    Clip,
    Concat,
    Conv,
    Flatten,
    Multiply,
    Pool,
    PReLU,
    Sigmoid,
    Step,
    Threshold,
)

ONE = np.ones(1)
NEVER = np.zeros(1, np.bool_)


def signs(*shape: int, seed: int = 0, scale: Any = None, offset: Any = None) -> SignFilters:
    drawn = np.random.default_rng(seed).random(shape) < 0.5
    return SignFilters.of(drawn, np.ones((1, 1)) if scale is None else scale, offset)


def test_a_convolution_of_bits_is_exact_in_whole_numbers() -> None:
    filters = signs(1, 4, 3, 3, 3)
    program = Program(
        (3, 5, 4),
        (
            Threshold((0,), np.zeros(1), NEVER),
            Conv((1,), filters, padding=(1, 1, 1, 1), pad_value=-1),
            Pool((2,), mean=False, kernel=(5, 4), stride=(1, 1)),
        ),
    )
    image = np.random.default_rng(0).standard_normal((1, 3, 5, 4))
    bits = np.pad(np.where(image[0] >= 0, 1, -1), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    weight = np.where(filters.signs(0), 1, -1)
    by_hand = [
        [[int((bits[:, i : i + 3, j : j + 3] * weight[o]).sum()) for j in range(4)] for i in range(5)] for o in range(4)
    ]
    assert every_slot(program, image)[2][0].tolist() == by_hand


def test_sign_of_zero_is_one() -> None:
    program = Program((2, 1, 1), (Threshold((0,), np.zeros(1), NEVER), Conv((1,), signs(1, 1, 2, 1, 1))))
    assert every_slot(program, np.array([0.0, -0.0]).reshape(1, 2, 1, 1))[1].ravel().tolist() == [1, 1]


def test_the_first_of_equal_values_is_chosen() -> None:
    program = Program((3, 1, 1), (Argmax((0,)), Conv((0, 1), signs(3, 1, 3, 1, 1))))
    assert every_slot(program, np.array([1.0, 2.0, 2.0]).reshape(1, 3, 1, 1))[1].ravel().tolist() == [1]


BAD: dict[str, tuple[Any, str]] = {
    "a slot that is not written yet": (Affine((1,)), "reads slots"),
    "no input": (Affine(()), "reads slots"),
    "groups that do not divide": (Conv((0,), signs(1, 4, 3, 1, 1), groups=3), "3 groups must divide 4"),
    "other channels": (Conv((0,), signs(1, 4, 5, 1, 1)), "are not 6"),
    "bits that are too few": (Conv((0,), replace(signs(1, 4, 6, 1, 1), shape=(1, 4, 6, 3, 3))), "need 27 bytes"),
    "experts without a choice": (Conv((0,), signs(2, 4, 6, 1, 1)), "2 experts and 1 inputs"),
    "a choice that is none": (Conv((0, 0), signs(2, 4, 6, 1, 1)), "need a choice between 2"),
    "a window larger than the image": (Conv((0,), signs(1, 4, 6, 9, 1)), "9 pixels does not fit"),
    "a padding of real values with 1": (Conv((0,), signs(1, 4, 6, 1, 1), pad_value=1), "pad value 1"),
    "a bias of another length": (Conv((0,), signs(1, 4, 6, 1, 1), bias=np.zeros(3)), "must have one value, or 4"),
    "a scale of another length": (Affine((0,), np.ones(5)), "must have one value, or 6"),
    "a stride of nothing": (Conv((0,), signs(1, 4, 6, 1, 1), stride=(0, 1)), "must be positive"),
    "padding of more than half a window": (Pool((0,), True, (2, 2), (1, 1), padding=(2, 0)), "padding"),
    "operands of two sizes": (Add((0, 1)), "does not go with"),
    "a choice between pixels": (Argmax((0,)), "of one pixel"),
    "channels from beyond the last": (Channels((0,), 6, 2), "start=6"),
    "limits in the wrong order": (Clip((0,), 2, 1), "must not be above"),
    "too many values": (Channels((0,), 0, 2**28), "are more values"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_step_that_does_not_go_with_its_input_is_refused(case: str) -> None:
    step, reason = BAD[case]
    before = (Pool((0,), True, (1, 2), (1, 1)),) if isinstance(step, Add) else ()
    with pytest.raises(ProgramError, match=rf"^step {len(before)} \({type(step).__name__}\): .*{reason}"):
        Program((6, 4, 4), (*before, step))


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, -1, 1), (2**20, 2**20, 2**20)])
def test_an_image_of_an_impossible_size_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ProgramError, match="is no image"):
        Program(shape, (Flatten((0,)),))


def test_a_result_must_be_one_value_a_class() -> None:
    with pytest.raises(ProgramError, match="one real value a class"):
        Program((3, 2, 2), (Affine((0,)),))


floats = st.floats(-8, 8, width=32)


@given(at=st.floats(-8, 8), x=floats)
def test_a_rounded_threshold_compares_float32_values_as_before(at: float, x: float) -> None:
    step = Threshold((0,), np.array([at]), NEVER)
    program = rounded(Program((1, 1, 1), (step, Conv((1,), signs(1, 1, 1, 1, 1)))))
    (threshold, _) = program.steps
    assert isinstance(threshold, Threshold)
    assert threshold.at.dtype == np.float32
    assert (x >= at) == (np.float32(x) >= threshold.at[0])


factors = st.sampled_from([-2.0, -0.5, 0.0, 0.75, 3.0])
halves = st.integers(-9, 9).map(lambda value: value / 2)


@st.composite
def pointwise(draw: st.DrawFn) -> Step:
    """A step that a threshold may move through."""
    kind = draw(st.sampled_from(["affine", "prelu", "clip"]))
    if kind == "affine":
        return Affine((0,), np.array(draw(st.lists(factors, min_size=3, max_size=3))), np.full(1, draw(halves)))
    if kind == "prelu":
        return PReLU((0,), np.array(draw(st.lists(factors, min_size=3, max_size=3))))
    low = draw(halves)
    return Clip((0,), low, low + abs(draw(halves)))


@given(steps=st.lists(pointwise(), max_size=4), at=halves, flip=st.booleans(), seed=st.integers(0, 99))
def test_a_threshold_says_the_same_wherever_it_has_moved(steps: list[Step], at: float, flip: bool, seed: int) -> None:
    """Halves and quarters are exact in float64, so that no rounding hides a wrong comparison of equal values."""
    chain: list[Step] = [Threshold((0,), np.zeros(1), NEVER), Conv((1,), signs(1, 3, 2, 1, 1, seed=seed))]
    for step in (*steps, Threshold((0,), np.full(1, at), np.full(1, flip)), Conv((0,), signs(1, 2, 3, 1, 1))):
        chain.append(replace(step, inputs=(len(chain),)))
    program = Program((2, 1, 1), tuple(chain))
    images = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]]).reshape(4, 2, 1, 1)
    short = simplified(program)
    assert evaluate(short, images).tolist() == evaluate(program, images).tolist()
    if not any(isinstance(step, PReLU) for step in steps):
        assert len(short.steps) == 4  # threshold, convolution, threshold, convolution


def test_what_two_steps_read_is_computed_once() -> None:
    rng = np.random.default_rng(0)
    wide = Conv((0,), RealFilters(rng.standard_normal((1, 4, 3, 1, 1))))
    program = Program(
        (3, 2, 2),
        (
            wide,
            Affine((1,), rng.standard_normal(4), rng.standard_normal(4)),
            PReLU((2,), np.full(1, 0.5)),
            Threshold((3,), np.zeros(1), NEVER),
            Conv((4,), signs(1, 4, 4, 1, 1)),
            Add((5, 3)),
            Pool((6,), mean=True, kernel=(2, 2), stride=(1, 1)),
        ),
    )
    short = simplified(program)
    assert [type(step) for step in short.steps] == [Conv, PReLU, Threshold, Conv, Add, Pool]
    images = rng.standard_normal((3, 3, 2, 2))
    assert apart(evaluate(short, images), evaluate(program, images)) < 1e-12


def test_a_mean_before_its_scaling_and_a_gate_that_takes_it_in() -> None:
    rng = np.random.default_rng(0)
    program = Program(
        (4, 3, 3),
        (
            Affine((0,), rng.standard_normal(4), rng.standard_normal(4)),
            Pool((1,), mean=True, kernel=(3, 3), stride=(3, 3)),
            Conv((2,), RealFilters(rng.standard_normal((1, 6, 2, 1, 1))), groups=2),
        ),
    )
    short = simplified(program)
    assert [type(step) for step in short.steps] == [Pool, Conv]
    images = rng.standard_normal((3, 4, 3, 3))
    assert apart(evaluate(short, images), evaluate(program, images)) < 1e-12


def test_steps_that_nothing_reads_are_left_out() -> None:
    program = Program((2, 1, 1), (Sigmoid((0,)), Concat((0, 0)), Multiply((2, 2))))
    assert [(type(step), step.inputs) for step in simplified(program).steps] == [(Concat, (0, 0)), (Multiply, (1, 1))]
