"""A data set -> what is said of it: one line for people, one mapping for files, and what guessing gets right."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from bnas.amounts import percent
from bnas.data import fingerprint
from bnas.data.resize import text
from bnas.errors import RunError

if TYPE_CHECKING:
    from bnas.data.dataset import DataSet


_MOST_NAMES, _SHOWN_NAMES, _LONGEST = 12, 6, 200
_SAME = 1e-6  # relative: mean and deviation of floating-point images may be summed otherwise by another build of numpy

_DEVIATIONS = 2  # by which an accuracy must exceed that of guessing


def facts_of(data: "DataSet") -> dict[str, Any]:
    """Return what is known of the images, as JSON can hold it; the test images are not read for it."""
    test = data.later_test
    splits = {"train": data.train, "validation": data.validation}
    checksums = {role: fingerprint.of_split(split.images, split.labels) for role, split in splits.items()}
    checksums["test"] = fingerprint.of_parts(
        test.identity() if test.identity else "", "" if test.labels is None else fingerprint.of_tensor(test.labels)
    )
    return {
        "summary": summary_of(data),
        "source": data.source or data.name,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": None if test.labels is None else len(test.labels),
        "split": {"validation": data.validation.origin, "test": test.origin},
        "size": list(data.input_shape),
        "resized_from": list(data.original_shape) if data.original_shape else None,
        "class_names": list(data.class_names),
        "normalised": data.normalised or "by the training images",
        "mean": list(data.mean),
        "std": list(data.std),
        "augmentation": list(data.augmentation),
        "notes": list(data.notes),
        "checksums": checksums,
        "fingerprint": fingerprint.of_parts(*checksums.values(), *data.class_names),
    }


def summary_of(data: "DataSet") -> str:
    """Return the facts that a person wants to know first, in one line."""
    return f"{_plain(data.name)}: " + "; ".join(_said(data))


def _said(data: "DataSet") -> Iterator[str]:
    test = data.later_test
    count = "test images, counted when they are read" if test.labels is None else f"{len(test.labels)} test images"
    validation = f"{len(data.validation)} validation{_origin(data.validation.origin)}"
    yield f"{len(data.train)} training, {validation} and {count}{_origin(test.origin)}"
    was = f", resized from {text(data.original_shape)}" if data.original_shape else ""
    yield f"{text(data.input_shape)}{was}"
    yield f"{data.classes} classes: {_names(data.class_names)}"
    by = f" ({data.normalised})" if data.normalised else ""
    yield f"mean {_numbers(data.mean)}, std {_numbers(data.std)}{by}"
    yield f"augmented by {', '.join(data.augmentation)}" if data.augmentation else "not augmented"
    yield from map(_plain, data.notes)


def _origin(said: str) -> str:
    return f" ({said})" if said else ""


def _names(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(map(_plain, names))
    return f"{', '.join(map(_plain, names[:_SHOWN_NAMES]))}, ... {_plain(names[-1])}"


def _plain(name: str) -> str:
    """Return a name that a file or a folder gave, on one line and without what moves a terminal's cursor."""
    seen = "".join(letter if letter.isprintable() else " " for letter in name)
    return seen if len(seen) <= _LONGEST else f"{seen[:_LONGEST]}..."


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def check_same_images(stored: Mapping[str, Any], data: "DataSet", *, where: str) -> None:
    """Raise unless these are the images that a run was begun with; nothing is said where it was not kept which.

    Args:
        stored: the facts that were kept.
        data: what was read now.
        where: the run, for the error.
    Raises:
        RunError: says what differs.
    """
    before = stored.get("checksums") if isinstance(stored, Mapping) else None
    if not isinstance(before, Mapping):
        return
    found = data.facts()
    changed = [said for key, said in _DECIDE.items() if not _is_same(stored.get(key), found[key])]
    changed += [f"the {_PARTS[role]} images" for role, now in found["checksums"].items() if before.get(role) != now]
    if changed:
        counts = [
            f"{facts.get('train')} + {facts.get('validation')} + {facts.get('test')}" for facts in (stored, found)
        ]
        raise RunError(
            f"{where}: was begun with other images of {data.name}: {', '.join(changed)} differ "
            f"({counts[0]} then, {counts[1]} now); give the images it was begun with (a function must return the same "
            "at each call), or another --out"
        )


_PARTS = {"train": "training", "validation": "validation", "test": "test"}
_DECIDE = {
    "size": "the size", "class_names": "the classes", "mean": "the mean", "std": "the deviation",
    "augmentation": "the augmentation",
}  # fmt: skip


def _is_same(stored: Any, found: Any) -> bool:
    numbers = [isinstance(values, list) and all(isinstance(v, float) for v in values) for values in (stored, found)]
    if all(numbers) and len(stored) == len(found):
        return all(math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME) for a, b in zip(stored, found, strict=True))
    return bool(stored == found)


class Guessing(NamedTuple):
    """What always answering the class that most images have gets right."""

    accuracy: float
    images: int

    @classmethod
    def on(cls, labels: Tensor) -> "Guessing":
        """Return it for labels, int64 [n]."""
        return cls(int(torch.bincount(labels).max()) / len(labels), len(labels))

    @classmethod
    def known(cls, manifest: dict[str, Any]) -> "Guessing | None":
        """Return it as a manifest says; None where that is from before it was said."""
        kept = manifest.get("guessing")
        return cls(**kept) if isinstance(kept, dict) else None

    def beaten_by(self, accuracy: float) -> bool:
        """Whether an accuracy on these images is more, by two standard deviations of the guesses."""
        return accuracy > self.accuracy + _DEVIATIONS * math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    def remark(self, accuracy: float) -> str:
        """Return what stands behind an accuracy: nothing, unless it is no better than guessing."""
        return "" if self.beaten_by(accuracy) else f", no better than guessing ({percent(self.accuracy)})"
