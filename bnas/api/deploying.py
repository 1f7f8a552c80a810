"""A space and what its networks are for -> the part that the target takes, checked by lowering one of its networks."""

from bnas.errors import ExportError, LookupFailed, SpecError
from bnas.lookup import not_among
from bnas.networks.build import build
from bnas.seeds import seeded
from bnas.ship.lowering import lower
from bnas.ship.targets import refusal
from bnas.space.deploy import Deployable, deployable
from bnas.space.space import SearchSpace
from bnas.space.targets import TARGETS


def taken_by(space: SearchSpace, deploy: str | None = None) -> Deployable:
    """Return the part of a space that a target takes, and what is left out.

    Args:
        deploy: an entry of `TARGETS`; None takes that of the space, if it has one.
    Raises:
        LookupFailed: there is no such target.
        SpecError: it takes no network of the space; says why.
    """
    if deploy is not None and deploy not in TARGETS:
        raise LookupFailed(not_among(deploy, TARGETS, what="deployment target"))
    found = deployable(space if deploy is None else space.model_copy(update={"deploy": deploy}))
    if found.space.deploy is not None:
        _check_taken(found.space, found.space.deploy)
    return found


def _check_taken(space: SearchSpace, target: str) -> None:
    """Raise SpecError if what all networks share, such as a binarizer of the user's own, cannot be deployed."""
    arch = space.smallest()
    with seeded(0):
        network = build(arch).eval()
    try:
        reason = refusal(lower(network, arch.input), target)
    except ExportError as problem:
        reason = str(problem)
    if reason is not None:
        raise SpecError(f"deploy: {target} takes no network of this space: {reason}")
