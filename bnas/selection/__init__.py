"""Errors, costs and a budget -> which layers of a model keep real inputs. Decides, and measures nothing."""

from bnas.selection.decide import decide
from bnas.selection.decisions import DEFAULT_BINARIZERS, Decision, Decisions, Original
from bnas.selection.layer import LayerErrors, LayerFacts, LossChanges
from bnas.selection.methods import METHODS
from bnas.selection.metrics import GAMMA, METRICS, Evidence, LayerScore, NotMeasured
from bnas.selection.problem import Choice, Problem, budget_of
from bnas.selection.ratio import Ratio
from bnas.selection.rules import DEFAULT_RULES, Rules, fixed_layers
from bnas.selection.selection import Selection
from bnas.selection.verdict import Verdict

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
