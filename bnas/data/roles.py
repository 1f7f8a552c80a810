"""The name of a folder or a file -> which part of a data set people mean by it: train, validation or test."""

import re
from collections.abc import Iterable

ROLES = ("train", "validation", "test")
_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "validation": "validation", "validate": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "development": "validation",
    "test": "test", "testing": "test", "tests": "test", "tst": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
# Words that say nothing about which part it is: train_set, test-images, seg_train, TrainingData.
_FILLERS = frozenset((
    "set", "sets", "split", "data", "dataset", "datasets", "folder", "image", "images", "img", "imgs", "picture",
    "pictures", "photo", "photos", "seg", "jpg", "jpeg", "png", "file", "files", "label", "labels", "labelled",
    "labeled", "csv",
))  # fmt: skip


def role_of_folder(name: str) -> str | None:
    """Return which part of a data set a folder's name says, whatever its case; None where it says none.

    All its words must say so: `train_images`, `Testing`, `val2017` do, `train_station` and `test_tube` do not.
    """
    words = [word for word in _words(name) if word not in _FILLERS]
    return _WORDS.get(words[0]) if len(words) == 1 else None


def role_of_file(name: str) -> str | None:
    """Return which part of a data set a file's name begins with: `train-00000-of-00002`, `Test.parquet`."""
    words = _words(name)
    return _WORDS.get(words[0]) if words else None


def chosen_split(names: Iterable[str]) -> dict[str, str]:
    """Return the splits of a hub's data set that serve as which part: the first of each there is."""
    found: dict[str, str] = {}
    for name in names:
        role = role_of_folder(name)
        if role:
            found.setdefault(role, name)
    return found


def _words(name: str) -> list[str]:
    """Return the words of a name in small letters; `trainset` and `TestImages` are two each."""
    parts = [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    return [word for part in parts for word in _apart(part)]


def _apart(part: str) -> list[str]:
    for word in sorted(_WORDS, key=len, reverse=True):
        if part != word and part.startswith(word) and part[len(word) :] in _FILLERS:
            return [word, part[len(word) :]]
    return [part]
