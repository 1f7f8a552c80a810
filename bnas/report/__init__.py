"""What a run has found, as tables, figures and one page.

What draws is imported when it is first asked for: matplotlib, networkx and what they bring take as long as torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnas.report.comparison import write_comparison
    from bnas.report.page import write_report
    from bnas.report.selection_page import write_selection_report
    from bnas.report.tables import TextTable, front_table, ledger_table, retrained_table
    from bnas.report.targets_page import write_targets_report
    from bnas.report.training_page import load_line, write_training_report

_HOMES = {
    "TextTable": "tables",
    "front_table": "tables",
    "ledger_table": "tables",
    "load_line": "training_page",
    "retrained_table": "tables",
    "write_comparison": "comparison",
    "write_report": "page",
    "write_selection_report": "selection_page",
    "write_targets_report": "targets_page",
    "write_training_report": "training_page",
}

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


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'bnas.report' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bnas.report.{_HOMES[name]}"), name)
