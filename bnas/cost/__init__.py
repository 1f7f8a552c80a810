"""What a network costs: planned layers, totals, budgets; of an architecture and of any module."""
