"""An image folder as people have it -> its splits: class folders, alone or below split folders, or a CSV of labels."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bnas.data.class_folders import (
    check_not_inside_out,
    class_folders,
    lying_in,
    opened,
    splits_of,
    with_images,
)
from bnas.data.decode import Files, part_of_cells
from bnas.data.fingerprint import of_image_files
from bnas.data.found import Found, Part
from bnas.data.labels import UNKNOWN, Labels
from bnas.data.listed import listed
from bnas.data.roles import role_of_folder
from bnas.data.tree import Tree, look_into
from bnas.errors import DataError

_WANTED = (
    "an image folder has one sub-folder a class, or such folders in train/ and test/, or images and a CSV of their "
    "file names and labels"
)


def image_folder(path: Path) -> Found:
    """Return what an image folder holds.

    One sub-folder a class, or such folders in folders called like splits, in any case and one level too deep; or images
    and a CSV with their file names and labels. A folder called like a split is never a class; one without labels is
    left alone.

    Raises:
        DataError: it is laid out in another way; says what was found.
    """
    root = look_into(path)
    tree, notes = opened(root)
    splits = splits_of(tree)
    train = splits.get("train", tree)
    notes += root.passed_over()
    if not splits or len(class_folders(train)) < 2:
        table, remarks = _table(tree, root)
        if table is not None and not _says_as_much(class_folders(train), table):
            return replace(table, notes=(*notes, *table.notes))
        notes += remarks
    if not class_folders(train):
        raise DataError(f"{train.path} holds no class folders of images: found {lying_in(tree, notes)}; {_WANTED}")
    if not splits:
        check_not_inside_out(tree)
    parts = {role: _part(split, role, tree) for role, split in (splits or {"train": tree}).items()}
    return Found(source=str(path), parts=parts, notes=(*notes, *_beside(tree, splits)))


def _table(tree: Tree, root: Tree) -> tuple[Found | None, list[str]]:
    """Return what CSV files list, in the folder that is the data set, or else beside it."""
    table, remarks = listed(tree)
    if table is not None or tree is root:
        return table, remarks
    return listed(root)


def _part(split: Tree, role: str, root: Tree) -> Part:
    """Return the labelled images of a split; none is labelled where they lie in no class folders.

    Raises:
        DataError: a class has no images to train on, or a name that cannot be written down.
    """
    folders = class_folders(split)
    for name, folder in folders.items():
        if role == "train" and not folder.has_images():
            remarks = "; ".join(folder.passed_over())
            raise DataError(
                f"{folder.path}: a class folder must hold images, but has none{f' ({remarks})' if remarks else ''}; "
                "add some or remove the folder"
            )
        if not name.isprintable():
            raise DataError(f"{split.path}: the name {name!r} of a class folder cannot be shown; rename it")
    paths = [folder.all_images() for folder in folders.values()] or [split.all_images()]
    names = tuple(folders) or None
    numbers = np.repeat(np.arange(len(paths)) if names else UNKNOWN, [len(inside) for inside in paths])
    files = tuple(path for inside in paths for path in inside)
    identity = partial(of_image_files, root.path, files)
    return part_of_cells(str(split.path), Files(files), Labels(numbers.astype(np.int64), names), identity)


def _says_as_much(folders: dict[str, Tree], table: Found) -> bool:
    """Whether class folders name the classes that a CSV names too: then they say which image is of which class."""
    return len(folders) > 1 and set(table.parts["train"].labels.names or ()) <= set(folders)


def _beside(tree: Tree, splits: dict[str, Tree]) -> list[str]:
    """Return remarks on what lies beside the splits, or loose beside class folders, and is not read."""
    counts = {name: len(child.all_images()) for name, child in with_images(tree).items()}
    notes = [f"{name}/ is passed over" for name in counts if splits and not role_of_folder(name)]
    notes += [f"{name}/ holds no images" for name in tree.folders if role_of_folder(name) and name not in counts]
    loose = {split.path.name: len(split.images) for split in (tree, *splits.values()) if class_folders(split)}
    return notes + [f"{count} images loose in {name}/ are passed over" for name, count in loose.items() if count]
