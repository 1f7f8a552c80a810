"""A trained network and where it comes from -> what its manifest says, proved."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import DataSet
from bnas.data.resize import METHOD
from bnas.runs import environment
from bnas.ship import Description, count_again, prove_reload
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe


def manifest_of(
    described: Description,
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    accuracy: Mapping[str, float | None],
    data: DataSet,
    recipe: Recipe,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Return the manifest of a network on the CPU.

    The cost of an architecture is that of its plan, and is counted again on the built network; any other network is
    counted once, as it runs.

    Raises:
        ExportError: the weights do not load back to the same network, or it costs other than was planned.
    """
    counted = count_again(network, described)
    price = {"cost": counted.as_dict()}
    if isinstance(described, Architecture):
        price = {"cost": cost(plan(described)).as_dict(), "counted_again": counted.as_dict()}
    return {
        "architecture_id": described.id,
        "accuracy": dict(accuracy),
        **price,
        "data": data.name,
        "images": data.facts(),
        "input": list(described.input),
        "classes": described.classes,
        "class_names": list(data.class_names),
        "preprocessing": {
            "channels": {1: "grey", 3: "red, green, blue"}.get(described.input[0], f"{described.input[0]} channels"),
            "range": "pixels from 0 to 255 divided by 255, or floating point as given; then minus mean, over std",
            "resize": f"to height {described.input[1]} and width {described.input[2]}: {METHOD}",
        },
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "augmentation": list(data.augmentation if recipe.augment is None else recipe.augment),
        "recipe": recipe.model_dump(mode="json"),
        "epochs": epochs,
        "seed": seed,
        "reload": prove_reload(described, tensors, network=network),
        "versions": environment(),
    }
