"""The teacher of a search -> a real network, trained once or taken, kept in the run for all that learn from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bnas.amounts import percent
from bnas.api.appointing import MODEL
from bnas.api.making import maker
from bnas.api.manifest import manifest_of
from bnas.api.request import SearchRequest
from bnas.api.standing import standing_of
from bnas.data import DataSet
from bnas.progress import Progress
from bnas.report.final_training import MAYBE_SEEN, is_final
from bnas.runs import Run
from bnas.runs.saved_network import WEIGHTS, read_network
from bnas.seeds import derived, seeded
from bnas.ship import load, rebuild
from bnas.ship.proof import reload
from bnas.space.settings import SearchSettings
from bnas.spec import dump
from bnas.train import Ranks, SharedStore, train_staged
from bnas.train.staged import labelled
from bnas.train.supernet_loss import Lesson

NAME = "teacher"  # of its checkpoints, and in phases, log and manifest


def trained_teacher(
    run: Run | None, request: SearchRequest, data: DataSet, progress: Progress, ranks: Ranks
) -> nn.Module | None:
    """Return the teacher of a search from where its run has it, or trained or taken now; None where there is none.

    Args:
        run: of rank 0; another rank has none.
    Raises:
        TrainingError: a loss is not finite.
        RunError: where it is to be taken from, it is gone.
    """
    known, asked = request.teacher, request.settings.teacher
    if known is None or asked is None:
        return None
    kept = ranks.told(lambda: _kept(run, request, data, progress))
    if kept is None:
        assert asked.recipe is not None
        seed = derived(request.seed, NAME)
        trained = train_staged(
            maker(known.described, seed), asked.recipe, data, name=NAME, seed=seed, store=SharedStore(run, ranks),
            device=request.device, progress=labelled(progress, NAME, Path(asked.model).name), ranks=ranks,
        )  # fmt: skip
        ranks.told(lambda: _keep(run, request, data, progress, trained))
        kept = trained.state_dict()
    # Built anew where it was trained just now, too: how weights lie in memory decides how sums are rounded.
    network = reload(known.described, kept, source=f"{NAME}/{WEIGHTS}")
    return network.to(request.device).eval().requires_grad_(False)


def _kept(run: Run | None, request: SearchRequest, data: DataSet, progress: Progress) -> dict[str, Tensor] | None:
    """Return the weights that a run has, or takes from a folder; None where they are to be trained."""
    known = request.teacher
    assert run is not None
    assert known is not None
    if run.teacher.is_sound():
        return run.teacher.read().tensors
    if not known.folder:
        return None
    found = read_network(Path(known.folder), hint="put it back")
    network = reload(known.described, found.tensors, source=str(Path(known.folder) / WEIGHTS))
    manifest = {key: value for key, value in found.manifest.items() if key != "export"}
    _keep(run, request, data, progress, network, manifest=manifest)
    return found.tensors


def _keep(
    run: Run | None,
    request: SearchRequest,
    data: DataSet,
    progress: Progress,
    network: nn.Module,
    *,
    manifest: dict[str, Any] | None = None,
) -> None:
    """Say how well a teacher does on held-out images, and write it into the run.

    Args:
        manifest: of one that comes trained; None makes that of one that was trained here.
    """
    known, asked = request.teacher, request.settings.teacher
    assert run is not None
    assert known is not None
    assert asked is not None
    standing = standing_of(network.to(request.device), data.validation, classes=data.classes)
    accuracy = {"validation" if _has_not_seen(manifest, data) else MAYBE_SEEN: standing.accuracy}
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    if manifest is None:
        assert asked.recipe is not None
        manifest = manifest_of(
            known.described, network.cpu(), tensors, accuracy=accuracy, data=data, recipe=asked.recipe,
            epochs=asked.recipe.epochs, seed=request.seed,
        )  # fmt: skip
    run.log(NAME, model=asked.model, **_named(accuracy))
    run.teacher.write(dump(known.described), tensors, manifest | {"accuracy": accuracy})
    progress(f"{NAME} on held-out images", 1, 1, f"accuracy {percent(standing.accuracy)}")
    if not standing.knows:
        run.warn(f"{MODEL}: {asked.model} gets {standing}: it has nothing to teach; train it longer, or give another")


def _has_not_seen(manifest: Mapping[str, Any] | None, data: DataSet) -> bool:
    """Whether a teacher is known to be trained on the images that are trained on here, and no others.

    Args:
        manifest: of one that came trained; None of one that was trained here.
    """
    if manifest is None:
        return True
    checksums = manifest.get("images", {}).get("checksums", {})
    return not is_final(manifest) and checksums.get("train") == data.facts()["checksums"]["train"]


def _named(accuracy: Mapping[str, float]) -> dict[str, float]:
    return {f"{part}_accuracy": value for part, value in accuracy.items()}


def lesson_of(settings: SearchSettings, teacher: nn.Module | None) -> Lesson | None:
    """Return what a teacher teaches the supernet; None where it does not."""
    weights = settings.teacher and settings.teacher.of_supernet
    return Lesson(teacher, weights) if teacher is not None and weights else None


def stand_in(request: SearchRequest) -> nn.Module | None:
    """Return a network like the teacher, with other weights: being taught by it takes as long."""
    if request.teacher is None:
        return None
    with seeded(0):
        return rebuild(request.teacher.described).to(request.device).eval().requires_grad_(False)


def teacher_in(run: Run, settings: SearchSettings, *, trust: bool) -> nn.Module | None:
    """Return the teacher that a run with these settings keeps; None where it has none.

    Raises:
        ExportError, RunError: it is gone, or damaged.
        TrustError: its description names code, which is not trusted.
    """
    return None if settings.teacher is None else load(run.teacher.folder, trust=trust)


def facts_of(run: Run, settings: SearchSettings) -> dict[str, Any]:
    """Return what the manifest of a network says of what taught it; nothing where nothing did."""
    if settings.teacher is None:
        return {}
    manifest = run.teacher.read().manifest
    said = {"model": settings.teacher.model, **_named(manifest["accuracy"])}
    return {NAME: said | {"weights_sha256": manifest["weights_sha256"]}}
