"""Images that a user holds: arrays, lists, torch Datasets, .npz files, functions. A case is one line of a table."""

import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

from bnas.data import DataSet, Split, from_arrays, load_data, stream
from bnas.errors import BnasError, DataError, LookupFailed

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
LAST = np.ascontiguousarray(COLOUR.transpose(0, 2, 3, 1))
LABELS = np.arange(40) % 2
WORDS = np.array(["dog", "cat"])[LABELS]
COUNTS, WITH_TEST = (29, 3, 8), (36, 4, 6)  # a fifth of 40, and a tenth of the rest


class Pairs(Dataset[Any]):
    """A Dataset of the map style."""

    def __init__(self, images: Any, labels: Any, **attributes: Any) -> None:
        self.images, self.labels_ = images, labels
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index], self.labels_[index]


class Duck:
    """What looks like a Dataset, and is none of torch's."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": GREY[index], "label": int(LABELS[index])}


class Forever(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


class Noisy(Pairs):
    """A Dataset whose transforms draw from every random generator there is."""

    def __getitem__(self, index: int) -> Any:
        noise = random.random() + np.random.random() + float(torch.rand(()))
        return torch.full((1, 4, 4), noise / 3), index % 2


PICTURES = [Image.fromarray(image) for image in GREY]
RAGGED = [GREY[i][: 6 + i % 3] for i in range(40)]
OBJECTS: dict[str, tuple[Any, tuple[int, int, int], tuple[int, int, int], tuple[str, ...]]] = {
    # an object -> how many images it gives, channels, height, width, and class names
    "grey arrays": ((GREY, LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "channels first": ((COLOUR, LABELS), COUNTS, (3, 8, 8), ("0", "1")),
    "channels last": ((LAST, LABELS), COUNTS, (3, 8, 8), ("0", "1")),
    "grey, channels last": ((GREY[..., None], LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "transparent, channels last": ((np.concatenate((LAST, LAST[..., :1]), 3), LABELS), COUNTS, (4, 8, 8), ("0", "1")),
    "floats": ((GREY / 255, LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "halves": (((GREY / 255).astype(np.float16), LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "of another machine": (((GREY / 255).astype(">f4"), LABELS.astype(">i8")), COUNTS, (1, 8, 8), ("0", "1")),
    "long doubles": (((GREY / 255).astype(np.longdouble), LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "tensors": ((torch.from_numpy(COLOUR), torch.from_numpy(LABELS)), COUNTS, (3, 8, 8), ("0", "1")),
    "tensors with gradients": ((torch.rand(40, 1, 8, 8, requires_grad=True), LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "turned round": ((COLOUR[:, :, ::-1, ::-1], LABELS[::-1]), COUNTS, (3, 8, 8), ("0", "1")),
    "words": ((GREY, WORDS), COUNTS, (1, 8, 8), ("cat", "dog")),
    "a list of words": ((GREY, WORDS.tolist()), COUNTS, (1, 8, 8), ("cat", "dog")),
    "bytes": ((GREY, WORDS.astype("S")), COUNTS, (1, 8, 8), ("cat", "dog")),
    "a series": ((GREY, pd.Series(WORDS)), COUNTS, (1, 8, 8), ("cat", "dog")),
    "categories": ((GREY, pd.Series(WORDS, dtype="category")), COUNTS, (1, 8, 8), ("cat", "dog")),
    "as Keras keeps labels": ((GREY, LABELS.astype(np.uint8)[:, None]), COUNTS, (1, 8, 8), ("0", "1")),
    "yes or no": ((GREY, LABELS.astype(bool)), COUNTS, (1, 8, 8), ("0", "1")),
    "a list of numbers": ((GREY, LABELS.tolist()), COUNTS, (1, 8, 8), ("0", "1")),
    "a list of tensors": ((list(torch.tensor(GREY)), list(torch.tensor(LABELS))), COUNTS, (1, 8, 8), ("0", "1")),
    "a list of pictures": ((PICTURES, LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "four arrays": ((GREY, LABELS, GREY[:6], LABELS[:6]), WITH_TEST, (1, 8, 8), ("0", "1")),
    "four arrays without a test": ((GREY, LABELS, None, None), COUNTS, (1, 8, 8), ("0", "1")),
    "test words in another order": ((GREY, WORDS, GREY[:6], WORDS[:6]), WITH_TEST, (1, 8, 8), ("cat", "dog")),
    "a dictionary": (
        {"X_train": GREY, "Y_train": LABELS, "x_test": GREY[:6], "y_test": LABELS[:6]},
        WITH_TEST, (1, 8, 8), ("0", "1"),
    ),
    "a dictionary of two": ({"images": GREY, "labels": WORDS}, COUNTS, (1, 8, 8), ("cat", "dog")),
    "three parts": (
        {"train_images": GREY, "train_labels": LABELS, "val_images": GREY[:4], "val_labels": LABELS[:4],
         "test_images": GREY[:6], "test_labels": LABELS[:6]}, (40, 4, 6), (1, 8, 8), ("0", "1"),
    ),
    "class names": ({"images": GREY, "labels": LABELS, "class_names": list("abc")}, COUNTS, (1, 8, 8), ("a", "b", "c")),
    "class names in bytes": (
        {"images": GREY, "labels": WORDS.astype("S"), "class_names": np.array([b"dog", b"cat"])},
        COUNTS, (1, 8, 8), ("dog", "cat"),
    ),
    "a Dataset": (Pairs(torch.from_numpy(COLOUR), LABELS), COUNTS, (3, 8, 8), ("0", "1")),
    "a Dataset of pictures": (Pairs(PICTURES, LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "a Dataset of words": (Pairs(LAST, WORDS), COUNTS, (3, 8, 8), ("cat", "dog")),
    "a Dataset with names": (Pairs(LAST, LABELS, classes=["dog", "cat"]), COUNTS, (3, 8, 8), ("dog", "cat")),
    "a TensorDataset": (TensorDataset(torch.rand(40, 1, 8, 8), torch.tensor(LABELS)), COUNTS, (1, 8, 8), ("0", "1")),
    "a Subset": (Subset(Pairs(COLOUR, LABELS), range(0, 40)), COUNTS, (3, 8, 8), ("0", "1")),
    "two Datasets": ((Pairs(COLOUR, LABELS), Pairs(COLOUR[:6], LABELS[:6])), WITH_TEST, (3, 8, 8), ("0", "1")),
    "a list of pairs": (list(zip(COLOUR, LABELS, strict=True)), COUNTS, (3, 8, 8), ("0", "1")),
    "what looks like a Dataset": (Duck(), COUNTS, (1, 8, 8), ("0", "1")),
    "a function": (lambda: (GREY, LABELS), COUNTS, (1, 8, 8), ("0", "1")),
    "a class": (Duck, COUNTS, (1, 8, 8), ("0", "1")),
    "grey among colour": (Pairs([COLOUR[0], *GREY[1:]], LABELS), COUNTS, (3, 8, 8), ("0", "1")),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_what_people_hold_is_taken(name: str) -> None:
    value, counts, shape, names = OBJECTS[name]
    data = load_data(value)
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert (data.input_shape, data.class_names) == (shape, names)
    assert data.test.image_shape == shape
    assert data.fingerprint == load_data(value).fingerprint
    assert data.facts()["test"] == counts[2]


@pytest.mark.parametrize("name", OBJECTS)
def test_what_people_hold_is_resized(name: str) -> None:
    value, _, (channels, *_), _ = OBJECTS[name]
    data = load_data(value, input_shape=(channels, 4, 4))
    assert data.train.image_shape == data.validation.image_shape == data.test.image_shape == (channels, 4, 4)
    assert f"{channels} x 4 x 4, resized from {channels} x 8 x 8" in str(data)


@pytest.mark.parametrize("length", [1, 3, 4, 25])
@pytest.mark.parametrize("channels", [2, 3, 4, 12])
def test_signals_have_their_channels_first(channels: int, length: int) -> None:
    data = load_data((np.random.default_rng(0).random((40, channels, 1, length)), LABELS))
    assert data.input_shape == (channels, 1, length)


def test_labels_belong_to_their_images() -> None:
    bright = (GREY // 2 + 128 * LABELS[:, None, None]).astype(np.uint8)  # dogs (0) are dark, cats (1) bright
    for value in ((bright, WORDS), Pairs(bright, WORDS), (bright[..., None].repeat(3, 3), WORDS)):
        data = load_data(value)
        for split in (data.train, data.validation, data.test):
            is_bright = split.images.float().mean((1, 2, 3)) > 127  # type: ignore[union-attr]
            assert [data.class_names[label] == "cat" for label in split.labels] == is_bright.tolist()


def test_a_test_split_is_numbered_by_the_training_classes() -> None:
    data = load_data((GREY, WORDS, GREY[:3], ["dog", "dog", "cat"]))
    assert [data.class_names[label] for label in data.test.labels] == ["dog", "dog", "cat"]


def test_ragged_images_are_taken_where_a_size_is_given() -> None:
    for value in ((RAGGED, LABELS), Pairs(RAGGED, LABELS), (np.array(RAGGED, dtype=object), LABELS)):
        assert load_data(value, input_shape=(1, 6, 6)).test.image_shape == (1, 6, 6)
        with pytest.raises(DataError, match=r"image 1 is 1 x 7 x 8, but the first is 1 x 6 x 8.*input_shape.*--input"):
            load_data(value)


WRONG: dict[str, tuple[Any, str]] = {
    "channels first or last": ((np.zeros((8, 4, 4, 1), np.uint8), LABELS[:8]), r"transpose\(0, 3, 1, 2\) where they"),
    "two channels last": ((np.zeros((8, 28, 28, 2)), LABELS[:8]), "28 x 28 x 2 may have their channels first or last"),
    "five channels last": ((np.zeros((8, 12, 20, 5), np.uint8), LABELS[:8]), "12 x 20 x 5 may have their channels"),
    "bytes as fractions": ((GREY.astype(np.float32), LABELS), r"hold values from .* to .*, but floating point goes"),
    "a Dataset of bytes as fractions": (Pairs(GREY.astype(np.float32), LABELS), r"image 0: holds values from .* to "),
    "a name for some": ((GREY, ["a", None, "b", "b"] * 10), "image 1 has no label; give it one, or take it out"),
    "whole numbers": ((GREY.astype(np.int64), LABELS), r"but are int64 \[40, 1, 8, 8\]; convert them, as with .*uint8"),
    "five axes": ((COLOUR[None], LABELS), r"but are uint8 \[1, 40, 3, 8, 8\]"),
    "vectors": ((np.zeros((40, 64)), LABELS), r"but are float64 \[40, 64\]"),
    "no images": ((GREY[:0], LABELS[:0]), "there are no images"),
    "no sides": ((GREY[:, :0], LABELS), "there are no images"),
    "not finite": ((np.full((40, 8, 8), np.nan), LABELS), "images hold values that are not finite; remove"),
    "strings": ((["a"] * 40, LABELS), "image 0: images must be dense arrays .* but are of type str"),
    "nothing": ((None, LABELS), "images must be dense arrays or tensors of numbers, but are of type NoneType"),
    "a sparse tensor": ((torch.zeros(40, 1, 4, 4).to_sparse(), LABELS), "must be dense arrays or tensors of numbers"),
    "a tensor without values": ((torch.zeros(40, 1, 4, 4, device="meta"), LABELS), "must be dense arrays or tensors"),
    "fewer labels": ((GREY, LABELS[:9]), "there are 40 images but 9 labels"),
    "no labels": ((GREY, None), "labels must be a list or an array, one of each image, but are a NoneType"),
    "sparse labels": ((GREY, torch.arange(40).to_sparse()), "labels must be a list or an array"),
    "fractions": ((GREY, LABELS / 2), r"labels must be integers or names \[n\], but are float64 \[40\]; convert them"),
    "one hot": ((GREY, np.eye(2)[LABELS]), r"but are float64 \[40, 2\]; give their argmax\(1\)"),
    "words and numbers": ((GREY, ["a", 1] * 20), "labels must be all integers or all names"),
    "a fraction": ((GREY, [0, 1.5] * 20), "label 1.5 of image 1 must be an integer or a name"),
    "none": ((GREY, [0, None] * 20), "label None of image 1 must be from 0 to 0"),
    "below zero": ((GREY, LABELS - 1), "label -1 of image 0 must be from 0"),
    "huge": ((GREY, [0, 10**30] * 20), r"label \d+ of image 1 must be from 0 to 39"),
    "from one": ((GREY, LABELS + 1), r"class '0' must have at least 2 images .*\(labels count from 0\)"),
    "one class": ((GREY, LABELS * 0), "are of one class, '0', and there is nothing to tell apart"),
    "one image": ((GREY, [0] * 39 + [1]), "class '1' must have at least 2 images to divide, but has 1"),
    "an extra test class": ((GREY, LABELS, GREY[:3], [0, 1, 2]), "label 2 is not one of the 2 training classes"),
    "numbers for words": ((GREY, WORDS, GREY[:2], [0, 1]), "some labels are numbers and others names"),
    "other channels": ((GREY, LABELS, COLOUR, LABELS), "test: the images are 3 x 8 x 8, but the training images 1 x 8"),
    "bytes and fractions": ((GREY, LABELS, GREY / 255, LABELS), "are uint8, but the test images float64"),
    "fractions and bytes by name": (
        {"x_train": GREY / 255, "y_train": LABELS, "x_val": GREY, "y_val": LABELS},
        "training images are float64, but the validation images uint8",
    ),
    "objects": ((np.full((40, 8, 8), None), LABELS), "are of type ndarray of object"),
    "three": ((GREY, LABELS, GREY), "must be a DataSet, a torch Dataset .* but is a tuple of 3"),
    "a number": (3, "must be a DataSet, .* but is a int"),
    "None": (None, "must be a DataSet, .* but is a NoneType"),
    "a loader": (DataLoader(Pairs(GREY, LABELS)), "has batches of its own; give what it loads, its .dataset"),
    "an iterable": (Forever(), "has no length, or gives no item by its index; give a Dataset of the map style"),
    "an empty Dataset": (Pairs([], []), "there are no images"),
    "no pairs": ([*zip(GREY, LABELS, LABELS, strict=True)], "but is a list of 40"),
    "a Dataset of images": (TensorDataset(torch.rand(9, 1, 8, 8)), r"must give pairs .*, but item 0 is a tuple of 1"),
    "a Dataset that fails": (Pairs(GREY, LABELS[:9]), "item 9 of the Dataset cannot be read: IndexError"),
    "colour among grey": (Pairs([GREY[0], *COLOUR[1:]], LABELS), "image 1 is 3 x 8 x 8, but 1 channels are wanted"),
    "kinds mixed": (Pairs([GREY[0], *(GREY[1:] / 255)], LABELS), "is torch.float32, but the first is torch.uint8"),
    "other names": ({"pictures": GREY, "labels": LABELS}, "needs arrays called train_images .* has pictures, labels"),
    "a function of a function": (lambda: lambda: 1, "but returned a function"),
    "a broken function": (lambda: 1 / 0, "the function failed: ZeroDivisionError: division by zero"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_taken_is_one_line(name: str) -> None:
    value, message = WRONG[name]
    with pytest.raises(DataError, match=message) as caught:
        load_data(value)
    assert "\n" not in str(caught.value)


def made(**changes: Any) -> DataSet:
    return replace(from_arrays("mine", COLOUR, LABELS, COLOUR[:6], LABELS[:6]), **changes)


BROKEN: dict[str, tuple[Callable[[], DataSet], str]] = {
    "labels beyond the names": (lambda: made(class_names=("a",)), "class_names must be two names or more"),
    "names that are none": (lambda: made(class_names=(1, 2)), "class_names must be two names or more"),
    "no split": (lambda: made(train=None), "train: must be a bnas.data.Split, but is a NoneType"),
    "a label outside": (
        lambda: made(validation=Split(torch.rand(2, 3, 8, 8), torch.tensor([0, 5]), (0.0,) * 3, (1.0,) * 3)),
        "validation: label 5 of image 1 must be from 0 to 1",
    ),
    "other labels": (
        lambda: made(train=Split(torch.rand(2, 3, 8, 8), torch.rand(2), (0.0,) * 3, (1.0,) * 3)),
        "train: labels must be int64",
    ),
    "other sizes": (
        lambda: made(validation=Split(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), (0.0,) * 3, (1.0,) * 3)),
        "the validation images are .* make them alike",
    ),
    "no images": (lambda: made(train=made().train.select(torch.tensor([], dtype=torch.int64))), "there are no images"),
    "a test split in place of what reads it": (lambda: made(read_test=made().test), "read_test must be a function"),
    "a test that fails": (lambda: made(read_test=lambda: 1 / 0), "its test images: the function failed: ZeroDivision"),
    "a test that is none": (lambda: made(read_test=lambda: 3), "test: must be a bnas.data.Split, but is a int"),
    "a test of another size": (
        lambda: made(read_test=lambda: Split(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), (0.0,) * 3, (1.0,) * 3)),
        "the test images are 3 x 4 x 4, but the training images 3 x 8 x 8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_data_set_that_is_not_whole_is_one_line(name: str) -> None:
    make, message = BROKEN[name]
    with pytest.raises(DataError, match=message):
        load_data(make(), normalisation="0.5/0.5").test  # noqa: B018


def test_the_data_set_that_is_given_is_the_one_that_is_used() -> None:
    mine = replace(load_data("digits:2"), name="digits")
    again = load_data(mine)
    assert again.class_names == ("0", "1")
    assert again.fingerprint == mine.fingerprint != load_data("digits").fingerprint
    limited = load_data(mine, limit=50, seed=3, input_shape=(1, 4, 4))
    assert (len(limited.train), limited.input_shape, limited.test.image_shape) == (50, (1, 4, 4), (1, 4, 4))
    assert len(limited.validation) == len(mine.validation)


def test_a_data_set_is_called_by_what_finds_it_again_until_it_is_changed() -> None:
    digits = load_data("digits")
    assert digits.found_as == "digits"
    assert digits.with_augmentation().found_as is None
    assert load_data(digits).found_as in (None, "digits")


def test_a_dataset_too_large_for_memory_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    held = load_data(Pairs(COLOUR, LABELS))
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", 0)
    wrong: list[Any] = [(1 - LABELS).tolist(), 5, len, [{"box": (1, 2)}] * len(LABELS), torch.eye(2)[LABELS]]
    for attributes in ({}, {"targets": LABELS.tolist()}, *({"targets": each} for each in wrong)):
        streamed = load_data(Pairs(COLOUR, LABELS, **attributes))
        assert isinstance(streamed.train.images, stream.Stream)
        assert streamed.mean == held.mean
        for one, other in zip(held.train.batches(9, seed=1), streamed.train.batches(9, seed=1), strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
        assert streamed.resized((3, 4, 4)).train.image_shape == (3, 4, 4)


@pytest.mark.parametrize("memory", [2**31, 0])
def test_what_transforms_draw_is_the_same_at_each_reading(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", memory)

    def read() -> Tensor:
        random.random(), torch.rand(3)  # whatever was drawn before
        data = load_data(Noisy(range(40), None))
        return torch.cat([images for images, _ in data.train.batches(5, seed=0, augment=False)])

    torch.manual_seed(5)
    first, drawn = read(), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(first, read())
    assert torch.equal(drawn, torch.rand(1))  # and reading leaves the generators as they were
    assert len(first[:, 0, 0, 0].unique()) > 20


NPZ: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "two": ({"images": GREY, "labels": LABELS}, COUNTS),
    "Keras": ({"x_train": GREY, "y_train": LABELS, "x_test": GREY[:6], "y_test": LABELS[:6]}, WITH_TEST),
    "ours": ({"train_images": GREY, "train_labels": LABELS}, COUNTS),
    "MedMNIST": (
        {f"{part}_{what}": (GREY if what == "images" else LABELS[:, None])[: 40 if part == "train" else 6]
         for part in ("train", "val", "test") for what in ("images", "labels")}, (40, 6, 6),
    ),
    "words": ({"images": GREY, "labels": WORDS}, COUNTS),
}  # fmt: skip


@pytest.mark.parametrize("name", NPZ)
def test_npz_files_are_read(name: str, tmp_path: Path) -> None:
    arrays, counts = NPZ[name]
    np.savez(tmp_path / "a.npz", **arrays)
    data = load_data(tmp_path / "a.npz")
    assert (len(data.train), len(data.validation), len(data.test)) == counts


def test_signals_are_npz_images_of_one_row(tmp_path: Path) -> None:
    signals, labels = np.random.default_rng(0).normal(size=(60, 12, 1, 25)), np.arange(60) % 3
    np.savez(tmp_path / "s.npz", images=signals.astype(np.float32), labels=labels)
    assert load_data(tmp_path / "s.npz", input_shape=(12, 1, 25)).input_shape == (12, 1, 25)
    np.savez(tmp_path / "s.npz", images=signals[:, :, 0].astype(np.float32), labels=labels)
    with pytest.raises(DataError, match=r"the images are 1 x 12 x 25.* signals of 12 .* arrays \[n, 12, 1, 25\]"):
        load_data(tmp_path / "s.npz", input_shape=(12, 1, 25))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: np.savez(path, a=GREY), "needs arrays called train_images and train_labels or .* but has a"),
        (
            lambda path: np.savez(path, images=np.array([GREY, 1], object), labels=[0]),
            r"cannot be read; write it again",
        ),
        (lambda path: path.write_bytes(b"PK\3\4 and nothing else"), r"cannot be read; write it again"),
        (lambda path: path.write_bytes(b""), r"cannot be read; write it again"),
    ],
)
def test_damaged_npz_is_one_clear_line(write: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.npz")
    with pytest.raises(DataError, match=message) as caught:
        load_data(str(tmp_path / "a.npz"))
    assert "\n" not in str(caught.value)


MINE = """
import numpy as np
from bnas.data import from_arrays

def arrays():
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1) + np.zeros((1, 4, 4), np.uint8)
    return images, np.arange(40) % 2, images[:6], np.arange(6) % 2

def made():
    return from_arrays("mine", *arrays(), augmentation=("flip",))

def three():
    return 1, 2, 3

def late():
    images, labels, *test = arrays()
    return images.transpose(0, 2, 1)[..., None, None], labels, *test

def broken():
    raise ValueError("no such disk")

constant = 3
held = arrays()
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_function_may_give_arrays_or_a_data_set(mine: Path) -> None:
    arrays, made = load_data(f"{mine}:arrays", input_shape=(1, 2, 2)), load_data(f"{mine}:made", limit=10)
    assert (arrays.input_shape, len(arrays.train), len(arrays.test)) == ((1, 2, 2), 36, 6)
    assert arrays.augmentation == ("shift",)
    assert (made.augmentation, len(made.train)) == (("flip",), 10)
    assert load_data(f"{mine}:held").fingerprint == load_data(f"{mine}:arrays").fingerprint
    assert load_data(f"{mine}:made", input_shape=(1, 2, 2)).test.image_shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("three", "but returned a tuple of 3"),
        ("late", r"but are uint8 \[40, 4, 4, 1, 1\]"),
        ("broken", "the function failed: ValueError: no such disk"),
        ("constant", "must be a DataSet, .* or a function that returns one of these, but is a int"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_functions_that_give_something_else_are_refused(attribute: str, message: str, mine: Path) -> None:
    with pytest.raises(BnasError, match=message) as caught:
        load_data(f"{mine}:{attribute}")
    assert isinstance(caught.value, DataError | LookupFailed)


def test_spare_classes_are_taken_where_they_are_named() -> None:
    data = from_arrays("spare", GREY, LABELS, class_names=("cat", "dog", "cow"))
    assert (data.classes, len(data.train)) == (3, COUNTS[0])
    alone = from_arrays("spare", GREY, LABELS * 0, class_names=("cat", "dog"))
    assert (alone.classes, len(alone.test)) == (2, 8)
    with pytest.raises(DataError, match="two classes have one name"):
        from_arrays("spare", GREY, LABELS, class_names=("cat", "cat"))


def test_a_data_set_can_be_sent_to_another_process() -> None:
    for value in ("digits:3", (COLOUR, WORDS), Pairs(COLOUR, LABELS)):
        data = load_data(value, normalisation="unit")
        there = pickle.loads(pickle.dumps(data))
        assert there.fingerprint == data.fingerprint
        assert torch.equal(there.test.images, data.test.images)


def test_a_split_of_torch_is_taken_as_it_was_drawn() -> None:
    whole = Pairs(COLOUR, LABELS)
    parts = [random_split(whole, [30, 10], generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    one, other = (load_data(tuple(pair)) for pair in parts)
    assert one.fingerprint == other.fingerprint
    assert (one.facts()["test"], len(one.test)) == (10, 10)
