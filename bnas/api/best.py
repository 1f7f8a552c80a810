"""The best retrained network -> `best/` in the run folder: description, weights, and a manifest that proves them."""

from bnas.api.manifest import manifest_of
from bnas.api.request import SearchRequest
from bnas.data import DataSet
from bnas.runs import Run
from bnas.searcher.candidate import Candidate
from bnas.spec import dump
from bnas.train.retrain import Retrained


def write_best(run: Run, request: SearchRequest, data: DataSet, best: Retrained, candidate: Candidate) -> None:
    """Write the best network and what is known of it.

    Raises:
        ExportError: the weights do not load back to the same network, or it costs other than was counted.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in best.network.state_dict().items()}
    assert candidate.score is not None
    accuracy = {
        "proxy": candidate.score.proxy_accuracy,
        "validation": best.validation_accuracy,
        "test": best.test_accuracy,
    }
    manifest = manifest_of(
        best.arch, best.network.cpu(), tensors, accuracy=accuracy, data=data, recipe=request.settings.retrain.recipe,
        epochs=best.epochs, seed=request.seed,
    )  # fmt: skip
    known = {"budget": request.budget.as_dict(), "data": request.data}
    run.write_best(dump(best.arch), tensors=tensors, manifest=manifest | known)
