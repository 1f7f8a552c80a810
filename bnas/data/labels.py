"""Labels as people keep them -> numbers by class name, the same numbers in every part of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from bnas.errors import DataError
from bnas.spec import shown

UNKNOWN = -1  # the label of an image that has none, or none that is meant
_NONE = -(2**63)  # where that was said by leaving it out
_LARGEST = 2**62  # no label is larger, but somebody's hash may be


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of some images.

    Args:
        numbers: int64 [n]: places among the names, or the labels themselves where there are no names; below 0: none.
        names: of the classes, in their order; None where labels are numbers and nothing else.
        ordered: whether the order of the names was said with them; else they are sorted.
    """

    numbers: np.ndarray
    names: tuple[str, ...] | None = None
    ordered: bool = False

    @classmethod
    def of(cls, values: Any, *, where: str) -> Self:
        """Return the labels that an array, a tensor or a list holds: integers from 0, or names, which are sorted.

        Raises:
            DataError: they are neither; names the first that is not.
        """
        array = _as_array(values, where)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]  # as Keras keeps them
        if array.ndim != 1 or array.dtype.kind not in "biuOU":
            remedy = "give their argmax(1)" if array.ndim == 2 else "convert them"
            raise DataError(
                f"{where}: labels must be integers or names [n], but are {array.dtype} {list(array.shape)}; {remedy}"
            )
        return cls(array.astype(np.int64)) if array.dtype.kind in "biu" else cls._of_list(array.tolist(), where)

    @classmethod
    def _of_list(cls, values: list[Any], where: str) -> Self:
        """Return the labels of a list that holds names, or integers, and None where a label is not known."""
        kinds = {kind for kind in map(_kind, values) if kind is not None}
        strange = next((row for row, value in enumerate(values) if _kind(value) not in (str, int, None)), None)
        if strange is not None:
            said = " ".join(shown(values[strange]).split())
            raise DataError(f"{where}: label {said} of image {strange} must be an integer or a name; correct it")
        if len(kinds) > 1:
            raise DataError(f"{where}: labels must be all integers or all names, but are both; correct them")
        if kinds == {str}:
            return cls.at(values, tuple(sorted({value for value in values if value is not None})))
        return cls(np.array([_NONE if value is None else min(value, _LARGEST) for value in values], dtype=np.int64))

    @classmethod
    def at(cls, values: Sequence[str | None], names: tuple[str, ...]) -> Self:
        """Return the labels of images by the names of their classes, which come in this order."""
        places: dict[str | None, int] = {None: _NONE, **{name: place for place, name in enumerate(names)}}
        return cls(np.array([places.get(value, UNKNOWN) for value in values], dtype=np.int64), names)

    @classmethod
    def joined(cls, parts: Sequence["Labels"], *, where: str) -> "Labels":
        """Return the labels of several files one after another, joined by the names of their classes.

        Raises:
            DataError: as in `alike`.
        """
        same = cls.alike(parts, where=where)
        names = same[0].names
        return cls(np.concatenate([part.numbers for part in same]), names, same[0].ordered)

    @classmethod
    def alike(cls, parts: Sequence["Labels"], *, where: str) -> list["Labels"]:
        """Return labels that are numbered by the same names, whatever order each part had them in.

        Numbers without names are places in the one order that the other parts agree on.

        Raises:
            DataError: some have numbers only, and what a number means in the others is not one order of names.
        """
        orders = {part.names for part in parts if part.names is not None}
        if not orders:
            return list(parts)
        ordered = all(part.ordered for part in parts if part.names is not None)
        numbers = any(part.names is None and (part.numbers >= 0).any() for part in parts)
        if numbers and (len(orders) > 1 or not ordered):
            raise DataError(
                f"{where}: some labels are numbers and others names, and which name a number stands for is not said; "
                "store the names everywhere, or numbers everywhere"
            )
        every = dict.fromkeys(name for part in parts for name in part.names or ())
        names = tuple(every) if ordered else tuple(sorted(every))
        return [cls(part.by(names), names, ordered) for part in parts]

    def __len__(self) -> int:
        return len(self.numbers)

    def by(self, class_names: tuple[str, ...]) -> np.ndarray:
        """Return them as places among these names, int64 [n]; -1 where a label is none of them."""
        places = np.arange(len(class_names))
        if self.names is not None:
            order = {name: place for place, name in enumerate(class_names)}
            places = np.array([order.get(name, UNKNOWN) for name in self.names], dtype=np.int64)
        inside = (self.numbers >= 0) & (self.numbers < len(places))
        # The last place serves all that are not inside.
        return np.append(places, UNKNOWN)[np.where(inside, self.numbers, len(places))]

    def said(self, row: int) -> str:
        """Return the label of an image the way an error names it."""
        number = int(self.numbers[row])
        if self.names is None or number < 0:
            return f"label {None if number == _NONE else number}"
        return f"class {self.names[number]!r}"

    def found(self) -> tuple[str, ...]:
        """Return the names of the classes that there are images of; of labels without names, all up to the largest."""
        if self.names is None:
            largest = int(self.numbers.max()) if len(self) else UNKNOWN
            return tuple(str(label) for label in range(min(largest + 1, len(self))))
        seen = np.bincount(self.numbers[self.numbers >= 0], minlength=len(self.names))
        return tuple(name for name, count in zip(self.names, seen, strict=True) if count)

    def numbered(self, class_names: tuple[str, ...], *, where: str) -> Tensor:
        """Return them as places among these names, int64 [n].

        Raises:
            DataError: a label is none of them.
        """
        numbers = self.by(class_names)
        wrong = np.flatnonzero(numbers < 0)
        if len(wrong):
            row = int(wrong[0])
            if self.names is not None and self.numbers[row] < 0:
                raise DataError(f"{where}: image {row} has no label; give it one, or take it out")
            raise DataError(
                f"{where}: {self.said(row)} of image {row} must be {_allowed(self, class_names)}; correct the labels"
            )
        return torch.from_numpy(numbers)


def _allowed(labels: Labels, class_names: tuple[str, ...]) -> str:
    if labels.names is None:
        return f"from 0 to {len(class_names) - 1} for {len(class_names)} classes"
    return f"one of the {len(class_names)} training classes"


def _kind(value: Any) -> type | None:
    return None if value is None else int if isinstance(value, (int, np.integer)) else type(value)


def _as_array(values: Any, where: str) -> np.ndarray:
    """Return numbers as they are, and anything else as an array of objects, whatever it is."""
    try:
        if isinstance(values, Tensor):
            return values.detach().cpu().numpy()
        if hasattr(values, "to_numpy"):  # a series of pandas, whatever it holds
            values = values.to_numpy()
        if isinstance(values, np.ndarray):
            return values.astype(str) if values.dtype.kind == "S" else values
        listed = [value.item() if isinstance(value, (Tensor, np.generic)) else value for value in values]
    except Exception as problem:  # whatever is raised of what is no list, or of tensors that are no numbers
        raise DataError(
            f"{where}: labels must be a list or an array, one of each image, but are a {type(values).__name__}"
        ) from problem
    array = np.empty(len(listed), dtype=object)
    for row, value in enumerate(listed):
        array[row] = value
    return array
