"""Spaces and architectures that several tests use."""

import itertools
import re
from typing import Any
from zlib import crc32

import pytest

from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.errors import BnasError
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable, parts_in, parts_of
from bnas.space.space import Genes, SearchSpace
from bnas.spec import parse


def space_data(*, stage: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a space of one stage as YAML would give it, with changes to its stage and to the rest."""
    plain = {"input": [3, 9, 7], "classes": 5, "stem": {"width": 8}, "stages": [{"width": [8, 16]} | (stage or {})]}
    return plain | changes


def make_space(*, stage: dict[str, Any] | None = None, **changes: Any) -> SearchSpace:
    return parse(SearchSpace, space_data(stage=stage, **changes), source="space")


def arch_data(*, stage: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return an architecture of one block as YAML would give it, with changes to its stage and to the rest."""
    plain = {"input": [3, 9, 7], "classes": 5, "stem": {"width": 8}, "stages": [{"width": 16} | (stage or {})]}
    return plain | changes


def make_arch(*, stage: dict[str, Any] | None = None, **changes: Any) -> Architecture:
    return parse(Architecture, arch_data(stage=stage, **changes), source="architecture")


def rich_space(**changes: Any) -> SearchSpace:
    """Return a space of two stages in which every dimension has choices."""
    stem = {"width": [8, 16], "kernel": [3, 5], "stride": [1, 2]}
    return make_space(**({"stem": stem, "stages": STAGES} | changes))


def later_space(**changes: Any) -> SearchSpace:
    """Return that space with what builds from before did not know."""
    stages = [stage | more for stage, more in zip(STAGES, LATER, strict=True)]
    return rich_space(**({"stages": stages} | changes))


WHOLE: dict[str, Any] = {
    "shortcut": {"kind": ["conv", "repeat", "bottleneck"], "reduction": 3}, "mix_every": [2, 1],
    "classifier": ["binary", "real", "weight"], "binarizers": {"weight": ["alpha_beta", "sign", "xnor"]},
}  # fmt: skip
STAGES: list[dict[str, Any]] = [
    {
        "depth": [1, 2],
        "width": [8, 16],
        "groups": [1, 2, 4],
        "experts": [1, 3],
        "kernel": [1, 3],
        "stride": [1, 2],
        "precision": ["binary", "weight", "real"],
    },
    {"depth": [2, 1, 3], "width": [16, 24], "groups": [2, 1], "experts": [2, 4], "kernel": 5, "stride": 3},
]
LATER: list[dict[str, Any]] = [
    {"downsample": ["conv", "max_pool"], "squeeze_excite": [False, True], "kernel": [1, "1x5", 3]},
    {
        "downsample": ["max_pool", "conv"], "squeeze_excite": [True, False], "activation": ["sign", "react"],
        "depth": [2, 0, 1],
    },
]  # fmt: skip


STEMS: dict[str, dict[str, Any]] = {  # with every dimension that its kind has
    "conv": {"width": [8, 16], "kernel": [3, 5], "stride": [1, 2]},
    "branched": {"kind": "branched", "width": [8, 16], "stride": 4},
    "space_to_depth": {"kind": "space_to_depth", "width": [8, 16], "kernel": [1, 3], "stride": [2, 3, 1]},
    "thermometer": {
        "kind": "thermometer", "width": [8, 16], "kernel": [3, 5], "stride": [1, 2], "levels": [1, 3, 8]
    },
    "several": {"kind": ["space_to_depth", "conv"], "width": [8, 16], "kernel": [3, 1], "stride": [1, 2]},
}  # fmt: skip


def timed(space: SearchSpace) -> SearchSpace:
    """Return a space with a table in which each part takes some time that is its own."""
    times = {str(part): 1000 + crc32(str(part).encode()) % 9000 for part in parts_in(space)}
    table = LatencyTable(machine="any", kernels="none", nanoseconds=times)
    return space.model_copy(update={"latency": table})


def costs_of(space: SearchSpace, arch: Architecture) -> Cost:
    """Return what a network costs, by its plan, and by the table of its space if there is one."""
    return cost(plan(arch))._replace(nanoseconds=space.latency.of(parts_of(arch)) if space.latency else 0)


def every_genotype(space: SearchSpace) -> set[Genes]:
    """Return all genotypes of a space, by trying every combination of indices."""
    return {space.canonical(genes) for genes in itertools.product(*(range(len(d.choices)) for d in space.dimensions))}


def position(space: SearchSpace, name: str) -> int:
    """Return where in a genotype a dimension stands."""
    return [dimension.name for dimension in space.dimensions].index(name)


_OF_TESTS = re.compile(r"/[\w/.-]*/pytest-of-\w+/pytest-\d+/(popen-\w+/)?")  # of any length


def line_of(caught: pytest.ExceptionInfo[BnasError]) -> str:
    """Return an error's message, which must be one line of readable length."""
    text = str(caught.value)
    assert text.isprintable(), f"more than one line: {text!r}"
    assert len(_OF_TESTS.sub("", text)) < 400, f"too long to read: {text!r}"
    return text
