"""Names of modules -> one text that holds them and all they need, and imports nothing but torch."""

import builtins
import collections.abc
import sys
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import NamedTuple

from bnas.errors import ExportError
from bnas.ship.source import POSTPONED, Import, Source, global_names, import_block, imports_within, read_source, renamed

OURS = "bnas"
_OUTSIDE = frozenset({"torch"}) | frozenset(sys.stdlib_module_names)


class Definition(NamedTuple):
    """A name at the top of a module; the module is a dotted name, or the path of a `.py` file."""

    module: str
    name: str


class Bundle:
    """Definitions gathered from modules, with everything they need.

    Args:
        edits: texts that stand in the place of definitions.
        extra: modules -> names of other modules that their edits use, beside what the module imports.
        reserved: names that the text may not give to anything -> those that it gives instead.
    """

    def __init__(
        self,
        edits: Mapping[Definition, str],
        extra: Mapping[str, Sequence[Definition]],
        *,
        reserved: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._edits, self._extra = edits, extra
        self._reserved = reserved
        self._sources: dict[str, Source] = {}
        self._texts: dict[Definition, str] = {}
        self._imports: set[Import] = set()
        self._before: dict[str, set[str]] = {}  # module -> modules that have to stand above it

    def add(self, wanted: Definition, *, by: str | None = None) -> None:
        """Gather a name and everything that it needs; `by` is the module that needs it.

        Raises:
            ExportError: it is neither at the top of its module, nor from torch or the standard library.
        """
        source = self._source(wanted.module)
        if wanted.name in source.definitions:
            if by is not None and by != wanted.module:
                self._before[by].add(wanted.module)
            self._define(wanted, source)
        elif wanted.name in source.imports:
            for found in source.imports[wanted.name]:
                self._import(found, wanted, by=by or wanted.module)
        elif not hasattr(builtins, wanted.name):
            raise ExportError(
                f"{wanted.module}: {wanted.name!r} is not defined at the top of the module, so it cannot be written "
                "into one file; define it there as a function, class or constant"
            )

    def need(self, wanted: Import) -> None:
        """Import something from torch or the standard library."""
        self._imports.add(wanted)

    def text(self) -> str:
        """Return imports and definitions, every module's below those it needs.

        Raises:
            ExportError: two modules give one name to different things, or need each other.
        """
        self._check_names()
        texts: list[str] = []
        for module in self._ordered():
            names = [name for name in self._sources[module].definitions if Definition(module, name) in self._texts]
            texts += dict.fromkeys(self._texts[Definition(module, name)] for name in names)
        for old in {reference.name for reference in self._texts} & self._reserved.keys():
            texts = [renamed(text, old, self._reserved[old]) for text in texts]
        return "\n\n\n".join([import_block(_each_once(self._imports)), _joined(texts)])

    def _source(self, module: str) -> Source:
        if module not in self._sources:
            self._sources[module], self._before[module] = read_source(module), set()
        return self._sources[module]

    def _define(self, wanted: Definition, source: Source) -> None:
        if wanted in self._texts:
            return
        text = self._texts[wanted] = self._edits.get(wanted, source.definitions[wanted.name])
        for found in imports_within(text):
            _check_outside(found, wanted)
        extra = {reference.name: reference for reference in self._extra.get(wanted.module, ())}
        if source.postpones:
            self._imports.add(POSTPONED)
        for name in sorted(global_names(text, postponed=source.postpones) - {wanted.name}):
            self.add(extra.get(name, Definition(wanted.module, name)), by=wanted.module)

    def _import(self, found: Import, wanted: Definition, *, by: str) -> None:
        if found.package == OURS and found.attribute == found.alias:
            self.add(Definition(found.module, found.alias), by=by)
        else:
            _check_outside(found, wanted)
            self._imports.add(found)

    def _ordered(self) -> list[str]:
        try:
            return list(TopologicalSorter(self._before).static_order())
        except CycleError as problem:
            raise ExportError(
                f"{', '.join(sorted(set(problem.args[1])))}: need each other, so they cannot be written into one file; "
                "import each name from the module that defines it"
            ) from problem

    def _check_names(self) -> None:
        owners = dict.fromkeys(self._reserved, "model.py")
        pairs = [(self._reserved.get(reference.name, reference.name), reference.module) for reference in self._texts]
        pairs += [(found.alias, f"`{_origin(found)}`") for found in self._imports - {POSTPONED}]
        for name, owner in pairs:
            if owners.setdefault(name, owner) != owner:
                raise ExportError(
                    f"{name!r} means one thing in {owners[name]} and another in {owner}, and one file cannot hold "
                    "both; rename one of them"
                )


def _check_outside(found: Import, wanted: Definition) -> None:
    """Raise unless an import is from torch or the standard library."""
    if found.package not in _OUTSIDE:
        raise ExportError(
            f"{wanted.module}: `{found.line()}` cannot be written into one file that needs torch only; put what it "
            "gives into the same module, written with torch"
        )


def _each_once(imports: Collection[Import]) -> list[Import]:
    """Return the imports without those that give the same value the same name in other words."""
    by_value = {
        (found.alias, found.module if _is_package(found) else _origin(found)): found
        for found in sorted(imports, key=Import.line)
    }
    return list(by_value.values())


def _origin(found: Import) -> str:
    """Return the path of what an imported name stands for, however the import is written."""
    if found.attribute is None:
        return found.package if _is_package(found) else found.module
    is_generic = found.module == "typing" and found.attribute in collections.abc.__all__
    return f"{'collections.abc' if is_generic else found.module}.{found.attribute}"


def _is_package(found: Import) -> bool:
    """Return whether it is a plain import, of which `import torch.nn` too gives the package `torch`."""
    return found.attribute is None and found.alias == found.package


def _joined(texts: Sequence[str]) -> str:
    """Return definitions two blank lines apart, constants in a row one under the other."""
    result, after_constant = "", False
    for text in texts:
        code = next(line for line in text.splitlines() if not line.startswith("#"))
        constant = not code.startswith(("def ", "class ", "@", "async "))
        gap = "\n" if constant and after_constant else "\n\n\n"
        result, after_constant = f"{result}{gap if result else ''}{text}", constant
    return result
