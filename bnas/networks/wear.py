"""Fresh modules -> the same with other values where they begin with zeros and ones, as training leaves them."""

import torch
from torch import nn


def wear(model: nn.Module) -> None:
    """Give what there is one of a channel other values than those it begins with.

    Zeros and ones fold into nothing, and leave sums of a few signs at exactly 0, where the last bit decides the next.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in (*model.parameters(), *model.buffers()):
            if values.ndim == 1 and values.is_floating_point():
                values.copy_(torch.empty_like(values).uniform_(0.2, 1.2, generator=generator))
