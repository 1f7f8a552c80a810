"""The best retrained network -> `best/` in the run folder: description, weights, and a manifest that proves them."""

from typing import Any

from bnas.api.request import SearchRequest
from bnas.cost import cost
from bnas.data import DataSet
from bnas.exporters import count_again, prove_reload
from bnas.plan import plan
from bnas.retrain import Retrained
from bnas.runs import Run, environment
from bnas.searcher import Candidate
from bnas.spec import dump


def write_best(run: Run, request: SearchRequest, data: DataSet, best: Retrained, candidate: Candidate) -> None:
    """Write the best network and what is known of it.

    Raises:
        ExportError: the weights do not load back to the same network, or it costs other than was counted.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in best.network.state_dict().items()}
    counted = cost(plan(best.arch))
    again = count_again(best.network.cpu(), best.arch)
    assert candidate.score is not None
    manifest: dict[str, Any] = {
        "architecture_id": best.arch.id,
        "accuracy": {
            "proxy": candidate.score.proxy_accuracy,
            "validation": best.validation_accuracy,
            "test": best.test_accuracy,
        },
        "cost": counted.as_dict(),
        "counted_again": again.as_dict(),
        "budget": request.budget.as_dict(),
        "data": request.data,
        "input": list(best.arch.input),
        "classes": best.arch.classes,
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "augmentation": list(data.augmentation),
        "recipe": request.settings.retrain.recipe.model_dump(mode="json"),
        "epochs": best.epochs,
        "seed": request.seed,
        "reload": prove_reload(best.arch, tensors, network=best.network),
        "versions": environment(),
    }
    run.write_best(dump(best.arch), tensors=tensors, manifest=manifest)
