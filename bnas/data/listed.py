"""A CSV of file names and labels beside images -> the splits that it lists."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bnas.data.decode import Files, part_of_cells
from bnas.data.fingerprint import of_image_files
from bnas.data.found import Found, Part
from bnas.data.labels import Labels
from bnas.data.roles import role_of_file, role_of_folder
from bnas.data.tree import IMAGE_ENDINGS, Tree, look_into
from bnas.errors import DataError

ENDINGS = (".csv", ".tsv")
# The columns that hold file names, and those that hold labels, the first that there is; a last column of its own may
# say which split a row belongs to.
FILE_COLUMNS = (
    "file_name", "filename", "file", "files", "filepath", "filepaths", "file_path", "path", "image_path", "image",
    "images", "img", "img_path", "image_id", "image_name", "img_name", "id", "name",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_name", "classname", "category", "target", "species")
SPLIT_COLUMNS = ("split", "set", "data_set", "subset", "partition")
_SAMPLES = "submission"  # what contests give to be filled in: its labels mean nothing


@dataclass(frozen=True)
class Sheet:
    """A CSV file.

    Args:
        path: of it.
        columns: names in small letters, with low lines.
        rows: as many cells as there are columns.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, names: Sequence[str]) -> int | None:
        """Return the place of the first of these columns that there is."""
        return next((self.columns.index(name) for name in names if name in self.columns), None)


def read_sheet(path: Path) -> Sheet:
    """Return what a CSV file holds, parted by commas, semicolons or tabs; without a header line, files and labels.

    Raises:
        DataError: it cannot be read, or a row has another number of cells.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t|", key=text.partition("\n")[0].count)
        rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except (OSError, ValueError, csv.Error) as problem:
        raise DataError(f"{path}: cannot be read as a table: {problem}; save it as CSV in UTF-8") from problem
    if rows and Path(rows[0][0]).suffix.lower() in IMAGE_ENDINGS:
        rows.insert(0, ("file_name", "label", *map(str, range(2, len(rows[0])))))
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise DataError(
            f"{path}: line {wrong} has {len(rows[wrong - 1])} cells, but the first {len(rows[0])}; correct it"
        )
    columns = tuple(name.strip().lower().replace(" ", "_").replace("-", "_") for name in rows[0]) if rows else ()
    return Sheet(path, columns, tuple(rows[1:]))


class Pictures:
    """The image files below a folder, found by what a CSV calls them."""

    def __init__(self, tree: Tree) -> None:
        self.paths = tree.all_images()
        self.root = tree.path
        self._folders: dict[str, bool] = {}  # whether those that were asked for are there
        self._known: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            for name in {*self._names(path), Path(path).name, Path(path).stem}:
                self._known[name].append(path)

    def find(self, name: str, role: str | None) -> str | None:
        """Return the file that is meant: by its path or its name, with or without its ending.

        Folders in front that are not here, as those of another machine, are passed over. A name alone is of no file in
        the folder of another split.

        Args:
            role: the split that the row is of, where that is said; else it is for training.
        """
        asked = name.strip().replace("\\", "/").removeprefix("./").lstrip("/")
        found = self._known.get(asked, [])
        if not found and "/" in asked:
            return None if self._is_here(asked.rpartition("/")[0]) else self.find(asked.partition("/")[2], role)
        exact = [path for path in found if asked in self._names(path)]
        if len(exact) == 1:
            return exact[0]
        if role is not None:
            found = [path for path in found if self._roles(path) <= {role, None}]
        near = [path for path in found if (role or "train") in self._roles(path)] if len(found) > 1 else found
        return near[0] if len(near) == 1 else None

    def _is_here(self, folder: str) -> bool:
        if folder not in self._folders:
            self._folders[folder] = (self.root / folder).is_dir()
        return self._folders[folder]

    def _names(self, path: str) -> tuple[str, str]:
        """Return the path of a file from the root, with its ending and without."""
        below = Path(path).relative_to(self.root)
        return str(below), str(below.with_suffix(""))

    def _roles(self, path: str) -> set[str | None]:
        return {role_of_folder(part) for part in Path(path).relative_to(self.root).parts[:-1]}


def listed(tree: Tree) -> tuple[Found | None, list[str]]:
    """Return the splits that CSV files in a folder, or in its split folders, list; and remarks on those that do not.

    A file that is called like a split is of that split; else its rows are, where a column `split` says so, and else it
    is for training.

    Raises:
        DataError: a file lists images that are not there, or two list one split.
    """
    return _listed(tree, tuple(_sheets(tree)))


def listed_by(path: Path) -> Found:
    """Return the splits that one CSV file lists, of the images in its folder and below.

    Raises:
        DataError: it lists none, or none for training.
    """
    found, remarks = _listed(look_into(path.parent), (path,))
    if found is None:
        raise DataError(f"{path}: lists no training images: {'; '.join(remarks) or 'it is called like another split'}")
    return found


def _listed(tree: Tree, sheets: Sequence[Path]) -> tuple[Found | None, list[str]]:
    pictures, remarks = Pictures(tree), list[str]()
    parts: dict[str, Part] = {}
    roles: dict[str, str] = {}  # of the files that are listed
    for path in sheets:
        sheet = read_sheet(path)
        role = role_of_file(path.stem) or (role_of_folder(path.parent.name) if path.parent != tree.path else None)
        problem = _problem(sheet, pictures, role)
        if problem:
            remarks.append(f"{path.name}: {problem}")
            continue
        for found, files, part in _parts(sheet, pictures, role):
            if found in parts:
                raise DataError(
                    f"{path}: lists {found} images, and so does {parts[found].where}; take one of them away"
                )
            twice = next((file for file in files if roles.setdefault(file, found) != found), None)
            if twice is not None:
                raise DataError(
                    f"{path}: {twice} is listed for {roles[twice]} and for {found}; an image is of one split: leave one"
                )
            parts[found] = part
    if "train" not in parts:
        return None, remarks
    used = sum(len(part.labels) for part in parts.values())
    rest = len(pictures.paths) - used
    notes = [f"read by {', '.join(part.where for part in parts.values())}", *remarks]
    notes += [f"{rest} images that no CSV lists are passed over"] if rest > 0 else []
    return Found(source=str(tree.path), parts=parts, notes=tuple(notes)), remarks


def _sheets(tree: Tree) -> Iterator[Path]:
    for folder in (tree, *(child for name, child in tree.folders.items() if role_of_folder(name))):
        for name in folder.others:
            if Path(name).suffix.lower() in ENDINGS and _SAMPLES not in name.lower():
                yield folder.path / name


def _problem(sheet: Sheet, pictures: Pictures, role: str | None) -> str:
    """Return why a sheet lists no images; nothing where it does."""
    files = sheet.column(FILE_COLUMNS)
    said = f"its columns are {', '.join(sheet.columns)}"
    if files is None or not sheet.rows:
        return f"has no column of file names: {said}; call one file_name" if sheet.rows else "has no rows"
    if all(pictures.find(row[files], role) is None for row in sheet.rows[:20]):
        return f"its column {sheet.columns[files]} names no image that is here, as {sheet.rows[0][files]!r}"
    if sheet.column(LABEL_COLUMNS) is None and len(sheet.columns) != 2 and role in (None, "train"):
        return f"has no column of labels: {said}; call one label"
    return ""


def _parts(sheet: Sheet, pictures: Pictures, role: str | None) -> Iterator[tuple[str, tuple[str, ...], Part]]:
    """Yield the splits that a sheet lists, with their files."""
    files, labels, splits = map(sheet.column, (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS))
    assert files is not None
    if labels is None and len(sheet.columns) == 2:
        labels = 1 - files
    rows: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for number, row in enumerate(sheet.rows, 1):
        told = role or (_split_of(sheet, number, row[splits]) if splits is not None else None)
        path = pictures.find(row[files], told)
        if path is None:
            raise DataError(
                f"{sheet.path}: row {number} names {row[files]!r}, but no such image, or more than one, is in "
                f"{pictures.root}; add it, or take the row out"
            )
        rows[told or "train"].append((path, None if labels is None else row[labels].strip() or None))
    for mine, found in rows.items():
        yield mine, tuple(dict.fromkeys(path for path, _ in found)), _part(sheet, pictures, mine, found)


def _split_of(sheet: Sheet, number: int, said: str) -> str:
    """Return the split that a row is of by its column `split`."""
    role = role_of_folder(said)
    if role is None:
        raise DataError(
            f"{sheet.path}: row {number} is of the split {said.strip()!r}; call it train, validation or test, take "
            "the row out, or rename the column where it says something else"
        )
    return role


def _part(sheet: Sheet, pictures: Pictures, role: str, rows: Sequence[tuple[str, str | None]]) -> Part:
    known: dict[str, str | None] = {}
    for path, label in rows:
        if known.setdefault(path, label) != label:
            raise DataError(
                f"{sheet.path}: {path} is listed as {known[path]!r} and as {label!r}; an image has one class: leave one"
            )
    names = {label for label in known.values() if label is not None} - {"-1"}
    whole = all(name.isdecimal() for name in names)
    order = tuple(sorted(names, key=int) if whole else sorted(names))
    numbers = Labels.at(list(known.values()), order)
    labels = Labels(numbers.numbers, order or None, ordered=whole and bool(order))
    where = f"{sheet.path.name} ({role})" if sheet.column(SPLIT_COLUMNS) is not None else sheet.path.name
    identity = partial(of_image_files, pictures.root, tuple(known))
    return part_of_cells(where, Files(tuple(known)), labels, identity)
