"""Models as users write them, small: of every build that a conversion must cope with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import Tensor, nn

Shape = tuple[int, ...]


class Model(NamedTuple):
    """How to make a model, and what it takes."""

    make: Callable[[], nn.Module]
    inputs: tuple[Shape, ...]  # of one image each
    real: frozenset[str] = frozenset()  # layers that cannot be binarized


def conv_norm(ins: int, outs: int, kernel: int = 3, **more: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(ins, outs, kernel, padding=kernel // 2, bias=False, **more), nn.BatchNorm2d(outs), nn.ReLU()
    )


def plain() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 5), nn.MaxPool2d(2), conv_norm(8, 12), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 9, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, 5),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8)
        self.first = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.downsample = nn.Conv2d(8, 16, 1, stride=2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.second(F.relu(self.norm(self.first(x)))) + self.downsample(x)
        return self.fc(F.relu(x).mean((2, 3)))


class PreActivation(nn.Module):
    """The sign may follow a batch norm that is there already."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.norm, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc((x + F.relu(self.conv(self.norm(x)))).mean((2, 3)))


def depthwise() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8), conv_norm(8, 8, groups=8), conv_norm(8, 16, 1),
        conv_norm(16, 16, 5, groups=4, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = conv_norm(3, 8), conv_norm(8, 8)
        self.squeeze, self.excite, self.fc = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x))
        share = self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.fc((x * share).mean((2, 3)))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(8 + 4 * n), nn.ReLU(), nn.Conv2d(8 + 4 * n, 4, 3, padding=1)) for n in range(3)
        )
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat((x, layer(x)), 1)
        return self.fc(x.mean((2, 3)))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8)
        self.tall, self.wide = nn.Conv2d(8, 4, (5, 1), padding=(2, 0)), nn.Conv2d(8, 4, (1, 3), padding="same")
        self.far = nn.Conv2d(8, 4, 3, padding=2, dilation=2, padding_mode="reflect")
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(8, 4, 1))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([branch(x) for branch in (self.tall, self.wide, self.far, self.pooled)], 1)
        return self.fc(x.mean((2, 3)))


class Transformer(nn.Module):
    """Patches, a block of torch, and an attention of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.block = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1)
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.place = nn.Parameter(torch.zeros(9, 16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        x = self.block(x)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(1, 2) / 4).softmax(-1) @ v)
        return self.fc(x.mean(1))


class Functional(nn.Module):
    """One of its convolutions is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = conv_norm(3, 8), conv_norm(8, 8), nn.Linear(8, 5)
        self.kernels = nn.Parameter(torch.randn(8, 8, 3, 3) / 9)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(self.stem(x), self.kernels, padding=1))
        return self.fc(self.conv(x).mean((2, 3)))


class Einsum(nn.Module):
    """Its channels are mixed by an einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = conv_norm(3, 8), conv_norm(8, 8), nn.Linear(8, 5)
        self.mix = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.einsum("bchw,oc->bohw", self.stem(x), self.mix)
        return self.fc(input=self.conv(x).mean((2, 3)))


class Shared(nn.Module):
    """One module runs twice, and is known by two names; two others share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = conv_norm(3, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.conv
        self.up, self.down, self.fc = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(F.relu(self.conv(self.stem(x)))).mean((2, 3))
        return self.fc(self.down(F.relu(self.up(x))))


class TwoInputs(nn.Module):
    """An image and a vector, and two results; a weight is used outside of its layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.more, self.left = conv_norm(3, 8), conv_norm(8, 8), nn.Linear(6, 8)
        self.join, self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 5), nn.Linear(16, 2)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Tensor]:
        x = torch.cat((self.more(self.conv(image)).mean((2, 3)), F.relu(self.left(vector))), 1)
        x = F.relu(self.join(x)) + F.linear(x, self.join.weight)
        return {"one": self.one(x), "two": self.two(x)}


class Autoencoder(nn.Module):
    """Down and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.mid = conv_norm(3, 8, stride=2), conv_norm(8, 8, stride=2)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.out = nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.up(self.mid(self.down(x)))), output_size=x.shape[2:])


def sound() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 8, 9, stride=2), nn.ReLU(), nn.Conv1d(8, 8, 4, dilation=2), nn.BatchNorm1d(8), nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 3)), nn.ConvTranspose1d(8, 4, 3), nn.Flatten(),
        nn.Linear(4 * 22, 5),
    )  # fmt: skip


class NormThatActivates(nn.BatchNorm2d):
    """A batch norm whose forward ends in an activation, as those of timm's convolutional networks do."""

    def __init__(self, channels: int, act: nn.Module | None = None) -> None:
        super().__init__(channels)
        self.act = act or nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


def activating() -> nn.Module:
    def unit(ins: int, outs: int) -> list[nn.Module]:
        return [nn.Conv2d(ins, outs, 3, padding=1, bias=False), NormThatActivates(outs)]

    return nn.Sequential(*unit(3, 8), *unit(8, 8), *unit(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class InPlace(nn.Module):
    """It changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = conv_norm(3, 8), conv_norm(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x.sub_(0.5).clamp_(-2, 2))).mean((2, 3))
        return self.fc(x).log_softmax(1)


class Answer(dict[str, Any]):
    """As libraries have it: a mapping whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as problem:
            raise AttributeError(name) from problem


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 8, (2, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(8), nn.ReLU(),
        nn.Flatten(1, 2), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def pruned() -> nn.Module:
    model = plain()
    nn.utils.prune.l1_unstructured(model[2][0], "weight", 0.5)
    return model


IMAGE = ((3, 12, 12),)
MODELS: dict[str, Model] = {
    "plain": Model(plain, IMAGE),
    "residual": Model(Residual, IMAGE),
    "pre-activation": Model(PreActivation, IMAGE),
    "depthwise": Model(depthwise, IMAGE),
    "squeeze-excite": Model(SqueezeExcite, IMAGE),
    "dense": Model(Dense, IMAGE),
    "inception": Model(Inception, IMAGE),
    "transformer": Model(
        Transformer, IMAGE, frozenset({"", "block.layers.0.self_attn", "block.layers.0.self_attn.out_proj"})
    ),
    "functional": Model(Functional, IMAGE, frozenset({""})),
    "einsum": Model(Einsum, IMAGE, frozenset({""})),
    "shared": Model(Shared, IMAGE, frozenset({"up"})),
    "two inputs": Model(TwoInputs, ((3, 12, 12), (6,)), frozenset({"join"})),
    "autoencoder": Model(Autoencoder, IMAGE),
    "sound": Model(sound, ((2, 64),), frozenset({"5"})),
    "norm that activates": Model(activating, IMAGE),
    "in place": Model(InPlace, IMAGE),
    "volumes": Model(volumes, IMAGE, frozenset({"1"})),
    "pruned": Model(pruned, IMAGE, frozenset({"2.0"})),
}  # fmt: skip
