"""Models of every build with their layers in one bit: that they run, learn, cost what was promised, and load."""

import copy
import inspect
import warnings
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spaces import line_of
from torch import Tensor, nn
from users_models import MODELS, Model

from bnas.cost.totals import cost
from bnas.cost.trace.plain_model import tensors_in
from bnas.cost.trace.trace_model import trace
from bnas.errors import BnasError, SpecError
from bnas.layers.binarized import BINARIZED, Binarized
from bnas.layers.binary_conv import BinaryConv
from bnas.select import Decision, Decisions, Rules, Selection, decide
from bnas.select.conversion import Survey, convert, survey
from bnas.select.conversion.suitable import GIVEN
from bnas.space.arch import Binarizers
from bnas.space.recipe import Stage
from bnas.space.values import PRECISIONS
from bnas.spec import dump
from bnas.train import BinaryWatch
from bnas.train.optimizers import latent_weights
from bnas.train.step import start_stage

FREE = Rules(first="free", last="free", downsample="free")


def images(model: Model, *, batch: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *shape, generator=generator) for shape in model.inputs]


@cache
def known(name: str) -> tuple[nn.Module, Survey]:
    """Return a model and what is known of it; neither is changed by a test."""
    network = MODELS[name].make()
    return network, survey(network, images(MODELS[name]))


def any_precisions(found: Survey, *, seed: int, binarizers: Binarizers | None = None) -> Selection:
    """Return a selection of each layer's precision by chance."""
    random = Random(seed)
    drawn = decide(found.layers, found.rest, keep=(), rules=FREE, binarizers=binarizers or Binarizers())
    free = sorted(drawn.free)
    return drawn.with_precisions({name: random.choice(PRECISIONS) for name in free}, why="drawn")


def hook_count(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def answer(network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    return tensors_in(network(*(x.clone() for x in inputs)))  # copies, as one changes what it is given


@pytest.mark.parametrize("name", MODELS)
class TestEveryBuild:
    """What holds for any model."""

    def test_what_can_be_binarized_is_known(self, name: str) -> None:
        _, found = known(name)
        assert {layer.name for layer in found.layers if layer.obstacle} == MODELS[name].real

    @pytest.mark.parametrize("seed", range(3))
    def test_the_traced_cost_is_the_promised_one(self, name: str, seed: int) -> None:
        network, found = known(name)
        binarizers = Binarizers(weight=("xnor", "sign", "alpha_beta")[seed], pad_value=(0, 1, -1)[seed])
        if seed:
            found = survey(network, images(MODELS[name]), binarizers=binarizers)
        made = any_precisions(found, seed=seed, binarizers=binarizers)
        assert cost(trace(convert(network, made), MODELS[name].inputs).layers) == made.cost

    def test_the_real_cost_is_that_of_the_model(self, name: str) -> None:
        network, found = known(name)
        assert decide(found.layers, found.rest, keep=()).real_cost == cost(trace(network, MODELS[name].inputs).layers)

    def test_one_step_trains_every_parameter(self, name: str) -> None:
        network, found = known(name)
        binary = convert(network, decide(found.layers, found.rest, keep=(), rules=FREE)).train()
        before = {path: parameter.detach().clone() for path, parameter in binary.named_parameters()}
        sum(result.square().mean() for result in answer(binary, images(MODELS[name], batch=16))).backward()
        torch.optim.Adam(binary.parameters(), lr=1e-2).step()
        still = {path for path, parameter in binary.named_parameters() if torch.equal(parameter, before[path])}
        # A bias that a batch norm takes away again gets no gradient.
        assert all(path.endswith("bias") for path in still)

    def test_the_state_of_the_original_loads(self, name: str) -> None:
        network, found = known(name)
        fresh = convert(network, any_precisions(found, seed=0))
        binary = copy.deepcopy(fresh)
        with torch.no_grad():
            for tensor in (*binary.parameters(), *binary.buffers()):
                tensor.add_(1)
        binary.load_state_dict(network.state_dict())
        for path, tensor in fresh.state_dict().items():
            torch.testing.assert_close(binary.state_dict()[path], tensor, msg=path)

    def test_its_own_state_loads(self, name: str) -> None:
        network, found = known(name)
        made, inputs = any_precisions(found, seed=1), images(MODELS[name])
        trained, other = convert(network, made), convert(MODELS[name].make(), made)
        answer(trained.train(), inputs)
        other.load_state_dict(trained.state_dict())
        for ours, theirs in zip(answer(trained.eval(), inputs), answer(other.eval(), inputs), strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_it_computes_the_same_with_and_without_gradients(self, name: str) -> None:
        network, found = known(name)
        binary = convert(network, any_precisions(found, seed=0)).eval()
        graphed = answer(binary, images(MODELS[name]))
        with torch.no_grad():
            for ours, theirs in zip(answer(binary, images(MODELS[name])), graphed, strict=True):
                torch.testing.assert_close(ours, theirs)

    def test_the_model_stays_as_it_was(self, name: str) -> None:
        network = MODELS[name].make().train()
        next(iter(network.children())).eval()
        modes, hooks = [module.training for module in network.modules()], hook_count(network)
        before = copy.deepcopy(network.state_dict())
        convert(network, any_precisions(survey(network, images(MODELS[name])), seed=2))
        assert [module.training for module in network.modules()] == modes
        assert all(torch.equal(tensor, before[path]) for path, tensor in network.state_dict().items())
        assert hook_count(network) == hooks
        assert not any(isinstance(module, Binarized) for module in network.modules())

    def test_the_forward_takes_the_same(self, name: str) -> None:
        network, found = known(name)
        binary = convert(network, any_precisions(found, seed=2))
        assert type(binary) is type(network)
        assert inspect.signature(binary.forward) == inspect.signature(network.forward)


class TestSurvey:
    """What is seen round a layer."""

    def facts(self, name: str) -> dict[str, Any]:
        return {layer.name: layer for layer in known(name)[1].layers}

    def test_a_sign_after_a_batch_norm_needs_no_other(self) -> None:
        layers = self.facts("pre-activation")
        assert not layers["conv"].needs_norm
        assert layers["fc"].needs_norm

    @pytest.mark.parametrize(("name", "layer"), [("plain", "2.0"), ("plain", "8"), ("dense", "layers.1.2")])
    def test_a_sign_after_a_relu_needs_one(self, name: str, layer: str) -> None:
        assert self.facts(name)[layer].needs_norm

    def test_an_inplace_relu_after_the_norm_is_noticed(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
        assert survey(model, [torch.zeros(1, 3, 4, 4)]).layers[1].needs_norm

    def test_a_layer_norm_is_a_norm(self) -> None:
        layers = self.facts("transformer")
        assert not layers["qkv"].needs_norm
        assert layers["out"].needs_norm

    @pytest.mark.parametrize(
        "prepare",
        [lambda x: x / 255 - 0.5, nn.BatchNorm2d(3), lambda x: F.avg_pool2d(F.pad(x, [1, 1, 1, 1]), 2)],
        ids=["scaled", "normed", "padded and pooled"],
    )
    def test_what_is_made_of_the_input_without_weights_is_the_input(self, prepare: Any) -> None:
        class Prepared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.prepare, self.one, self.two = prepare, nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1)

            def forward(self, x: Tensor) -> Tensor:
                x = self.prepare(x)
                return self.two(torch.cat((x, self.one(x)), 1))  # what one gives is no input any more

        layers = survey(Prepared(), [torch.rand(1, 3, 8, 8)]).layers
        assert [layer.sees_input for layer in layers] == [True, False]

    def test_what_is_not_counted_is_listed_where_it_runs(self) -> None:
        class Frames(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.lstm = nn.Conv3d(1, 4, 3, padding=1), nn.LSTM(4, 8, batch_first=True)
                self.mix = nn.Bilinear(8, 8, 8)
                self.hidden, self.fc = nn.Linear(8, 8), nn.Linear(8, 3)

            def forward(self, x: Tensor) -> Tensor:
                x, _ = self.lstm(self.conv(x).mean((3, 4)).transpose(1, 2))
                x = self.mix(x[:, -1], x[:, 0])
                return self.fc(F.relu(self.hidden(x)))

        with pytest.warns(UserWarning, match="not counted: mix: _trilinear"):
            found = survey(Frames(), [torch.zeros(2, 1, 4, 6, 6)])
        made = decide(found.layers, found.rest, keep=())
        assert list(made.decisions.layers) == ["conv", "lstm", "mix", "hidden", "fc"]
        assert [made.precision(layer.name) for layer in made.layers] == ["real", "real", "real", "binary", "weight"]
        assert made.decisions.layers["conv"].why == "is a Conv3d, which has no binary form here"
        assert made.decisions.layers["lstm"].why == "is a LSTM, which has no binary form here"
        assert made.decisions.layers["mix"].why.startswith("not counted: _trilinear: this operator is not known")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cost(trace(convert(Frames(), made), (1, 4, 6, 6)).layers) == made.cost

    def test_words_are_traced_as_the_numbers_that_they_are(self) -> None:
        class Words(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(50, 16)
                self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
                self.fc = nn.Linear(16, 4)

            def forward(self, words: Tensor) -> Tensor:
                return self.fc(self.encoder(self.embedding(words)).mean(1))

        model, words = Words(), torch.randint(50, (8, 12))
        found = survey(model, [words])
        made = decide(found.layers, found.rest, keep=())
        precisions = {name: made.precision(name) for name in ("embedding", "encoder.layers.0.linear1", "fc")}
        assert list(precisions.values()) == ["real", "binary", "weight"]
        assert made.decisions.layers["embedding"].why == "is of the kind Embedding, which multiplies nothing"
        binary = convert(model, made)
        assert binary(words).shape == (8, 4)
        assert cost(trace(binary, (12,), like=[words]).layers) == made.cost

    def test_ends_of_a_model_with_several(self) -> None:
        layers = self.facts("two inputs")
        assert [name for name, layer in layers.items() if layer.sees_input] == ["conv.0", "left"]
        assert [name for name, layer in layers.items() if layer.gives_output] == ["one", "two"]

    @pytest.mark.parametrize(
        ("model", "layer", "reason"),
        [
            ("functional", "", "is computed inside Functional, not by a layer of its own"),
            ("einsum", "", "is computed inside Einsum, not by a layer of its own"),
            (
                "transformer",
                "block.layers.0.self_attn.out_proj",
                "is a torch.nn.modules.linear.NonDynamicallyQuantizableLinear, which may compute",
            ),
            ("shared", "up", "shares its weight with down"),
            ("two inputs", "join", "its weight is used outside of its own call"),
            ("sound", "5", "its weight is parametrized, as by weight norm; make that permanent with torch.nn.utils."),
        ],
    )
    def test_reasons_are_given(self, model: str, layer: str, reason: str) -> None:
        assert self.facts(model)[layer].obstacle.startswith(reason)

    def test_what_is_binary_already_keeps_its_precision(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 1), BinaryConv(4, 4), nn.Conv2d(4, 4, 1))
        found = survey(model, [torch.zeros(1, 3, 4, 4)])
        made = decide(found.layers, found.rest, keep=(), rules=FREE)
        assert made.precision("1") == "binary"
        assert found.layers[1].obstacle == "is a BinaryConv already"
        assert cost(trace(convert(model, made), (3, 4, 4)).layers) == made.cost

    def test_a_shared_module_is_one_layer(self) -> None:
        layers = self.facts("shared")
        assert "again" not in layers
        assert layers["conv"].macs == 2 * 8 * 8 * 9 * 12 * 12

    def test_a_model_that_is_one_layer(self) -> None:
        found = survey(nn.Linear(6, 4), [torch.zeros(2, 6)])
        made = decide(found.layers, found.rest, keep=(), rules=FREE)
        binary = convert(nn.Linear(6, 4), made)
        assert isinstance(binary, Binarized)
        assert cost(trace(binary, (6,)).layers) == made.cost

    @pytest.mark.parametrize(
        ("model", "shape", "expected"),
        [
            (
                nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()),
                (3, 4, 4),
                "model Sequential: has no convolution or linear",
            ),
            (nn.Conv2d(3, 4, 3), (4, 8, 8), "trace: the model fails on an input of 4x8x8: "),
        ],
    )
    def test_bad_models_are_one_line(self, model: nn.Module, shape: tuple[int, ...], expected: str) -> None:
        with pytest.raises(BnasError) as caught:
            survey(model, [torch.zeros(1, *shape)])
        assert line_of(caught).startswith(expected)


class TestConvert:
    """The conversion itself."""

    def decisions(self, **layers: str) -> Decisions:
        return Decisions(layers={name.replace("_", "."): Decision(precision=p) for name, p in layers.items()})  # type: ignore[arg-type]

    def test_every_way_of_giving_a_selection(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
        found = survey(network, [torch.zeros(1, 3, 4, 4)])
        made = decide(found.layers, found.rest, keep=(), rules=FREE)
        path = tmp_path / "selection.yaml"
        path.write_text(dump(made.decisions))
        texts = {repr(convert(network, way)) for way in (made, made.decisions, path, str(path))}
        assert len(texts) == 1

    def test_references_from_outside_of_the_tree_see_the_binary_layer(self) -> None:
        class Listed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
                self.order = [self.two, self.one]  # no ModuleList

            def forward(self, x: Tensor) -> Tensor:
                for layer in self.order:
                    x = layer(x)
                return x

        binary = convert(Listed(), self.decisions(one="binary"))
        assert binary.order[1] is binary.one  # type: ignore[index]
        assert isinstance(binary.one, Binarized)

    def test_hooks_stay(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4))
        calls: list[str] = []
        network[0].register_forward_hook(lambda *_: calls.append("called"))
        convert(network, self.decisions(**{"0": "binary"}))(torch.zeros(2, 4))
        assert calls == ["called"]

    def test_dtype_and_mode_follow_the_layer(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4)).to(torch.float64).eval()
        binary = convert(network, self.decisions(**{"0": "binary"}))
        assert {p.dtype for p in binary.parameters()} == {torch.float64}
        assert binary(torch.zeros(2, 4, dtype=torch.float64)).dtype == torch.float64
        assert not any(module.training for module in binary.modules())

    def test_weights_may_lie_in_memory_as_they_like(self) -> None:
        network = nn.Sequential(nn.Conv2d(2, 4, 3))
        turned = copy.deepcopy(network)
        weight = turned[0].weight.detach()
        turned[0].weight = nn.Parameter(weight.transpose(2, 3).contiguous().transpose(2, 3))
        images = torch.randn(3, 2, 5, 5)
        one, other = (convert(each, self.decisions(**{"0": "weight"})) for each in (network, turned))
        assert torch.equal(one(images), other(images))

    @pytest.mark.parametrize("name", ["norm", "alpha", "weights", "pad_value"])
    def test_a_layer_with_an_attribute_of_that_name_is_refused(self, name: str) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten())
        setattr(network[1], name, nn.BatchNorm2d(4) if name == "norm" else 3)
        with pytest.raises(SpecError) as caught:
            convert(network, self.decisions(**{"1": "binary"}))
        assert line_of(caught).startswith(
            f"layer '1': cannot be made binary: has an attribute '{name}' of its own, which a binary layer has for"
        )
        layers = {layer.name: layer for layer in survey(network, [torch.zeros(2, 1, 8, 8)]).layers}
        assert (bool(layers["0"].obstacle), bool(layers["1"].obstacle)) == (False, True)

    def test_all_that_a_binary_layer_has_beside_a_real_one_is_known(self) -> None:
        real, made = (
            nn.Conv2d(2, 4, 3),
            convert(nn.Sequential(nn.Conv2d(2, 4, 3)), self.decisions(**{"0": "binary"}))[0],
        )

        def held(layer: nn.Module) -> set[str]:
            return {*vars(layer), *layer._modules, *layer._parameters, *layer._buffers}

        assert held(made) - held(real) == GIVEN

    def test_a_binary_layer_becomes_no_real_one(self) -> None:
        binary = convert(nn.Sequential(nn.Linear(4, 4)), self.decisions(**{"0": "binary"}))
        with pytest.raises(SpecError, match="is a BinarizedLinear already; convert the real model instead"):
            convert(binary, self.decisions(**{"0": "real"}))
        with pytest.raises(SpecError, match="is a BinarizedLinear already; write precision: binary"):
            convert(binary, self.decisions(**{"0": "weight"}))

    def test_two_names_of_one_layer_need_one_precision(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        network.again = network[0]
        with pytest.raises(
            SpecError, match="'again': is the same module as '0', but is to be binary and that one real"
        ):
            convert(network, self.decisions(**{"0": "real", "again": "binary"}))

    def test_a_layer_whose_forward_was_replaced_is_refused(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4))
        network[0].forward = lambda x: F.linear(x, network[0].weight)
        with pytest.raises(SpecError, match="'0': cannot be made binary: its forward was replaced on the object"):
            convert(network, self.decisions(**{"0": "binary"}))

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ({"stem_1": "binary"}, "layer 'stem.1': cannot be made binary: is a BatchNorm2d, which has no"),
            (
                {"stem_9": "binary"},
                "layer 'stem.9' is not known; did you mean 'stem.0'? choose from conv.0, fc, stem.0",
            ),
        ],
    )
    def test_bad_layers_are_one_line(self, layers: dict[str, str], expected: str) -> None:
        with pytest.raises(BnasError) as caught:
            convert(MODELS["functional"].make(), self.decisions(**layers))
        assert line_of(caught).startswith(expected)
        assert "pkg.mod" not in line_of(caught)  # a layer cannot be given by reference

    def test_a_model_that_cannot_be_copied_is_one_line(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4))
        network.lock = (i for i in ())  # type: ignore[assignment]
        with pytest.raises(BnasError, match=r"^convert: the model cannot be copied \(cannot pickle"):
            convert(network, self.decisions(**{"0": "binary"}))


def test_every_kind_of_layer_is_covered() -> None:
    made = {type(module) for model in MODELS.values() for module in model.make().modules()}
    assert set(BINARIZED) <= made


def test_training_knows_the_layers_as_binary() -> None:
    network, found = known("residual")
    binary = convert(network, decide(found.layers, found.rest, keep=["first"]))
    assert {id(weight) for weight in latent_weights(binary)} == {
        id(binary.get_parameter(f"{name}.weight")) for name in ("first", "second", "downsample", "fc")
    }
    first = Stage(epochs=1, weights="real", inputs="real")
    begun = start_stage(lambda _: binary, first, None, seed=0)
    assert all(layer.real_weights and layer.real_inputs for layer in begun.modules() if isinstance(layer, Binarized))
    assert 0 <= BinaryWatch(binary)()["flips"] <= 1
