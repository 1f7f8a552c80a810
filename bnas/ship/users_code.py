"""References to code of the user's -> the files that go with a network, whole, and the packages that these need."""

import ast
import importlib.util
import itertools
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from bnas.errors import ExportError
from bnas.lookup import FAILURES
from bnas.ship.source import EVERYWHERE, OURS, Statement, package_of

TAKEN = ("images", "layers", "model", "train", "training")  # modules that an export has itself

_FROM, _AS = r"from[ \t]+([\w.]+)(?=[ \t]+import\b)", r"import[ \t]+([\w.]+)(?=[ \t]+as\b)"
_IMPORTS = re.compile(rf"^([ \t]*)(?:{_FROM}|{_AS}|import[ \t]+(\w+)(?=[ \t]*(?:#|$)))", re.MULTILINE)


class UsersCode:
    """Modules of the user's, gathered with the local ones that they import.

    What cannot be seen without running it (a file that is read, an import by a computed name) is left to the proof.

    Attributes:
        files: path in the export -> text. Only names of modules in import lines differ: ours are in layers.py there,
            and some of the user's have a name that an export has itself.
        needs: installed packages that the files import beside torch, as `name==version`.
        ours: modules of ours that they import.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.needs: set[str] = set()
        self.ours: set[str] = set()

    def gather(self, reference: str) -> str:
        """Take what `file.py:attr` or `pkg.mod:attr` names, and return the reference that finds it in the export.

        Raises:
            ExportError: a file cannot be read as Python.
        """
        name, _, attribute = reference.rpartition(":")
        if name.endswith(".py"):
            file, name = Path(name), re.sub(r"\W|^(?=\d)", "_", Path(name).stem)
            known = _spec(name)
            if known and Path(known.origin or "").resolve() != file.resolve():
                name = f"own_{name}"  # whoever imports the name means something else than this file
            self._take(name, file, package="")
        else:
            self._gather(name)
        return f"{_shipped(name)}:{attribute}"

    def _gather(self, name: str) -> None:
        """Take a module that is imported, where it is a local one, with its packages; else note what it is."""
        if name.startswith(f"{OURS}."):
            self.ours.add(name)
        if package_of(name) in {*EVERYWHERE, OURS}:
            return
        for part in itertools.accumulate(name.split("."), "{}.{}".format):
            spec = _spec(part)
            if spec is None:  # its import may be meant to fail
                return
            if installed := self._installed(spec):
                self.needs.add(installed)
                return
            if spec.origin is not None:  # else it is a folder
                self._take(part, Path(spec.origin), package=spec.parent or "")

    def _take(self, name: str, file: Path, *, package: str) -> None:
        """Take one file, and what it imports; its relative imports start from the package."""
        place = _shipped(name).replace(".", "/") + ("/__init__.py" if file.name == "__init__.py" else ".py")
        if place not in self.files:
            text = _read(file)
            self.files[place] = _IMPORTS.sub(_with_new_name, text)
            for module in _imported(text, package):
                self._gather(module)

    def _installed(self, spec: ModuleSpec) -> str:
        """Return `name==version` of the installed package that a module belongs to; "" for a module of the user's."""
        for name in self._packages.get(package_of(spec.name), ()):
            found = distribution(name)
            if Path(str(found.locate_file(""))).resolve() in Path(spec.origin or "").resolve().parents:
                return f"{name}=={found.version}"
        return ""

    @cached_property
    def _packages(self) -> Mapping[str, list[str]]:
        return packages_distributions()


def _imported(text: str, package: str) -> Iterator[str]:
    """Yield what a module may import, wherever in it; `from a import b` gives a.b too, which may be a module."""
    nodes = list(ast.walk(ast.parse(text)))
    checks = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")]
    never = {inner for check in checks for part in check.body for inner in ast.walk(part)}
    for node in nodes:
        if isinstance(node, Statement) and node not in never:
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                try:
                    whole = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                except ImportError:  # out of its package
                    continue
                names = [whole] if package_of(whole) == OURS else [whole, *(f"{whole}.{name}" for name in names)]
            yield from names


def _shipped(module: str) -> str:
    """Return the name that a module has in an export."""
    return "layers" if module.startswith(f"{OURS}.") else f"own_{module}" if package_of(module) in TAKEN else module


def _with_new_name(line: re.Match[str]) -> str:
    """Return the beginning of an import line with the name that the module has in an export."""
    indent, start, renamed, plain = line.groups()
    if start:
        return f"{indent}from {_shipped(start)}"
    new = _shipped(renamed or plain)
    return f"{indent}import {new}" if renamed or new == plain else f"{indent}import {new} as {plain}"


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except FAILURES:  # a package around it is missing, is none, or fails
        return None


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")
        ast.parse(text)
    except (OSError, ValueError, SyntaxError) as problem:
        line = " ".join(str(problem).split())
        raise ExportError(f"{file.name}: cannot go with the network as Python source: {line}") from problem
    return text
