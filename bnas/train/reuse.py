"""A network that was trained alone in another run -> taken over by this one, which trains only what is missing."""

from bnas.train.halving import Rungs
from bnas.train.retrain import RETRAIN
from bnas.train.state import Store


def take_trained(name: str, stages: int, *, source: Store, into: Store) -> bool:
    """Copy what a store has of a network that was trained alone, if it came further there; return whether it did.

    Both stores must belong to trainings on the same terms: recipe, halvings, seed, images, first weights, teacher.

    Args:
        name: the id of its architecture.
        stages: of the recipe.
    Raises:
        RunError: what the other store has is damaged; nothing is copied.
    """
    ours, rungs = Rungs(into), Rungs(source).of(name)
    places = [f"{RETRAIN}/{name}-{stage}" for stage in range(stages)]
    if len(rungs) <= len(ours.of(name)) and into.load_checkpoint(places[-1]) is not None:
        return False
    found = [(place, kept) for place in places if (kept := source.load_checkpoint(place)) is not None]
    if not rungs or len(found) < stages:
        return False
    # A checkpoint without its rungs would be measured as one of a halving before it; rungs alone are trained up to.
    for place, kept in found[:-1]:
        into.save_checkpoint(place, kept.tensors, kept.state)
    ours.take(rungs)
    into.save_checkpoint(found[-1][0], found[-1][1].tensors, found[-1][1].state)
    return True
