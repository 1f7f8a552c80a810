"""Moving averages of weights: what they are, where they count, that training goes on as without them."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from spaces import line_of
from test_ranks import in_ranks, in_step
from torch import Tensor, nn
from typer.testing import CliRunner

import bnas
from bnas.api import searching
from bnas.cli.app import app
from bnas.data import load_data
from bnas.errors import SpecError, Stopped
from bnas.layers.binary_conv import BinaryConv
from bnas.networks.build import build
from bnas.space.arch import Architecture, Binarizers
from bnas.space.recipe import Recipe, Stage
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse
from bnas.train import Ranks, SharedStore, build_for, evaluate, fit, train_staged
from bnas.train import loop as training
from bnas.train.averages import Averages
from bnas.train.optimizers import latent_weights
from bnas.train.retrain import retrain, trained_alone
from bnas.train.state import model_weights
from tests.reference import naive_average
from tests.tiny import MemoryStore, tiny_space

CPU = torch.device("cpu")
SPACE = tiny_space()
ARCH = SPACE.largest()  # with experts
EMA = 0.8
STEPS = 3  # of an epoch, of 128 images


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=512)


def with_weights(binarizer: str) -> Architecture:
    return ARCH.model_copy(update={"binarizers": Binarizers(weight=binarizer)})


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class Watch:
    """Remembers what a network is whenever it is measured."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.seen = network, list[dict[str, Tensor]]()

    def __call__(self) -> dict[str, float]:
        self.seen.append(state_of(self.network))
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: object) -> None:
        """Remember nothing of before."""


def fitted(
    stage: Stage,
    data,
    store: MemoryStore,
    *,
    arch: Architecture = ARCH,
    until: int | None = None,
    measure: Callable[[nn.Module], Watch] | None = None,
    progress: Callable[[nn.Module, int], None] = lambda network, done: None,
) -> nn.Module:
    """Return a network trained for a stage, of three steps an epoch."""
    torch.manual_seed(0)
    network = build(arch)
    fit(
        network, lambda x, y, _: F.cross_entropy(network(x), y), data.train, stage=stage, batch=128, name="t", seed=1,
        store=store, device=CPU, until=until, measure=measure(network) if measure else None,
        progress=lambda phase, done, total, note="": progress(network, done),
    )  # fmt: skip
    assert data.train.steps(128) == STEPS
    return network


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.3, 0.8, 0.999])
def test_a_stage_ends_with_the_averages_of_what_the_weights_were_after_each_step(digits, optimizer, ema) -> None:
    was: list[dict[str, Tensor]] = []
    stage = Stage(epochs=4, optimizer=optimizer, rate=1e-2, ema=ema)
    ended = state_of(fitted(stage, digits, MemoryStore(), progress=lambda network, done: was.append(state_of(network))))
    assert len(was) == 4 * STEPS
    for name, tensor in ended.items():
        values = [state[name].double() for state in was]
        expected = naive_average(values, ema) if tensor.is_floating_point() else values[-1]
        assert torch.allclose(tensor.double(), expected, atol=1e-6), name  # float32, a dozen steps
        if name.endswith(("weight", "running_var")):
            assert not torch.equal(tensor, was[-1][name]), name


def test_training_itself_goes_as_without_them_and_is_measured_with_them(digits) -> None:
    def run(ema: float, measured: bool) -> tuple[list[dict], list[dict], dict, MemoryStore]:
        was, watches, store = [], [], MemoryStore()

        def watch(network: nn.Module) -> Watch:
            watches.append(Watch(network))
            return watches[0]

        ended = fitted(
            Stage(epochs=3, rate=1e-2, ema=ema), digits, store, measure=watch if measured else None,
            progress=lambda network, done: was.append(state_of(network)),
        )  # fmt: skip
        return was, watches[0].seen if measured else [], state_of(ended), store

    plain, _, last, without = run(0.0, False)
    averaged, seen, ended, store = run(EMA, True)
    unseen, _, same, _ = run(EMA, False)
    assert all(equal(one, other) for one, other in zip(plain, averaged, strict=True))
    assert all(equal(one, other) for one, other in zip(plain, unseen, strict=True))
    assert equal(plain[-1], last)
    assert equal(seen[-1], ended)
    assert equal(same, ended)
    assert not equal(last, ended)
    assert equal(model_weights(store.kept["t"]), ended)
    assert not [key for key in without.kept["t"].tensors if key.startswith("average")]
    assert store.events == without.events  # the loss is that of the weights in training


@pytest.mark.parametrize("binarizer", ["xnor", "irnet"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_put_down_after_any_step_it_ends_in_the_same_bits(digits, optimizer, binarizer) -> None:
    stage, arch = Stage(epochs=2, optimizer=optimizer, rate=1e-2, ema=EMA, one_expert=0.5), with_weights(binarizer)

    def stopping(at: int | None, network: nn.Module, done: int) -> None:
        if done == at:
            raise Stopped

    whole, store = state_of(fitted(stage, digits, MemoryStore(), arch=arch)), MemoryStore()
    for stop in range(1, 2 * STEPS):
        with pytest.raises(Stopped):
            fitted(stage, digits, store, arch=arch, progress=partial(stopping, stop))
    assert equal(state_of(fitted(stage, digits, store, arch=arch)), whole)
    assert equal(state_of(fitted(stage, digits, store, arch=arch)), whole)  # read back, without a step


def test_killed_at_any_step_of_two_stages_it_ends_in_the_same_bits(digits, monkeypatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    stages = (Stage(epochs=1, weights="real", rate=1e-2, ema=EMA), Stage(epochs=2, rate=1e-2, ema=0.5))
    recipe = Recipe(batch=128, stages=stages)

    def run(store: MemoryStore, until: int | None = None) -> dict[str, Tensor]:
        make = partial(build_for, ARCH)
        return state_of(train_staged(make, recipe, digits, name="a", seed=0, store=store, device=CPU, until=until))

    whole, store = run(MemoryStore()), MemoryStore()
    for step in range(1, 3 * STEPS):
        dying = MemoryStore(saves=1)
        dying.kept = store.kept
        with pytest.raises(KeyboardInterrupt):
            run(dying, until=1 if step < 2 * STEPS else None)
    assert equal(run(store), whole)


def test_where_it_is_looked_at_early_the_averages_count_and_it_goes_on_from_the_weights(digits) -> None:
    stage, store = Stage(epochs=2, rate=1e-2, ema=EMA), MemoryStore()
    was: list[dict[str, Tensor]] = []
    early = fitted(stage, digits, store, until=1, progress=lambda network, done: was.append(state_of(network)))
    assert equal(model_weights(store.kept["t"]), state_of(early))
    assert not equal(was[-1], state_of(early))
    assert equal(state_of(fitted(stage, digits, store)), state_of(fitted(stage, digits, MemoryStore())))


def test_the_next_stage_begins_with_the_averages_and_is_taught_by_them(digits) -> None:
    begun: list[Watch] = []

    def watch(network: nn.Module) -> Watch:
        begun.append(Watch(network))
        begun[-1]()
        return begun[-1]

    stages = (Stage(epochs=1, weights="real", rate=1e-2, ema=EMA), Stage(epochs=1, distill={"logits": 1.0}))
    store = MemoryStore()
    train_staged(
        partial(build_for, ARCH), Recipe(batch=128, stages=stages), digits, name="a", seed=0, store=store, device=CPU,
        measure=watch,
    )  # fmt: skip
    ended = model_weights(store.kept["a-0"])
    assert equal(begun[1].seen[0], ended)
    assert equal(state_of(begun[0].network), ended)  # the teacher


def test_a_search_compares_what_is_averaged(digits) -> None:
    recipe = Recipe(batch=128, stages=(Stage(epochs=2, rate=1e-2, ema=EMA),))
    settings = SPACE.search.retrain.model_copy(update={"recipe": recipe, "halvings": (0.5,)})
    archs, store = [SPACE.largest(), SPACE.smallest()], MemoryStore()
    results = retrain({"search": archs}, settings, digits, seed=0, store=store, device=CPU)
    assert sorted(result.epochs for result in results) == [1, 2]
    for result in results:
        kept = trained_alone(result.arch, recipe, store=store)
        assert kept is not None
        assert equal(state_of(kept.network), state_of(result.network))
        assert evaluate(kept.network, digits.validation.batches(500))[0] == result.validation_accuracy
        raw = {key.removeprefix("model."): value for key, value in
               store.kept[f"retrain/{result.arch.id}-0"].tensors.items() if key.startswith("model.")}  # fmt: skip
        assert not equal(raw, state_of(result.network))


def test_averages_of_clipped_and_centred_weights_are_so_too(digits) -> None:
    stage = Stage(epochs=2, rate=0.5, ema=EMA, clip_latent=True)
    clipped = fitted(stage, digits, MemoryStore())
    assert max(float(weight.detach().abs().max()) for weight in latent_weights(clipped)) < 1
    centred = fitted(Stage(epochs=2, rate=1e-2, ema=EMA, centre_latent=True), digits, MemoryStore())
    weights = [weight for weight in latent_weights(centred) if weight.shape[-3] > 1]
    assert max(float(weight.detach().mean(-3).abs().max()) for weight in weights) < 1e-6  # rounding


def test_frozen_weights_counters_and_the_hardness_of_layers_are_not_averaged() -> None:
    network = nn.Sequential(BinaryConv(2, 4, weights="irnet"), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    network[2].requires_grad_(False)
    names = Averages(network, Stage(epochs=1, ema=EMA)).state().keys()
    assert names == {"0.weight", "0.alpha", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    assert not Averages(network, Stage(epochs=1)).state()


@pytest.mark.parametrize("ema", [-0.1, 1.0, 1.5])
def test_a_share_of_the_past_is_from_0_below_1(ema: float) -> None:
    with pytest.raises(SpecError, match="ema"):
        parse(Stage, {"epochs": 1, "ema": ema}, source="r")


class TestRefused:
    """Where there are no latent weights that could be averaged."""

    def test_bop(self) -> None:
        with pytest.raises(SpecError) as caught:
            parse(Recipe, {"stages": [{"epochs": 1, "optimizer": "bop", "ema": 0.9}]}, source="r.yaml")
        assert line_of(caught).startswith("r.yaml: stages[0]: ema: 0.9 averages latent weights, but optimizer: bop has")

    def test_weights_that_soften_in_a_stage_that_makes_them_binary(self) -> None:
        network = build(with_weights("group"))
        with pytest.raises(
            SpecError, match=r"ema: 0.9, which averages latent weights over steps, but what group makes"
        ):
            Averages(network, Stage(epochs=1, ema=0.9))
        assert Averages(network, Stage(epochs=1, ema=0.9, weights="real")).state()
        assert not Averages(network, Stage(epochs=1)).state()

    def test_a_training_says_so_before_it_begins(self, tmp_path) -> None:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(dump(Recipe(stages=(Stage(epochs=1, weights="real", ema=0.9), Stage(epochs=1, ema=0.9)))))
        command = ["train", "lenet5", "--precision", "weight", "--weights", "group", "--input", "1x28x28"]
        told = CliRunner().invoke(app, [*command, "--recipe", str(recipe), "--out", str(tmp_path / "run")])
        assert told.exit_code == 1
        assert str(told.exception).startswith("recipe: stages[1] has ema: 0.9, which averages latent weights")
        assert not (tmp_path / "run").exists()

    def test_a_search_says_so_before_it_begins(self, tmp_path) -> None:
        search = SPACE.search.model_dump()
        search["retrain"]["recipe"] = {"stages": [{"epochs": 1, "ema": 0.9}]}
        space = parse(
            SearchSpace, SPACE.model_dump() | {"search": search, "binarizers": {"weight": "group"}}, source=""
        )
        with pytest.raises(SpecError, match=r"search.retrain.recipe.stages\[0\] has ema: 0.9"):
            bnas.search(space, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()


def averaged_in_ranks(ranks: Ranks) -> tuple[list[float], float]:
    """Return the first weights and statistics that a training ends with, and by how much any differs between ranks."""
    torch.manual_seed(0)
    network, store = (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)),
        MemoryStore(),
    )
    data = load_data("digits", limit=256)
    fit(
        network, lambda x, y, _: F.cross_entropy(network(x), y), data.train, stage=Stage(epochs=2, rate=1e-2, ema=EMA),
        batch=64, name="t", seed=0, store=SharedStore(store if ranks.leads else None, ranks), device=CPU, ranks=ranks,
    )  # fmt: skip
    whole = torch.cat([tensor.detach().double().flatten() for tensor in network.state_dict().values()])
    apart = sum(abs(ranks.total(value) / ranks.count - value.item()) for value in whole)
    return whole[:4].tolist(), apart


def test_every_rank_ends_with_the_averages_of_the_first() -> None:
    weights, apart = in_ranks(partial(in_step, averaged_in_ranks))
    assert apart < 1e-4  # added up in float32
    assert len(weights) == 4


def test_networks_are_searched_and_trained_with_them(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(searching.report, "write_report", lambda run: None)
    search = SPACE.search.model_dump()
    search["retrain"]["recipe"]["stages"] = [{"epochs": 2, "rate": 4e-3, "ema": 0.9}]
    found = bnas.search(tiny_space(search=search), trials=3, top=1, out=tmp_path / "run", progress=False)
    assert found.best.manifest["recipe"]["stages"][0]["ema"] == 0.9
    kept = found.run.load_checkpoint(f"retrain/{found.best.architecture.id}-0")
    assert equal(model_weights(kept), state_of(found.best.load()))
    recipe = Recipe(batch=256, stages=(Stage(epochs=2, ema=0.9),))
    trained = bnas.train_model(found.best.architecture, recipe=recipe, out=tmp_path / "train", progress=False)
    assert equal(model_weights(trained.run.load_checkpoint("train-0")), state_of(trained.load()))
