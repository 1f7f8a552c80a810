"""Recipes, spaces and architectures that come with bnas, by name, and files of one's own, by path."""

import difflib
import os
from pathlib import Path

from bnas.errors import LookupFailed
from bnas.space.recipe import Recipe

_HERE = Path(__file__).parent


def _named(folder: str) -> dict[str, Path]:
    """Return what a folder holds: one beside this file, as in an installed wheel, or else at the checkout's top."""
    place = _HERE / folder
    if not place.is_dir():
        place = _HERE.parents[1] / folder
    return {file.stem: file for file in sorted(place.glob("*.yaml"))}


RECIPES, SPACES, ARCHITECTURES = map(_named, ("recipes", "search_spaces", "architectures"))


def read_recipe(name: str | Path) -> Recipe:
    """Return one of our recipes by name, or the one that a YAML file holds.

    Raises:
        LookupFailed: it is neither.
        SpecError: the file is missing or not well formed.
    """
    return Recipe.read(_file(name, RECIPES, what="recipe"))


def space_file(name: str | Path) -> Path:
    """Return the file of one of our spaces by name, or the path that was given.

    Raises:
        LookupFailed: it is neither.
    """
    return _file(name, SPACES, what="space")


def _file(name: str | Path, ours: dict[str, Path], *, what: str) -> Path:
    """Return the file; of a path that leads nowhere reading says so, only a word may be a name that is misspelt."""
    if str(name) in ours:
        return ours[str(name)]
    if not str(name).isidentifier() or os.path.exists(name):
        return Path(name)
    near = difflib.get_close_matches(str(name), ours, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise LookupFailed(f"{what} {str(name)!r}: {guess}give {', '.join(ours)}, or the path of a YAML file")
