"""One small network of the digits, as people hand it over: compiled, wrapped, pruned, frozen, of another type."""

from typing import Any

import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip


class Answering(nn.Module):
    """The network, with another form of answer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = net(), kind

    def forward(self, x: Tensor) -> Any:
        logits = self.net(x)
        forms: dict[str, Any] = {"tuple": (logits,), "mapping": {"logits": logits}, "maps": {"out": logits[..., None]}}
        return forms[self.kind]


class Held(nn.Sequential):
    """Its norms stay in evaluation mode, as fine-tuning has them."""

    def train(self, mode: bool = True) -> "Held":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.training = False
        return self


class ReturnsNothing(nn.Sequential):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


def plain() -> nn.Module:
    return net()


def compiled() -> Any:
    return torch.compile(net())


def parallel() -> nn.Module:
    return nn.DataParallel(net())


def averaged() -> nn.Module:
    return AveragedModel(net())


def compiled_and_parallel() -> Any:
    return nn.DataParallel(torch.compile(net()))  # type: ignore[arg-type]


def channels_last() -> nn.Module:
    return net().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def traced_by_fx() -> nn.Module:
    return torch.fx.symbolic_trace(net())


def pruned() -> nn.Module:
    model = net()
    nn.utils.prune.l1_unstructured(model[3], "weight", 0.5)
    return model


def weight_normed() -> nn.Module:
    model = net()
    nn.utils.parametrizations.weight_norm(model[3])
    return model


def spectral_normed() -> nn.Module:
    model = net()
    nn.utils.spectral_norm(model[3])
    return model


def weight_in_a_buffer() -> nn.Module:
    model = net()
    weight = model[3].weight.detach()
    del model[3].weight
    model[3].register_buffer("weight", weight)
    return model


def frozen() -> nn.Module:
    return net().requires_grad_(False)


def frozen_first() -> nn.Module:
    model = net()
    for place in (0, 3):
        model[place].requires_grad_(False)
    return model


def without_statistics() -> nn.Module:
    model = net()
    model[4] = nn.BatchNorm2d(16, track_running_stats=False)
    return model


def with_a_norm_for_nothing() -> nn.Module:
    model = net()
    model[0].spare = nn.BatchNorm2d(3)
    return model


def norms_held_still() -> nn.Module:
    return Held(*net())


def train_returns_nothing() -> nn.Module:
    return ReturnsNothing(*net())


def synchronised() -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(net())  # type: ignore[no-any-return]


def tuple_answer() -> nn.Module:
    return Answering("tuple")


def mapping_answer() -> nn.Module:
    return Answering("mapping")


def maps_answer() -> nn.Module:
    return Answering("maps")


def prints() -> nn.Module:
    model = net()
    model[0].register_forward_hook(lambda *_: print("a word from a hook"))
    return model


def scripted() -> Any:
    return torch.jit.script(net())


def exported() -> Any:
    return torch.export.export(net().eval(), (torch.zeros(2, 1, 8, 8),)).module()


def lazy() -> nn.Module:
    model = net()
    model[10] = nn.LazyLinear(10)
    return model


def double() -> nn.Module:
    return net().double()


def half() -> nn.Module:
    return net().bfloat16()


def meta() -> nn.Module:
    with torch.device("meta"):
        return net()


def without_parameters() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Identity())


def fewer_outputs() -> nn.Module:
    model = net()
    model[10] = nn.Linear(256, 5)
    return model


def takes_two() -> nn.Module:
    return nn.Bilinear(4, 4, 10)


# Each works: the layers that cannot be binarized, and what is warned of.
WORKS: dict[str, tuple[set[str], str]] = {
    "plain": (set(), ""),
    "compiled": (set(), ""),
    "parallel": (set(), ""),
    "averaged": (set(), ""),
    "compiled_and_parallel": (set(), ""),
    "channels_last": (set(), ""),
    "traced_by_fx": (set(), ""),
    "pruned": ({"3"}, ""),
    "weight_normed": ({"3"}, ""),
    "spectral_normed": ({"3"}, ""),
    "weight_in_a_buffer": ({"3"}, ""),
    "frozen_first": (set(), "2 layers are frozen ('0', '3') (requires_grad=False), and stay real"),
    "without_statistics": (set(), ""),
    "with_a_norm_for_nothing": ({"0.spare"}, "not counted: 0.spare: parameters"),
    "norms_held_still": (set(), ""),
    "synchronised": (set(), ""),
    "tuple_answer": (set(), ""),
    "mapping_answer": (set(), ""),
    "prints": (set(), ""),
}
# Each is one line before the work.
REFUSED: dict[str, str] = {
    "scripted": "a scripted model does not show its operators; give the nn.Module that it was made of",
    "exported": "an exported program is fixed to one batch and mode; give the nn.Module that it was made of",
    "lazy": "the model has lazy layers without a size yet; run it once on one batch first",
    "double": "its weights are of float64; make them float32 first, as model.float() does",
    "half": "its weights are of bfloat16; make them float32 first, as model.float() does",
    "meta": "is on the meta device, where weights have a shape but no values; make it on the CPU",
    "without_parameters": "has 0 parameters, so that nothing in it can be binarized; give another model",
    "frozen": "no layer has a choice, as 4 are frozen (requires_grad=False), such as '10'; call requires_grad_(True)",
    "fewer_outputs": "10 classes need logits [batch, 10], but the network gives logits [2, 5] for a batch of 2",
    "maps_answer": "must be logits [batch, 10], or a tuple or mapping that holds them or names them `logits`, but is a",
    "train_returns_nothing": "its method train returns NoneType, so that model.eval() is none; end it with `return",
    "takes_two": "the model fails on images, 2x1x8x8 of float32: Bilinear.forward() missing 1 required positional",
}
