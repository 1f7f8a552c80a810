"""A space and what its networks are for -> the part that the target takes, tried by lowering networks of it."""

from collections.abc import Iterator

from bnas.errors import ExportError, LookupFailed, SpecError
from bnas.lookup import not_among
from bnas.networks.build import build
from bnas.seeds import seeded
from bnas.ship.lowering import lower
from bnas.ship.targets import refusal
from bnas.space.deploy import Deployable, counted, deployable
from bnas.space.space import SearchSpace
from bnas.space.targets import TARGETS
from bnas.space.values import OURS


def taken_by(space: SearchSpace, deploy: str | None = None) -> Deployable:
    """Return the part of a space that a target takes, and what is left out.

    Weight binarizers and blocks, of which there may be some of the user's own, are each tried: a network with it is
    lowered.

    Args:
        deploy: an entry of `TARGETS`; None takes that of the space, if it has one.
    Raises:
        LookupFailed: there is no such target.
        SpecError: it takes no network of the space; says why.
    """
    if deploy is not None and deploy not in TARGETS:
        raise LookupFailed(not_among(deploy, TARGETS, what="deployment target"))
    whole = space if deploy is None else space.model_copy(update={"deploy": deploy})
    found = deployable(whole)
    if found.space.deploy is None:
        return found
    left, target, told = found.space, found.space.deploy, list[str]()
    for name, values in _only_tried(left):
        reasons = {value: _refused(left.offering(name, value), target) for value in values}
        taken = tuple(value for value, reason in reasons.items() if reason is None)
        if not taken:
            raise SpecError(f"deploy: {target} takes no network of this space: {next(iter(reasons.values()))}")
        told += [f"leaves out {name} {value}: {reason}" for value, reason in reasons.items() if reason]
        left = left.offering(name, *taken) if taken != values else left
    if not told:
        return found
    before = found.left_out.removesuffix(counted(whole, found.space)) or f"deploy {target}: "
    return Deployable(left, f"{before}{'; '.join(told)}; {counted(whole, left)}")


def _only_tried(space: SearchSpace) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what no rule of a target speaks of, and its choices: binarizers, and the blocks of each stage."""
    yield "binarizers.weight", space.binarizers.weight
    for index, stage in enumerate(space.stages):
        if stage.block != (OURS,):
            yield f"stages[{index}].block", stage.block


def _refused(space: SearchSpace, target: str) -> str | None:
    """Return why a target does not take the smallest network of a space that has all its stages; None where it does.

    Its blocks are ours where these are offered, so that each choice is tried by itself.
    """
    for index, stage in enumerate(space.stages):
        space = space.offering(f"stages[{index}].depth", *(tuple(filter(None, stage.depth)) or stage.depth))
        if OURS in stage.block:
            space = space.offering(f"stages[{index}].block", OURS)
    arch = space.smallest()
    with seeded(0):
        network = build(arch).eval()
    try:
        return refusal(lower(network, arch.input), target)
    except ExportError as problem:
        return str(problem)
