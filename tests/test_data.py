"""Splits, batches, augmentation and resizing, on digits and on small arrays."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from reference import naive_warped
from torch import Tensor

from bnas.data import AUGMENTATIONS, DataSet, Split, from_arrays, known, load_data
from bnas.data.resize import moments, resize
from bnas.data.stratified import stratified
from bnas.data.transforms import cutout, warped, windows
from bnas.errors import DataError, LookupFailed
from bnas.space.recipe import Augmentation

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
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 1, 2, 2), np.uint8)
    data = from_arrays("numbered", images, np.arange(100) % 4)
    numbers = torch.cat([part.images[:, 0, 0, 0] for part in (data.train, data.validation, data.test)])  # type: ignore[index]
    assert sorted(numbers.tolist()) == list(range(100))


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ((0, 0, 0), "ALL PIXELS ARE THE SAME (what lies in the transparency"),
        ((1, 0, 0), "channel 1, 2 is the same every"),
    ],
)
def test_images_that_tell_nothing_are_called_that(channels: tuple[int, ...], said: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4)) * np.array(channels).reshape(3, 1, 1)
    assert said in str(from_arrays("flat", images.astype(np.uint8), np.arange(40) % 2))
    assert "the same" not in str(from_arrays("plain", COLOUR[0], COLOUR[1]))


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


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("size", [(1, 24), (24, 1)])
def test_signals_stay_on_their_row(name: str, size: tuple[int, int]) -> None:
    signals = torch.ones(200, 2, *size)
    made = AUGMENTATIONS[name](signals, torch.Generator().manual_seed(0))
    assert made.shape == signals.shape
    assert (made.mean((1, 2, 3)) > 0.7).all()  # no signal has left the image; at each end a few values may


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


def test_a_turn_is_by_ten_degrees_at_most_and_leaves_the_centre() -> None:
    images = torch.zeros(500, 1, 29, 29, dtype=torch.uint8)
    images[:, :, 14, 14], images[:, :, 14, 26] = 9, 9
    out = AUGMENTATIONS["turn"](images, torch.Generator().manual_seed(0)).float()
    assert (out[:, 0, 14, 14] == 9).all()
    right = out[:, 0, :, 20:]
    height = (right.sum(2) * (torch.arange(29) - 14)).sum(1) / right.sum((1, 2))
    # A pixel 12 to the right goes 12 sin(10 degrees) = 2.08 up or down; half a pixel is lost to rounding.
    assert 1.5 < height.max() < 2.6
    assert -2.6 < height.min() < -1.5
    assert abs(height.mean()) < 0.2


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


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (None, ("affine",)),
        ("none", ()),
        ((), ()),
        ("flip, cutout", ("flip", "cutout")),
        (["shift"], ("shift",)),
    ],
)
def test_augmentation_is_asked_for_by_name(asked: Any, names: tuple[str, ...]) -> None:
    data = load_data("digits", augment=asked)
    assert data.augmentation == names
    assert data.summary().endswith(f"; augmented by {', '.join(names)}" if names else "; not augmented")
    assert load_data(data, augment="turn").augmentation == ("turn",)


def test_images_of_ones_own_are_not_mirrored_unless_that_is_asked_for() -> None:
    assert load_data(COLOUR).augmentation == ("shift",)
    with pytest.raises(LookupFailed, match="did you mean 'flip'"):
        load_data(COLOUR, augment="flp")


def test_names_in_yaml_are_those_there_are() -> None:
    assert set(get_args(Augmentation)) == set(AUGMENTATIONS)


def test_cutout_leaves_one_square_of_the_mean_and_the_rest_alone() -> None:
    images = torch.randint(1, 255, (200, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cut = cutout(images, torch.Generator().manual_seed(1))
    for before, after in zip(images, cut, strict=True):
        changed = (before != after).any(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        assert rows.max() - rows.min() < 6
        assert columns.max() - columns.min() < 6
        inside = after[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        mean = before.float().mean((1, 2)).round().to(torch.uint8)
        assert torch.equal(inside, mean.view(3, 1, 1).expand_as(inside))
    sizes = (images != cut).any(1).flatten(1).sum(1)
    assert sizes.max() > 30  # of 6 x 6 pixels, those that happen to have the mean aside
    assert sizes.min() < 20  # cut off by an edge


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


def test_none_stands_beside_no_other_augmentation() -> None:
    assert load_data("digits", augment=" none ").train.augmentation == ()
    with pytest.raises(DataError, match="augment: none, flip is both none and some; give one of the two"):
        load_data("digits", augment="none,flip")


@pytest.mark.parametrize("limit", [20, 71, 75, 79, 80, 81])
def test_a_limit_is_how_many_there_are_at_most(limit: int) -> None:
    images, labels = np.zeros((100, 4, 4), np.uint8), np.arange(100) % 10
    data = load_data((images, labels), limit=limit)
    assert len(data.train) + len(data.validation) == min(limit, 80)
    few = load_data((images, labels, images[:20], labels[:20])).with_limit(limit, seed=0)
    assert len(few.train) == min(limit, 90)


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


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY, COLOUR = (coloured(40)[0][:, :1], coloured(40)[1]), coloured(40)
NORMALISED: dict[str, tuple[object, str, object, object]] = {
    # which images; asked; mean and deviation; what becomes of the value 51, a fifth of full scale
    "unit": (GREY, "unit", ((0.0,), (1.0,)), 0.2),
    "bytes": (GREY, "bytes", ((0.0,), (1 / 255,)), 51.0),
    "imagenet, colour": (COLOUR, "imagenet", IMAGENET, (0.2 - 0.485) / 0.229),
    "imagenet, grey": (GREY, "imagenet", ((0.449,), (0.226,)), (0.2 - 0.449) / 0.226),
    "text": (GREY, "0.5/0.25", ((0.5,), (0.25,)), (0.2 - 0.5) / 0.25),
    "one for all": (COLOUR, "0.5/0.5", ((0.5,) * 3, (0.5,) * 3), (0.2 - 0.5) / 0.5),
    "one for each": (COLOUR, "0.1,0.2,0.3/1,2,3", ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), (0.2 - 0.1) / 1),
    "numbers": (GREY, (0.5, 0.5), ((0.5,), (0.5,)), (0.2 - 0.5) / 0.5),
    "tuples": (COLOUR, ((0, 0, 0), (1, 1, 1)), ((0.0,) * 3, (1.0,) * 3), 0.2),
    "tensors": (COLOUR, (torch.zeros(3), torch.ones(3)), ((0.0,) * 3, (1.0,) * 3), 0.2),
    "floats, unit": ((GREY[0] / 255, GREY[1]), "unit", ((0.0,), (1.0,)), 0.2),
    "floats, bytes": ((GREY[0] / 255, GREY[1]), "bytes", ((0.0,), (1 / 255,)), 51.0),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMALISED)
def test_images_are_given_as_a_model_wants_them(name: str) -> None:
    (images, labels), asked, moments, fifth = NORMALISED[name]  # type: ignore[misc]
    images = np.array(images)
    images[:, :, 0, 0] = 51 if images.dtype == np.uint8 else 0.2
    data = load_data((images, labels), normalisation=asked)
    assert (data.mean, data.std) == moments
    for split in (data.train, data.validation, data.test):
        pixels, _ = one_pass(split)
        torch.testing.assert_close(pixels[:, 0, 0, 0], torch.full((len(split),), fifth))
    again = load_data((images, labels), normalisation=data.normalised)
    assert (again.mean, again.std) == moments
    assert f"({data.normalised})" in str(data)
    assert data.fingerprint == load_data((images, labels)).fingerprint


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("imagnet", r"normalise: 'imagnet' is none of imagenet, unit, bytes, and not MEAN/STD as 0\.5/0\.5 or"),
        ("0.5", "is none of imagenet, unit, bytes"),
        ("a/b", "is none of imagenet, unit, bytes"),
        ("1/2/3", "is none of imagenet, unit, bytes"),
        (7, "is none of imagenet, unit, bytes"),
        ("0.5/0", "must be finite, and the deviation above 0"),
        ("nan/1", "must be finite"),
        ("0.1,0.2/1,1", "has 2 and 2 values, but the images have 3 channels; give one for each, or one for all"),
    ],
)
def test_a_normalisation_that_means_nothing_is_refused(asked: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(COLOUR, normalisation=asked)  # type: ignore[arg-type]


def test_a_word_is_not_said_of_images_that_are_scaled_already() -> None:
    scaled = (COLOUR[0] / 255 - 0.5) / 0.5
    with pytest.raises(DataError, match=r"these go from -1 to 1; scale them, or give 0/1 to take them as they are"):
        load_data((scaled, COLOUR[1]), normalisation="imagenet")
    assert load_data((scaled, COLOUR[1]), normalisation="0/1").mean == (0.0, 0.0, 0.0)
    four = np.concatenate((COLOUR[0], COLOUR[0][:, :1]), 1)
    with pytest.raises(DataError, match="imagenet is for 1 or 3 channels, but the images have 4"):
        load_data((four, COLOUR[1]), normalisation="imagenet")


def test_the_summary_says_what_a_person_wants_to_know_first(digits: DataSet) -> None:
    assert str(digits) == digits.summary() == (
        "digits: 1294 training, 144 validation (10 % of the training images, drawn with seed 0) and 359 test images (a "
        "fifth of the images, held out); 1 x 8 x 8; 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; mean 0.287, std 0.354; "
        "augmented by affine"
    )  # fmt: skip


def test_a_data_set_in_a_notebook_is_one_short_line(digits: DataSet) -> None:
    assert repr(digits) == "DataSet('digits': 1294 training, 144 validation, 359 test images, 1 x 8 x 8, 10 classes)"


def test_many_names_are_shortened_and_odd_ones_stay_on_one_line() -> None:
    images, labels = coloured(60, classes=20)
    names = (*(f"c{number:02}" for number in range(19)), "z\x1b[31m\nred")
    said = str(from_arrays("many", images, labels, class_names=names, validation=0.4))
    assert "20 classes: c00, c01, c02, c03, c04, c05, ... z [31m red;" in said


def test_facts_are_what_json_holds(digits: DataSet) -> None:
    facts = digits.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["train"], facts["validation"], facts["test"]) == (1294, 144, 359)
    assert (facts["size"], facts["resized_from"]) == ([1, 8, 8], None)
    assert facts["class_names"] == [str(digit) for digit in range(10)]
    assert (facts["mean"], facts["std"]) == (list(digits.mean), list(digits.std))
    assert facts["fingerprint"] == digits.fingerprint
    assert re.fullmatch("[0-9a-f]{64}", digits.fingerprint)


def _one_pixel(images: np.ndarray, labels: np.ndarray) -> tuple[object, ...]:
    changed = images.copy()
    changed[7, 0, 0, 0] ^= 1
    return changed, labels


SAME: dict[str, object] = {
    "again": {},
    "augmentation": {"augmentation": ("flip",)},
    "names of its own": {"name": "other"},
}
OTHER: dict[str, object] = {
    "one pixel": {"arrays": _one_pixel},
    "two labels": {"arrays": lambda images, labels: (images, labels[[1, 0, *range(2, len(labels))]])},
    "another order": {"arrays": lambda images, labels: (images[::-1], labels[::-1])},
    "the seed": {"seed": 1},
    "the share": {"validation": 0.2},
    "a limit": {"limit": 30},
    "the size": {"input_shape": (3, 4, 4)},
    "names of classes": {"class_names": ("a", "b", "c")},
    "a test split": {"arrays": lambda images, labels: (images, labels, images[:6], labels[:6])},
    "another test split": {"arrays": lambda images, labels: (images, labels, images[1:7], labels[:6])},
}  # fmt: skip


@pytest.mark.parametrize(("change", "is_same"), [*((c, True) for c in SAME), *((c, False) for c in OTHER)])
def test_the_fingerprint_is_of_images_labels_and_their_division(change: str, is_same: bool) -> None:
    def made(*, arrays: Callable[..., tuple[object, ...]] | None = None, name: str = "a", **how: object) -> str:
        images, labels = coloured()
        given = arrays(images, labels) if arrays else (images, labels)
        return from_arrays(name, *given, **how).fingerprint  # type: ignore[arg-type]

    assert (made(**(SAME | OTHER)[change]) == made()) == is_same  # type: ignore[arg-type]


def test_two_test_splits_that_differ_in_a_pixel_differ() -> None:
    images, labels = coloured()
    one = (images, labels, images[:6], labels[:6])
    assert load_data(one).fingerprint == load_data((images, labels, images[:6].copy(), labels[:6])).fingerprint
    assert load_data((images, labels, images[:9], labels[:9])).fingerprint != load_data(one).fingerprint
    changed = images[:6].copy()
    changed[0, 0, 0, 0] ^= 1
    assert load_data((images, labels, changed, labels[:6])).fingerprint != load_data(one).fingerprint


def test_summing_bytes_and_floats_gives_the_same_bits_on_any_number_of_threads() -> None:
    for images in (torch.from_numpy(coloured(500)[0]), torch.rand(500, 3, 16, 16)):
        found = set()
        for threads in (1, 2, 4):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            found.add(moments(images))
            torch.set_num_threads(before)
        assert len(found) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_the_same_on_the_gpu() -> None:
    data = from_arrays("coloured", *coloured(120))
    here, there = one_pass(data.train, seed=1), one_pass(data.train, seed=1, device="cuda")
    torch.testing.assert_close(there[0].cpu(), here[0])
    assert torch.equal(there[1].cpu(), here[1])


def test_the_embedded_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    with np.load(Path(known.__file__).with_name("digits.npz")) as file:
        assert np.array_equal(file["images"].reshape(-1, 64), images)
        assert np.array_equal(file["labels"], labels)


@pytest.mark.parametrize(("limit", "validation", "said"), [(20, 0.1, "50 %"), (200, 0.1, "10 %"), (200, 0.25, "25 %")])
def test_the_share_that_is_held_out_is_said_as_it_is(limit: int, validation: float, said: str) -> None:
    data = load_data("digits", limit=limit, validation=validation)
    assert f"validation ({said} of the training images" in data.summary()
