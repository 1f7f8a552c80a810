"""A store that keeps nothing, for networks that are trained in one go."""

from typing import Any

from torch import Tensor

from bnas.train import Kept


class NoStore:
    """Keeps nothing."""

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Forget it."""

    def load_checkpoint(self, name: str) -> Kept | None:
        """Have nothing."""
        return None

    def log(self, event: str, **fields: Any) -> None:
        """Forget it."""
