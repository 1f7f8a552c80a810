"""The winner of a search, trained alone -> `best/` in its run folder, with what is known of it."""

from typing import Any

from bnas.api.latency import latency_of
from bnas.api.manifest import manifest_of
from bnas.api.request import SearchRequest, name_of
from bnas.api.teacher import facts_of
from bnas.data import DataSet
from bnas.data.facts import Guessing
from bnas.report.final_training import FINAL
from bnas.runs import Run
from bnas.runs.contents import CONFUSION
from bnas.searcher.candidate import Candidate
from bnas.spec import dump
from bnas.train import confusion
from bnas.train.retrain import EVALUATION_BATCH, Retrained


def write_best(run: Run, request: SearchRequest, data: DataSet, best: Retrained, candidate: Candidate) -> None:
    """Write the best network and what is known of it.

    Raises:
        ExportError: the weights do not load back to the same network, or it costs other than was counted.
    """
    network = best.final.network if best.final else best.network
    taken = confusion(network, data.test.batches(EVALUATION_BATCH, device=request.device))
    run.write_table(CONFUSION, taken)
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    assert candidate.score is not None
    accuracy = {
        "proxy": candidate.score.proxy_accuracy,
        "validation": best.validation_accuracy,
        "test": best.final.test_accuracy if best.final else best.test_accuracy,
    }
    manifest = manifest_of(
        best.arch, network.cpu(), tensors, accuracy=accuracy, data=data, recipe=request.settings.retrain.recipe,
        epochs=best.final.epochs if best.final else best.epochs, seed=request.seed,
    )  # fmt: skip
    guessing = Guessing.on(data.test.labels)._asdict()
    times = {} if request.space.latency is None else {"latency": latency_of(best.arch, network, request.space.latency)}
    if request.settings.retrain.final_on_all:
        manifest[FINAL] = final_facts(best, data)
    known = (
        facts_of(run, request.settings)
        | times
        | {"budget": request.budget.as_dict(), "data": name_of(request.data), "guessing": guessing}
    )
    run.best.write(dump(best.arch), tensors=tensors, manifest=manifest | known)


def final_facts(best: Retrained, data: DataSet) -> dict[str, Any]:
    """Return what a manifest says of the winner's last training, on all training images, or of why there was none."""
    if best.final is None:
        return {"done": False, "why": "the time was up"}
    before = {"validation": best.validation_accuracy, "test": best.test_accuracy}
    held_out = len(data.validation)
    return {"done": True, "images": best.final.images, "held_out_before": held_out, "accuracy_before": before}
