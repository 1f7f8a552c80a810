"""Splits, batches, augmentation and resizing, on digits and on small arrays."""

import numpy as np
import pytest
import torch
from reference import naive_warped
from torch import Tensor

from bnas.data import AUGMENTATIONS, DataSet, Split, from_arrays, load_data
from bnas.data.augment import warped, windows
from bnas.data.resize import moments, resize
from bnas.data.stratify import stratified
from bnas.errors import DataError, LookupFailed

DIGITS = 1_797
DIGITS_TEST = 359  # a fifth, rounded
DIGITS_VALIDATION = 144  # a tenth of the rest, rounded


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits")


def coloured(count: int = 60, *, side: int = 8, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 3, side, side), dtype=np.uint8), np.arange(count) % classes


def one_pass(split: Split, **how: object) -> tuple[Tensor, Tensor]:
    batches = list(split.batches(32, **how))  # type: ignore[arg-type]
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_digits_are_divided_into_three(digits: DataSet) -> None:
    assert len(digits.test) == DIGITS_TEST
    assert len(digits.validation) == DIGITS_VALIDATION
    assert len(digits.train) == DIGITS - DIGITS_TEST - DIGITS_VALIDATION
    assert (digits.classes, digits.input_shape, digits.augmentation) == (10, (1, 8, 8), ("affine",))
    assert digits.train.images.dtype == torch.uint8


def test_no_image_is_in_two_splits() -> None:
    images = np.arange(100, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 1, 2, 2), np.float32)
    data = from_arrays("numbered", images, np.arange(100) % 4)
    numbers = torch.cat([part.images[:, 0, 0, 0] for part in (data.train, data.validation, data.test)])  # type: ignore[index]
    assert sorted(numbers.tolist()) == list(range(100))


def test_each_class_has_its_share_of_validation(digits: DataSet) -> None:
    rest = torch.bincount(digits.train.labels) + torch.bincount(digits.validation.labels)
    exact = rest * DIGITS_VALIDATION / rest.sum()
    # Shares are rounded up or down, never further.
    assert (torch.bincount(digits.validation.labels) - exact).abs().max() < 1


def test_validation_follows_the_seed_and_test_does_not(digits: DataSet) -> None:
    same, other = load_data("digits"), load_data("digits", seed=1)
    assert torch.equal(same.validation.images, digits.validation.images)  # type: ignore[arg-type]
    assert not torch.equal(other.validation.images, digits.validation.images)  # type: ignore[arg-type]
    assert torch.equal(other.test.images, digits.test.images)  # type: ignore[arg-type]


def test_the_first_validation_images_are_a_mixture(digits: DataSet) -> None:
    images, labels = coloured(90)
    data = from_arrays("sorted", images[np.argsort(labels)], np.sort(labels), validation=0.4)
    assert set(data.validation.labels[:12].tolist()) == {0, 1, 2}


def test_test_split_is_read_when_asked_for() -> None:
    reads = []
    data = load_data("digits")
    split = DataSet(
        data.name, data.class_names, data.train, data.validation, read_test=lambda: reads.append(1) or data.train
    )
    assert reads == []
    assert split.test is split.test
    assert reads == [1]


def test_evaluation_is_every_image_in_order(digits: DataSet) -> None:
    images, labels = one_pass(digits.validation)
    assert torch.equal(labels, digits.validation.labels)
    pixels = digits.validation.images / 255  # type: ignore[operator]
    # float32 against float32 with another order of operations: a few units in the last place.
    torch.testing.assert_close(images, (pixels - digits.mean[0]) / digits.std[0], rtol=1e-5, atol=1e-5)


def test_training_images_are_normalised(digits: DataSet) -> None:
    images, _ = one_pass(digits.train)
    assert images.dtype == torch.float32
    assert images.mean().abs() < 1e-5
    assert (images.std(correction=0) - 1).abs() < 1e-5


def test_a_training_pass_is_a_function_of_seed_and_epoch() -> None:
    data = from_arrays("coloured", *coloured(120))
    first, again = one_pass(data.train, seed=3, epoch=5), one_pass(data.train, seed=3, epoch=5)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for seed, epoch in ((3, 6), (4, 5), (5, 3)):
        assert not torch.equal(first[0], one_pass(data.train, seed=seed, epoch=epoch)[0])


def test_the_order_does_not_depend_on_augmentation() -> None:
    data = from_arrays("coloured", *coloured(120))
    _, plain = one_pass(data.train, seed=1, augment=False)
    _, augmented = one_pass(data.train, seed=1, augment=True)
    assert torch.equal(plain, augmented)


def test_a_training_pass_drops_the_short_batch(digits: DataSet) -> None:
    count = len(digits.train)
    assert digits.train.steps(100) == len(list(digits.train.batches(100, seed=0))) == count // 100
    assert digits.train.steps(100, drop_last=False) == len(list(digits.train.batches(100))) == count // 100 + 1


def test_bad_passes_are_refused(digits: DataSet) -> None:
    with pytest.raises(DataError, match="give seed and epoch"):
        digits.train.batches(32, augment=True)
    with pytest.raises(DataError, match=f"choose at most {len(digits.train)}"):
        digits.train.batches(5_000, seed=0)
    with pytest.raises(DataError, match="at least 1, but got 0"):
        digits.train.batches(0)


def test_take_is_a_seeded_part(digits: DataSet) -> None:
    part = digits.train.take(50, seed=2)
    assert len(part) == 50
    assert torch.equal(part.labels, digits.train.take(50, seed=2).labels)
    assert digits.train.take(10_000, seed=2) is digits.train


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(7, 3, 32, 32), (5, 1, 9, 14), (1, 2, 1, 1)])
def test_augmentations_keep_shape_kind_and_their_argument(name: str, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    out, again = (AUGMENTATIONS[name](images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert (out.shape, out.dtype, out.is_contiguous()) == (images.shape, images.dtype, True)
    assert torch.equal(out, again)
    assert torch.equal(images, before)


def test_flip_mirrors_about_half() -> None:
    images = torch.randint(0, 256, (1_000, 1, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = AUGMENTATIONS["flip"](images, torch.Generator().manual_seed(0))
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (mirrored | (out == images).flatten(1).all(1)).all()
    # 1,000 coins: five standard deviations are 5 * sqrt(1000) / 2 = 79.
    assert abs(int(mirrored.sum()) - 500) < 79


def test_windows_match_a_loop_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 12, 11), dtype=torch.uint8, generator=generator)
    rows, columns = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([0, 3, 1, 2, 0, 3])
    naive = torch.stack([image[:, r : r + 8, c : c + 8] for image, r, c in zip(images, rows, columns, strict=True)])
    assert torch.equal(windows(images, rows, columns, size=(8, 8)), naive)


def test_shift_reaches_each_place_and_fills_with_zeros() -> None:
    images = torch.zeros(2_000, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 14, 14] = 9
    out = AUGMENTATIONS["shift"](images, torch.Generator().manual_seed(0))
    places = {(int(row), int(column)) for _, _, row, column in out.nonzero()}
    assert places == {(14 + down, 14 + right) for down in range(-2, 3) for right in range(-2, 3)}
    assert out.sum() == 2_000 * 9


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_a_warp_matches_a_loop_over_pixels(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 9, 14), generator=generator).to(dtype)
    angle, wide, tall, right, down = (torch.rand(5, 6, generator=generator) - 0.5).unbind()
    seen = warped(images, angle, (1 + wide, 1 + tall), (right / 2, down / 2))
    assert seen.dtype == dtype
    for index, image in enumerate(images):
        turned, *sides = (float(each[index]) for each in (angle, 1 + wide, 1 + tall, right / 2, down / 2))
        naive = naive_warped(image.double(), turned, (sides[0], sides[1]), (sides[2], sides[3]))
        assert (seen[index].double() - naive).abs().max() < (0.501 if dtype == torch.uint8 else 1e-3)


def test_a_window_that_is_not_moved_shows_the_image() -> None:
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    still, one = torch.zeros(4), torch.ones(4)
    assert torch.equal(warped(images, still, (one, one), (still, still)), images)


def test_augmentation_can_be_chosen(digits: DataSet) -> None:
    chosen = digits.with_augmentation("shift")
    assert chosen.augmentation == ("shift",)
    assert not torch.equal(one_pass(chosen.train, seed=0)[0], one_pass(digits.train, seed=0)[0])
    with pytest.raises(LookupFailed, match="did you mean 'shift'"):
        digits.with_augmentation("shfit")


def test_dividing_sides_are_mean_pooled() -> None:
    images = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    halves = [[(0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4], [(8 + 9 + 12 + 13) / 4, (10 + 11 + 14 + 15) / 4]]
    assert torch.equal(resize(images.float(), (2, 2)), torch.tensor([[halves]]))
    assert torch.equal(resize(images, (2, 2)), torch.tensor([[halves]]).round().to(torch.uint8))


def test_other_sides_are_interpolated() -> None:
    data = load_data("digits", input_shape=(1, 12, 10))
    assert data.input_shape == (1, 12, 10)
    assert data.test.image_shape == (1, 12, 10)
    even = torch.full((2, 3, 5, 5), 77, dtype=torch.uint8)
    assert torch.equal(resize(even, (7, 3)), torch.full((2, 3, 7, 3), 77, dtype=torch.uint8))


def test_moments_match_torch() -> None:
    images = torch.from_numpy(coloured(50)[0])
    mean, std = moments(images)
    pixels = images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-9)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-9)
    assert moments(torch.zeros(4, 1, 2, 2)) == ((0.0,), (1.0,))


def test_stratified_takes_exactly_what_was_asked() -> None:
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    taken, left = stratified(labels, 25, seed=0, names=("a", "b", "c"), what="test")
    assert sorted([*taken.tolist(), *left.tolist()]) == list(range(100))
    # A quarter of 70, 20 and 10: 17.5, 5 and 2.5; one of the halves is rounded up.
    assert torch.bincount(labels[taken]).tolist() in ([18, 5, 2], [17, 5, 3])


def test_limit_keeps_the_mixture_and_the_test_split(digits: DataSet) -> None:
    few = load_data("digits", limit=200)
    assert len(few.train) + len(few.validation) == 200
    assert torch.equal(few.test.images, digits.test.images)  # type: ignore[arg-type]
    assert torch.bincount(few.train.labels).min() >= 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 0.0}, "between 0 and 1, but got 0"),
        ({"seed": -1}, "from 0 to 4294967295, but got -1"),
        ({"seed": 2**32}, "from 0 to 4294967295, but got 4294967296"),
        ({"limit": 5}, "at least 2 for each of 10 classes"),
        ({"input_shape": (3, 8, 8)}, "1 x 8 x 8, but 3 x 8 x 8 was asked for"),
        ({"input_shape": (1, 0, 8)}, "at least 1"),
    ],
)
def test_impossible_wishes_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data("digits", **arguments)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_the_same_on_the_gpu() -> None:
    data = from_arrays("coloured", *coloured(120))
    here, there = one_pass(data.train, seed=1), one_pass(data.train, seed=1, device="cuda")
    torch.testing.assert_close(there[0].cpu(), here[0])
    assert torch.equal(there[1].cpu(), here[1])
