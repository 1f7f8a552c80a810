"""A model and decisions -> the same model with binary layers."""

import copy
from pathlib import Path

from torch import nn

from bnas.errors import LookupFailed, SpecError
from bnas.layers.binarized import BINARIZED, Binarized, binarize_
from bnas.lookup import not_among
from bnas.select import Decision, Decisions, Selection
from bnas.select.conversion.obstacles import obstacle
from bnas.spec import read


def convert(model: nn.Module, selection: Selection | Decisions | str | Path) -> nn.Module:
    """Return a copy of a model in which the chosen layers have binary weights, or binary weights and inputs.

    Everything else is untouched: the forward and its arguments, other modules, hooks, shared modules. The state dict of
    the original loads into the copy: latent weights keep their names, and what is new (output scales, and a batch norm
    before a sign whose input has none) starts afresh. A new batch norm has no statistics yet: train, or recalibrate.

    Args:
        model: stays as it is.
        selection: what `select_layers` gave, its decisions, or a `selection.yaml` of them.
    Raises:
        LookupFailed: a layer is not in the model; the message has the nearest names.
        SpecError: a layer cannot be binarized, or the model not copied.
    """
    decisions = _decisions(selection)
    try:
        converted = copy.deepcopy(model)
    except Exception as problem:
        line = " ".join(str(problem).split())
        raise SpecError(f"convert: the model cannot be copied ({line}); make it work with copy.deepcopy") from problem
    for path, decision in decisions.layers.items():
        _apply(converted, path, decision, decisions)
    stop_fusing(converted)
    return converted


def _decisions(selection: Selection | Decisions | str | Path) -> Decisions:
    if isinstance(selection, Selection):
        return selection.decisions
    return selection if isinstance(selection, Decisions) else read(Decisions, selection)


def stop_fusing(model: nn.Module) -> None:
    """Let torch's transformer layers call their linear layers.

    In evaluation they would read the weights past the layers that hold them, and compute with the latent ones.
    """
    for module in model.modules():
        if any(isinstance(part, Binarized) for part in module.modules()):
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0
            if isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False


def _apply(model: nn.Module, path: str, decision: Decision, decisions: Decisions) -> None:
    """Make one layer what was decided."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        layers = [name for name, module in modules.items() if type(module) in BINARIZED]
        raise LookupFailed(not_among(path, layers, what="layer"))
    if getattr(modules[path], "precision", "real") == decision.precision:
        return
    if problem := obstacle(path, model):
        raise SpecError(f"layer {path!r}: cannot be made {decision.precision}: {problem}; write precision: real")
    binarize_(
        modules[path],
        precision=decision.precision,
        norm=decision.norm,
        weights=decisions.binarizers.weight,
        activations=decisions.binarizers.activation,
        pad_value=decisions.binarizers.pad_value,
    )
