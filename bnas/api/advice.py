"""A space and how many images there are -> what was measured that speaks against its choices, in a line for people."""

from bnas.space.space import SearchSpace

# Training images up to which four experts ended level with one, or behind: benchmarks/methods.py, on CIFAR-10. On
# drawings: benchmarks/sketches.py.
EXPERTS_LEVEL, EXPERTS_BEHIND = 50_000, 10_000


def on_experts(space: SearchSpace, images: int) -> str:
    """Return what to expect of experts where a space offers several and the images are few; else nothing."""
    most = max(max(stage.experts) for stage in space.stages)
    if most == 1 or images > EXPERTS_LEVEL:
        return ""
    return (
        f"hint: up to {most} experts are offered, for {images:,} training images; where that was measured, 4 ended "
        f"behind 1 on {EXPERTS_BEHIND:,} photographs, level on {EXPERTS_LEVEL:,}, and no better on drawings; "
        "experts: 1 leaves a smaller space (docs/methods.md, Experts)"
    )
