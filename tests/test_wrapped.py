"""`bnas select` of models as people hand them over: each works, or is one line before anything is measured."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from spaces import line_of
from wrapped_models import REFUSED, WORKS, frozen_first, net

import bnas
from bnas.api.selecting import select_layers
from bnas.api.selecting_by_name import SelectResult, select_model
from bnas.cost.totals import cost
from bnas.data import DataSet, from_arrays
from bnas.errors import BnasError
from bnas.select import Rules
from bnas.select.conversion import convert
from tests.packed import MANY

FILE = Path(__file__).with_name("wrapped_models.py")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*LeafSpec")


def few() -> DataSet:
    images, labels = load_digits(return_X_y=True)
    pixels = (15 * images).astype(np.uint8).reshape(-1, 8, 8)
    return from_arrays("few", pixels[:300], labels[:300], pixels[300:400], labels[300:400])


def selected(name: str, out: Path, *, finetune: int) -> tuple[SelectResult, list[str]]:
    """Return what is selected, and what is warned of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        result = select_model(
            f"{FILE}:{name}", partial(select_layers, ratio=0.5), data=few(), out=out, images=32, finetune=finetune
        )
    return result, [str(warning.message) for warning in warned]


@pytest.mark.parametrize("name", WORKS)
def test_works(name: str, tmp_path: Path) -> None:
    real, said = WORKS[name]
    result, warned = selected(name, tmp_path / "d", finetune=0)
    layers = [layer.name for layer in result.selection.layers]
    assert not any("_orig_mod" in layer or "module" in layer for layer in layers)  # names are those inside of wrappers
    assert {layer.name for layer in result.selection.layers if layer.obstacle} == real
    assert all(0 <= row["accuracy"] <= 1 for row in result.networks)
    assert any(said in line for line in warned)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_is_one_line_before_the_work(name: str, tmp_path: Path) -> None:
    measured: list[Any] = []

    def choose(model: Any, batches: Any) -> Any:
        return select_layers(model, batches, ratio=0.5, progress=lambda *told, **_: measured.append(told))

    with pytest.raises(BnasError) as caught:
        select_model(f"{FILE}:{name}", choose, data=few(), out=tmp_path / "d", finetune=1)
    assert REFUSED[name] in line_of(caught)
    assert not measured
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(WORKS) - {"tuple_answer", "mapping_answer"})[:: 1 if MANY else 6])
def test_is_fine_tuned_and_exported(name: str, tmp_path: Path) -> None:
    selected(name, tmp_path / "d", finetune=1)
    handed = bnas.export(tmp_path / "d", out=tmp_path / "out", trust=True)
    assert (handed / "model.py").exists()


def test_frozen_layers_that_are_chosen_are_trained_again() -> None:
    model, images = frozen_first(), torch.randn(16, 1, 8, 8)
    with pytest.warns(
        UserWarning, match=r"2 layers are frozen \('0', '3'\) \(requires_grad=False\), and become binary"
    ):
        made = select_layers(model, [images], keep=(), rules=Rules(frozen="free", first="weight"))
    binary = convert(model, made).train()
    before = {name: binary.get_parameter(f"{name}.weight").detach().clone() for name in ("0", "3")}
    binary(images).square().mean().backward()
    torch.optim.Adam(binary.parameters(), lr=0.1).step()
    assert all(not torch.equal(binary.get_parameter(f"{name}.weight"), weight) for name, weight in before.items())
    assert not model[3].weight.requires_grad  # type: ignore[index, union-attr]


@pytest.mark.filterwarnings("ignore:1 layer is frozen .'3'")
def test_a_frozen_layer_that_is_included_is_decided_on() -> None:
    with pytest.warns(UserWarning, match=r"1 layer is frozen \('0'\) .*, and stays real"):
        made = select_layers(frozen_first(), [torch.randn(16, 1, 8, 8)], ratio=0.0, rules=Rules(include=("3",)))
    assert made.precision("3") == "binary"
    assert made.decisions.layers["0"].why == "frozen (requires_grad=False)"


def test_a_wrapped_model_is_converted_by_the_names_inside() -> None:
    inside, images = net(), torch.randn(16, 1, 8, 8)
    made = select_layers(inside, [images], ratio=0.5)
    for wrapped in (torch.compile(inside), torch.nn.DataParallel(inside)):
        assert set(select_layers(wrapped, [images], ratio=0.5).decisions.layers) == set(made.decisions.layers)  # type: ignore[arg-type]
        binary = convert(wrapped, made)  # type: ignore[arg-type]
        assert type(binary) is type(inside)
        assert cost(bnas.trace(binary, (1, 8, 8)).layers) == made.cost
