"""A run, or a candidate of a search -> a folder to hand over, proved before it is there."""

from pathlib import Path
from typing import Any

from torch import nn

from bnas.api.manifest import manifest_of
from bnas.api.opening import load_matching
from bnas.api.result import SearchResult, TargetResults, TrainResult, searched
from bnas.api.timing import known_retraining
from bnas.runs.selection_folder import run_in
from bnas.ship import TrainedNetwork, export_network
from bnas.ship.folder import best_network, variant_of
from bnas.train.retrain import trained_alone


def export(
    run: str | Path | SearchResult | TrainResult,
    *,
    to: str = "training",
    for_: str | None = None,
    out: str | Path,
    candidate: str | None = None,
    data: Any = None,
    trust: bool = False,
) -> Path:
    """Write the network of a run into a folder; it is there only if the network comes back from it the same.

    Args:
        run: what `search` or `train_model` gave, or its folder, or that of a selection that was fine-tuned.
        to: a target: `training` (one plain torch model, weights, recipe, proof), `packed`, `onnx` or `qonnx` (a file),
            `c` (C99 code), or `pkg.mod:attr` of an exporter.
        for_: a variant of the target, by the name of what it is for: `size` of `onnx`, `finn` or `hls4ml` of `qonnx`,
            `words32` of `c`.
        out: a new or empty folder, or an earlier export of the same network, which is replaced.
        candidate: id of a candidate of a search, in place of the best: with the weights to which it was trained alone,
            or where it was not, those that it inherits from the supernet.
        data: what the search was given, where that was no name or path.
        trust: run code that the folder names, as `file.py:attr`; what `search` or `train_model` gave is trusted.
    Returns: `out`.
    Raises:
        ExportError: `out` holds something else, or the proof fails; what was in `out` is as it was.
        RunError: the run has no best network, or `out` cannot be written.
        LookupFailed: there is no such target or variant, or no such candidate.
    """
    if isinstance(run, SearchResult | TargetResults | TrainResult):
        trust = trust or run.trust
        run = run.run.path
    to, folder = variant_of(to, for_), run_in(Path(run))
    if candidate is None:
        return export_network(best_network(folder, trust=trust), to=to, out=out)
    return export_network(_candidate(searched(folder, trust=trust), candidate, data), to=to, out=out)


def _candidate(found: SearchResult, candidate: str, data: Any) -> TrainedNetwork:
    """Return a candidate with the best weights there are of it, and what is known of it."""
    arch = found.architecture(candidate)
    request = found.request(data=data)
    settings = request.settings.retrain
    recipe = (known_retraining(found.run, settings) or settings).recipe
    alone = trained_alone(arch, recipe, store=found.run)
    network: nn.Module = found.network(candidate, data=data, device="cpu") if alone is None else alone.network
    accuracy: dict[str, float | None] = {"proxy": found.proxy_accuracy(arch.id), "validation": None, "test": None}
    ended = alone is not None and found.run.has_table("retrained")
    rows: Any = found.retrained.set_index("id") if ended else None
    if rows is not None and arch.id in rows.index:
        accuracy |= {part: float(rows.loc[arch.id, f"{part}_accuracy"]) for part in ("validation", "test")}
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    manifest = manifest_of(
        arch, network, tensors, accuracy=accuracy, data=load_matching(request), recipe=recipe,
        epochs=alone.epochs if alone else 0, seed=request.seed,
    )  # fmt: skip
    return TrainedNetwork(arch, tensors, manifest | {"weights": "trained alone" if alone else "of the supernet"})
