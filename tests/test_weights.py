"""Files of weights, as people's trainings leave them."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from spaces import line_of
from torch import Tensor, nn

from bnas.errors import BnasError
from bnas.networks.weights import load_weights

State = dict[str, Tensor]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))


STATE: State = net().state_dict()


def under(prefix: str, state: State = STATE) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without(word: str) -> State:
    return {name: tensor for name, tensor in STATE.items() if word not in name}


OTHER = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}
# What was saved -> the word that a warning has in it; none where nothing is to be said.
FITTING: dict[str, tuple[Any, str]] = {
    "plain": (STATE, ""),
    "parallel": (under("module."), "'module.'"),
    "compiled": (under("_orig_mod."), "'_orig_mod.'"),
    "lightning": ({"state_dict": under("model."), "pytorch-lightning_version": "2.5"}, "'model.'"),
    "net": (under("net."), "'net.'"),
    "any word": (under("my_own_wrapper."), "'my_own_wrapper.'"),
    "two wrappers": (under("module._orig_mod."), "'module._orig_mod.'"),
    "names beside": (under("model.") | {"criterion.weight": torch.ones(2)}, "1 others, such as 'criterion.weight'"),
    "state_dict": ({"state_dict": STATE, "epoch": 3, "best_acc1": torch.tensor(9.0)}, ""),
    "tutorial": ({"epoch": 3, "model_state_dict": STATE, "optimizer_state_dict": {"state": {}}, "loss": 0.1}, ""),
    "model": ({"model": STATE, "args": argparse.Namespace(lr=0.1)}, ""),
    "model and ema": ({"model": STATE, "model_ema": OTHER}, "under 'model' were taken, not those under 'model_ema'"),
    "ema alone": ({"ema": STATE, "epoch": 1}, ""),
    "twice nested": ({"model": {"state_dict": under("module.")}}, "'module.'"),
    "other precision": ({name: tensor.double() for name, tensor in STATE.items()}, ""),
    "old batch norm": (without("num_batches"), ""),
    "a number beside": (STATE | {"epoch": 3}, ""),
}
# What was saved -> how the message goes on.
UNFIT: dict[str, tuple[Any, str]] = {
    "other head": (
        STATE | {"3.weight": torch.zeros(9, 3), "3.bias": torch.zeros(9)},
        "'3.weight' is [9, 3], but [2, 3] in the model (and 1 more)",
    ),
    "other head, wrapped": (under("module.", STATE | {"3.bias": torch.zeros(9)}), "'3.bias' is [9], but [2] in the"),
    "one more": (STATE | {"total_ops": torch.zeros(1)}, "'total_ops' is not in the model"),
    "one less": (without("3.bias"), "'3.bias' is missing"),
    "other names": (
        {"fc.weight": torch.ones(2, 3)},
        "'0.weight' is missing (and 7 more); 'fc.weight' is not in the model",
    ),
    "part of it wrapped": (
        STATE | under("module.", {"3.bias": STATE["3.bias"]}),
        "'module.3.bias' is not in the model",
    ),
}


@pytest.mark.parametrize("kind", FITTING)
def test_weights_are_found_in(kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    saved, said = FITTING[kind]
    torch.save(saved, tmp_path / "w.pt")
    model = net()
    load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in model.state_dict().items() if "num_" not in name)
    assert [said in str(warned.message) for warned in recwarn] == [True] * bool(said)


@pytest.mark.filterwarnings("ignore:.*begin with 'module")
@pytest.mark.parametrize("kind", UNFIT)
def test_one_name_of_each_side_is_said_of(kind: str, tmp_path: Path) -> None:
    saved, said = UNFIT[kind]
    torch.save(saved, tmp_path / "w.pt")
    with pytest.raises(BnasError) as caught:
        load_weights(net(), tmp_path / "w.pt")
    assert line_of(caught).startswith(f"{tmp_path / 'w.pt'}: the weights are not those of the model: {said}")


def test_two_that_fit_are_not_chosen_between(tmp_path: Path) -> None:
    torch.save(under("student.") | under("teacher.", OTHER), tmp_path / "w.pt")
    with pytest.raises(BnasError, match=r"the model 2 times, under 'student\.' and 'teacher\.'; save one of them"):
        load_weights(net(), tmp_path / "w.pt")


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_a_wrapped_model_takes_bare_names(wrap: Any, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pt")
    model = net()
    load_weights(wrap(model), tmp_path / "w.pt")
    assert torch.equal(model[3].weight, STATE["3.weight"])


def test_safetensors(tmp_path: Path) -> None:
    save_file(under("module."), tmp_path / "w.safetensors")
    model = net()
    with pytest.warns(UserWarning, match=r"begin with 'module\.'"):
        load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model[3].weight, STATE["3.weight"])


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"weight": Trap()}, tmp_path / "w.pt")
    with pytest.raises(BnasError, match=r"w\.pt: holds more than weights, or none \(UnpicklingError\)"):
        load_weights(net(), tmp_path / "w.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(BnasError, match=r"save model\.state_dict\(\) alone"):
        load_weights(net(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("no.pt", None, "{path}: no such file; give the weights"),
        ("w.pt", b"text", "{path}: holds more than weights, or none"),
        ("w.pt", b"", "{path}: holds more than weights, or none"),
        ("w.safetensors", b"text", "{path}: cannot be read: "),
    ],
)
def test_bad_files_are_one_line(name: str, content: bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BnasError) as caught:
        load_weights(net(), path)
    assert line_of(caught).startswith(expected.format(path=path))


@pytest.mark.parametrize("saved", [{"epoch": 3, "loss": 0.1}, {0: torch.ones(2)}, [1, 2], {"model": {"lr": 0.1}}, {}])
def test_what_holds_no_weights_is_one_line(saved: Any, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "w.pt")
    with pytest.raises(BnasError, match=r"w\.pt: holds a (dict|list)"):
        load_weights(net(), tmp_path / "w.pt")
