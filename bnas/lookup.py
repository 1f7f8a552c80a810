"""A name from YAML or the command line -> the object it names: an entry of a literal dict, or `pkg.mod:attr`."""

import difflib
import importlib
import importlib.util
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bnas.errors import LookupFailed

T = TypeVar("T")
_STAMP = "__bnas_stamp__"  # of a module: what its file was when it was read

# What code that is not ours may end with: `sys.exit` in it must not end the work around it as if that were done.
FAILURES = (Exception, SystemExit)


def find(name: str, table: Mapping[str, T], *, what: str) -> T:
    """Return `table[name]`, or the object that `pkg.mod:attr` or `file.py:attr` names.

    Args:
        name: an entry of the table, or a reference with a colon.
        table: the known names.
        what: the kind of thing sought, for the message ("sampler", "weight binarizer").
    Raises:
        LookupFailed: nothing has this name; the message lists what has.
    """
    if name in table:
        return table[name]
    if ":" in name:
        found: T = imported(name) or load_reference(name, what=what)  # every layer of a network may ask
        return found
    raise LookupFailed(unknown(name, table, what=what))


def unknown(name: str, known: Iterable[str], *, what: str) -> str:
    """Say that a name is not known, where one may also be given by reference."""
    if name.endswith(".py"):
        return f"{what} {name!r}: is a file; say which {what} in it, as in {name}:attr"
    return f"{not_among(name, known, what=what)}, or give pkg.mod:attr or file.py:attr"


def not_among(name: str, known: Iterable[str], *, what: str) -> str:
    """Say that a name is none of the known ones, with the nearest of them and all the others."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{what} {name!r} is not known; {guess}choose from {', '.join(names)}"


def load_reference(reference: str, *, what: str) -> Any:
    """Return the object that `pkg.mod:attr` or `path/to/file.py:attr` names.

    A module may lie in the current folder, and a file may import what lies beside it, unless an installed module has
    that name. Importing runs the named code: give only files that you trust.

    Raises:
        LookupFailed: the file, the module or the attribute does not exist, or fails to import.
    """
    where, _, attribute = reference.rpartition(":")
    if not where or not attribute:
        raise LookupFailed(f"{what} {reference!r}: a reference is pkg.mod:attr or file.py:attr, with both parts")
    module = _from_file(Path(where), what) if where.endswith(".py") else _from_module(where, what)
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        near = difflib.get_close_matches(attribute, public, n=3) or public[:8]
        raise LookupFailed(f"{what} {reference!r}: {where} has no {attribute!r}; it has {', '.join(near)}")
    return getattr(module, attribute)


def imported(reference: str) -> Any:
    """Return what a reference named when it was last imported, without running its code again.

    None if it was not, or if its file has changed since.
    """
    where, _, attribute = reference.rpartition(":")
    if not where.endswith(".py"):
        return getattr(sys.modules.get(where), attribute, None)
    module = sys.modules.get(_module_name(Path(where)))
    return getattr(module, attribute, None) if getattr(module, _STAMP, None) == _stamp(Path(where)) else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from what it was before; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _module_name(path: Path) -> str:
    # A file called random.py must not become the module `random`, nor two files of one name one module.
    return f"bnas_file_{path.stem}_{zlib.crc32(bytes(path.resolve())):08x}"


def _from_file(path: Path, what: str) -> Any:
    if not path.is_file():
        start = "" if path.is_absolute() else f", seen from {Path.cwd()}"
        raise LookupFailed(f"{what}: {path} does not exist{start}; give the path of a Python file, as model.py:build")
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LookupFailed(f"{what}: {path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    setattr(module, _STAMP, _stamp(path))
    sys.modules[name] = module  # dataclasses and pickle look for a class's module there
    _offer(path.parent)
    try:
        spec.loader.exec_module(module)
    except FAILURES as problem:
        del sys.modules[name]
        raise LookupFailed(f"{what}: {path} fails to import: {reason(problem)}") from problem
    return module


def _from_module(name: str, what: str) -> Any:
    try:
        _offer(Path())
        return importlib.import_module(name)
    except FAILURES as problem:
        raise LookupFailed(f"{what}: module {name!r} fails to import: {reason(problem)}") from problem


def _offer(folder: Path) -> None:
    """Let modules in a folder be imported; last, so that none of them hides one that is installed."""
    place = str(folder.absolute())
    if place not in sys.path:
        sys.path.append(place)


def reason(problem: BaseException) -> str:
    """Return in one line what code that is not ours failed with."""
    if isinstance(problem, SystemExit):
        return f"its code ends Python, with sys.exit({problem.code!r}); take that out"
    return " ".join(f"{type(problem).__name__}: {problem}".split())
