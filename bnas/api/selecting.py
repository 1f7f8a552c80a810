"""A float model, images and a limit -> which of its layers keep real inputs, and why."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from bnas.api.progress_bars import watched
from bnas.cost.trace.plain_model import unwrapped
from bnas.errors import SpecError
from bnas.layers.binarized import BINARIZED
from bnas.progress import Progress
from bnas.select import (
    DEFAULT_BINARIZERS,
    DEFAULT_RULES,
    GAMMA,
    Decision,
    Decisions,
    LayerErrors,
    LayerFacts,
    NotMeasured,
    Rules,
    Selection,
    decide,
)
from bnas.select.calibrate import Batches, Loss, examples, measure_errors, measure_loss_changes
from bnas.select.conversion import Survey, check_kept, survey
from bnas.select.decide import BudgetItems, check_asked, check_decidable
from bnas.select.methods import Method
from bnas.select.metrics import Metric
from bnas.space.arch import Binarizers

_MOST_NAMED = 12  # layers in a warning


def select_layers(
    model: nn.Module,
    batches: Batches,
    *,
    budget: BudgetItems | None = None,
    ratio: float | None = None,
    keep: Collection[str] | None = None,
    metric: str | Metric = "product",
    method: str | Method = "knapsack",
    gamma: float = GAMMA,
    rules: Rules = DEFAULT_RULES,
    binarizers: Binarizers = DEFAULT_BINARIZERS,
    measured_on: nn.Module | None = None,
    loss: Loss | None = None,
    progress: Progress | bool = True,
) -> Selection:
    """Choose the layers of a model that keep real inputs; the others get one bit for inputs and weights.

    Args:
        model: a float model, best a trained one; it stays as it is.
        batches: of each, a tensor of images, or (inputs, labels) as a DataLoader gives; some hundred images do.
        budget: upper limits, as `["ops=3M"]`, or `["ops=25%"]` of the real network; this, `ratio` or `keep` is needed.
        ratio: the share of the layers that may keep real inputs.
        keep: patterns of the layers that keep real inputs, in place of a method.
        metric: what a layer's real input is worth: product, hybrid, sensitivity, `pkg.mod:attr`, or a function.
        method: what takes the worthiest: knapsack, greedy, partition, `pkg.mod:attr`, or a function.
        gamma: of the metric `hybrid`: weight of small cost beside error.
        rules: what is decided before anything is measured.
        binarizers: how values become bits.
        measured_on: the network that errors are measured on: a trained `convert`-ed one, as in the paper; else `model`,
            on which loss changes are measured in any case.
        progress: as in `search`: how far the measuring is.
        loss: of what the model returns, for `sensitivity` and any metric that reads `losses`; None: the cross-entropy
            of the logits in it.
    Returns: precisions, scores and the cost that the converted model keeps exactly; `convert` takes it.
    Raises:
        BnasError: one line that says where, which rule, which values, what to do.
    """
    check_asked(budget=budget, ratio=ratio, metric=metric, method=method)
    model, found = unwrapped(model), examples(batches, model)
    known = survey(model, found[0].inputs, binarizers=binarizers)
    check_decidable(known.layers, known.rest, budget=budget, ratio=ratio, keep=keep, rules=rules)
    measured = model if measured_on is None else _with_modules(unwrapped(measured_on), known)
    with watched(progress) as tell:
        errors = measure_errors(measured, found, known.layers, progress=tell)
    choose = partial(
        decide, rest=known.rest, budget=budget, ratio=ratio, keep=keep, metric=metric, method=method, gamma=gamma,
        rules=rules, binarizers=binarizers,
    )  # fmt: skip
    try:
        made = choose(_with_errors(known, errors))
    except NotMeasured:
        with watched(progress) as tell:
            changes = measure_loss_changes(
                model, found, known.layers, binarizers=binarizers, loss=loss, progress=tell
            )  # fmt: skip
        made = choose(_with_errors(known, {name: e._replace(losses=changes[name]) for name, e in errors.items()}))
    check_kept(model, found[0].inputs, made)
    warn_of(made)
    return made


def review(
    model: nn.Module,
    batches: Batches,
    decisions: Decisions,
    *,
    progress: Progress | bool = True,
) -> Selection:
    """Return decisions that a person took, with errors measured and costs counted beside them.

    Args:
        decisions: a layer that is not named stays as it is.
    Returns: beside the decisions the layers that may have another precision in the networks to compare with: those
        that no usual rule holds for, and whatever is binary, without what a person made real. The reason of a layer
        that was edited says so.
    Raises:
        BnasError: a layer that is decided on is not in the model, or cannot be what was decided.
    """
    model, found = unwrapped(model), examples(batches, model)
    norms = {name: decision.norm for name, decision in decisions.layers.items()}
    known = survey(model, found[0].inputs, binarizers=decisions.binarizers, norms=norms)
    as_they_are = {
        layer.name: Decision(precision=layer.precision, norm=layer.needs_norm).because("not named")
        for layer in known.layers
    }
    given = {name: decision.as_given() for name, decision in decisions.layers.items()}
    whole = decisions.model_copy(update={"layers": as_they_are | given})
    Selection(known.layers, known.rest, whole)  # an error in it is one before anything is measured
    with watched(progress) as tell:
        layers = _with_errors(known, measure_errors(model, found, known.layers, progress=tell))
    base = decide(layers, known.rest, keep=(), rules=Rules(frozen="free"), binarizers=decisions.binarizers)
    chosen = replace(base, decisions=whole)
    precisions = {layer.name: chosen.precision(layer.name) for layer in layers if not layer.obstacle}
    free = {name for name, now in precisions.items() if now == "binary" or (name in base.free and now != "real")}
    made = replace(chosen, free=frozenset(free))
    warn_of(made)
    return made


def warn_of(selection: Selection) -> None:
    """Warn of frozen layers, and of binary ones that see nothing."""
    frozen = [layer.name for layer in selection.layers if layer.is_frozen]
    real = [name for name in frozen if selection.precision(name) == "real"]
    trained = [name for name in frozen if name not in real]
    said = [
        f"{_counted(real, 'stay', 'stays')} real; --include them, say --frozen free, or call requires_grad_(True) to "
        "have them binarized and trained"
    ] if real else []  # fmt: skip
    said += [
        f"{_counted(trained, 'become', 'becomes')} binary, so that their weights are trained again"
    ] if trained else []  # fmt: skip
    said += [
        f"layer {name!r}: its binary input is the same for every image, so that it sees nothing; put a batch norm "
        "before its sign (norm: true), or keep its input real"
        for name in selection.blind
    ]
    for line in said:
        warnings.warn(line, stacklevel=3)


def _counted(names: Sequence[str], do: str, does: str) -> str:
    """Return that so many layers are frozen, with the names of the first of them, and what they do."""
    more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    listed = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    are, verb = ("layers are", do) if len(names) > 1 else ("layer is", does)
    return f"{len(names)} {are} frozen ({listed}{more}) (requires_grad=False), and {verb}"


def _with_modules(network: nn.Module, known: Survey) -> nn.Module:
    """Return a network that errors are to be measured on.

    Raises:
        SpecError: it has no layer of a name that the model has.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    for layer in known.layers:
        if not layer.obstacle and not isinstance(modules.get(layer.name), tuple(BINARIZED)):
            raise SpecError(
                f"measured on: the network has no layer {layer.name!r}, which the model has; give the converted model "
                "itself, trained"
            )
    return network


def _with_errors(known: Survey, errors: Mapping[str, LayerErrors]) -> tuple[LayerFacts, ...]:
    return tuple(layer._replace(errors=errors.get(layer.name)) for layer in known.layers)
