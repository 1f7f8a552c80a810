"""Modules of ours -> one text that needs torch alone: each whole, below those that it imports; nothing is run."""

import ast
import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bnas.errors import ExportError

OURS = "bnas"
STANDARD = sys.stdlib_module_names
EVERYWHERE = STANDARD | {"torch"}  # what an export may import without saying so
LICENCE = "Licence: MIT, copyright the bnas authors (SPDX-License-Identifier: MIT)"

Statement = ast.Import | ast.ImportFrom


def package_of(module: str) -> str:
    """Return the first part of a module's name."""
    return module.partition(".")[0]


def with_imports(modules: Iterable[str], *, also: Collection[str] = ()) -> list[str]:
    """Return modules of ours and all of ours that they import, each behind those that it imports.

    Args:
        also: packages that they may import beside torch and the standard library.

    Raises:
        ExportError: one of them imports something else than torch and the standard library.
    """
    ordered: dict[str, None] = {}

    def add(module: str) -> None:
        if module in ordered:
            return
        for place, name in _read(module).imports:
            package = package_of(place or name.split()[0])
            if package == OURS:
                add(place)
            elif package not in EVERYWHERE and package not in also:
                raise ExportError(
                    f"{module}: imports {package}, so it cannot go where there is torch alone; import what you need "
                    "from bnas.layers or bnas.binarize"
                )
        ordered[module] = None

    for module in modules:
        add(module)
    return list(ordered)


def joined(modules: Sequence[str], *, heading: str, beside: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return modules of ours as one text, under their merged imports.

    Args:
        modules: in the order in which they import each other.
        heading: what stands at the top.
        beside: modules of ours that are in other files of the export, and the names of these to import them from.
    """
    texts, names = [], defaultdict[str, set[str]](set)
    for module in map(_read, modules):
        texts.append(module.text)
        for place, name in module.imports:
            if package_of(place) != OURS or place in beside:
                names[beside.get(place, place)].add(name)
    lines = [(name.split()[0], f"import {name}") for name in sorted(names.pop("", ()))]
    lines += [(place, f"from {place} import {', '.join(sorted(names[place]))}") for place in sorted(names)]
    standard = "\n".join(line for place, line in lines if package_of(place) in STANDARD)
    others = "\n".join(line for place, line in lines if package_of(place) not in STANDARD)
    top = "\n\n".join(filter(None, [f'"""{heading}\n\n{LICENCE}.\n"""', standard, others]))
    return "\n\n\n".join([top, *texts]) + "\n"


class _Module(NamedTuple):
    """The text of a module without its imports, under its name; these as (module, name in it), or ("", module)."""

    text: str
    imports: list[tuple[str, str]]


def _read(module: str) -> _Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ExportError(f"{module}: there is no such module; import what you need from bnas.layers or bnas.binarize")
    text, imports = Path(spec.origin).read_text(encoding="utf-8"), []
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, Statement):
            place = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            imports += [(place, ast.unparse(alias)) for alias in node.names]
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    body = re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip()  # where the imports were
    return _Module(f"# {module}\n\n{body}", imports)
