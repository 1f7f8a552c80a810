"""What a person gives to be trained -> its description, the recipe that suits it, and whether its images fit."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bnas.api.opening import check_outputs
from bnas.binarize import has_exact_gradient
from bnas.cost.trace.plain_model import check_state
from bnas.data import DataSet
from bnas.errors import DataError, LookupFailed, SpecError
from bnas.lookup import FAILURES, reason
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS, unknown_model
from bnas.runs.saved_network import description_in
from bnas.select.conversion import ConvertedModel
from bnas.ship import Description, HeldModel, parse_description
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.space.shipped import read_recipe
from bnas.spec import parse, read_yaml
from bnas.train.averages import check_averages, weight_binarizers_of
from bnas.trust import check_code

LOGITS_ALONE = "return the logits alone, as a tensor, to have it trained here"  # what to do where a model answers more


def given(model: str | Path | Description, *, trust: bool = False) -> str | Description:
    """Return the description that a YAML file holds; a name, or a description, as it is.

    Raises:
        LookupFailed: nothing has this name.
        SpecError: the file is missing or not well formed.
        TrustError: it names code, which is not trusted.
    """
    if not isinstance(model, Description) and str(model) not in MODELS and Path(model).is_dir():
        model = description_in(model)
    if isinstance(model, Description):
        return model
    if Path(model).suffix not in (".yaml", ".yml"):
        if str(model) not in MODELS and ":" not in str(model):
            raise LookupFailed(unknown_model(str(model)))
        return str(model)
    described = parse_description(read_yaml(model), source=str(model))
    check_code(described, source=str(model), trust=trust)
    return described


def describe(model: str | Description, data: DataSet, *, precision: str | None, weights: str | None) -> Description:
    """Return the description of what is to be trained on these images.

    Raises:
        SpecError, LookupFailed: it is not known, or what was asked does not go with it.
    """
    if isinstance(model, Description):
        if precision or weights:
            raise SpecError("a description says itself what is binary in it; leave --precision and --weights out")
        return model
    everything = weights and not precision
    asked = {
        "model": model, "input": data.input_shape, "classes": data.classes, "weights": weights or "xnor",
        "precision": precision or ("weight" if everything else "real"),
        **({"first": "weight", "last": "weight"} if everything else {}),
    }  # fmt: skip
    return parse(ModelSpec, asked, source=f"model {model}")


def recipe_for(described: Description) -> Recipe:
    """Return our recipe for a network: by its binarizer, its experts, and whether its inputs are binary."""
    if isinstance(described, Architecture):
        if has_exact_gradient(described.binarizers.weight):
            return read_recipe("group")
        return read_recipe("expert" if any(stage.experts > 1 for stage in described.stages) else "two_stages")
    if isinstance(described, ConvertedModel | HeldModel):
        return read_recipe("finetune")
    if described.precision in ("real", "weight"):
        return read_recipe("group" if has_exact_gradient(described.weights) else "straight_through")
    return read_recipe("two_stages")


def _check_answer_in_training(network: nn.Module, images: Tensor) -> None:
    """Raise where a network, left in training mode, answers with more than logits then, as with an auxiliary head's."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            answer = network.train()(images.clone())
        except FAILURES:
            return  # training itself says why
    if not isinstance(answer, Tensor):
        raise SpecError(f"model: gives a {type(answer).__name__} while it is trained; {LOGITS_ALONE}")


def check_fits(network: nn.Module, data: DataSet, recipe: Recipe) -> None:
    """Raise unless the network takes these images, tells that many classes apart, and can be taught as the recipe says.

    Raises:
        DataError: it does not take them; says both sides.
        SpecError: a weight has no value, or is not of float32, or none may be trained; its state is more than tensors;
            it answers with more than logits while it is trained; or a stage matches the maps of the one before, but the
            network does not give any, or averages latent weights that have no average.
    """
    shape = "x".join(map(str, data.input_shape))
    empty = [name for name, held in (*network.named_parameters(), *network.named_buffers()) if held.is_meta]
    if empty:
        raise SpecError(f"model: {empty[0]!r} is on the device meta, where tensors have no values; make it on the CPU")
    for name, held in network.named_parameters():
        if held.is_floating_point() and held.dtype != torch.float32:
            kind = str(held.dtype).removeprefix("torch.")
            raise SpecError(f"model: {name!r} is of {kind}; make the model float32 first, as model.float() does")
    weights = list(network.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        raise SpecError("model: all its weights are frozen (requires_grad=False); call requires_grad_(True)")
    check_state(network)
    network = network.eval()
    images = torch.zeros(2, *data.input_shape)
    try:
        with torch.no_grad():
            logits = network(images)
    except FAILURES as problem:
        raise DataError(
            f"data {data.name}: the network fails on images of {shape}: {reason(problem)}; "
            "give data of the size that it was made for, or resize them with input_shape (--input)"
        ) from problem
    if not isinstance(logits, Tensor) or logits.shape[:1] != (2,) or logits.ndim != 2:
        is_tensor = isinstance(logits, Tensor)
        got = f"logits {list(logits.shape)}" if is_tensor else f"a {type(logits).__name__}"
        raise DataError(
            f"data {data.name}: {data.classes} classes need logits [batch, {data.classes}], but the network gives "
            f"{got} for a batch of 2; {'change its last layer' if is_tensor else LOGITS_ALONE}"
        )
    check_outputs(logits.shape[1], data)
    _check_answer_in_training(network, images)
    if any(stage.distill and stage.distill.attention for stage in recipe.stages) and not hasattr(network, "with_maps"):
        raise SpecError(
            f"recipe: a stage has distill.attention, which needs maps, but {type(network).__name__} has no method "
            "with_maps(images) that returns logits and a list of maps; give it one, or set attention: 0"
        )
    for place, stage in enumerate(recipe.stages):
        check_averages(stage, weight_binarizers_of(network), where=f"recipe: stages[{place}]")
