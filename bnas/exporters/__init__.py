"""The best network of a run -> a folder that others can use, proved to give the same network."""

from bnas.exporters.description import Description, parse_description, rebuild
from bnas.exporters.folder import EXPORTERS, Exporter, export, load
from bnas.exporters.proof import count_again, prove_reload
from bnas.exporters.training import TrainedNetwork

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
