"""Where images come from: known names, folders, Parquet, the hub, and functions of the user."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from bnas.data import DATA_SETS, load_data, stream
from bnas.data.known import read_idx
from bnas.errors import BnasError, DataError, LookupFailed

needs_data = pytest.mark.skipif(not os.environ.get("BNAS_DATA"), reason="BNAS_DATA is not set: no real images here")
SIDE = 6


def packed(content: bytes) -> bytes:
    """Return content compressed, the same bytes at any time: they name tests."""
    return gzip.compress(content, mtime=0)


def picture(shade: int, *, mode: str = "RGB", side: int = SIDE) -> Image.Image:
    return Image.new(mode, (side, side), shade if mode == "L" else (shade, 2 * shade, 3 * shade))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of cats in shades 0 to 9 and ten of dogs in shades 40 to 49."""
    for start, name in ((40, "dog"), (0, "cat")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for shade in range(start, start + 10):
            picture(shade).save(tmp_path / "pets" / name / f"test_{shade}.png")
    (tmp_path / "pets" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


def write_parquet(path: Path, labels: list[object], kind: object = None, *, column: str = "img") -> Path:
    features = datasets.Features({column: datasets.Image(), "label": kind or datasets.Value("int64")})
    rows = {column: [picture(index % 80) for index in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@needs_data
@pytest.mark.parametrize(
    ("name", "counts", "augmentation"),
    [("mnist", (1_800, 200, 10_000), ("shift",)), ("cifar10", (900, 100, 10_000), ("flip", "crop"))],
)
def test_known_sets_have_their_published_sizes(
    name: str, counts: tuple[int, int, int], augmentation: tuple[str, ...]
) -> None:
    data = load_data(name, limit=counts[0] + counts[1])
    assert (len(data.train), len(data.validation)) == counts[:2]
    assert data.classes == 10
    assert data.augmentation == augmentation
    if name == "mnist":
        assert len(data.test) == counts[2]


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - {"digits"}))
def test_missing_data_folder_is_one_clear_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNAS_DATA", raising=False)
    with pytest.raises(DataError, match="BNAS_DATA is not set"):
        load_data(name)
    monkeypatch.setenv("BNAS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"has no folder {name}"):
        load_data(name)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"does not exist; put|needs one called train"):
        load_data(name)


def test_idx_is_read_back(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "a.gz"
    path.write_bytes(packed(struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 3, 4) + array.tobytes()))
    assert np.array_equal(read_idx(path, dimensions=3), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain text", "cannot be unpacked"),
        (packed(bytes(100))[:-12], "cannot be unpacked"),
        (packed(struct.pack(">BBBBI", 0, 0, 8, 3, 7) + bytes(7)), "magic 00000801, but has 00000803"),
        (packed(struct.pack(">BBBBI", 0, 0, 8, 1, 7) + bytes(6)), "announces 7 bytes, but holds 6"),
        (packed(struct.pack(">BBBB", 0, 0, 8, 1)), "ends within its header"),
    ],
)
def test_damaged_idx_is_one_clear_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, dimensions=1)
    assert str(path) in str(caught.value)


def test_class_folders_name_the_classes(folder: Path) -> None:
    data = load_data(str(folder))
    assert data.class_names == ("cat", "dog")
    assert data.input_shape == (3, SIDE, SIDE)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 20 // 5)
    red = data.train.images[:, 0, 0, 0]  # type: ignore[index]
    assert torch.equal(data.train.labels, (red >= 40).long())


def test_train_and_test_folders_are_numbered_alike(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    folder.rename(whole / "train")
    (whole / "test" / "dog").mkdir(parents=True)
    picture(45).save(whole / "test" / "dog" / "a.png")
    data = load_data(str(whole))
    assert len(data.train) + len(data.validation) == 20
    assert data.test.labels.tolist() == [data.class_names.index("dog")]


def test_sizes_must_agree_unless_one_is_given(folder: Path) -> None:
    picture(3, side=9).save(folder / "cat" / "test_3.png")
    with pytest.raises(DataError, match=r"is 3 x 9 x 9, but the first is 3 x 6 x 6; .* give input_shape"):
        load_data(str(folder)).test  # noqa: B018  (the odd one may be in any split)
    assert load_data(str(folder), input_shape=(3, 4, 4)).test.image_shape == (3, 4, 4)


def test_grey_images_join_a_colour_set(folder: Path) -> None:
    picture(3, mode="L").save(folder / "cat" / "test_3.png")
    assert load_data(str(folder)).input_shape == (3, SIDE, SIDE)


def test_a_colour_set_is_not_squeezed_to_grey(folder: Path) -> None:
    with pytest.raises(DataError, match="the images are 3 x 6 x 6, but 1 x 6 x 6 was asked for"):
        load_data(str(folder), input_shape=(1, SIDE, SIDE))


@pytest.mark.parametrize("memory", [2**31, 0])
def test_a_damaged_image_is_named(folder: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", memory)
    (folder / "dog" / "test_42.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"test_42\.png\) cannot be decoded") as caught:
        load_data(str(folder)).test  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: (folder / "bird").mkdir(), "bird: a class folder must hold images"),
        (lambda folder: [file.unlink() for file in list((folder / "cat").iterdir())[1:]], "'cat' must have at least 2"),
        (lambda folder: [file.unlink() for file in folder.rglob("*.*")], "a class folder must hold images"),
    ],
)
def test_unusable_folders_are_refused(prepare: Callable[[Path], object], message: str, folder: Path) -> None:
    prepare(folder)
    with pytest.raises(DataError, match=message):
        load_data(str(folder))


def test_streamed_images_are_those_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = load_data(str(folder))
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", 0)
    streamed = load_data(str(folder))
    assert isinstance(streamed.train.images, stream.Stream)
    assert streamed.mean == held.mean
    for how in ({"seed": 1, "epoch": 2}, {}):
        for one, other in zip(held.train.batches(4, **how), streamed.train.batches(4, **how), strict=True):  # type: ignore[arg-type]
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_parquet_folder_has_both_splits(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["no", "yes"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 10, kind)
    write_parquet(tmp_path / "test.parquet", [1, 0, 1], kind)
    data = load_data(str(tmp_path))
    assert data.class_names == ("no", "yes")
    assert (len(data.train), len(data.validation)) == (18, 2)
    assert data.test.labels.tolist() == [1, 0, 1]


def test_labels_may_be_numbers_or_names(tmp_path: Path) -> None:
    numbers = load_data(str(write_parquet(tmp_path / "numbers.parquet", [0, 1, 2] * 5)))
    names = load_data(
        str(write_parquet(tmp_path / "names.parquet", ["b", "a", "c"] * 5, datasets.Value("string"), column="photo"))
    )
    assert numbers.class_names == ("0", "1", "2")
    assert names.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1] * 5, "label -1 of image 2 must be from 0 to 1"),
        ([0, 4711] * 5, "label 4711 of image 1 must be from 0 to 9"),
        ([0, 1, None] * 5, "label None of image 2"),
        ([0, 2] * 5, "class '1' must have at least 2 images to divide, but has 0"),
    ],
)
def test_wrong_labels_are_named(labels: list[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_data(str(write_parquet(tmp_path / "a.parquet", labels)))


def test_a_class_only_test_has_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 10, datasets.Value("string"))
    write_parquet(tmp_path / "test.parquet", ["a", "z"], datasets.Value("string"))
    with pytest.raises(DataError, match="class 'z' is not one of the 2 training classes"):
        load_data(str(tmp_path)).test  # noqa: B018


def test_damaged_parquet_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read; write or fetch it again") as caught:
        load_data(str(path))
    assert "\n" not in str(caught.value)


def test_parquet_without_labels_says_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"img": [picture(1)], "size": [3]}).to_parquet(path)
    with pytest.raises(DataError, match="the columns are img, size; call it label"):
        load_data(str(path))


def test_hub_sets_are_read_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": [picture(1)] * 20, "label": [0, 1] * 10}, features=kind)
    asked = []
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or table)
    data = load_data("owner/pets")
    assert asked == [("owner/pets", "train")]
    assert len(data.test) == 20
    assert asked[1:] == [("owner/pets", "validation")]


def test_hub_out_of_reach_gives_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> list[str]:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(datasets, "get_dataset_split_names", fail)
    with pytest.raises(DataError, match="where there is no network give the path") as caught:
        load_data("owner/pets")
    assert str(caught.value).endswith("(ConnectionError: no route to host)")


@pytest.mark.parametrize("name", ["cifar-10", "./nowhere", "a/b/c", "pets.parquet"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="choose from cifar10, digits, mnist") as caught:
        load_data(name)
    assert ("did you mean 'cifar10'" in str(caught.value)) == (name == "cifar-10")


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


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("three", "but returned a tuple of 3"),
        ("late", r"but are uint8 \[40, 4, 4, 1, 1\]"),
        ("broken", "the function failed: ValueError: no such disk"),
        ("constant", "must be a function, but is a int"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_functions_that_give_something_else_are_refused(attribute: str, message: str, mine: Path) -> None:
    with pytest.raises(BnasError, match=message) as caught:
        load_data(f"{mine}:{attribute}")
    assert isinstance(caught.value, DataError | LookupFailed)


def test_a_made_data_set_is_not_resized(mine: Path) -> None:
    with pytest.raises(DataError, match="1 x 4 x 4, but 1 x 2 x 2 was asked for"):
        load_data(f"{mine}:made", input_shape=(1, 2, 2))
