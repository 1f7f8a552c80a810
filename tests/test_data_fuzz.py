"""Generated folders, tables, archives and objects: read, or refused in one line; never anything else, never a hang."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bnas.data import load_data
from bnas.errors import BnasError
from tests.test_data_sources import ODD, encoded

EXAMPLES = 300  # of each kind
often = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
done: dict[str, list[bool]] = {"folders": [], "files": [], "objects": []}  # whether each could be read

NAMES = st.sampled_from([
    "train", "Train", "training", "test", "TEST", "val", "valid", "dev", "eval", "cat", "dog", "cow", "0", "1", "data",
    "images", "labels", "a.b", ".hidden", "__MACOSX", "ü",
])  # fmt: skip
CLASSES = st.fixed_dictionaries({"cat": st.integers(3, 9), "dog": st.integers(2, 9)})
FILES = st.one_of(
    st.builds(lambda shade, mode, side: encoded(shade, mode=mode, side=side),
              st.integers(0, 80), st.sampled_from(["L", "L", "L", "RGB"]), st.sampled_from([6, 6, 6, 5])),
    st.binary(max_size=40),
    st.sampled_from([b"file_name,label\n0.png,a\n1.png,b\n", b"image;label;split\n0.png;1;test\n", b"\xff\xfe"]),
)  # fmt: skip
FOLDERS = st.recursive(
    st.one_of(
        st.integers(0, 9),  # so many images
        CLASSES,
        st.sampled_from(sorted(ODD)),
        st.dictionaries(
            st.sampled_from(["0.png", "1.png", "2.JPG", "train.csv", "list.csv", "x.txt"]), FILES, max_size=4
        ),
    ),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
HOW = st.fixed_dictionaries(
    {},
    optional={
        "input_shape": st.sampled_from([(1, 4, 4), (3, 5, 7)]),
        "limit": st.sampled_from([1, 4, 9]),
        "normalisation": st.sampled_from(["unit", "imagenet", "0.5/0.5", "?"]),
        "seed": st.integers(0, 3),
    },
)


def grow(place: Path, held: Any) -> None:
    """Make what was drawn: a folder of so many images or of other things, a file, or what is neither."""
    if isinstance(held, str):
        ODD[held][0](place) if held != "a socket" else None
        return
    if isinstance(held, bytes):
        place.write_bytes(held)
        return
    place.mkdir()
    inside = held if isinstance(held, dict) else {f"{number}.png": encoded(number) for number in range(held)}
    for name, below in inside.items():
        grow(place / name, below)


def read_or_refused(kind: str, value: Any, **how: Any) -> None:
    """Read all images of what was drawn, unless it is refused as it should be."""
    done[kind].append(False)
    with suppress(BnasError):
        data = load_data(value, **how)
        assert "\n" not in data.summary()
        assert data.facts()["train"] == len(data.train)
        for split in (data.train, data.validation, data.test):
            assert sum(len(labels) for _, labels in split.batches(5)) == len(split)
        done[kind][-1] = True


@often
@given(tree=FOLDERS, how=HOW)
def test_any_folder_is_read_or_refused(tree: Any, how: dict[str, Any], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    (tmp_path / "set").mkdir()
    for name, held in (tree if isinstance(tree, dict) else {"cat": tree, "dog": 5}).items():
        grow(tmp_path / "set" / name, held)
    read_or_refused("folders", str(tmp_path / "set"), **how)


def damaged(content: bytes, places: list[tuple[int, int]], cut: int) -> bytes:
    bits = bytearray(content)
    for place, bit in places:
        bits[place % len(bits)] ^= 1 << bit
    return bytes(bits[: len(bits) - cut % len(bits)]) if cut % 4 == 0 else bytes(bits)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    cells = [{"bytes": encoded(shade), "path": None} for shade in range(20)]
    pq.write_table(pa.table({"image": cells, "label": ["a", "b"] * 10}), folder / "a.parquet")
    np.savez(folder / "a.npz", images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    (folder / "a.csv").write_text("file_name,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(20)))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@often
@given(
    kind=st.sampled_from([".parquet", ".npz", ".csv"]),
    places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), max_size=4),
    cut=st.integers(0, 10_000),
)
def test_any_damage_of_a_file_is_read_or_refused(
    kind: str, places: list[tuple[int, int]], cut: int, sound: dict[str, bytes], tmp_path: Path
) -> None:
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    path = tmp_path / f"damaged{kind}"
    path.write_bytes(damaged(sound[kind], places, cut))
    read_or_refused("files", str(path))


IMAGES = st.sampled_from([
    np.zeros((12, 4, 4), np.uint8), np.zeros((12, 4, 5, 3), np.float32), torch.rand(12, 3, 4, 4),
    [np.zeros((4, 4 + n % 2), np.uint8) for n in range(12)], [Image.new("L", (4, 4))] * 12,
    torch.zeros(12, 1, 4, 4).to_sparse(),
])  # fmt: skip
LABELS = st.sampled_from([
    np.arange(12) % 2, ["a", "b"] * 6, torch.arange(12) % 3, np.arange(12)[:, None] % 2, pd.Series(["x", "y"] * 6),
    [0, None] * 6, np.eye(2)[np.arange(12) % 2],
])  # fmt: skip
OTHERS = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4), st.just(object()),
    st.just({1: 2}), st.just(range(12)), st.just(iter([1])), st.just(np.array(3)), st.just(torch.tensor(3)),
    st.just(np.zeros((12, 4, 4), object)), st.lists(st.integers(), max_size=12), IMAGES, LABELS,
)  # fmt: skip
VALUES = st.one_of(
    st.tuples(IMAGES, LABELS), st.tuples(IMAGES, LABELS, IMAGES, LABELS), st.tuples(OTHERS, OTHERS), OTHERS,
    st.tuples(IMAGES, OTHERS, IMAGES, OTHERS), st.lists(st.tuples(OTHERS, st.integers(0, 1)), max_size=12),
    st.dictionaries(st.sampled_from(["images", "labels", "x_train", "y_train", "x_test", "y_test"]), IMAGES | LABELS),
)  # fmt: skip


PAIRS = st.lists(st.tuples(st.just(np.zeros((4, 4))), st.integers(0, 1)), min_size=12)
SOUND = st.tuples(IMAGES, LABELS) | st.tuples(IMAGES, LABELS, IMAGES, LABELS) | PAIRS


@often
@given(value=st.booleans().flatmap(lambda is_sound: SOUND if is_sound else VALUES), how=HOW)
def test_any_object_is_taken_or_refused(value: Any, how: dict[str, Any]) -> None:
    read_or_refused("objects", value, **how)


def test_of_each_kind_some_were_read_and_some_refused() -> None:
    for kind, reads in done.items():
        assert len(reads) >= EXAMPLES, kind
        assert 0.05 < np.mean(reads) < 0.95, (kind, np.mean(reads))
