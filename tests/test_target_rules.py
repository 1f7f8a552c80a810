from typing import Any

import numpy as np
import pytest
from packed import worn_network
from spaces import make_arch

from bnas.errors import LookupFailed
from bnas.runtime.filters import RealFilters
from bnas.runtime.program import Program
from bnas.runtime.steps import Channels, Clip, Conv, Pool, Step, Value
from bnas.ship.lowering import lower
from bnas.ship.targets import refusal

BITS: dict[str, Any] = {"pad_value": -1}


@pytest.mark.parametrize(
    ("target", "changes", "rule"),
    [
        ("finn", {"binarizers": {"pad_value": 0}}, "finn pads bits with -1, not with 0; give pad_value: -1"),
        ("hls4ml", {"binarizers": {"pad_value": 1}}, "hls4ml pads bits with -1, not with 1; give pad_value: -1"),
        ("finn", {"binarizers": BITS, "stage": {"groups": 8}}, "finn takes no depthwise convolution, but here are 8"),
        ("hls4ml", {"binarizers": BITS, "stage": {"groups": 2}}, "hls4ml takes no groups, but here are 2"),
        ("hls4ml", {"binarizers": BITS, "stage": {}}, "hls4ml takes no PReLU"),
        ("finn", {"binarizers": BITS, "stage": {"experts": 2}}, "finn takes no experts"),
        ("finn", {"binarizers": BITS, "squeeze_excite": True}, "finn takes no squeeze-excite"),
        ("finn", {"binarizers": BITS, "stage": {"groups": 4}}, None),
        ("finn", {"binarizers": BITS | {"weight": "alpha_beta"}}, "finn takes binary weights of -scale and +scale"),
        ("hls4ml", {"binarizers": BITS | {"weight": "alpha_beta"}}, "hls4ml takes binary weights of -scale and +scale"),
        ("c", {"stage": {"groups": 8, "experts": 2}, "squeeze_excite": True}, None),
    ],
)
def test_a_target_refuses_by_its_rules(target: str, changes: dict[str, Any], rule: str | None) -> None:
    arch = make_arch(**changes)
    found = refusal(lower(worn_network(arch), arch.input), target)
    assert found is None if rule is None else rule in (found or "")


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        (Channels((0,), 0, 6), "hls4ml repeats and leaves out no channels"),
        (Clip((0,), 0, 1), "hls4ml clips no values"),
        (Conv((0,), RealFilters(np.ones((1, 3, 3, 2, 2))), padding=(0, 1, 0, 1), dilation=(2, 2)), "takes no dilation"),
    ],
)
def test_hls4ml_refuses_what_it_has_no_layer_for(step: Step, rule: str) -> None:
    side = step.value(Value("real", 3, 2, 2))[2:]
    program = Program((3, 2, 2), (step, Pool((1,), True, side, (1, 1))))
    assert rule in (refusal(program, "hls4ml") or "")
    assert refusal(program, "finn") is None


def test_a_refusal_names_the_layer_where_it_is_known() -> None:
    arch = make_arch()
    program = lower(worn_network(arch), arch.input)
    assert (refusal(program, "finn", layers=("stem", "block", "head")) or "").startswith("block: ")
    assert (refusal(program, "finn") or "").startswith("step ")


def test_a_target_that_is_not_there_is_refused() -> None:
    arch = make_arch()
    with pytest.raises(LookupFailed, match="choose from c, finn, hls4ml, packed"):
        refusal(lower(worn_network(arch), arch.input), "fin")
