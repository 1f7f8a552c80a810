"""The torch modules that networks are built from."""

from bnas.layers.activations import PReLU, RPReLU, RSign
from bnas.layers.binarized import Binarized, binarize_
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import BinaryLayer, BinaryLinear, set_hardness
from bnas.layers.blocks import Block, Network
from bnas.layers.expert_conv import ExpertConv

__all__ = [
    "Binarized",
    "BinaryConv",
    "BinaryLayer",
    "BinaryLinear",
    "Block",
    "ExpertConv",
    "Network",
    "PReLU",
    "RPReLU",
    "RSign",
    "binarize_",
    "set_hardness",
]
