"""A trained `nn.Module` -> the `Program` that computes the same, without torch."""

from bnas.ship.lowering.walk import lower, lower_plainly

__all__ = ["lower", "lower_plainly"]
