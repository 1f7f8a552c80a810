"""Architecture -> the network it describes, as a plain torch module."""

from typing import Any

from torch import nn

from bnas.layers.blocks import Block, Head, Network, stem
from bnas.space.arch import Architecture, Binarizers, BlockSpec, Stem


def build(arch: Architecture) -> Network:
    """Return a freshly initialised network; its layers are named as `plan(arch)` names them."""
    stages = [[build_block(block) for block in blocks] for blocks in arch.blocks()]
    return Network(build_stem(arch.stem, arch.input[0], arch.binarizers), stages, build_head(arch))


def build_stem(spec: Stem, in_channels: int, binarizers: Binarizers) -> nn.Module:
    """Return the layers that see the image."""
    return stem(in_channels, spec.width, **stem_settings(spec, binarizers))


def stem_settings(spec: Stem, binarizers: Binarizers) -> dict[str, Any]:
    """Return what `stem` takes beside channels: plain values, which an export writes into its source."""
    settings = {"kind": spec.kind, "kernel": spec.kernel, "stride": spec.stride}
    return settings if spec.levels is None else settings | {"levels": spec.levels} | _binarizer_settings(binarizers)


def build_block(block: BlockSpec) -> Block:
    """Return one block."""
    return Block(block.in_channels, block.out_channels, **block_settings(block))


def block_settings(block: BlockSpec) -> dict[str, Any]:
    """Return what `Block` takes beside channels: plain values, which an export writes into its source."""
    return {
        "kernel": block.kernel,
        "stride": block.stride,
        "groups": block.groups,
        "experts": block.experts,
        "precision": block.precision,
        "shortcut_kind": block.shortcut.kind,
        "reduction": block.shortcut.reduction,
        "squeeze_excite": block.squeeze_excite,
        "mixed": block.mixed,
        **_binarizer_settings(block.binarizers),
        "prelu": block.prelu,
        "downsample": block.downsample,
        "shortcut_pool": block.shortcut.pool,
    }


def _binarizer_settings(binarizers: Binarizers) -> dict[str, Any]:
    return {
        "weights": binarizers.weight, "activations": binarizers.activation, "pad_value": binarizers.pad_value
    }  # fmt: skip


def build_head(arch: Architecture) -> Head:
    """Return batch norm, pooling and classifier."""
    return Head(arch.stages[-1].width, arch.classes)
