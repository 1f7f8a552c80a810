"""What a run has found, as tables, figures and one page."""

from bnas.report.comparison import write_comparison
from bnas.report.page import write_report
from bnas.report.selection_page import write_selection_report
from bnas.report.tables import TextTable, front_table, ledger_table, retrained_table
from bnas.report.targets_page import write_targets_report
from bnas.report.training_page import load_line, write_training_report

__all__ = [
    "TextTable",
    "front_table",
    "ledger_table",
    "load_line",
    "retrained_table",
    "write_comparison",
    "write_report",
    "write_selection_report",
    "write_targets_report",
    "write_training_report",
]
