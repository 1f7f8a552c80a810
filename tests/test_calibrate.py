"""What a bit loses: of inputs, of weights, and of a whole network."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spaces import line_of
from test_conversion import hook_count
from torch import Tensor, nn
from users_models import MODELS

from bnas.binarize import WEIGHT_BINARIZERS
from bnas.binarize.error import InputError, input_error, summed, weight_error
from bnas.errors import DataError
from bnas.select import LayerErrors, LayerFacts, LossChanges, Rules, decide
from bnas.select.calibrate import examples, measure_errors, measure_loss_changes
from bnas.select.calibrate.fit import Fit
from bnas.select.conversion import convert, survey

FREE = Rules(first="free", last="free", downsample="free")


def labelled(name: str = "residual", *, batches: int = 2, size: int = 8) -> list[tuple[Any, Tensor]]:
    """Return batches for one of the users' models."""
    generator = torch.Generator().manual_seed(0)
    shapes = MODELS[name].inputs
    return [
        (
            tuple(torch.randn(size, *shape, generator=generator) for shape in shapes),
            torch.randint(5, (size,), generator=generator),
        )
        for _ in range(batches)
    ]


def measured(model: nn.Module, batches: list[Any]) -> tuple[dict[str, LayerErrors], dict[str, LayerFacts]]:
    found = examples(batches, model)
    layers = survey(model, found[0].inputs).layers
    return measure_errors(model, found, layers), {layer.name: layer for layer in layers}


class TestInputError:
    """||x - sign(x)||^2, plain and at the best scale."""

    def test_by_hand(self) -> None:
        error = input_error(torch.tensor([3.0, -1.0, 0.0, 2.0]))
        assert error.plain == (2**2 + 0**2 + 1**2 + 1**2) / 4
        assert error.scale_invariant == pytest.approx(1 - (3 + 1 + 0 + 2) ** 2 / (4 * (9 + 1 + 0 + 4)))

    def test_the_scale_is_the_best(self) -> None:
        x = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        least = min(float((x - s * torch.where(x >= 0, 1, -1)).square().sum()) for s in torch.linspace(0, 2, 2001))
        assert input_error(x).scale_invariant == pytest.approx(least / float(x.square().sum()), abs=1e-6)

    def test_the_scale_of_the_values_does_not_matter(self) -> None:
        x = torch.randn(100, generator=torch.Generator().manual_seed(0))
        assert input_error(7 * x).scale_invariant == pytest.approx(input_error(x).scale_invariant, abs=1e-6)

    def test_signs_lose_nothing_and_zeros_lose_their_place(self) -> None:
        assert input_error(torch.tensor([1.0, -1.0])) == InputError(2, 2, 2)
        assert (input_error(torch.tensor([1.0, -1.0])).plain, InputError(2, 2, 2).scale_invariant) == (0, 0)
        assert (input_error(torch.zeros(3)).plain, input_error(torch.zeros(3)).scale_invariant) == (1, 0)

    def test_parts_add_up(self) -> None:
        x = torch.randn(64, generator=torch.Generator().manual_seed(0))
        whole, parts = input_error(x), summed(map(input_error, x.split(10)))
        assert parts.plain == pytest.approx(whole.plain, rel=1e-6)
        assert parts.scale_invariant == pytest.approx(whole.scale_invariant, rel=1e-6)


class TestWeightError:
    """||W - s W~||^2 / ||W||^2 at the best scale for each filter."""

    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def test_xnor_by_hand(self) -> None:
        filters = self.weight.flatten(1)
        lost = filters.square().sum(1) - filters.abs().sum(1).square() / filters.shape[1]
        assert weight_error(self.weight, WEIGHT_BINARIZERS["xnor"]) == pytest.approx(
            float(lost.sum() / filters.square().sum()), rel=1e-5
        )

    @pytest.mark.parametrize("name", WEIGHT_BINARIZERS)
    def test_the_best_scale_of_each_filter(self, name: str) -> None:
        binary = WEIGHT_BINARIZERS[name](self.weight).dense()
        lost = 0.0
        for ours, bits in zip(self.weight.flatten(1), binary.flatten(1), strict=True):
            found = torch.linalg.lstsq(bits[:, None], ours[:, None]).solution
            lost += float((ours - found[0, 0] * bits).square().sum())
        made = weight_error(self.weight, WEIGHT_BINARIZERS[name])
        assert made == pytest.approx(lost / float(self.weight.square().sum()), rel=1e-4)

    def test_two_values_a_filter_lose_least(self) -> None:
        errors = {name: weight_error(self.weight, binarize) for name, binarize in WEIGHT_BINARIZERS.items()}
        assert min(errors, key=errors.__getitem__) == "alpha_beta"
        assert errors["sign"] == pytest.approx(errors["xnor"])

    def test_zeros_lose_nothing(self) -> None:
        assert weight_error(torch.zeros(2, 3), WEIGHT_BINARIZERS["xnor"]) == 0


class TestMeasureErrors:
    """One pass over the images."""

    def test_inputs_are_measured_as_a_batch_norm_would_give_them(self) -> None:
        torch.manual_seed(0)
        model = MODELS["residual"].make()
        kept: list[Tensor] = []
        model.second.register_forward_pre_hook(lambda _, args: kept.append(args[0].detach()))  # type: ignore[union-attr]
        errors, layers = measured(model, labelled())
        normed = [nn.BatchNorm2d(16)(x) for x in kept[-2:]]
        expected = summed(input_error(x) for x in normed)
        assert layers["second"].needs_norm
        assert errors["second"].plain == pytest.approx(expected.plain, rel=1e-5)
        assert errors["second"].scale_invariant == pytest.approx(expected.scale_invariant, rel=1e-5)
        assert errors["second"].weights.keys() == WEIGHT_BINARIZERS.keys()

    def test_an_input_that_is_normed_is_measured_as_it_is(self) -> None:
        model = MODELS["pre-activation"].make().eval()
        batches = labelled("pre-activation", batches=1)
        errors, _ = measured(model, batches)
        x = model.norm(model.stem(batches[0][0][0]))  # type: ignore[operator]
        assert errors["conv"].plain == pytest.approx(input_error(x).plain, rel=1e-5)

    def test_a_converted_model_is_measured_by_its_own_norms(self) -> None:
        model = MODELS["residual"].make()
        found = examples(labelled(), model)
        facts = survey(model, found[0].inputs)
        binary = convert(model, decide(facts.layers, facts.rest, keep=(), rules=FREE))
        binary.second.norm.running_mean.fill_(100)  # type: ignore[union-attr]
        error = measure_errors(binary, found, facts.layers)["second"]
        assert error.plain == pytest.approx(99**2, rel=0.05)  # about -100, whose sign is -1

    @pytest.mark.parametrize("name", MODELS)
    def test_every_build(self, name: str) -> None:
        model = MODELS[name].make().train()
        state, hooks = copy.deepcopy(model.state_dict()), hook_count(model)
        errors, layers = measured(model, labelled(name))
        assert errors.keys() == {layer.name for layer in layers.values() if not layer.obstacle}
        assert all(0 <= error.scale_invariant <= 1 and 0 <= error.weights["xnor"] <= 1 for error in errors.values())
        assert all(torch.equal(tensor, state[path]) for path, tensor in model.state_dict().items())
        assert model.training
        assert hook_count(model) == hooks

    def test_every_form_of_a_batch(self) -> None:
        model = MODELS["plain"].make()
        (inputs, labels), *_ = labelled("plain", batches=1)
        forms = [inputs[0], (inputs[0], labels), (inputs, labels), [inputs, labels], ((inputs[0],), None)]
        assert len({measured(model, [form])[0]["2.0"].plain for form in forms}) == 1

    @pytest.mark.parametrize(
        ("batches", "expected"),
        [
            ([], "calibration: there are no batches"),
            ([1], "calibration: a batch must be a tensor, or (inputs, labels)"),
            ([("x", None)], "calibration: a batch must be a tensor, or (inputs, labels)"),
        ],
    )
    def test_other_forms_are_one_line(self, batches: list[Any], expected: str) -> None:
        with pytest.raises(DataError) as caught:
            examples(batches, MODELS["plain"].make())
        assert line_of(caught).startswith(expected)

    @pytest.mark.parametrize(
        ("second", "expected"),
        [
            (torch.zeros(8, 4, 12, 12), "calibration: the model fails on batch 2, 8x4x12x12 of float32: "),
            (torch.zeros(8, 3, 20, 20), "calibration: the model fails on batch 2, 8x3x20x20 of float32: "),
            (torch.zeros(8, 3, 12, 12).byte(), "calibration: the model fails on batch 2, 8x3x12x12 of uint8: "),
        ],
    )
    def test_a_batch_of_another_shape_is_named(self, second: Tensor, expected: str) -> None:
        model, (first, *_) = MODELS["plain"].make(), labelled("plain")
        with pytest.raises(DataError) as caught:
            measured(model, [first, (second, None)])
        assert line_of(caught).startswith(expected)
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_a_layer_that_no_batch_reaches_is_named(self) -> None:
        class Early(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)

            def forward(self, x: Tensor) -> Tensor:
                maps = self.first(x)
                return maps.mean((2, 3)) if x.mean() > 1 else self.second(maps).mean((2, 3))

        images = torch.randn(8, 1, 8, 8) + 3
        images[0] -= 3  # which the survey looks at alone
        with pytest.raises(DataError, match="layer 'second' is called for none of the batches") as caught:
            measured(Early(), [images])
        line_of(caught)

    def test_one_image_cannot_be_normalised(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        with pytest.raises(DataError, match=r"layer '0' sees one value a channel; give batches of several images"):
            measured(model, [torch.zeros(1, 4)])

    @pytest.mark.parametrize(
        ("spoil", "expected"),
        [
            (lambda model, x: x.fill_(torch.nan), "calibration: the input of layer '0.0' is not finite"),
            (lambda model, x: x[0].fill_(torch.inf), "calibration: the input of layer '0.0' is not finite"),
            (
                lambda model, x: model[0][1].running_var.fill_(torch.nan),
                "calibration: the output of BatchNorm2d '0.1' is not finite (NaN or infinity); look at the images, and",
            ),
            (
                lambda model, x: model[8].bias.data.fill_(torch.nan),
                "calibration: the output of layer '8' is not finite",
            ),
            (
                lambda model, x: model[8].bias.data.fill_(torch.inf),
                "calibration: the output of layer '8' is not finite",
            ),
            (
                lambda model, x: model.append(nn.LogSigmoid())[9].register_forward_hook(lambda m, a, out: out.log()),
                "calibration: the output of LogSigmoid '9' is not finite",
            ),
            (
                lambda model, x: model.register_forward_hook(lambda module, args, out: (-out.abs()).sqrt()),
                "calibration: the result of the model is not finite",
            ),
            (
                lambda model, x: model[2][0].weight.data[0].fill_(torch.nan),
                "calibration: the weight of layer '2.0' is not finite",
            ),
        ],
    )
    def test_what_is_not_finite_is_named(self, spoil: Any, expected: str) -> None:
        model, batches = MODELS["plain"].make(), labelled("plain", batches=1)
        layers = survey(model, batches[0][0]).layers
        spoil(model, batches[0][0][0])
        with pytest.raises(DataError) as caught:
            measure_errors(model, examples(batches, model), layers)
        assert line_of(caught).startswith(expected)
        assert model.training
        assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("batch", [(None, 1), (5, torch.zeros(2)), ("ab", 1), ((), 1), ({"x": 1}, 1)])
def test_inputs_that_are_no_tensors_are_one_line(batch: Any) -> None:
    with pytest.raises(DataError) as caught:
        examples([batch], nn.Linear(2, 2))
    assert line_of(caught).startswith("calibration: a batch must be a tensor, or (inputs, labels)")


def test_a_model_that_counts_while_it_runs_stays_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)
            self.register_buffer("mean", torch.zeros(4))
            self.register_buffer("last", None)

        def forward(self, x: Tensor) -> Tensor:
            z = self.one(x)
            self.mean.lerp_(z.mean(0), 0.1)
            self.last = z
            return self.two(z - self.mean)

    model = Counting()
    mean = model.mean
    measured(model, [torch.randn(8, 4)])
    assert model.mean is mean
    assert (mean == 0).all()
    assert model.last is None


class TestLossChanges:
    """One layer alone is binary."""

    @pytest.mark.parametrize("channels", [1, -1])
    def test_a_fit_is_the_least_squares_of_each_channel_over_all_batches(self, channels: int) -> None:
        torch.manual_seed(0)
        binary, real = torch.randn(4, 3, 5, 5).movedim(1, channels), torch.randn(4, 3, 5, 5).movedim(1, channels)
        fit = Fit(channels)
        for half in (slice(0, 2), slice(2, 4)):
            fit.add(binary[half], real[half])
        made = fit(binary)
        for channel in range(3):
            x, y = (values.select(channels, channel).flatten() for values in (binary, real))
            found = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution
            ours = made.select(channels, channel).flatten()
            torch.testing.assert_close(ours, found[0] * x + found[1], rtol=1e-4, atol=1e-5)

    def test_a_channel_that_does_not_vary_becomes_the_mean(self) -> None:
        fit = Fit(-1)
        fit.add(torch.ones(4, 1), torch.tensor([[1.0], [2.0], [3.0], [6.0]]))
        assert fit(torch.ones(4, 1)).flatten().tolist() == [3.0] * 4

    def test_by_hand(self) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)).eval()
        (inputs, labels), *_ = labelled("plain", batches=1, size=64)
        x = inputs[0].flatten(1)[:, :6]
        layers = survey(model, [x]).layers
        changes = measure_loss_changes(model, examples([(x, labels)], model), layers)
        hidden = model[1](model[0](x)).detach()
        bits = torch.where(nn.BatchNorm1d(8)(hidden) >= 0, 1.0, -1.0)
        weight, bias, real = model[2].weight.detach(), model[2].bias.detach(), model(x).detach()
        weight = weight.abs().mean(1, keepdim=True) * torch.where(weight >= 0, 1.0, -1.0)
        raw = F.cross_entropy(bits @ weight.T + bias, labels) - F.cross_entropy(real, labels)
        assert changes["2"].binary == pytest.approx(float(raw), rel=1e-3)
        losses = {}
        for name, made in {"binary": bits @ weight.T, "weight": hidden @ weight.T}.items():
            fit = Fit(-1)
            fit.add(made, real)
            losses[name] = F.cross_entropy(fit(made), labels)
        assert changes["2"].input == pytest.approx(float(losses["binary"] - losses["weight"]), rel=1e-3)

    @pytest.mark.parametrize("kwargs", [False, True])
    def test_what_happens_before_a_layer_happens_once(self, kwargs: bool) -> None:
        torch.manual_seed(0)
        x, labels = torch.randn(16, 2, 6, 6), torch.randint(3, (16,))
        plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ZeroPad2d((2, 0, 0, 0)), nn.Conv2d(4, 3, 4), nn.Flatten())
        hooked = nn.Sequential(plain[0], nn.Identity(), plain[2], plain[3])

        def padded(_: nn.Module, args: tuple[Tensor, ...], *rest: object) -> object:
            given = (F.pad(args[0], (2, 0, 0, 0)),)
            return (given, {}) if rest else given

        losses = []
        for model in (plain, hooked):
            if model is hooked:
                hooked[2].register_forward_pre_hook(padded, with_kwargs=kwargs)
            model[3] = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
            layers = [layer._replace(needs_norm=False) for layer in survey(model, [x]).layers]
            losses.append(measure_loss_changes(model, examples([(x, labels)], model), layers)["2"])
        assert losses[0].binary == pytest.approx(losses[1].binary)
        assert losses[0].input == pytest.approx(losses[1].input)

    def test_an_input_of_signs_loses_nothing_by_its_sign(self) -> None:
        torch.manual_seed(0)
        x = torch.where(torch.randn(64, 6) >= 0, 1.0, -1.0)
        model = nn.Sequential(nn.Linear(6, 5))
        found = examples([(x, torch.randint(5, (64,)))], model)
        layers = [layer._replace(needs_norm=False) for layer in survey(model, [x]).layers]
        change = measure_loss_changes(model, found, layers)["0"]
        assert change.input == 0
        assert change.binary != 0  # what its weights lose

    @pytest.mark.parametrize("name", sorted(set(MODELS) - {"two inputs", "autoencoder"}))
    def test_every_build(self, name: str) -> None:
        model, batches = MODELS[name].make(), labelled(name, batches=1)
        state = copy.deepcopy(model.state_dict())
        found = examples(batches, model)
        layers = survey(model, found[0].inputs).layers
        hooks = hook_count(model)
        changes = measure_loss_changes(model, found, layers)
        assert changes.keys() == {layer.name for layer in layers if not layer.obstacle}
        assert all(torch.equal(tensor, state[path]) for path, tensor in model.state_dict().items())
        assert hook_count(model) == hooks

    @pytest.mark.parametrize("sorted_by_class", [False, True])
    def test_batches_of_few_classes_are_judged_by_the_same_answer(self, *, sorted_by_class: bool) -> None:
        class Two(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.coarse, self.fine = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 5)

            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                y = self.first(x).relu()
                return self.coarse(y), self.fine(y)

        torch.manual_seed(0)
        model, x, labels = Two(), torch.randn(50, 6), torch.arange(50) % 5
        order = labels.argsort() if sorted_by_class else torch.arange(50)
        found = examples([(x[i], labels[i]) for i in order.split(10)], model)
        changes = measure_loss_changes(model, found, survey(model, found[0].inputs).layers)
        assert changes["coarse"] == LossChanges(0.0, 0.0)
        assert changes["fine"].binary != 0

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            ([1, 2], "but batch 1 has list; give such"), (torch.rand(2), "has [2] of torch.float32; give such"),
            (torch.zeros(2, 1).long(), "has [2, 1] of torch.int64; give such"),
        ],
    )  # fmt: skip
    def test_labels_that_are_no_classes_need_a_loss(self, labels: Any, said: str) -> None:
        model = nn.Sequential(nn.Linear(6, 4))
        found = examples([(torch.randn(2, 6), labels)], model)
        with pytest.raises(DataError) as caught:
            measure_loss_changes(model, found, survey(model, found[0].inputs).layers)
        assert said in line_of(caught)

    def test_a_loss_of_ones_own(self) -> None:
        model, batches = MODELS["two inputs"].make(), labelled("two inputs")
        found = examples(batches, model)
        layers = survey(model, found[0].inputs).layers
        changes = measure_loss_changes(
            model, found, layers, loss=lambda made, labels: F.cross_entropy(made["one"], labels)
        )
        assert changes["two"] == (0, 0)
        assert all(changes["more.0"])

    def test_labels_are_needed(self) -> None:
        model = MODELS["plain"].make()
        found = examples([labelled("plain")[0][0][0]], model)
        with pytest.raises(DataError, match=r"^sensitivity: every batch needs labels"):
            measure_loss_changes(model, found, survey(model, found[0].inputs).layers)

    @pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.long), torch.full((8,), 5)], ids=["few", "unknown"])
    def test_labels_that_do_not_fit_are_one_line(self, labels: Tensor) -> None:
        model, ((inputs, _), *_) = MODELS["plain"].make(), labelled("plain")
        found = examples([(inputs, labels)], model)
        with pytest.raises(DataError) as caught:
            measure_loss_changes(model, found, survey(model, found[0].inputs).layers)
        assert line_of(caught).startswith("sensitivity: the loss fails on batch 1: ")

    def test_a_loss_that_is_not_finite_is_said(self) -> None:
        model, batches = MODELS["plain"].make(), labelled("plain")
        model[8].bias.data.fill_(torch.nan)  # type: ignore[index, union-attr, operator]
        found = examples(batches, model)
        with pytest.raises(DataError, match=r"^sensitivity: the loss of the model as it is is nan; look at"):
            measure_loss_changes(model, found, survey(model, found[0].inputs).layers)
