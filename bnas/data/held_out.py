"""Splits and labels -> what serves as test and as validation: a split that is there, or a part held out of another.

Labels are looked at when a data set is made, so that a test split that cannot be used is found before any training.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnas.data.found import Found, Part
from bnas.errors import DataError


class Serving(NamedTuple):
    """A split that is there and can be used."""

    part: Part
    labels: Tensor  # int64 [n], by the training classes
    origin: str  # for people


def training_labels(name: str, found: Found) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the classes, and the labels of the training images by them, int64 [n].

    Raises:
        DataError: there are no images or fewer than two classes, a label is none, or a class has no images.
    """
    train = found.parts["train"]
    if not len(train.labels):
        raise DataError(f"{name}: there are no images; look at where it is read from")
    class_names = found.class_names or train.labels.found()
    if len(class_names) != len(set(class_names)):
        raise DataError(f"{name}: two classes have one name; give every class a name of its own")
    labels = train.labels.numbered(class_names, where=train.where)
    if len(class_names) < 2:
        raise DataError(
            f"{name}: all {len(labels)} training images are of one class, {class_names[0]!r}, and there is nothing to "
            f"tell apart; read from {'; '.join((found.source, *found.notes))}; add images of another class, or where "
            "that is meant name all classes, as from_arrays(..., class_names=...) does"
        )
    sizes = np.bincount(labels.numpy(), minlength=len(class_names))
    if found.class_names is None and sizes.min() == 0:
        empty = class_names[int(sizes.argmin())]
        first = " (labels count from 0)" if class_names[0] == empty == "0" else ""
        raise DataError(
            f"{name}: class {empty!r} must have at least 2 images to divide, but has 0{first}; "
            "add images or leave the class out"
        )
    return class_names, labels


def serving(found: Found, class_names: tuple[str, ...]) -> tuple[dict[str, Serving], list[str]]:
    """Return the splits that serve as `test` and `validation`, and remarks on those that do not.

    A split of which no image has a training class counts as not labelled, and is left alone. One in which some have
    none is wrong, unless it is the test split and a sound validation split can take its place.

    Raises:
        DataError: says which split, image and label.
    """
    judged = {role: _judged(part, class_names) for role, part in found.parts.items() if role != "train"}
    sound = {role: part for role, (part, problem) in judged.items() if not problem}
    notes = [f"{problem}: not used" for _, problem in judged.values() if problem]
    for role in ("validation", "test"):
        split, problem = judged.get(role, (None, ""))
        is_replaced = role == "test" and "validation" in sound
        if split and problem and (split.labels >= 0).any() and not is_replaced:
            raise DataError(
                f"{problem}; correct the labels, or take the {role} split away to have images held out for it"
            )
    if "test" not in sound and "validation" in sound:
        sound["test"] = sound.pop("validation")._replace(origin="its validation split")
        notes.append("its validation split serves as test")
    return sound, notes


def _judged(part: Part, class_names: tuple[str, ...]) -> tuple[Serving, str]:
    """Return a split with its labels by the training classes, and what is wrong with them."""
    numbers = part.labels.by(class_names)
    wrong = np.flatnonzero(numbers < 0)
    judged = Serving(part, torch.from_numpy(numbers), "its own split")
    if not len(numbers):
        return judged, f"{part.where} has no images"
    if len(wrong) == len(numbers):
        return judged, f"{part.where}: none of its {len(numbers)} images is labelled with a training class"
    if len(wrong):
        row = int(wrong[0])
        said = part.labels.said(row)
        return judged, (
            f"{part.where}: {said} is not one of the {len(class_names)} training classes (image {row}, and in all "
            f"{len(wrong)} of {len(numbers)} images)"
        )
    return judged, ""
