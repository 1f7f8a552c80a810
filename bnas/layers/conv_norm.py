"""A real convolution with batch norm and an activation, of which stems and shortcuts are made."""

from torch import Tensor, nn

from bnas.layers.binary_conv import Sides, same_padding


class ConvNorm(nn.Module):
    """A real convolution, batch norm, and an activation."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: Sides = 1, stride: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, same_padding(kernel), bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y
