"""An image folder as people have it -> its splits: class folders, alone or below split folders, or a CSV of labels."""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bnas.data.decode import Files, part_of_cells
from bnas.data.fingerprint import of_image_files
from bnas.data.found import Found, Part, role_of_folder
from bnas.data.labels import UNKNOWN, Labels
from bnas.data.listed import listed
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
    tree, notes = _opened(root)
    splits = _splits(tree)
    train = splits.get("train", tree)
    notes += root.passed_over()
    if not splits or len(_class_folders(train)) < 2:
        table, remarks = _table(tree, root)
        if table is not None and not _says_as_much(_class_folders(train), table):
            return replace(table, notes=(*notes, *table.notes))
        notes += remarks
    if not _class_folders(train):
        raise DataError(f"{train.path} holds no class folders of images: found {_found(tree, notes)}; {_WANTED}")
    if not splits:
        _check_not_inside_out(tree)
    parts = {role: _part(split, role, tree) for role, split in (splits or {"train": tree}).items()}
    return Found(source=str(path), parts=parts, notes=(*notes, *_beside(tree, splits)))


def _table(tree: Tree, root: Tree) -> tuple[Found | None, list[str]]:
    """Return what CSV files list, in the folder that is the data set, or else beside it."""
    table, remarks = listed(tree)
    if table is not None or tree is root:
        return table, remarks
    return listed(root)


def _opened(tree: Tree) -> tuple[Tree, list[str]]:
    """Return the folder that is the data set: one that holds nothing else than it is opened."""
    notes = []
    while not tree.images and len(inside := _with_images(tree)) == 1:
        (child,) = inside.values()
        if role_of_folder(child.path.name) or not _with_images(child):
            break
        notes.append(f"{child.path.name}/ is taken for the data set")
        tree = child
    return tree, notes


def _splits(tree: Tree) -> dict[str, Tree]:
    """Return the folders that are called like splits and hold images, by what they are for.

    Raises:
        DataError: two are for the same, or none is for training.
    """
    found: dict[str, list[Tree]] = defaultdict(list)
    for name, child in _with_images(tree).items():
        if role := role_of_folder(name):
            found[role].append(child)
    for role, same in found.items():
        if len(same) > 1:
            names = " and ".join(f"{split.path.name}/" for split in same)
            raise DataError(f"{tree.path}: {names} are both called like the {role} split; rename one or take it away")
    if found and "train" not in found:
        raise DataError(
            f"{tree.path}: found {_found(tree, [])}, but no folder called train/; a folder called like a split is "
            "never a class: rename the one with the training images to train, or the class to something else"
        )
    return {role: split for role, (split,) in found.items()}


def _class_folders(tree: Tree) -> dict[str, Tree]:
    """Return the class folders of a split, which may lie in a folder of their own."""
    while not tree.images and len(inside := _with_images(tree)) == 1:
        (child,) = inside.values()
        if not _with_images(child):
            break
        tree = child
    return tree.folders if _with_images(tree) else {}


def _part(split: Tree, role: str, root: Tree) -> Part:
    """Return the labelled images of a split; none is labelled where they lie in no class folders.

    Raises:
        DataError: a class has no images to train on, or a name that cannot be written down.
    """
    folders = _class_folders(split)
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


def _check_not_inside_out(tree: Tree) -> None:
    """Raise where the splits lie below what would be taken for classes."""
    for name, child in tree.folders.items():
        splits = [inside for inside in _with_images(child) if role_of_folder(inside)]
        if splits:
            raise DataError(
                f"{tree.path}: {name}/ holds {splits[0]}/, which is called like a split; give one data set, as "
                f"{child.path}, or put the classes below the splits, as {splits[0]}/{name}/"
            )


def _says_as_much(folders: dict[str, Tree], table: Found) -> bool:
    """Whether class folders name the classes that a CSV names too: then they say which image is of which class."""
    return len(folders) > 1 and set(table.parts["train"].labels.names or ()) <= set(folders)


def _with_images(tree: Tree) -> dict[str, Tree]:
    return {name: child for name, child in tree.folders.items() if child.has_images()}


def _beside(tree: Tree, splits: dict[str, Tree]) -> list[str]:
    """Return remarks on what lies beside the splits, or loose beside class folders, and is not read."""
    counts = {name: len(child.all_images()) for name, child in _with_images(tree).items()}
    notes = [f"{name}/ is passed over" for name in counts if splits and not role_of_folder(name)]
    notes += [f"{name}/ holds no images" for name in tree.folders if role_of_folder(name) and name not in counts]
    loose = {split.path.name: len(split.images) for split in (tree, *splits.values()) if _class_folders(split)}
    return notes + [f"{count} images loose in {name}/ are passed over" for name, count in loose.items() if count]


def _found(tree: Tree, notes: list[str]) -> str:
    """Say what lies in a folder."""
    said = [f"{name}/ with {len(child.all_images())} images" for name, child in tree.folders.items()]
    loose = [f"{len(tree.images)} images without a folder"] if tree.images else []
    return ", ".join([*loose, *said[:6], *(["..."] if len(said) > 6 else [])]) + "".join(f"; {note}" for note in notes)
