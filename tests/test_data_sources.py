"""Where images come from on a disk: known names, folders, CSV, Parquet, the hub. A case is one line of a table."""

import errno
import gzip
import io
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bnas import search
from bnas.data import DATA_SETS, load_data, stream
from bnas.data.known import read_idx
from bnas.data.roles import role_of_file, role_of_folder
from bnas.errors import DataError

needs_data = pytest.mark.skipif(not os.environ.get("BNAS_DATA"), reason="BNAS_DATA is not set: no real images here")
SIDE = 6


def packed(content: bytes) -> bytes:
    """Return content compressed, the same bytes at any time: they name tests."""
    return gzip.compress(content, mtime=0)


def picture(shade: int, *, mode: str = "RGB", side: int = SIDE) -> Image.Image:
    return Image.new(mode, (side, side), shade if mode == "L" else (shade, 2 * shade, 3 * shade))


def encoded(shade: int, *, mode: str = "L", side: int = SIDE) -> bytes:
    file = io.BytesIO()
    picture(shade, mode=mode, side=side).save(file, "PNG")
    return file.getvalue()


Tree = dict[str, int | str | bytes]  # a folder -> how many images it holds; a file -> what it holds


def grown(root: Path, tree: Tree) -> Path:
    """Make a folder of grey images in shades that go up from folder to folder, and of files."""
    shade = 0
    for name, held in tree.items():
        place = root / name
        if isinstance(held, int):
            place.mkdir(parents=True, exist_ok=True)
            for index in range(held):
                (place / f"{index}.png").write_bytes(encoded(shade % 256))
                shade += 1
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(held if isinstance(held, bytes) else held.encode())
    return root


def classes(root: str, count: int = 10, names: str = "cat dog") -> Tree:
    return {f"{root}/{name}".lstrip("/"): count for name in names.split()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of cats in shades 0 to 9 and ten of dogs in shades 40 to 49."""
    for start, name in ((40, "dog"), (0, "cat")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for shade in range(start, start + 10):
            picture(shade).save(tmp_path / "pets" / name / f"test_{shade}.png")
    (tmp_path / "pets" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


def read_all(path: Path) -> None:
    data = load_data(str(path))
    for split in (data.train, data.validation, data.test):
        list(split.batches(4))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@needs_data
@pytest.mark.parametrize(
    ("name", "counts", "kinds", "augmentation"),
    [
        ("mnist", (1_800, 200, 10_000), 10, ("shift",)),
        ("cifar10", (900, 100, 10_000), 10, ("flip", "crop")),
        ("sketches", (24_839, 2_760, 6_900), 345, ("flip", "shift", "turn")),
        ("sketches:50", (1_800, 200, 1_000), 50, ("flip", "shift", "turn")),
        ("cifar10:2", (900, 100, 2_000), 2, ("flip", "crop")),
    ],
)
def test_known_sets_have_their_published_sizes(
    name: str, counts: tuple[int, int, int], kinds: int, augmentation: tuple[str, ...]
) -> None:
    data = load_data(name, limit=counts[0] + counts[1])
    assert (len(data.train), len(data.validation)) == counts[:2]
    assert data.facts()["test"] == counts[2]
    assert data.classes == kinds
    assert data.class_names == tuple(sorted(data.class_names))
    assert data.augmentation == augmentation
    if name == "mnist":
        assert len(data.test) == counts[2]


def test_the_first_classes_are_the_first_by_name() -> None:
    data, whole = load_data("digits:3"), load_data("digits")
    assert data.class_names == ("0", "1", "2")
    # A fifth of 178 zeros, 182 ones and 177 twos is held out, and then a tenth.
    assert len(data.train) + len(data.validation) + len(data.test) == 178 + 182 + 177
    assert data.fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits:1", "digits: has 10 classes, so that the first 2 to 10 can be had"),
        ("digits:11", "digits: has 10 classes"),
        ("digits:0", "digits: has 10 classes"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("./nowhere", "choose from cifar10, digits, mnist, sketches"),
        ("a/b/c", "choose from cifar10, digits"),
        ("pets.parquet", "choose from cifar10, digits"),
        ("~nobody/x/y", "choose from cifar10, digits"),
        ("x" * 5000, "choose from cifar10, digits"),
        ("a\0b", "choose from cifar10, digits"),
        ("", "data set '' is not known"),
        ("/dev/null", "a file must be Parquet"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_data(name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - {"digits"}))
def test_missing_data_folder_is_one_clear_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNAS_DATA", raising=False)
    with pytest.raises(DataError, match=f"BNAS_DATA is not set; set it to the folder that holds {name}/ with train"):
        load_data(name)
    monkeypatch.setenv("BNAS_DATA", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DataError, match=f"has no folder {name}, but elsewhere; put train"):
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


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (
            "train",
            "train Train TRAIN training Training trainset train_set train-images TrainImages seg_train train2017",
        ),
        ("validation", "val Val valid VALID validation Validation validation_set dev valset val2017 seg_val"),
        ("test", "test Test testing TESTING test1 test_images eval Evaluation testset seg_test"),
        (None, "train_station test_tube cat images data labels trains dev_board validity eval_kit 0 contest"),
    ],
)
def test_a_folder_that_is_called_like_a_split_is_one(role: str | None, names: str) -> None:
    assert {name: role_of_folder(name) for name in names.split()} == dict.fromkeys(names.split(), role)


def test_a_file_is_of_the_split_that_its_name_begins_with() -> None:
    names = ("train-00000-of-00002-a1b2", "Test", "validation-0", "0000", "metadata", "training_labels")
    assert [role_of_file(name) for name in names] == ["train", "test", "validation", None, None, "train"]


BOTH = classes("train") | classes("test", 4)
FIFTH, HELD_OUT = "(a fifth of the images, held out)", " % of the training images, drawn with seed 0)"
OWN = "(its own split)"
LAYOUTS: dict[str, tuple[Tree, tuple[int, int, int], tuple[str, ...]]] = {
    # a tree -> how many images are trained on, validated and tested with, and what is said of it
    "classes": (classes(""), (14, 2, 4), ("(12.5" + HELD_OUT, FIFTH)),
    "train and test": (BOTH, (18, 2, 8), ("(10" + HELD_OUT, f"8 test images {OWN}")),
    "in capitals": (classes("TRAIN") | classes("Test", 4), (18, 2, 8), (OWN,)),
    "another habit": (classes("training") | classes("testing", 4), (18, 2, 8), (OWN,)),
    "with words": (classes("train_set") | classes("test_set", 4), (18, 2, 8), (OWN,)),
    "three splits": (BOTH | classes("val", 3), (20, 6, 8), (f"6 validation {OWN}", f"8 test images {OWN}")),
    "validation alone": (classes("train") | classes("valid", 4), (18, 2, 8), ("its validation split serves as test",)),
    "dev": (classes("train") | classes("dev", 4), (18, 2, 8), ("(its validation split)",)),
    "eval": (classes("train") | classes("eval", 4), (18, 2, 8), (OWN,)),
    "one too deep": (classes("data/train") | classes("data/test", 4), (18, 2, 8), ("data/ is taken for the data set",)),
    "two too deep": (classes("a/b/train") | classes("a/b/test", 4), (18, 2, 8), ("a/ is taken", "b/ is taken")),
    "classes too deep": (classes("pets/images"), (14, 2, 4), ("images/ is taken for the data set",)),
    "splits twice": (classes("train/train") | classes("test/test", 4), (18, 2, 8), (OWN,)),
    "classes in folders": ({"cat/a": 5, "cat/b": 5, "dog/a": 10}, (14, 2, 4), (FIFTH,)),
    "a flat test": (classes("train") | {"test": 5}, (14, 2, 4), (FIFTH, "none of its 5 images", "not used")),
    "a flat test beside valid": (
        classes("train") | classes("valid", 4) | {"test": 5}, (18, 2, 8),
        ("(its validation split)", "none of its 5 images is labelled", "its validation split serves as test"),
    ),
    "an unknown test class": (classes("train") | {"test/unknown": 5}, (14, 2, 4), ("none of its 5 images", FIFTH)),
    "an extra test class beside val": (
        BOTH | classes("val", 3) | {"test/cow": 2}, (18, 2, 6), ("'cow' is not one of the 2 training", "2 of 10"),
    ),
    "a class that test lacks": (classes("train") | {"test/dog": 4}, (18, 2, 4), (OWN,)),
    "an empty test": (classes("train") | {"test/notes.txt": "none yet"}, (14, 2, 4), ("test/ holds no images", FIFTH)),
    "other folders": (BOTH | {"samples": 3}, (18, 2, 8), ("samples/ is passed over",)),
    "loose images": (classes("") | {"loose.png": encoded(7)}, (14, 2, 4), ("1 images loose in", "passed over")),
    "other files": (
        classes("") | {"cat/a.npy": b"x", "cat/b.npy": b"x", "README.md": "hello"}, (14, 2, 4),
        ("passed over 1 .md, 2 .npy that are no images",),
    ),
    "left behind": (
        classes("") | {"cat/.DS_Store": b"x", "dog/Thumbs.db": b"x", "cat/._1.png": b"x", "__MACOSX/cat/1.png": b"x",
                       ".ipynb_checkpoints/x.png": b"x"}, (14, 2, 4), ("passed over 5 hidden",),
    ),
    "other endings": (classes("") | {"cat/a.JFIF": encoded(3), "dog/b.PNG": encoded(4)}, (16, 2, 4), ()),
    "a CSV": (
        {"labels.csv": "file_name,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(20)), "images": 20},
        (14, 2, 4), ("read by labels.csv", FIFTH),
    ),
    "a CSV without endings": (
        {"labels.csv": "id,breed\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20)), "train": 20, "test": 3},
        (14, 2, 4), ("read by labels.csv", "3 images that no CSV lists are passed over"),
    ),
    "a CSV for each split": (
        {"train.csv": "image,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(20)), "train": 20,
         "test.csv": "image\n0.png\n1.png\n", "test": 2, "sample_submission.csv": "image,label\n0.png,0\n"},
        (14, 2, 4), ("test.csv: none of its 2 images is labelled", FIFTH),
    ),
    "a CSV with a column of splits": (
        {"list.csv": "path;label;split\n" + "".join(
            f"images/{i}.png;{'ab'[i % 2]};{'test' if i > 15 else 'train'}\n" for i in range(20)), "images": 20},
        (14, 2, 4), ("read by list.csv (train), list.csv (test)", OWN),
    ),
    "a CSV without a head": (
        {"all.csv": "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(20)), "images": 20}, (14, 2, 4), (FIFTH,),
    ),
    "a CSV over folders that are no classes": (
        {"labels.csv": "file_name,label\n" + "".join(
            f"part{i // 10}/{i % 10}.png,{'ab'[i % 2]}\n" for i in range(20)), "part0": 10, "part1": 10},
        (14, 2, 4), ("2 classes: a, b",),
    ),
    "a CSV of another machine": (
        classes("") | {"list.csv": "path,label\n" + "".join(
            f"/home/data/cat/{i}.png,cat\nC:\\data\\dog\\{i}.png,dog\n" for i in range(10))},
        (14, 2, 4), ("2 classes: cat, dog",),
    ),
    "a CSV beside small copies": (
        {"list.csv": "path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(20)), ".": 20, "thumbs": 20},
        (14, 2, 4), ("20 images that no CSV lists are passed over",),
    ),
    "a CSV that says what folders say": (
        classes("") | {"list.csv": "path,label\n" + "".join(f"cat/{i}.png,cat\ndog/{i}.png,dog\n" for i in range(10))},
        (14, 2, 4), ("2 classes: cat, dog",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_that_people_have_are_read(name: str, tmp_path: Path) -> None:
    tree, counts, said = LAYOUTS[name]
    data = load_data(str(grown(tmp_path / "set", tree)))
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert data.classes == 2
    for words in said:
        assert words in str(data), str(data)
    facts = data.facts()
    assert (facts["train"], facts["validation"], facts["test"]) == counts


REFUSED: dict[str, tuple[Tree, str]] = {
    "nothing": ({"notes.txt": "empty"}, "holds no class folders of images: found"),
    "loose images": ({".": 9}, "holds no class folders of images: found 9 images without a folder"),
    "one class": ({"cat": 9}, r"all 9 training images are of one class, 'cat'.*another class.*class_names"),
    "one class in train": ({"train/cat": 9, "test/cat": 3}, "are of one class, 'cat'"),
    "an empty class": (classes("") | {"bird/notes.txt": "none"}, "bird: a class folder must hold images.*1 .txt"),
    "only other files": ({"cat/a.npy": b"x", "dog/b.npy": b"x"}, "holds no class folders of images: found cat/ with 0"),
    "one image": ({"cat": 1, "dog": 9}, "'cat' must have at least 2 images to divide, but has 1"),
    "a flat train": ({"train": 9, "test": 3}, "train holds no class folders of images: found test/ with 3"),
    "no train": (classes("test") | classes("val"), r"no folder called train/.*rename the one with the training images"),
    "two trains": (classes("train") | classes("training"), "train/ and training/ are both called like the train split"),
    "a class called test": ({"control": 9, "test": 9}, "a folder called like a split is never a class"),
    "inside out": ({"cat/train": 9, "dog/train": 9}, r"cat/ holds train/, which is called like a split.*train/cat/"),
    "two data sets": (classes("a/train") | classes("b/train"), "a/ holds train/, which is called like a split"),
    "an extra test class": (BOTH | {"test/cow": 2}, r"'cow' is not one of the 2 training classes \(image 4, and"),
    "an extra validation class": (BOTH | classes("val", 3) | {"val/cow": 2}, "'cow' is not one .* take the validation"),
    "colour among test images": (BOTH | {"test/dog/x.png": encoded(3, mode="RGB")}, "test: the images are 3 x 6 x 6"),
    "damaged": (classes("") | {"cat/0.png": b"no picture"}, r"0\.png\) cannot be decoded"),
    "an empty file": (classes("") | {"cat/0.png": b""}, r"0\.png\) cannot be decoded"),
    "a CSV without labels": (
        {"list.csv": "file_name,width,height\n0.png,6,6\n1.png,6,6\n", "images": 2},
        "list.csv: has no column of labels: its columns are file_name, width, height; call one label",
    ),
    "a CSV without files": ({"list.csv": "a,b\n1,2\n", "images": 2}, "list.csv: has no column of file names: .* a, b"),
    "a CSV of other files": ({"list.csv": "file,label\nx.png,1\n", "images": 2}, "no image that is here, as 'x.png'"),
    "a CSV with a missing file": (
        {"list.csv": "file,label\n0.png,a\n9.png,b\n", "images": 2}, "row 2 names '9.png', but no such image",
    ),
    "a CSV with two labels": (
        {"list.csv": "file,label\n0.png,a\n0.png,b\n", "images": 2}, "is listed as 'a' and as 'b'; an image has one",
    ),
    "a CSV with a file of another class": (
        {"list.csv": "file,label\ncats/0.png,a\ncats/1.png,a\ndogs/0.png,b\n", "cats": 1, "dogs": 2},
        "row 2 names 'cats/1.png', but no such image",
    ),
    "a CSV with a file of another split": (
        {"train.csv": "file,label\n0.png,a\n1.png,b\n", "train": 1, "test": 2},
        "row 2 names '1.png', but no such image",
    ),
    "a CSV with a split of another name": (
        {"list.csv": "file,label,split\n0.png,a,train\n1.png,b,holdout\n", "images": 2},
        "row 2 is of the split 'holdout'; call it train, validation or test",
    ),
    "a CSV with an image in two splits": (
        {"list.csv": "file,label,split\n0.png,a,train\n1.png,b,train\n0.png,a,test\n", "images": 2},
        "0.png is listed for train and for test; an image is of one split",
    ),
    "a ragged CSV": ({"list.csv": "file,label\n0.png,a\n1.png\n", "images": 2}, "line 3 has 1 cells, but the first 2"),
    "a CSV of bytes": ({"list.csv": b"file,label\n\xff\xfe\x00,a", "images": 2}, "cannot be read as a table: .*UTF-8"),
    "Parquet of parts": ({"part-0.parquet": b"x"}, r"needs one called train\*\.parquet, but has part-0.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_says_what_was_found(name: str, tmp_path: Path) -> None:
    tree, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        load_data(str(grown(tmp_path / "set", tree)))
    assert "\n" not in str(caught.value)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (os.mkfifo, "x.png is a FIFO"),
    "a socket": (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "x.png is a socket"),
    "a broken link": (lambda path: path.symlink_to("nowhere.png"), "x.png is a broken link"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "x.png is a broken link"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "x.png is a device"),
    "a folder that is its own": (
        lambda path: path.symlink_to(path.parent.absolute()),
        "leads back to a folder above it",
    ),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", ["set/cat/x.png", "set/x.png", "set/train.csv", "set/x.parquet"])
def test_what_is_no_file_is_named_and_never_opened(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, said = ODD[name]
    monkeypatch.chdir(grown(tmp_path, classes("set")))  # the address of a socket must be short
    make(Path(place))
    data = load_data("set")
    assert len(data.train) + len(data.validation) + len(data.test) == 20
    assert said.replace("x.png", Path(place).name) in str(data)


def test_an_image_that_is_a_fifo_when_it_is_read_does_not_hang(folder: Path) -> None:
    for split in ("train", "test"):
        (folder.parent / "set").mkdir(exist_ok=True)
        folder.rename(folder.parent / "set" / split)
        grown(folder, classes("", 4))
    data = load_data(str(folder.parent / "set"))
    path = folder.parent / "set" / "test" / "cat" / "2.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"2\.png\) cannot be decoded: it is not there, or is no file"):
        data.test  # noqa: B018


def test_links_to_class_folders_are_followed(tmp_path: Path) -> None:
    grown(tmp_path, classes("elsewhere"))
    (tmp_path / "set").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere" / name)
    assert load_data(str(tmp_path / "set")).class_names == ("cat", "dog")


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
    with pytest.raises(
        DataError, match=r"is 3 x 9 x 9, but the first is 3 x 6 x 6; .* give input_shape.*--input 3x6x6"
    ):
        load_data(str(folder)).test  # noqa: B018  (the odd one may be in any split)
    data = load_data(str(folder), input_shape=(3, 4, 4))
    assert data.test.image_shape == (3, 4, 4)
    assert "3 x 4 x 4, resized from 3 x 6 x 6" in str(data)


def test_grey_images_join_a_colour_set(folder: Path, tmp_path: Path) -> None:
    picture(3, mode="L").save(folder / "cat" / "test_3.png")
    assert load_data(str(folder)).input_shape == (3, SIDE, SIDE)
    (tmp_path / "set").mkdir()
    folder.rename(tmp_path / "set" / "train")
    assert load_data(str(grown(tmp_path / "set", classes("test", 2)))).test.image_shape == (3, SIDE, SIDE)


def test_a_colour_set_is_not_squeezed_to_grey(folder: Path) -> None:
    with pytest.raises(DataError, match="the images are 3 x 6 x 6, but 1 x 6 x 6 was asked for"):
        load_data(str(folder), input_shape=(1, SIDE, SIDE))


@pytest.mark.parametrize("memory", [2**31, 0])
def test_a_damaged_image_is_named(folder: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", memory)
    damaged = folder / "dog" / "test_42.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])  # its head is sound
    with pytest.raises(DataError, match=r"test_42\.png\) cannot be decoded") as caught:
        read_all(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_test_image_ends_a_search_before_it_begins(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    folder.rename(whole / "train")
    grown(whole, classes("test", 2))
    damaged = sorted((whole / "test" / "dog").iterdir())[-1]
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:-30])
    with pytest.raises(DataError, match="cannot be decoded"):
        load_data(str(whole)).check_test()
    space = {"input": [3, SIDE, SIDE], "classes": 2, "stem": {"width": 4}, "stages": [{"width": 4}]}
    with pytest.raises(DataError, match="cannot be decoded"):
        search(space, data=str(whole), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    damaged.write_bytes(sound)
    load_data(str(whole)).check_test()


def test_test_images_of_another_size_are_refused_unless_one_is_given(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    folder.rename(whole / "train")
    (whole / "test" / "dog").mkdir(parents=True)
    picture(45, side=9).save(whole / "test" / "dog" / "a.png")
    with pytest.raises(
        DataError, match=r"test: an image is 3 x 9 x 9, but the first is 3 x 6 x 6; .* give input_shape"
    ):
        load_data(str(whole))
    assert load_data(str(whole), input_shape=(3, 6, 6)).test.image_shape == (3, 6, 6)


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


@dataclass(frozen=True)
class Written:
    """One Parquet file.

    Args:
        labels: numbers or names, None where there is no such column.
        names: of the classes, as the `datasets` library notes them; None notes nothing.
        shade: of its first image; the others are a shade brighter each.
    """

    labels: list[object] | None
    names: list[str] | None = None
    shade: int = 0
    image: str = "image"
    label: str = "label"
    plain: bool = False  # bytes alone, in no struct

    def to(self, path: Path) -> Path:
        count = 4 if self.labels is None else len(self.labels)
        content = [encoded((self.shade + row) % 256) for row in range(count)]
        columns: dict[str, object] = {
            self.image: content if self.plain else [{"bytes": c, "path": None} for c in content]
        }
        if self.labels is not None:
            columns[self.label] = self.labels
        table = pa.table(columns)
        if self.names is not None:
            features = datasets.Features(
                {self.image: datasets.Image(), self.label: datasets.ClassLabel(names=self.names)}
            )
            table = table.replace_schema_metadata(features.arrow_schema.metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return path


HALF: list[object] = [0, 1] * 10
TABLES: dict[str, tuple[dict[str, Written], tuple[int, int, int], tuple[str, ...], list[int] | None]] = {
    # files -> counts, class names, and the labels of the test images
    "one file": ({"a.parquet": Written(HALF)}, (14, 2, 4), ("0", "1"), None),
    "names of classes": (
        {"train.parquet": Written(HALF, ["no", "yes"]), "test.parquet": Written([1, 0, 1], ["no", "yes"])},
        (18, 2, 3), ("no", "yes"), [1, 0, 1],
    ),
    "test in another order": (
        {"train.parquet": Written(HALF, ["cat", "dog"]), "test.parquet": Written([1, 0, 1], ["dog", "cat"])},
        (18, 2, 3), ("cat", "dog"), [0, 1, 0],
    ),
    "numbers for an order that is said elsewhere": (
        {"train.parquet": Written(HALF, ["dog", "cat"]), "test.parquet": Written([1, 0, 1])},
        (18, 2, 3), ("dog", "cat"), [1, 0, 1],
    ),
    "words": (
        {"train.parquet": Written(["b", "a"] * 10), "test.parquet": Written(["a", "b"])},
        (18, 2, 2), ("a", "b"), [0, 1],
    ),
    "words and names": (
        {"train.parquet": Written(HALF, ["dog", "cat"]), "test.parquet": Written(["dog", "cat"])},
        (18, 2, 2), ("cat", "dog"), [1, 0],
    ),
    "in data/": (
        {"data/train-0.parquet": Written(HALF), "data/test-0.parquet": Written([1])}, (18, 2, 1), ("0", "1"), [1],
    ),
    "an empty shard": (
        {"train-0.parquet": Written(HALF), "train-1.parquet": Written([])}, (14, 2, 4), ("0", "1"), None,
    ),
    "as the hub converts": (
        {"default/train/0000.parquet": Written(HALF), "default/test/0000.parquet": Written([1])},
        (18, 2, 1), ("0", "1"), [1],
    ),
    "in capitals": ({"Train.parquet": Written(HALF), "TEST.parquet": Written([1])}, (18, 2, 1), ("0", "1"), [1]),
    "a hidden test": (
        {"train.parquet": Written(HALF), "validation.parquet": Written([1, 1]), "test.parquet": Written([-1, -1])},
        (18, 2, 2), ("0", "1"), [1, 1],
    ),
    "a hidden test alone": (
        {"train.parquet": Written(HALF), "test.parquet": Written([-1, -1])}, (14, 2, 4), ("0", "1"), None,
    ),
    "a test without words": (
        {"train.parquet": Written(["a", "b"] * 10), "test.parquet": Written([-1, -1])}, (14, 2, 4), ("a", "b"), None,
    ),
    "a test without a column of labels": (
        {"train.parquet": Written(HALF), "test.parquet": Written(None)}, (14, 2, 4), ("0", "1"), None,
    ),
    "an extra class in test": (
        {"train.parquet": Written(HALF), "valid.parquet": Written([0]), "test.parquet": Written([0, 2])},
        (18, 2, 1), ("0", "1"), [0],
    ),
    "classes without images": (
        {"train.parquet": Written([0, 2] * 10, ["a", "b", "c"]), "test.parquet": Written([2], ["a", "b", "c"])},
        (18, 2, 1), ("a", "c"), [1],
    ),
    "other columns": ({"a.parquet": Written(HALF, image="img", label="target")}, (14, 2, 4), ("0", "1"), None),
    "bytes alone": ({"a.parquet": Written(HALF, plain=True)}, (14, 2, 4), ("0", "1"), None),
    "other files": ({"train.parquet": Written(HALF), "extra.parquet": Written([7])}, (14, 2, 4), ("0", "1"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_parquet_is_read_by_split_and_class_name(name: str, tmp_path: Path) -> None:
    files, counts, names, labels = TABLES[name]
    for file, written in files.items():
        written.to(tmp_path / "set" / file)
    data = load_data(str(tmp_path / "set" / next(iter(files)) if len(files) == 1 else tmp_path / "set"))
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert data.class_names == names
    if labels is not None:
        assert data.test.labels.tolist() == labels


@pytest.mark.parametrize("memory", [2**31, 0])
@pytest.mark.parametrize("second", [["dog", "cat"], ["dog", "cat", "cow"]])
def test_shards_are_joined_by_class_name(
    second: list[str], memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", memory)
    Written([0] * 5 + [1] * 5, ["cat", "dog"], shade=0).to(tmp_path / "set" / "train-0.parquet")
    Written([1] * 5 + [0] * 5, second, shade=100).to(tmp_path / "set" / "train-1.parquet")
    data = load_data(str(tmp_path / "set"))
    assert data.class_names == ("cat", "dog")
    for split in (data.train, data.validation, data.test):
        shades = torch.cat([images for images, _ in split.batches(50)])[:, 0, 0, 0] * data.std[0] + data.mean[0]
        # Shades 0 to 4 and 100 to 104 are cats, the others dogs.
        assert split.labels.tolist() == [int(round(255 * float(shade)) % 100 >= 5) for shade in shades]


REFUSED_TABLES: dict[str, tuple[dict[str, Written], str]] = {
    "-1 in train": ({"a.parquet": Written([0, 1, -1] * 5)}, "label -1 of image 2 must be from 0 to 1"),
    "too large": ({"a.parquet": Written([0, 4711] * 5)}, "label 4711 of image 1 must be from 0 to 9"),
    "none in train": ({"a.parquet": Written([0, 1, None] * 5)}, "label None of image 2"),
    "a gap": ({"a.parquet": Written([0, 2] * 5)}, "class '1' must have at least 2 images to divide, but has 0"),
    "from one": ({"a.parquet": Written([1, 2] * 5)}, r"class '0' must have .* has 0 \(labels count from 0\)"),
    "fractions": ({"a.parquet": Written([0.5, 1.5] * 5)}, "label 0.5 of image 0 must be an integer or a name"),
    "one class": ({"a.parquet": Written([0] * 9)}, "all 9 training images are of one class, '0'"),
    "no labels": ({"a.parquet": Written(None)}, "one column must hold the labels, but the columns are image; call it"),
    "no images": ({"a.parquet": Written(HALF, image="x")}, "one column must hold the images, but the columns are x, l"),
    "no rows": ({"a.parquet": Written([])}, "the table has no rows"),
    "an extra class": (
        {"train.parquet": Written(["a", "b"] * 9), "test.parquet": Written(["a", "z"])},
        r"class 'z' is not one of the 2 training classes \(image 1, and in all 1 of 2 images\); correct the labels",
    ),
    "some hidden": (
        {"train.parquet": Written(HALF), "test.parquet": Written([1, -1])}, "label -1 is not one of the 2",
    ),
    "numbers among orders": (
        {"train-0.parquet": Written(HALF, ["a", "b"]), "train-1.parquet": Written(HALF, ["b", "a"]),
         "train-2.parquet": Written(HALF)}, "which name a number stands for is not said",
    ),
    "numbers for words": (
        {"train.parquet": Written(["a", "b"] * 9), "test.parquet": Written([0, 1])}, "some labels are numbers and",
    ),
    "two columns": (
        {"train-0.parquet": Written(HALF), "train-1.parquet": Written(HALF, image="img")}, "in the column image or img",
    ),
    "no train": ({"test-0.parquet": Written(HALF), "test-1.parquet": Written(HALF)}, r"needs one called train"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_TABLES)
def test_tables_that_cannot_be_used_are_refused_when_they_are_loaded(name: str, tmp_path: Path) -> None:
    files, message = REFUSED_TABLES[name]
    for file, written in files.items():
        written.to(tmp_path / "set" / file)
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path / "set" / next(iter(files)) if len(files) == 1 else tmp_path / "set"))


@pytest.mark.parametrize("memory", [2**31, 0])
def test_a_replaced_file_is_read_anew(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", memory)
    found = []
    for labels, shade in ((HALF, 10), (HALF, 200), (HALF * 2, 100)):
        path = Written(labels, shade=shade).to(tmp_path / "train.parquet")
        os.utime(path, (1_700_000_000,) * 2)  # as rsync -t, tar and cp -p leave it
        data = load_data(str(path))
        found.append(len(data.train) + len(data.validation) + len(data.test))
        brightest = max(float(images.max()) for images, _ in data.train.batches(50)) * data.std[0] + data.mean[0]
        assert shade <= round(255 * brightest) < shade + len(labels)
    assert found == [20, 20, 40]


def test_neither_folders_nor_tables_need_a_home_that_can_be_written(tmp_path: Path) -> None:
    Written(HALF).to(tmp_path / "a.parquet")
    grown(tmp_path / "pets", classes(""))
    nowhere = {"HOME": "/proc/none", "HF_HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "TMPDIR": "/proc/none"}
    code = (
        "from bnas.data import load_data as l; [print(len(l(name).train)) for name in ('a.parquet', 'pets', 'digits')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["14", "14", "1294"], done.stderr


def test_a_cache_that_cannot_be_written_does_not_blame_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("/proc/none"))
    with pytest.raises(
        DataError, match=r"^the cache of the datasets library cannot be written; set HF_HOME to a folder"
    ):
        load_data(str(Written(HALF).to(tmp_path / "a.parquet")))


def test_damaged_parquet_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read; write or fetch it again") as caught:
        load_data(str(path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def on_the_hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Put tables on a hub: splits -> labels; return the list of the splits that are asked for."""

    def put(**splits: list[int]) -> list[str]:
        kind = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
        tables = {
            split: datasets.Dataset.from_dict({"image": [picture(1)] * len(labels), "label": labels}, features=kind)
            for split, labels in splits.items()
        }
        asked = list[str]()
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: list(tables))
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append(split) or tables[split])
        return asked

    return put


@pytest.mark.parametrize(
    ("splits", "counts", "asked"),
    [
        ({"train": HALF}, (14, 2, 4), ["train"]),
        ({"train": HALF, "validation": [0, 1]}, (18, 2, 2), ["train", "validation"]),
        ({"train": HALF, "validation": [0, 1], "test": [-1, -1]}, (18, 2, 2), ["train", "validation", "test"]),
        ({"train": HALF, "unsupervised": [-1]}, (14, 2, 4), ["train"]),
        ({"training": HALF, "dev": [1]}, (18, 2, 1), ["training", "dev"]),
    ],
)
def test_hub_sets_are_read_by_split(
    splits: dict[str, list[int]], counts: tuple[int, int, int], asked: list[str], on_the_hub: Callable[..., list[str]]
) -> None:
    read = on_the_hub(**splits)
    data = load_data("owner/pets")
    assert read == asked
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert data.class_names == ("a", "b")


def test_a_hub_set_without_a_train_split_says_which_it_has(on_the_hub: Callable[..., list[str]]) -> None:
    on_the_hub(test=[0, 1], other=[1])
    with pytest.raises(DataError, match="needs a split called train, but has test, other"):
        load_data("owner/pets")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            ConnectionError("no route to host\nand more"),
            r"where there is no network .* \(ConnectionError: no route to host\)$",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "cache of the datasets library cannot be written; set HF_HOME",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "cache of the datasets library cannot be written; set HF_HOME",
        ),
        (OSError(errno.EROFS, "Read-only file system"), "cache of the datasets library cannot be written; set HF_HOME"),
    ],
)
def test_a_hub_out_of_reach_says_why(problem: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> list[str]:
        raise problem

    monkeypatch.setattr(datasets, "get_dataset_split_names", fail)
    with pytest.raises(DataError, match=message):
        load_data("owner/pets")


AGAIN = """
import torch
from bnas.data import load_data
torch.set_num_threads({threads})
for name in ("set", "list.csv", "digits", "digits:4"):
    data = load_data(name, seed=3, input_shape=(1, 5, 7))
    print(name, data.fingerprint, data.mean, data.std, data.class_names)
"""


def test_splits_depend_neither_on_hashes_nor_on_the_order_on_the_disk_nor_on_threads(tmp_path: Path) -> None:
    said = set()
    for number, (threads, order) in enumerate(((1, 1), (4, -1))):
        here = tmp_path / str(number)
        shades = {f"set/{kind}/{index}.png": shade for shade, (kind, index) in enumerate(
            (kind, index) for kind in ("cat", "dog", "cow") for index in range(12))}  # fmt: skip
        for path, shade in list(shades.items())[::order]:
            grown(here, {path: encoded(shade)})
        grown(here, {"list.csv": "file,label\n" + "".join(f"{path},{path.split('/')[1]}\n" for path in shades)})
        done = subprocess.run(
            [sys.executable, "-c", AGAIN.format(threads=threads)], cwd=here, capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        said.add(done.stdout)
    assert len(said) == 1
