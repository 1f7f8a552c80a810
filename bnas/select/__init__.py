"""Errors, costs and a budget -> which layers of a model keep real inputs. Decides, and measures nothing."""

from bnas.select.decide import decide
from bnas.select.methods import METHODS
from bnas.select.metrics import GAMMA, METRICS, Evidence, LayerErrors, LayerFacts, LayerScore, LossChanges, NotMeasured
from bnas.select.problem import Choice, Problem, Ratio, Verdict, budget_of
from bnas.select.rules import DEFAULT_RULES, Rules, fixed_layers
from bnas.select.selection import DEFAULT_BINARIZERS, Decision, Decisions, Selection
from bnas.space.original import Original

__all__ = [
    "DEFAULT_BINARIZERS",
    "DEFAULT_RULES",
    "GAMMA",
    "METHODS",
    "METRICS",
    "Choice",
    "Decision",
    "Decisions",
    "Evidence",
    "LayerErrors",
    "LayerFacts",
    "LayerScore",
    "LossChanges",
    "NotMeasured",
    "Original",
    "Problem",
    "Ratio",
    "Rules",
    "Selection",
    "Verdict",
    "budget_of",
    "decide",
    "fixed_layers",
]
