"""A folder -> the folders of its classes, split by split, in the layouts that people have."""

from collections import defaultdict

from bnas.data.roles import role_of_folder
from bnas.data.tree import Tree
from bnas.errors import DataError


def opened(tree: Tree) -> tuple[Tree, list[str]]:
    """Return the folder that is the data set: one that holds nothing else than it is opened."""
    notes = []
    while not tree.images and len(inside := with_images(tree)) == 1:
        (child,) = inside.values()
        if role_of_folder(child.path.name) or not with_images(child):
            break
        notes.append(f"{child.path.name}/ is taken for the data set")
        tree = child
    return tree, notes


def splits_of(tree: Tree) -> dict[str, Tree]:
    """Return the folders that are called like splits and hold images, by what they are for.

    Raises:
        DataError: two are for the same, or none is for training.
    """
    found: dict[str, list[Tree]] = defaultdict(list)
    for name, child in with_images(tree).items():
        if role := role_of_folder(name):
            found[role].append(child)
    for role, same in found.items():
        if len(same) > 1:
            names = " and ".join(f"{split.path.name}/" for split in same)
            raise DataError(f"{tree.path}: {names} are both called like the {role} split; rename one or take it away")
    if found and "train" not in found:
        raise DataError(
            f"{tree.path}: found {lying_in(tree, [])}, but no folder called train/; a folder called like a split is "
            "never a class: rename the one with the training images to train, or the class to something else"
        )
    return {role: split for role, (split,) in found.items()}


def class_folders(tree: Tree) -> dict[str, Tree]:
    """Return the class folders of a split, which may lie in a folder of their own."""
    while not tree.images and len(inside := with_images(tree)) == 1:
        (child,) = inside.values()
        if not with_images(child):
            break
        tree = child
    return tree.folders if with_images(tree) else {}


def check_not_inside_out(tree: Tree) -> None:
    """Raise where the splits lie below what would be taken for classes."""
    for name, child in tree.folders.items():
        splits = [inside for inside in with_images(child) if role_of_folder(inside)]
        if splits:
            raise DataError(
                f"{tree.path}: {name}/ holds {splits[0]}/, which is called like a split; give one data set, as "
                f"{child.path}, or put the classes below the splits, as {splits[0]}/{name}/"
            )


def with_images(tree: Tree) -> dict[str, Tree]:
    return {name: child for name, child in tree.folders.items() if child.has_images()}


def lying_in(tree: Tree, notes: list[str]) -> str:
    """Say what lies in a folder."""
    said = [f"{name}/ with {len(child.all_images())} images" for name, child in tree.folders.items()]
    loose = [f"{len(tree.images)} images without a folder"] if tree.images else []
    return ", ".join([*loose, *said[:6], *(["..."] if len(said) > 6 else [])]) + "".join(f"; {note}" for note in notes)
