"""What was decided, as `selection.yaml` holds it and a person may edit it; and what it follows from and costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bnas.amounts import percent, show
from bnas.cost.totals import Cost, total
from bnas.errors import LookupFailed, SpecError
from bnas.lookup import not_among
from bnas.select.metrics import LayerFacts, LayerScore
from bnas.space.arch import Binarizers
from bnas.space.original import Original
from bnas.space.values import Precision
from bnas.spec import Flag, Spec

DEFAULT_BINARIZERS = Binarizers()


class Decision(Spec):
    """What becomes of one layer.

    Args:
        norm: where its input is binary, a batch norm stands before the sign; false where the model has one there.
        chosen: what `why` is the reason for, by which an edit is seen; nothing where a person wrote it all.
        why: for people.
    """

    precision: Precision
    norm: Flag = True
    chosen: str = ""
    why: str = ""

    @property
    def what(self) -> str:
        """What it says, in a word."""
        return "binary without norm" if self.precision == "binary" and not self.norm else self.precision

    def because(self, why: str) -> "Decision":
        """Return the same decision with its reason."""
        return self.model_copy(update={"why": why, "chosen": self.what})

    def as_given(self) -> "Decision":
        """Return a decision that a person gave back: where it was edited, that is the reason."""
        if self.chosen == self.what:
            return self
        return self.because(f"edited (was {self.chosen})" if self.chosen else self.why or "edited")


class Decisions(Spec):
    """What becomes of the layers, by module path. A layer that is not named stays as it is.

    `original` is there where the model was named, as on the command line; it makes the decisions a whole description.
    """

    original: Original | None = None
    binarizers: Binarizers = DEFAULT_BINARIZERS
    layers: dict[str, Decision]


@dataclass(frozen=True, repr=False)
class Selection:
    """A precision for every layer of a model.

    Args:
        layers: what is known of them, in the order in which they run.
        rest: the cost of what is no layer: norms, activations and other values.
        decisions: of all the layers.
        free: the names of those that a metric decided on, the others following from rules.
        scores: by name, of those that were scored.
        metric: the name of what scored them.
    """

    layers: tuple[LayerFacts, ...]
    rest: Cost
    decisions: Decisions
    free: frozenset[str] = frozenset()
    scores: Mapping[str, LayerScore] = field(default_factory=dict)
    metric: str = ""

    def __post_init__(self) -> None:
        names = {layer.name: layer for layer in self.layers}
        for name, decision in self.decisions.layers.items():
            if name not in names:
                raise LookupFailed(not_among(name, names, what="layer"))
            if decision.precision not in names[name].costs:
                raise SpecError(
                    f"layer {name!r}: cannot be {decision.precision}: {names[name].obstacle}; "
                    f"write {names[name].precision}"
                )

    def __repr__(self) -> str:
        price, real = self.cost, self.real_cost
        share = f" ({percent(price.ops / real.ops)} of real)" if real.ops else ""
        return (
            f"Selection({len(self.kept)} of {len(self.free)} layers with a choice keep real inputs: "
            f"{show(price.ops)} ops{share}, {show(price.bytes)} bytes)"
        )

    def precision(self, name: str) -> Precision:
        """Return the precision of a layer."""
        return self.decisions.layers[name].precision

    @property
    def kept(self) -> tuple[str, ...]:
        """The layers that a metric decided to keep real inputs in."""
        return tuple(layer.name for layer in self.layers if layer.name in self.free and not self._is_binary(layer))

    @property
    def blind(self) -> tuple[str, ...]:
        """The layers whose binary input is the same for every image, so that they and all behind them see nothing."""
        return tuple(
            layer.name for layer in self.layers
            if self._is_binary(layer) and layer.errors and layer.errors.constant_signs == 1
        )  # fmt: skip

    @property
    def cost(self) -> Cost:
        """What the converted network costs: the promise that its trace keeps."""
        return total([self.rest, *(layer.costs[self.precision(layer.name)] for layer in self.layers)])

    @property
    def real_cost(self) -> Cost:
        """What the network costs as it is."""
        return total([self.rest, *(layer.cost for layer in self.layers)])

    def at(self, precision: Precision) -> "Selection":
        """Return the selection in which every layer with a choice has this precision; with `real`, every layer."""
        touched = self.free if precision != "real" else {layer.name for layer in self.layers if not layer.obstacle}
        return self.with_precisions(dict.fromkeys(touched, precision), why=f"all {precision}")

    def with_precisions(self, precisions: Mapping[str, Precision], *, why: str) -> "Selection":
        """Return the selection with other precisions for some layers."""
        changed = {
            name: self.decisions.layers[name].model_copy(update={"precision": precision}).because(why)
            for name, precision in precisions.items()
        }
        layers = self.decisions.layers | changed
        return replace(self, decisions=self.decisions.model_copy(update={"layers": layers}))

    @property
    def error_left(self) -> float:
        """The errors of binary inputs, as a share of what they are if every layer with a choice has one."""
        free = [layer for layer in self.layers if layer.name in self.free]
        whole = sum(map(_error, free))
        return sum(_error(layer) for layer in free if self._is_binary(layer)) / whole if whole else 0.0

    def curve(self) -> list[dict[str, Any]]:
        """Return cost and error left as inputs stay real one by one: none, the one of the highest metric, and so on."""
        free = [layer for layer in self.layers if layer.name in self.free]
        worth = {layer.name: _error(layer) for layer in free}
        worth |= {name: score.metric for name, score in self.scores.items()}
        ranked = sorted(free, key=lambda layer: worth[layer.name], reverse=True)
        made, rows = self.at("binary"), []
        for kept, layer in enumerate([None, *ranked]):
            if layer is not None:
                made = made.with_precisions({layer.name: "weight"}, why=f"rank {kept}")
            rows.append({
                "kept": kept, "layer": layer.name if layer else "", "ops": made.cost.ops, "bytes": made.cost.bytes,
                "error": made.error_left,
            })  # fmt: skip
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each layer, in the order in which they run."""
        macs = sum(layer.macs for layer in self.layers) or 1
        return [self._row(layer, macs) for layer in self.layers]

    def _row(self, layer: LayerFacts, macs: int) -> dict[str, Any]:
        decision, errors = self.decisions.layers[layer.name], layer.errors
        price, score = layer.costs[decision.precision], self.scores.get(layer.name)
        losses = errors.losses if errors else None
        measured = {} if errors is None else {
            "error": errors.plain, "error_scale_invariant": errors.scale_invariant,
            "constant_signs": errors.constant_signs,
        }  # fmt: skip
        weights = {} if errors is None else {f"weight_error_{name}": e for name, e in errors.weights.items()}
        return {
            "layer": layer.name, "kind": layer.planned.kind, "macs": layer.macs, "share": layer.macs / macs,
            **measured, "loss_change": losses.binary if losses else None,
            "loss_change_input": losses.input if losses else None,
            "metric": score.metric if score else None, "scored_by": self.metric or None,
            "has_choice": layer.name in self.free, "precision": decision.precision, "norm": decision.norm,
            "why": decision.why, "ops": price.ops, "bytes": price.bytes, **weights,
        }  # fmt: skip

    def _is_binary(self, layer: LayerFacts) -> bool:
        return self.precision(layer.name) == "binary"


def _error(layer: LayerFacts) -> float:
    return layer.errors.plain if layer.errors else 0.0
