"""The best network of a run -> a folder that others can use, proved to give the same network."""

from bnas.ship.description import Description, parse_description, rebuild
from bnas.ship.folder import EXPORTERS, Exporter, export, load
from bnas.ship.proof import count_again, prove_reload
from bnas.ship.training import TrainedNetwork

__all__ = [
    "EXPORTERS",
    "Description",
    "Exporter",
    "TrainedNetwork",
    "count_again",
    "export",
    "load",
    "parse_description",
    "prove_reload",
    "rebuild",
]
