"""The best network of a run -> one C99 file and its header, without dependencies or heap."""

from bnas.ship.c_code.exporter import export_c

__all__ = ["export_c"]
