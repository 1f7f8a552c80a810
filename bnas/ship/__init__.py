"""The best network of a run -> a folder that others can use, proved to give the same network."""

from bnas.ship.description import Description, HeldModel, describe_module, parse_description, rebuild
from bnas.ship.folder import EXPORTERS, Exporter, export_network, load
from bnas.ship.proof import count_again, prove_reload
from bnas.ship.training import TrainedNetwork

__all__ = [
    "EXPORTERS",
    "Description",
    "Exporter",
    "HeldModel",
    "TrainedNetwork",
    "count_again",
    "describe_module",
    "export_network",
    "load",
    "parse_description",
    "prove_reload",
    "rebuild",
]
