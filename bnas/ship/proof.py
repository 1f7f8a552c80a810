"""Weights and an architecture -> proof that they load back to the same network, here and in a process without us."""

import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.plain_model import copy_of
from bnas.cost.trace.trace_model import trace
from bnas.errors import ExportError
from bnas.networks.models import MODELS
from bnas.seeds import seeded
from bnas.ship.description import Description, HeldModel, rebuild
from bnas.space.arch import Architecture
from bnas.torch_inside import AnyBatchNorm

IMAGES, SEED = 8, 0  # images drawn to compare two networks, and what they are drawn by
TOLERANCE = 1e-5  # in units of the largest logit; one machine gives equal bits, but is not bound to

_PATIENCE_SECONDS = 600
_ELSEWHERE = """
import sys
sys.modules["bnas"] = None  # from here on an import of it fails, wherever it is installed
folder, weights, images, logits, threads, *installed = sys.argv[1:]
sys.path[:] = [folder, *sys.path, *installed]
import torch
from safetensors.torch import load_file, save_file
torch.set_num_threads(int(threads))
from model import build
network = build()
network.load_state_dict(load_file(weights), strict=True)
with torch.no_grad():
    save_file({"logits": network.eval()(load_file(images)["images"])}, logits)
"""


def reload(
    described: Description, tensors: Mapping[str, Tensor], *, source: str, model: nn.Module | None = None
) -> nn.Module:
    """Return a newly built network with these weights, ready to evaluate.

    Args:
        source: where the weights are from, for the message.
        model: a module to copy in place of building one; it stays as it is.
    Raises:
        ExportError: names or shapes differ from those of the network.
        SpecError: the network was given in Python, and no model is given now.
    """
    with seeded(0):  # code of the user's may draw; who loads a network keeps their own random numbers
        network = rebuild(described) if model is None else copy_of(model, where=source, error=ExportError)
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as problem:
        reason = str(problem).splitlines()[1].strip()[:200]
        raise ExportError(f"{source}: the weights are not those of {_named(described)}: {reason}") from problem
    return network.eval()


def prove_reload(described: Description, tensors: Mapping[str, Tensor], *, network: nn.Module) -> dict[str, Any]:
    """Return how a newly built network with these weights agrees with the one they were taken from.

    Args:
        described: what `network` was built from.
        tensors: its parameters and buffers by name.
        network: the network itself, on any device; it is left as it is.
    Raises:
        ExportError: the logits differ, or a batch norm has statistics that cannot be right.
    """
    where = _named(described)
    held = copy_of(network, where=where, error=ExportError).cpu() if isinstance(described, HeldModel) else None
    rebuilt = reload(described, {name: tensor.cpu() for name, tensor in tensors.items()}, source=where, model=held)
    images = seeded_images(described)
    found, expected = _logits(rebuilt, images), _logits(copy_of(network, where=where, error=ExportError).cpu(), images)
    return _agreement(found, expected, where=where) | {"batch_norm": check_norms(rebuilt, described)}


def prove_model_file(folder: Path, network: nn.Module, described: Description, *, weights: str) -> dict[str, Any]:
    """Return how model.py with the weights beside it agrees with `network`; it runs in a process that has no bnas.

    Args:
        folder: holds model.py and the weights.
        network: what is described, with the same weights.
        weights: the name of the weights' file.
    Raises:
        ExportError: model.py fails there, its logits differ, or a batch norm has statistics that cannot be right.
    """
    images, where = seeded_images(described), f"model.py of {_named(described)}"
    with tempfile.TemporaryDirectory() as scratch:
        given, answered = Path(scratch, "images.safetensors"), Path(scratch, "logits.safetensors")
        save_file({"images": images}, given)
        # Isolated: no folder but those of installed packages; and nothing compiled is left in the folder.
        command = [sys.executable, "-I", "-B", "-c", _ELSEWHERE]
        command += [str(part) for part in (folder, folder / weights, given, answered, torch.get_num_threads())]
        command += [place for place in sys.path if any(Path(place).glob("*.dist-info"))]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, cwd=scratch, check=False
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ExportError(f"{where} fails where bnas is not installed: {said[-1].strip()}{_hint(described)}")
        found = load_file(answered)["logits"]
    return _agreement(found, _logits(network, images), where=where) | {
        "without_bnas": True,
        "batch_norm": check_norms(network, described),
    }


def count_again(network: nn.Module, described: Description) -> Cost:
    """Return what the built module costs, counted while it runs.

    Raises:
        ExportError: it is an architecture, and the costs are not what was planned.
    """
    counted = cost(trace(network, described.input).layers)
    planned = cost(plan(described)) if isinstance(described, Architecture) else counted
    if counted != planned:
        pairs = zip(planned._fields, planned, counted, strict=True)
        apart = ", ".join(f"{name} {now} instead of {before}" for name, before, now in pairs if before != now)
        raise ExportError(
            f"{_named(described)}: the built network costs {apart}; please report this with its architecture.yaml"
        )
    return counted


def check_norms(network: nn.Module, described: Description) -> dict[str, Any]:
    """Return how many batch norms keep statistics, the fewest batches one has seen, and the smallest variance.

    In a network of ours every one of them is used. A user's may have some that are not, or that a person fixed: they
    are listed as `unseen`.

    Raises:
        ExportError: one has statistics that are not finite or a negative variance, or has never seen a batch although
            it is used.
    """
    kept = {name: module for name, module in network.named_modules() if isinstance(module, AnyBatchNorm)}
    norms = {
        name: norm for name, norm in kept.items() if norm.running_mean is not None and norm.running_var is not None
    }
    for name, norm in norms.items():
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        if not (mean.isfinite().all() and variance.isfinite().all() and bool((variance >= 0).all())):
            raise ExportError(f"{name}: the statistics of this batch norm are not finite; train with a lower rate")
    seen = {name: int(norm.num_batches_tracked or 0) for name, norm in norms.items()}
    unseen = [name for name, batches in seen.items() if not batches]
    if unseen and isinstance(described, Architecture):
        raise ExportError(f"{unseen[0]}: this batch norm has never seen an image; train the network, or recalibrate it")
    found = {
        "layers": len(norms),
        "fewest_batches": min(seen.values(), default=0),
        "smallest_variance": min((float(norm.get_buffer("running_var").min()) for norm in norms.values()), default=0.0),
    }
    return found | ({"unseen": unseen} if unseen else {})


def seeded_images(described: Description) -> Tensor:
    """Return the images that networks of a description are compared on."""
    return torch.randn(IMAGES, *described.input, generator=torch.Generator().manual_seed(SEED))


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = network.eval()(images.clone())  # a network may change what it is given
    return logits


def _agreement(found: Tensor, expected: Tensor, *, where: str) -> dict[str, Any]:
    difference, size = float((found - expected).abs().max()), float(expected.abs().max())
    if not math.isfinite(size) or not difference <= TOLERANCE * size:
        raise ExportError(
            f"{where}: the reloaded network's logits differ by {difference:.3g} (the largest logit is {size:.3g}), "
            f"where at most {TOLERANCE:g} of it is allowed; please report this with its architecture.yaml"
        )
    return {"images": IMAGES, "seed": SEED, "identical": torch.equal(found, expected), "max_difference": difference}


def _hint(described: Description) -> str:
    """Return what a person can do about a model of their own that does not run elsewhere."""
    if isinstance(described, Architecture) or described.model in MODELS:
        return ""
    return "; it must not need files, and import by name what it needs, of ours by `from bnas.layers import`"


def _named(described: Description) -> str:
    return f"architecture {described.id}" if isinstance(described, Architecture) else f"model {described.model}"
