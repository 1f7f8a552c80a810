"""A model and decisions -> the same model with binary layers; and the description of such a model by name."""

from pathlib import Path

from torch import nn

from bnas.cost.trace.plain_model import copy_of, unwrapped
from bnas.errors import LookupFailed, SpecError
from bnas.layers.binarized import BINARIZED, binarize_, stop_fusing
from bnas.lookup import not_among
from bnas.networks.user_model import build_original
from bnas.select import Decision, Decisions, Original, Selection
from bnas.select.conversion.suitable import obstacle
from bnas.spec import id_of
from bnas.trust import check_code


def convert(model: nn.Module, selection: Selection | Decisions | str | Path, *, trust: bool = False) -> nn.Module:
    """Return a copy of a model in which the chosen layers have binary weights, or binary weights and inputs.

    Everything else is untouched: the forward and its arguments, other modules, hooks, shared modules. The state dict of
    the original loads into the copy: latent weights keep their names, and what is new (output scales, and a batch norm
    before a sign whose input has none) starts afresh. A new batch norm has no statistics yet: train, or recalibrate.
    A chosen layer that is frozen (`requires_grad=False`) is trained again: latent weights that never move would leave
    bits as they fell.

    Args:
        model: stays as it is; of one that is compiled or wrapped, the module inside is converted.
        selection: what `select_layers` gave, its decisions, or a `selection.yaml` of them.
        trust: use binarizers that the file names as code, as `file.py:attr`.
    Raises:
        TrustError: the file names code, which is not trusted.
        LookupFailed: a layer is not in the model; the message has the nearest names.
        SpecError: a layer cannot be binarized, or the model not copied.
    """
    decisions = _decisions(selection, trust=trust)
    converted = copy_of(unwrapped(model), where="convert", error=SpecError)
    _check_agree(converted, decisions)
    for path, decision in decisions.layers.items():
        _apply(converted, path, decision, decisions)
    stop_fusing(converted)
    return converted


def _check_agree(model: nn.Module, decisions: Decisions) -> None:
    """Raise where one module has two names, and each name another precision."""
    modules = dict(model.named_modules(remove_duplicate=False))
    first: dict[nn.Module, str] = {}
    for path, decision in decisions.layers.items():
        if path not in modules:
            continue
        other = first.setdefault(modules[path], path)
        if decisions.layers[other].precision != decision.precision:
            raise SpecError(
                f"layer {path!r}: is the same module as {other!r}, but is to be {decision.precision} and that one "
                f"{decisions.layers[other].precision}; leave one of the two out"
            )


def _decisions(selection: Selection | Decisions | str | Path, *, trust: bool) -> Decisions:
    if isinstance(selection, Selection):
        return selection.decisions
    if isinstance(selection, Decisions):
        return selection
    found = Decisions.read(selection)
    check_code(found.binarizers, source=str(selection), trust=trust)
    return found


def _apply(model: nn.Module, path: str, decision: Decision, decisions: Decisions) -> None:
    """Make one layer what was decided."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        layers = [name for name, module in modules.items() if type(module) in BINARIZED]
        raise LookupFailed(not_among(path, layers, what="layer"))
    if getattr(modules[path], "precision", "real") == decision.precision:
        return
    if problem := obstacle(path, model):
        precision = getattr(modules[path], "precision", "real")
        remedy = "convert the real model instead" if decision.precision == "real" else f"write precision: {precision}"
        raise SpecError(f"layer {path!r}: cannot be made {decision.precision}: {problem}; {remedy}")
    modules[path].get_parameter("weight").requires_grad_(True)
    binarize_(
        modules[path],
        precision=decision.precision,
        norm=decision.norm,
        weights=decisions.binarizers.weight,
        activations=decisions.binarizers.activation,
        pad_value=decisions.binarizers.pad_value,
    )


class ConvertedModel(Decisions):
    """A model by name with decisions on its layers: what `selection.yaml` holds."""

    original: Original

    @property
    def model(self) -> str:
        """The name of the float model."""
        return self.original.model

    @property
    def input(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.original.input

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.original.classes

    @property
    def id(self) -> str:
        """A short name that is the same for equal descriptions."""
        return id_of(self)

    def build(self) -> nn.Module:
        """Return the converted model without the trained weights of the float one.

        Raises:
            LookupFailed: there is no such model, layer or binarizer.
        """
        return convert(build_original(self.original.model_copy(update={"weights": None})), self)

    def build_original(self) -> nn.Module:
        """Return the float model with its weights.

        Raises:
            SpecError: the weights cannot be read, or are not those of the model.
        """
        return build_original(self.original)
