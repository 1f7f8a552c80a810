"""What model.py is put together from, whatever kind of description it is written for."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bnas.ship.bundle import Definition
from bnas.ship.source import Import

BUILD, BUILD_ORIGINAL = "build", "build_original"
RESERVED = {name: f"own_{name}" for name in (BUILD, BUILD_ORIGINAL)}  # what is called so elsewhere -> its name here

NN = Import("torch", "nn", "nn")


class Parts(NamedTuple):
    """The parts of model.py.

    Args:
        title: what the network is, in a few words.
        functions: the source of `build()`, and of what it calls that is written for this network alone.
        wanted: names at the top of modules that these functions use.
        edits, extra: as in `Bundle`.
        imports: what these functions import.
        own: the user's file or module that holds the network's definition, if one does.
    """

    title: str
    functions: str
    wanted: Sequence[Definition]
    edits: Mapping[Definition, str]
    extra: Mapping[str, Sequence[Definition]]
    imports: Sequence[Import] = (NN,)
    own: str = ""
