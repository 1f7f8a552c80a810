"""Training: resumable to the bit, rates, decay, stages, distillation, calibration."""

import itertools
import math
import random
import shutil
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from spaces import STEMS, WHOLE, later_space
from torch import nn

from bnas.binarize.alpha_beta import alpha_beta
from bnas.binarize.scaled_sign import xnor
from bnas.binarize.sign import sign
from bnas.data import load_data
from bnas.errors import SpecError, Stopped, TrainingError
from bnas.layers.binarized import binarize_
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import BinaryLinear, set_hardness
from bnas.layers.expert_conv import ExpertConv
from bnas.networks.build import build
from bnas.progress import Progress, silent
from bnas.seeds import derived
from bnas.space.arch import Binarizers
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.space.settings import SupernetRecipe
from bnas.space.shipped import read_recipe
from bnas.spec import parse
from bnas.supernet import Supernet
from bnas.train import BinaryWatch, build_for, evaluate, evaluate_soft, fit, recalibrate, train_staged, train_supernet
from bnas.train import loop as training
from bnas.train.binary_watch import SupernetWatch
from bnas.train.objective import answering, attention, distance, stage_loss
from bnas.train.optimizers import centrable_weights, latent_weights, make_optimizers, schedule
from bnas.train.state import model_weights
from bnas.train.step import constrain, in_channels_last, start_stage
from tests.tiny import MemoryStore, tiny_space

CPU = torch.device("cpu")
SPACE = tiny_space()
EXPERTS = SPACE.architecture(SPACE.genes(SPACE.largest()))
MAKE = partial(build_for, EXPERTS)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=512)


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "bop"])
def test_training_resumed_after_every_epoch_ends_in_the_same_bits(digits, optimizer, monkeypatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    stage = Stage(epochs=3, optimizer=optimizer, rate=1e-3, weight_decay=1e-2)

    def run(store: MemoryStore, until: int | None) -> nn.Module:
        torch.manual_seed(0)
        network = build(EXPERTS)
        fit(
            network, lambda x, y, _: F.cross_entropy(network(x), y), digits.train, stage=stage, batch=128,
            name="t", seed=1, store=store, device=CPU, until=until,
        )  # fmt: skip
        return network

    whole, parts = run(MemoryStore(), None), MemoryStore()
    for until in (1, 2):
        run(parts, until)
    assert equal(run(parts, None), whole)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "bop"])
def test_a_stage_in_bfloat16_whose_filters_lie_in_channels_last_is_resumed_to_the_same_bits(digits, optimizer) -> None:
    recipe = Recipe(batch=128, stages=(Stage(epochs=3, rate=1e-2, dtype="bfloat16", optimizer=optimizer),))
    make = partial(build_for, EXPERTS.with_one_expert())

    def run(store: MemoryStore, until: int | None = None) -> nn.Module:
        return train_staged(make, recipe, digits, name="a", seed=0, store=store, device=CPU, until=until)

    parts = MemoryStore()
    for until in (1, 2):
        run(parts, until)
    assert equal(run(parts), run(MemoryStore()))


def test_training_put_down_after_any_step_ends_in_the_same_bits_and_logs_the_same(digits) -> None:
    stage, stops = Stage(epochs=2, rate=1e-3), iter((1, 3, 4))  # of 3 steps an epoch

    def run(store: MemoryStore, stop: int | None) -> nn.Module:
        def progress(phase: str, done: int, total: int, note: str = "") -> None:
            if done == stop:
                raise Stopped

        torch.manual_seed(0)
        network = build(EXPERTS)
        fit(
            network, lambda x, y, _: F.cross_entropy(network(x), y), digits.train, stage=stage, batch=128,
            name="t", seed=1, store=store, device=CPU, progress=progress,
        )  # fmt: skip
        return network

    whole_store, store = MemoryStore(), MemoryStore()
    whole = run(whole_store, None)
    assert digits.train.steps(128) == 3
    for stop in stops:
        with pytest.raises(Stopped):
            run(store, stop)
    assert equal(run(store, None), whole)
    assert store.events == whole_store.events


def test_going_on_leaves_what_the_store_holds_as_it_is(digits) -> None:
    recipe, store = Recipe(batch=128, stages=(Stage(epochs=2, rate=1e-2),)), MemoryStore()
    train_staged(MAKE, recipe, digits, name="a", seed=0, store=store, device=CPU, until=1)
    held = {key: value.clone() for key, value in store.kept["a-0"].tensors.items()}
    dying = MemoryStore(saves=0)
    dying.kept = store.kept
    with pytest.raises(KeyboardInterrupt):
        train_staged(MAKE, recipe, digits, name="a", seed=0, store=dying, device=CPU)
    assert all(torch.equal(store.kept["a-0"].tensors[key], value) for key, value in held.items())


def test_supernet_killed_after_any_step_ends_in_the_same_bits(digits, monkeypatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    recipe = SupernetRecipe(epochs=4, batch=128, one_expert=0.5)

    def run(store: MemoryStore) -> nn.Module:
        return train_supernet(SPACE, recipe, digits, seed=0, store=store, device=CPU)

    whole = run(MemoryStore())
    store, steps = MemoryStore(), 4 * digits.train.steps(128)
    for step in range(1, steps):
        dying = MemoryStore(saves=1)
        dying.kept = store.kept
        with pytest.raises(KeyboardInterrupt):
            run(dying)
        assert divmod(step, steps // 4) == tuple(store.kept["supernet"].state.values())[:2]
    assert equal(run(store), whole)


def test_experts_are_alike_until_the_warm_up_ends_and_then_differ(digits) -> None:
    def banks(recipe: SupernetRecipe, store: MemoryStore | None = None, progress: Progress = silent) -> torch.Tensor:
        kept = store or MemoryStore()
        net = train_supernet(SPACE, recipe, digits, seed=0, store=kept, device=CPU, progress=progress)
        return net.get_parameter("stages.0.0.main.weight")

    torch.manual_seed(derived(0, "supernet"))
    start = Supernet(SPACE).get_parameter("stages.0.0.main.weight")

    def stop(phase: str, done: int, total: int, note: str = "") -> None:
        if done == total // 2:
            raise Stopped("before the copy")

    stopped = MemoryStore()
    with pytest.raises(Stopped):
        banks(SupernetRecipe(epochs=2, batch=128, one_expert=0.5), stopped, progress=stop)
    lone = model_weights(stopped.kept["supernet"])["stages.0.0.main.weight"]
    assert not torch.equal(lone[0], start[0])  # the first learns
    assert torch.equal(lone[1], start[1])  # the second has not been used
    after = banks(SupernetRecipe(epochs=6, batch=128, one_expert=0.5))
    assert torch.corrcoef(after.flatten(1))[0, 1] > 0.5  # it began as a copy
    assert not torch.equal(after[0], after[1])
    last = banks(SupernetRecipe(epochs=2, batch=128, one_expert=1.0))  # the last epoch trains all
    assert torch.corrcoef(last.flatten(1))[0, 1] > 0.5


def test_sandwich_trains_all_its_parts(digits) -> None:
    recipe = SupernetRecipe(mode="sandwich", epochs=1, batch=256)
    net = train_supernet(SPACE, recipe, digits, seed=0, store=MemoryStore(), device=CPU)
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(net) if tensor.is_floating_point())


@pytest.mark.parametrize("mode", ["single", "sandwich"])
def test_a_supernet_in_bfloat16_learns_nearly_the_same(digits, mode: str) -> None:
    def trained(dtype: str) -> list[torch.Tensor]:
        recipe = SupernetRecipe(mode=mode, epochs=1, batch=256, dtype=dtype)
        net = train_supernet(SPACE, recipe, digits, seed=0, store=MemoryStore(), device=CPU)
        return [tensor for tensor in weights_of(net) if tensor.is_floating_point()]

    exact, short = trained("float32"), trained("bfloat16")
    assert all(tensor.dtype == torch.float32 for tensor in short)
    assert not all(map(torch.equal, exact, short))
    moved = [(one - other).abs().mean() for one, other in zip(exact, short, strict=True)]
    assert max(moved) < 0.05


@pytest.mark.parametrize("stem", STEMS)
def test_every_kind_of_network_learns_in_bfloat16(stem: str) -> None:
    for seed in range(6):
        space = later_space(stem=STEMS[stem], squeeze_excite=seed % 2 == 0, **WHOLE)
        arch = space.architecture(space.sample(random.Random(seed)))
        network = in_channels_last(build(arch))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = network(torch.randn(4, *arch.input))
        y.float().square().mean().backward()
        for name, weight in network.named_parameters():
            assert torch.isfinite(weight.grad).all(), (arch.id, name)


def test_a_supernet_in_float32_is_described_as_before_there_was_another() -> None:
    assert "dtype" not in SupernetRecipe().model_dump()
    assert SupernetRecipe(dtype="bfloat16").model_dump()["dtype"] == "bfloat16"


def test_a_loss_that_is_not_finite_says_where_and_keeps_the_last_good_checkpoint(digits, monkeypatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    network, store = build(EXPERTS), MemoryStore()
    steps = digits.train.steps(128)

    def objective(images, labels, step):
        loss = F.cross_entropy(network(images), labels)
        return loss if step < steps else loss * math.nan

    with pytest.raises(TrainingError, match=r"mine: the loss is nan at epoch 2, step 1, rate .*lower the rate"):
        fit(
            network, objective, digits.train, stage=Stage(epochs=3), batch=128, name="mine", seed=0, store=store,
            device=CPU,
        )  # fmt: skip
    assert store.kept["mine"].state["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in store.kept["mine"].tensors.values())


def test_the_rate_rises_then_falls_to_nothing() -> None:
    shares = [schedule(step, 100, 0.1) for step in range(100)]
    assert shares[:10] == [pytest.approx((step + 1) / 10) for step in range(10)]
    assert shares[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(shares[10:]))
    assert shares[-1] < 0.001


def test_latent_weights_behind_binary_ones_do_not_decay() -> None:
    network = build(EXPERTS)
    latent = {id(weight) for weight in latent_weights(network)}
    convs = [m for m in network.modules() if isinstance(m, BinaryConv | ExpertConv)]
    assert latent == {id(conv.weight) for conv in convs if conv.precision != "real"}
    decayed = make_optimizers(network, Stage(epochs=1, weight_decay=0.1))[0].param_groups[0]
    assert decayed["weight_decay"] == 0.1
    assert not latent & {id(p) for p in decayed["params"]}
    real = make_optimizers(network, Stage(epochs=1, weight_decay=0.1, weights="real"))[0].param_groups[0]
    assert latent <= {id(p) for p in real["params"]}


def test_one_expert_becomes_all_of_them() -> None:
    first = start_stage(MAKE, Stage(epochs=1, weights="real", experts="first"), None, seed=0)
    second = start_stage(MAKE, Stage(epochs=1), first, seed=1)
    one, bank = first.state_dict(), second.state_dict()
    grown = [name for name in one if one[name].shape != bank[name].shape]
    assert grown
    for name in grown:
        assert all(torch.equal(expert, one[name]) for expert in bank[name])
    assert all(torch.equal(one[name], bank[name]) for name in one if name not in grown)
    assert all(m.real_weights for m in first.modules() if isinstance(m, BinaryConv | ExpertConv))
    assert not any(m.real_weights for m in second.modules() if isinstance(m, BinaryConv | ExpertConv))


def lone_stage(**more) -> Stage:
    """Return a stage of four epochs, the first two of them with one expert."""
    return Stage(epochs=4, rate=1e-2, one_expert=0.5, weight_decay=1e-2, **more)


def expert_layers(network: nn.Module) -> list[ExpertConv]:
    found = [layer for layer in network.modules() if isinstance(layer, ExpertConv)]
    assert found
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "bop"])
def test_a_stage_begins_with_one_expert_as_a_network_with_one_does(digits, optimizer) -> None:
    """The same weights, batches and rates, before experts and gates there are, and with them."""
    stage = lone_stage(optimizer=optimizer)
    alone = start_stage(partial(build_for, EXPERTS.with_one_expert()), stage, None, seed=0)
    many = start_stage(MAKE, stage, None, seed=1)
    with torch.no_grad():
        for name, tensor in alone.state_dict().items():
            many.state_dict()[name].copy_(tensor)
    gates = [layer.gate.weight.clone() for layer in expert_layers(many)]
    for network in (alone, many):
        fit(
            network, lambda x, y, _, own=network: F.cross_entropy(own(x), y), digits.train, stage=stage, batch=256,
            name="t", seed=0, store=MemoryStore(), device=CPU, until=2,
        )  # fmt: skip
    one, bank = alone.state_dict(), many.state_dict()
    for name in one:
        assert torch.allclose(bank[name], one[name].expand_as(bank[name]), atol=1e-6), name
    assert all(torch.equal(layer.gate.weight, gate) for layer, gate in zip(expert_layers(many), gates, strict=True))
    x = digits.test.images[:32].float() / 255
    assert torch.allclose(many.eval()(x), alone.eval()(x), atol=1e-4)


def test_experts_of_a_stage_are_equal_until_its_part_with_one_ends(digits) -> None:
    def trained_until(epoch: int) -> nn.Module:
        recipe = Recipe(batch=128, stages=(lone_stage(),))
        store = MemoryStore()
        return train_staged(MAKE, recipe, digits, name="a", seed=0, store=store, device=CPU, until=epoch)

    early, late = trained_until(2), trained_until(4)
    assert all(torch.equal(bank, layer.weight[0]) for layer in expert_layers(early) for bank in layer.weight)
    for layer in expert_layers(late):
        assert not layer.alone
        assert not torch.equal(layer.weight[0], layer.weight[1])
        assert torch.corrcoef(layer.weight.flatten(1))[0, 1] > 0.5  # it began as a copy


def test_a_stage_with_one_expert_killed_after_any_step_ends_in_the_same_bits(digits, monkeypatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    recipe = Recipe(batch=128, stages=(lone_stage(),))

    def run(store: MemoryStore) -> nn.Module:
        return train_staged(MAKE, recipe, digits, name="a", seed=0, store=store, device=CPU)

    whole, store = run(MemoryStore()), MemoryStore()
    for _ in range(1, 4 * digits.train.steps(128)):
        dying = MemoryStore(saves=1)
        dying.kept = store.kept
        with pytest.raises(KeyboardInterrupt):
            run(dying)
    assert equal(run(store), whole)
    assert not any(layer.alone for layer in expert_layers(run(store)))  # read back, without a step


def test_weights_to_begin_with_have_their_experts_already(digits) -> None:
    start = start_stage(MAKE, Stage(epochs=1), None, seed=0)
    again = start_stage(MAKE, lone_stage(), start, seed=1)
    assert equal(again, start)
    assert not any(layer.alone for layer in expert_layers(again))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"epochs": 1, "experts": "first", "one_expert": 0.5}, {"epochs": 1}], "leave one of the two out"),
        ([{"epochs": 1}, {"epochs": 1, "one_expert": 0.5}], r"stages\[1\].one_expert: 0.5 is for the first stage"),
        ([{"epochs": 1, "one_expert": 1.0}], "the last stage must train all experts"),
        ([{"epochs": 1, "one_expert": 1.5}], "one_expert"),
    ],
)
def test_one_expert_is_for_the_begin(stages, message) -> None:
    with pytest.raises(SpecError, match=message):
        parse(Recipe, {"stages": stages}, source="r")


def test_a_whole_stage_may_have_one_expert_that_the_next_has_of_each(digits) -> None:
    stages = (Stage(epochs=1, weights="real", one_expert=1.0, rate=1e-2), Stage(epochs=1, rate=1e-2))
    recipe, store = Recipe(batch=128, stages=stages), MemoryStore()
    network = train_staged(MAKE, recipe, digits, name="a", seed=0, store=store, device=CPU)
    banks = [tensor for name, tensor in store.kept["a-0"].tensors.items() if name.endswith("conv.weight")]
    assert all(torch.equal(bank, weight[0]) for weight in banks if weight.ndim == 5 for bank in weight)
    for layer in expert_layers(network):
        assert not layer.alone
        assert not torch.equal(layer.weight[0], layer.weight[1])


@pytest.mark.parametrize("name", ["straight_through", "two_stages", "group", "bop"])
def test_our_recipes_are_for_networks_without_experts_what_they_were(name: str) -> None:
    recipe = read_recipe(name)
    assert 0.3 < recipe.stages[0].one_expert * recipe.stages[0].epochs / recipe.epochs <= 0.4
    plain = recipe.for_one_expert()
    assert [stage.experts for stage in plain.stages] == ["all"] * len(plain.stages)
    assert "one_expert" not in str(plain.model_dump())


def test_recipes_from_before_are_written_as_they_were() -> None:
    assert not {"one_expert", "ema"} & Stage(epochs=1).model_dump().keys()
    assert Stage(epochs=1, one_expert=0.4).model_dump()["one_expert"] == 0.4
    assert Stage(epochs=1, ema=0.9).model_dump()["ema"] == 0.9


def test_stages_may_not_forget_experts() -> None:
    stages = [{"epochs": 1, "experts": "all"}, {"epochs": 1, "experts": "first"}]
    with pytest.raises(SpecError, match="experts of the stages must go from first to all"):
        parse(Recipe, {"stages": stages}, source="r")


def test_distance_to_itself_is_nothing_and_to_others_is_something() -> None:
    logits, maps = torch.randn(4, 10), [torch.randn(4, 3, 5, 5), torch.randn(4, 6, 2, 2)]
    weights = Distillation(logits=1, attention=1, temperature=2)
    assert distance(logits, maps, logits, maps, weights).item() == pytest.approx(0, abs=1e-6)
    other = [m + torch.randn_like(m) for m in maps]
    assert distance(logits, other, logits, maps, weights) > 0
    assert distance(torch.randn(4, 10), maps, logits, maps, weights) > 0


def test_attention_maps_have_length_one() -> None:
    assert torch.allclose(attention(torch.randn(4, 3, 5, 5)).norm(dim=1), torch.ones(4))


def test_trained_alone_it_learns_and_stops_where_it_is_told(digits) -> None:
    recipe = Recipe(batch=32, stages=(Stage(epochs=8, rate=1e-2),))
    store = MemoryStore()
    half = train_staged(MAKE, recipe, digits, name="a", seed=0, store=store, device=CPU, until=2)
    assert store.kept["a-0"].state["epoch"] == 2
    whole = train_staged(MAKE, recipe, digits, name="a", seed=0, store=store, device=CPU)
    again = train_staged(MAKE, recipe, digits, name="b", seed=0, store=MemoryStore(), device=CPU)
    assert not equal(half, whole)
    assert equal(whole, again)
    assert evaluate(whole, digits.validation.batches(100))[0] > 0.3  # chance is 0.1


def test_recalibrated_statistics_are_the_average_over_the_batches(digits) -> None:
    network = build(EXPERTS)
    images = [x for x, _ in digits.train.batches(100, drop_last=True)]
    recalibrate(network, images)
    stem = network.stem.conv(torch.cat(images))
    assert torch.allclose(network.stem.norm.running_mean, stem.mean((0, 2, 3)), atol=1e-5)
    assert not any(module.training for module in network.modules())
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


class NormOfItsOwn(nn.BatchNorm2d):
    """A subclass, as users and libraries have them."""

    def forward(self, x):
        return super().forward(x).relu()


NORMS = {
    "1d": (nn.BatchNorm1d(4), (4,)), "1d of sequences": (nn.BatchNorm1d(4), (4, 5)),
    "2d": (nn.BatchNorm2d(4), (4, 3, 3)),
    "3d": (nn.BatchNorm3d(4), (4, 2, 3, 3)), "synchronised": (nn.SyncBatchNorm(4), (4, 3, 3)),
    "lazy": (nn.LazyBatchNorm2d(), (4, 3, 3)), "lazy 3d": (nn.LazyBatchNorm3d(), (4, 2, 3, 3)),
    "subclass": (NormOfItsOwn(4), (4, 3, 3)), "not affine": (nn.BatchNorm2d(4, affine=False), (4, 3, 3)),
    "cumulative": (nn.BatchNorm2d(4, momentum=None), (4, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NORMS)
def test_every_kind_of_batch_norm_is_recalibrated(kind: str) -> None:
    norm, shape = NORMS[kind]
    momentum = norm.momentum
    images = 3 + 2 * torch.randn(3, 20, *shape, generator=torch.Generator().manual_seed(0))
    norm(images[0] + 7)  # statistics that must not stay
    recalibrate(nn.Sequential(norm), images)
    means = images.transpose(0, 2).flatten(1).mean(1)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)
    assert (norm.momentum, norm.training, int(norm.num_batches_tracked)) == (momentum, False, 3)


def test_norms_that_no_batch_comes_to_or_without_statistics_stay_as_they_are() -> None:
    class WithAHeadForTraining(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    used, unused, plain = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)
    unused(torch.randn(8, 4, 3, 3) + 5)
    before = {name: tensor.clone() for name, tensor in unused.state_dict().items()}
    recalibrate(WithAHeadForTraining(nn.Sequential(used, plain), unused), torch.randn(2, 8, 4, 3, 3))
    assert int(used.num_batches_tracked) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in unused.state_dict().items())
    assert not unused.training


def test_evaluate_counts_right_answers() -> None:
    class Echo(nn.Module):
        def forward(self, x):
            return x

    logits = torch.eye(4)
    assert evaluate(Echo(), [(logits, torch.tensor([0, 1, 2, 0]))])[0] == 3 / 4


def fitted(stage: Stage, data, *, network: nn.Module | None = None, objective=None) -> tuple[nn.Module, MemoryStore]:
    """Train a small network for a stage; return it and what its store holds."""
    torch.manual_seed(0)
    network, store = network or build(EXPERTS), MemoryStore()
    fit(
        network, objective or (lambda x, y, _: F.cross_entropy(network(x), y)), data.train, stage=stage, batch=256,
        name="t", seed=0, store=store, device=CPU, measure=BinaryWatch(network),
    )  # fmt: skip
    return network, store


def test_latent_weights_are_clipped_where_the_stage_says_so(digits) -> None:
    def largest(clip: bool) -> float:
        network, _ = fitted(Stage(epochs=2, rate=0.5, clip_latent=clip), digits)
        return max(float(weight.detach().abs().max()) for weight in latent_weights(network))

    assert largest(False) > 1
    assert largest(True) < 1


@pytest.mark.parametrize("binarizer", [sign, xnor, alpha_beta])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_latent_weight_that_was_clipped_has_a_gradient_and_comes_back(binarizer, dtype) -> None:
    weight = nn.Parameter(torch.full((1, 4), 3.0, dtype=dtype))
    constrain([], [weight])
    binarizer(weight).dense().sum().backward()
    assert (weight.grad != 0).all()


def test_latent_weights_are_centred_over_input_channels_where_the_stage_says_so(digits) -> None:
    def means(centre: bool) -> list[float]:
        network, _ = fitted(Stage(epochs=1, rate=1e-2, centre_latent=centre), digits)
        weights = [weight for weight in latent_weights(network) if weight.shape[-3] > 1]
        return [float(weight.detach().mean(-3).abs().max()) for weight in weights]

    assert min(means(False)) > 1e-3
    assert max(means(True)) < 1e-6  # rounding


def test_a_transposed_or_depthwise_convolution_has_no_mean_over_input_channels_to_take() -> None:
    transposed = binarize_(nn.ConvTranspose2d(4, 8, 3), precision="weight")
    network = nn.Sequential(BinaryConv(4, 8), BinaryConv(8, 8, groups=8), transposed, BinaryLinear(6, 3))
    assert [(tuple(weight.shape), dim) for weight, dim in centrable_weights(network)] == [
        ((8, 4, 3, 3), -3), ((3, 6), -1)
    ]  # fmt: skip


def test_bop_moves_signs_only_and_the_rest_by_adamw(digits) -> None:
    torch.manual_seed(0)
    before = [weight.detach().clone() for weight in latent_weights(build(EXPERTS))]
    stage = Stage(epochs=2, rate=1e-2, optimizer="bop", bop={"adaptivity": 0.1, "threshold": 1e-8})
    network, store = fitted(stage, digits)
    after = latent_weights(network)
    assert all(torch.equal(old.abs(), new.abs()) for old, new in zip(before, after, strict=True))
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert store.events[0]["flips"] > 0


def test_bfloat16_trains_in_the_stage_that_asks_for_it(digits) -> None:
    seen = []
    network = build(EXPERTS.with_one_expert())

    def objective(images, labels, step):
        logits = network(images)
        seen.append(logits.dtype)
        return F.cross_entropy(logits.float(), labels)

    fitted(Stage(epochs=1, dtype="bfloat16"), digits, network=network, objective=objective)
    assert set(seen) == {torch.bfloat16}
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_mixup_is_the_loss_of_mixed_images_for_both_labels() -> None:
    images, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    mix = torch.nn.Linear(4, 3)
    stage = Stage(epochs=1, mixup=0.4)
    loss = stage_loss(answering(mix), None, stage, 7, images, labels, 3)
    share = random.Random("7, 3").betavariate(0.4, 0.4)
    logits = mix(share * images + (1 - share) * images.flip(0))
    expected = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels.flip(0))
    assert torch.equal(loss, expected)
    assert torch.equal(loss, stage_loss(answering(mix), None, stage, 7, images, labels, 3))  # a step mixes alike again


def test_a_network_that_changes_its_images_in_place_is_taught_of_the_same_ones() -> None:
    class Shifts(nn.Linear):
        def forward(self, x):
            return super().forward(x.sub_(3))

    torch.manual_seed(0)
    network, stage = Shifts(4, 2), Stage(epochs=1, distill=Distillation())
    images, labels = torch.randn(8, 4), torch.arange(8) % 2
    alone = stage_loss(answering(network), None, stage, 0, images.clone(), labels, 0)
    taught = stage_loss(answering(network), answering(network), stage, 0, images.clone(), labels, 0)
    assert torch.allclose(taught, alone)  # it agrees with itself: nothing is added


@pytest.mark.parametrize("side", [1, 2])
def test_attention_needs_maps_of_one_size(side: int) -> None:
    logits, weights = torch.zeros(4, 3), Distillation(attention=1.0)
    own, taught = [torch.randn(4, 8, 6, 6)], [torch.randn(4, 16, side, side)]
    with pytest.raises(
        TrainingError, match=rf"is \[6, 6\], height and width, and that of its teacher \[{side}, {side}\]"
    ):
        distance(logits, own, logits, taught, weights)
    assert distance(logits, own, logits, [torch.randn(4, 16, 6, 6)], weights) > 0


def test_attention_needs_maps_on_both_sides() -> None:
    linear = torch.nn.Linear(4, 3)
    stage = Stage(epochs=1, distill=Distillation(attention=1.0))
    with pytest.raises(TrainingError, match=r"gives 0 maps .* set attention: 0"):
        stage_loss(answering(linear), answering(linear), stage, 0, torch.randn(2, 4), torch.tensor([0, 1]), 0)


def test_weights_with_exact_gradients_decay_and_others_behind_binary_ones_do_not() -> None:
    for weight, decays in (("xnor", 0.0), ("irnet", 0.0), ("group", 0.1)):
        network = build(EXPERTS.model_copy(update={"binarizers": Binarizers(weight=weight)}))
        (optimizer,) = make_optimizers(network, Stage(epochs=1, weight_decay=0.1))
        found = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert {found[id(weight)] for weight in latent_weights(network)} == {decays}


def test_flips_count_the_signs_that_changed_since_the_last_look() -> None:
    conv = BinaryConv(4, 8, weights="sign")
    watch = BinaryWatch(nn.Sequential(conv))
    assert watch()["flips"] == 0
    with torch.no_grad():
        conv.weight[0].neg_()
    assert watch()["flips"] == 1 / 8
    assert watch()["flips"] == 0


def test_the_values_of_a_filter_are_those_of_its_binary_weights() -> None:
    conv = BinaryConv(4, 8, weights="alpha_beta")
    larger, smaller = BinaryWatch(nn.Sequential(conv))()["filters"]["0"]
    weights = conv.binarize_weight(conv.weight).dense()[0]
    assert (float(weights.max()), float(weights.min())) == (pytest.approx(larger, 1e-4), pytest.approx(smaller, 1e-4))


def test_a_collapsed_gate_is_warned_about_once(caplog) -> None:
    conv = ExpertConv(4, 8, experts=4)
    conv.usage.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    watch = BinaryWatch(nn.Sequential(conv))
    assert watch()["usage"] == watch()["usage"] == {"0": 0.0}
    assert [record.message.partition(":")[0] for record in caplog.records] == ["0"]
    assert "collapsed" in caplog.text


def test_a_supernet_says_how_evenly_its_experts_win_and_warns_of_collapse(digits, caplog) -> None:
    store = MemoryStore()
    net = train_supernet(SPACE, SupernetRecipe(epochs=1, batch=256), digits, seed=0, store=store, device=CPU)
    usage = store.events[0]["usage"]
    assert usage
    assert all(0 <= share <= 1 for share in usage.values())
    name, count = next(iter(usage)).removesuffix(" experts").split(", ")
    net.get_buffer(f"{name}.usage_{count}").copy_(torch.eye(int(count))[0])
    assert SupernetWatch(net)()["usage"][f"{name}, {count} experts"] == 0
    assert f"{name}, {count} experts: the gate has collapsed" in caplog.text


def test_training_that_goes_on_logs_what_it_would_have_logged(digits, monkeypatch) -> None:
    def logged(store: MemoryStore) -> list[dict]:
        train_staged(
            partial(build_for, EXPERTS), recipe, digits, name="w", seed=0, store=store, device=CPU, measure=BinaryWatch
        )
        return store.events

    recipe = Recipe(batch=100, stages=(Stage(epochs=3, rate=1e-2),))
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1)  # keep every step
    stopped = MemoryStore(saves=6)
    with pytest.raises(KeyboardInterrupt):
        logged(stopped)
    resumed = MemoryStore()
    resumed.kept = stopped.kept
    assert resumed.kept["w-0"].state["epoch"] > 0
    whole = logged(MemoryStore())
    assert 0 < len(logged(resumed)) < len(whole)
    assert resumed.events == whole[-len(resumed.events) :]


def test_real_layers_have_nothing_to_watch() -> None:
    assert BinaryWatch(nn.Sequential(BinaryConv(4, 8, precision="real"), nn.Linear(8, 2)))() == {}


def test_soft_weights_are_scored_as_training_left_them() -> None:
    conv = BinaryConv(1, 2, kernel=1, weights="group", precision="weight")
    network = nn.Sequential(conv, nn.Flatten())
    set_hardness(network, 0.0)
    batch = [(torch.randn(64, 1, 1, 1), torch.zeros(64, dtype=torch.int64))]
    soft, hard = evaluate_soft(network, batch), evaluate(network, batch)
    assert soft[1] != hard[1]
    assert not any(module.training for module in network.modules())


def test_a_stage_that_was_over_before_is_as_soft_as_when_it_ended(digits) -> None:
    arch = EXPERTS.with_one_expert()
    soft = arch.model_copy(update={"binarizers": Binarizers(weight="group")})
    recipe, store = Recipe(batch=128, stages=(Stage(epochs=2, rate=1e-2),)), MemoryStore()

    def hardness() -> set[float]:
        network = train_staged(partial(build_for, soft), recipe, digits, name="a", seed=0, store=store, device=CPU)
        return {float(value) for name, value in network.named_buffers() if name.endswith("hardness")}

    assert hardness() == hardness() != {0.5}


def test_scoring_soft_weights_changes_nothing_in_the_network() -> None:
    converted = binarize_(nn.Conv2d(3, 4, 1), precision="binary", weights="group")
    network = nn.Sequential(converted, ExpertConv(4, 4, weights="group"), nn.Flatten())
    before = {name: tensor.clone() for name, tensor in (*network.named_buffers(), *network.named_parameters())}
    evaluate_soft(network, [(torch.randn(8, 3, 2, 2), torch.zeros(8, dtype=torch.int64))])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler for a CPU")
def test_a_compiled_network_trains_to_the_same_loss(digits) -> None:
    def loss(compiled: bool) -> float:
        store = MemoryStore()
        recipe = Recipe(batch=256, stages=(Stage(epochs=1),))
        make = partial(build_for, EXPERTS.with_one_expert())
        train_staged(make, recipe, digits, name="c", seed=0, store=store, device=CPU, compiled=compiled)
        return store.events[-1]["loss"]

    assert loss(True) == pytest.approx(loss(False), rel=1e-3)  # sums are taken in another order


def test_without_a_compiler_compiling_is_refused_at_once(digits, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    recipe = Recipe(stages=(Stage(epochs=1),))
    with pytest.raises(TrainingError, match="needs a C\\+\\+ compiler"):
        train_staged(MAKE, recipe, digits, name="c", seed=0, store=MemoryStore(), device=CPU, compiled=True)
