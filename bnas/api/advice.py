"""What is asked for -> what was measured that speaks against it here, in a line for people."""

from collections.abc import Iterable, Iterator

import torch

from bnas.space.settings import SearchSettings
from bnas.space.space import SearchSpace

# Training images up to which four experts ended level with one, or behind: benchmarks/methods.py, on CIFAR-10. On
# drawings: benchmarks/sketches.py.
EXPERTS_LEVEL, EXPERTS_BEHIND = 50_000, 10_000

# Instructions that compute in bfloat16, of x86 and ARM, as torch names them. Without them it is emulated, at a quarter
# of float32's speed and less: findings/torch-bfloat16-emulated.sh.
BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "avx10_2", "bf16", "sve_bf16")


def hints(space: SearchSpace, images: int, device: torch.device) -> Iterator[str]:
    """Yield what speaks against a search on so many training images."""
    yield from filter(None, (on_experts(space, images), on_bfloat16(dtypes_of(space.search), device)))


def on_experts(space: SearchSpace, images: int) -> str:
    """Return what to expect of experts where a space offers several and the images are few; else nothing."""
    most = max(max(stage.experts) for stage in space.stages)
    if most == 1 or images > EXPERTS_LEVEL:
        return ""
    return (
        f"hint: up to {most} experts are offered, for {images:,} training images; where that was measured, 4 ended "
        f"behind 1 on {EXPERTS_BEHIND:,} photographs, level on {EXPERTS_LEVEL:,} and on drawings of 50 classes, ahead "
        "where a small network told 345 classes apart; experts: 1 leaves a smaller space (docs/methods.md, Experts)"
    )


def on_bfloat16(dtypes: Iterable[str], device: torch.device) -> str:
    """Return what bfloat16 costs where it is asked for and the processor has no instructions for it; else nothing."""
    if device.type != "cpu" or "bfloat16" not in dtypes or has_bfloat16():
        return ""
    return (
        "hint: dtype: bfloat16 is asked for, and this processor has no instructions for it: a convolution then took 4 "
        "to 18 times as long as in float32 where that was measured; leave dtype out"
    )


def has_bfloat16() -> bool:
    """Return whether the processor has instructions that compute in bfloat16."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in BFLOAT16)


def dtypes_of(settings: SearchSettings) -> set[str]:
    """Return what a search's trainings compute in."""
    taught = settings.teacher and settings.teacher.recipe
    recipes = [settings.retrain.recipe, *([taught] if taught else [])]
    return {settings.supernet.dtype, *(stage.dtype for recipe in recipes for stage in recipe.stages)}
