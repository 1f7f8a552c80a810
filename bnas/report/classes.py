"""Which classes of the test images a network takes for which -> tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bnas.amounts import NONE, percent
from bnas.report.tables import TextTable
from bnas.runs import Run
from bnas.runs.contents import CONFUSION
from bnas.runs.documents import taking

MOST_CLASSES = 40  # in a table, and in a picture
MOST_MIXED = 10  # pairs of classes


class Classes(NamedTuple):
    """What a network makes of the test images.

    Args:
        counts: images of a class (row) that it takes for a class (column), integer [classes, classes].
        names: of the classes.
    """

    counts: np.ndarray
    names: tuple[str, ...]

    @property
    def images(self) -> np.ndarray:
        """How many there are of each class."""
        return self.counts.sum(1)

    @property
    def shares(self) -> np.ndarray:
        """The share of each class that is right; nan of a class without images."""
        none = np.full(len(self.names), np.nan)
        return np.divide(self.counts.diagonal(), self.images, out=none, where=self.images > 0)

    @property
    def shown(self) -> list[int]:
        """The classes that a page shows, in their order: all, or where they are many those most often mistaken."""
        if len(self.names) <= MOST_CLASSES:
            return list(range(len(self.names)))
        return sorted(np.argsort(np.nan_to_num(self.shares, nan=2.0), kind="stable")[:MOST_CLASSES].tolist())


def read_classes(run: Run) -> Classes | None:
    """Return what the best network of a run makes of the test images; None of a run from before that was kept.

    Raises:
        RunError: it is damaged.
    """
    if not run.has_table(CONFUSION):
        return None
    table = run.read_table(CONFUSION)
    with taking(run.file(f"{CONFUSION}.csv")):
        return classes_of(table, run.config.get("images", {}))


def classes_of(table: pd.DataFrame, images: Mapping[str, Any]) -> Classes:
    """Return what a table of a run says, with the names that are known of its images.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it has not the form that it must have.
    """
    pairs = table[["class", "taken_for", "images"]].to_numpy(dtype=np.int64)
    if not len(pairs) or pairs.min() < 0:
        raise ValueError("a class or a number of images is none")
    names = tuple(map(str, images.get("class_names", ())))
    last = int(pairs[:, :2].max())
    names = names if last < len(names) else tuple(map(str, range(last + 1)))
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    counts[pairs[:, 0], pairs[:, 1]] = pairs[:, 2]
    return Classes(counts, names)


def class_table(found: Classes) -> TextTable:
    """Return how many images of each class are right, and what the others are taken for most."""
    rows = []
    for place in found.shown:
        wrong = found.counts[place].copy()
        right, wrong[place] = int(wrong[place]), 0
        most = int(wrong.argmax())
        taken = f"{found.names[most]} ({wrong[most]})" if wrong[most] else NONE
        rows.append((
            found.names[place], taken, str(found.images[place]), str(right), percent(float(found.shares[place]))
        ))  # fmt: skip
    return TextTable(("class", "most often taken for", "test images", "right", "test accuracy"), tuple(rows), 2)


def mixed_table(found: Classes) -> TextTable:
    """Return the pairs of classes that are mixed up most, either way, the worst first."""
    wrong = found.counts - np.diag(found.counts.diagonal())
    both = np.triu(wrong + wrong.T)
    order = np.argsort(-both, axis=None, kind="stable")[:MOST_MIXED]
    pairs = [divmod(int(place), len(found.names)) for place in order if both.flat[place]]
    rows = [
        (f"{found.names[a]}, {found.names[b]}", *map(str, (both[a, b], wrong[a, b], wrong[b, a]))) for a, b in pairs
    ]
    return TextTable(("classes", "mixed up", "first for second", "second for first"), tuple(rows))


def classes_context(found: Classes | None) -> dict[str, Any]:
    """Return what the part of a page on classes asks for."""
    if found is None:
        return {"by_class": None}
    return {
        "by_class": class_table(found), "mixed": mixed_table(found), "of_classes": len(found.names),
        "shown_classes": len(found.shown), "tested": int(found.images.sum()),
    }  # fmt: skip


def images_sentence(images: Mapping[str, Any]) -> str:
    """Say how many images of how many classes there are; "" of a run from before that was kept."""
    if not {"train", "validation", "class_names"} <= images.keys():
        return ""
    named = list(map(str, images["class_names"]))
    test = f", {images['test']} test images" if images.get("test") is not None else " images, and test images"
    listed = named if len(named) <= 12 else [*named[:6], "...", named[-1]]
    return (
        f"{images['train']} training, {images['validation']} validation{test}; {len(named)} classes: "
        f"{', '.join(listed)}."
    )
