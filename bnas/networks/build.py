"""Architecture -> the network it describes, as a plain torch module."""

from typing import Any

from torch import nn

from bnas.cost.trace.own_block import build_own
from bnas.layers.blocks import Block, Head, Network
from bnas.layers.stems import stem
from bnas.space.arch import Architecture, Binarizers, BlockSpec
from bnas.space.stem import Stem
from bnas.space.values import OURS, Precision, plain


def build(arch: Architecture) -> Network:
    """Return a freshly initialised network; its layers are named as `plan(arch)` names them."""
    stages = [[build_block(block) for block in blocks] for blocks in arch.blocks()]
    return Network(build_stem(arch.stem, arch.input[0], arch.binarizers), stages, build_head(arch))


def build_stem(spec: Stem, in_channels: int, binarizers: Binarizers) -> nn.Module:
    """Return the layers that see the image."""
    return stem(in_channels, spec.width, **stem_settings(spec, binarizers))


def stem_settings(spec: Stem, binarizers: Binarizers) -> dict[str, Any]:
    """Return what `stem` takes beside channels: plain values, which an export writes into its source."""
    settings = {"kind": spec.kind, "kernel": plain(spec.kernel), "stride": spec.stride}
    return settings if spec.levels is None else settings | {"levels": spec.levels} | _binarizer_settings(binarizers)


def build_block(block: BlockSpec) -> nn.Module:
    """Return one block, of ours or of the user's."""
    return Block(block.in_channels, block.out_channels, **block.settings) if block.block == OURS else build_own(block)


def _binarizer_settings(binarizers: Binarizers) -> dict[str, Any]:
    return {
        "weights": binarizers.weight, "activations": binarizers.activation, "pad_value": binarizers.pad_value
    }  # fmt: skip


def build_head(arch: Architecture) -> Head:
    """Return batch norm, pooling and classifier."""
    return Head(arch.last_width, arch.classes, **head_settings(arch.classifier, arch.binarizers))


def head_settings(precision: Precision, binarizers: Binarizers) -> dict[str, Any]:
    """Return what `Head` takes beside its width and classes: plain values, which an export writes into its source."""
    if precision == "real":
        return {}
    return {"precision": precision, "weights": binarizers.weight, "activations": binarizers.activation}
