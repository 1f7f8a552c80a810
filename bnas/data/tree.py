"""A folder -> the files and folders in it, in the order of their names; what is no file is named and never opened."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bnas.errors import DataError

IMAGE_ENDINGS = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
# What archives, file managers and network disks leave behind; names that begin with a dot are passed over as well.
_LEFT_BEHIND = frozenset(("__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini", "lost+found"))
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_DEEPEST = 40  # folders below each other
_NAMED = 3  # files in one remark


@dataclass(frozen=True)
class Tree:
    """A folder.

    Args:
        path: of it.
        images, others: names of the files in it: those with an ending of images, and the rest.
        folders: the folders in it, by name.
        odd: what is in it and neither a file nor a folder, as `pipe.png is a FIFO`.
        hidden: how many names in it were passed over.
    """

    path: Path
    images: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    folders: dict[str, "Tree"] = field(default_factory=dict)
    odd: tuple[str, ...] = ()
    hidden: int = 0

    def all_images(self) -> list[str]:
        """Return the paths of all images in it and in the folders below, folder by folder."""
        return [os.path.join(tree.path, name) for tree in self.walk() for name in tree.images]

    def has_images(self) -> bool:
        """Whether there are images in it or below."""
        return any(tree.images for tree in self.walk())

    def walk(self) -> Iterator["Tree"]:
        """Yield it and all folders below."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()

    def passed_over(self) -> list[str]:
        """Return remarks on what was passed over in it and below."""
        trees = list(self.walk())
        odd = [f"{(tree.path / said).relative_to(self.path)}" for tree in trees for said in tree.odd]
        endings = Counter(Path(name).suffix.lower() or name for tree in trees for name in tree.others)
        hidden = sum(tree.hidden for tree in trees)
        remarks = [f"passed over {_some(odd)}"] if odd else []
        if endings:
            counted = [f"{count} {ending}" for ending, count in sorted(endings.items())]
            remarks.append(f"passed over {_some(counted)} that are no images")
        return remarks + ([f"passed over {hidden} hidden"] if hidden else [])


def _some(said: list[str]) -> str:
    rest = len(said) - _NAMED
    return ", ".join(said[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def look_into(path: Path) -> Tree:
    """Return what is in a folder and below it; links are followed, but not round in a circle.

    Raises:
        DataError: a folder cannot be read.
    """
    return _look(path, above=()) or Tree(path)


def _look(path: Path, above: tuple[tuple[int, int], ...]) -> Tree | None:
    """Return what is in a folder; None where it is one of those above it."""
    try:
        here = path.stat()
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be looked into: {problem.strerror}; allow it, or move the folder away"
        ) from problem
    key = (here.st_dev, here.st_ino)
    if key in above or len(above) == _DEEPEST:
        return None
    images, others, odd, folders, hidden = list[str](), list[str](), list[str](), dict[str, Tree](), 0
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _LEFT_BEHIND:
            hidden += 1
        elif (mode := _mode(entry)) == stat.S_IFDIR:
            if inside := _look(path / entry.name, (*above, key)):
                folders[entry.name] = inside
            else:
                odd.append(f"{entry.name} leads back to a folder above it")
        elif mode != stat.S_IFREG:
            odd.append(f"{entry.name} is {_KINDS.get(mode, 'a broken link')}")
        else:
            (images if Path(entry.name).suffix.lower() in IMAGE_ENDINGS else others).append(entry.name)
    return Tree(path, tuple(images), tuple(others), folders, tuple(odd), hidden)


def _mode(entry: "os.DirEntry[str]") -> int:
    """Return what kind of thing an entry is; 0 for a link with nothing at its end."""
    try:
        if entry.is_dir():  # which costs no look at the disk, as `is_file` does not
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file() else stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return 0
