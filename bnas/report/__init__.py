"""What a run has found, as tables, figures and one page."""

from bnas.report.page import write_report
from bnas.report.tables import Table, front_table, ledger_table, retrained_table

__all__ = ["Table", "front_table", "ledger_table", "retrained_table", "write_report"]
