"""The layers that have latent weights and a precision, as one type."""

from bnas.layers.binarized import Binarized
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_linear import BinaryLinear
from bnas.layers.expert_conv import ExpertConv

BinaryLayer = Binarized | BinaryConv | BinaryLinear | ExpertConv
