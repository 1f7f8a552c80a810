"""A layer of torch with binary weights: the formula, whatever its geometry."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import WEIGHT_BINARIZERS
from bnas.errors import BnasError
from bnas.layers.binarized import BINARIZED, binarize_
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import BinaryLayer, BinaryLinear, set_hardness
from bnas.layers.expert_conv import ExpertConv

# What a real layer computes from an input and given weights, and the dimensions of its weight that make up a filter.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[..., Tensor]]] = {
    "strided": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 7),
        lambda x, w, b: F.conv2d(x, w, b, 2, 1),
    ),
    "rectangular": (
        lambda: nn.Conv2d(4, 6, (1, 4), padding=(0, 3), dilation=(1, 2), groups=2), (4, 5, 9),
        lambda x, w, b: F.conv2d(x, w, b, 1, (0, 3), (1, 2), 2),
    ),
    "reflected": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (4, 5, 5),
        lambda x, w, b: F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), w, b),
    ),
    "sound": (lambda: nn.Conv1d(4, 6, 4, stride=2, padding="valid"), (4, 17), lambda x, w, b: F.conv1d(x, w, b, 2)),
    "linear": (lambda: nn.Linear(5, 6), (3, 5), F.linear),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (4, 5, 5),
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 0, 1),
    ),
    "transposed sound": (lambda: nn.ConvTranspose1d(4, 6, 3), (4, 7), F.conv_transpose1d),
}  # fmt: skip


def signs(values: Tensor) -> Tensor:
    return torch.where(values >= 0, 1.0, -1.0)


@pytest.mark.parametrize("name", LAYERS)
class TestFormula:
    """y = layer(sign(norm(x)), alpha * scale * sign(weight)) + bias."""

    def test_xnor_by_hand(self, name: str) -> None:
        torch.manual_seed(0)
        make, shape, compute = LAYERS[name]
        layer, x = make(), torch.randn(4, *shape)
        latent = layer.weight.detach().clone()  # type: ignore[union-attr, operator]
        dims = tuple(d for d in range(latent.ndim) if d != int(name.startswith("transposed")))
        binary = latent.abs().mean(dims, keepdim=True) * signs(latent)
        channels = [d for d in range(x.ndim) if d != (x.ndim - 1 if name == "linear" else 1)]
        normed = (x - x.mean(channels, keepdim=True)) * torch.rsqrt(x.var(channels, False, keepdim=True) + 1e-5)
        made = binarize_(layer, precision="binary")
        torch.testing.assert_close(made.train()(x), compute(signs(normed), binary, layer.bias))

    @pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
    def test_binary_weights_of_a_real_input(self, name: str, weights: str) -> None:
        torch.manual_seed(0)
        make, shape, compute = LAYERS[name]
        layer, x = make(), torch.randn(2, *shape)
        made = binarize_(layer, precision="weight", weights=weights).eval()
        out_dim = int(name.startswith("transposed"))
        values = made.binary_weight().detach().movedim(out_dim, 0).flatten(1)
        assert all(len(filter.unique()) <= 2 for filter in values)
        assert set(dict(made.named_parameters())) == {"weight", "bias", "alpha"}
        torch.testing.assert_close(made(x), compute(x, made.binary_weight(), layer.bias))

    def test_the_mean_magnitude_stays(self, name: str) -> None:
        layer = LAYERS[name][0]()
        before = layer.weight.detach().abs().mean()  # type: ignore[union-attr, operator]
        for weights in ("sign", "xnor"):
            made = binarize_(LAYERS[name][0](), precision="weight", weights=weights)
            made.load_state_dict(layer.state_dict())
            torch.testing.assert_close(made.binary_weight().abs().mean(), before)

    def test_real_weights_and_inputs_for_the_first_stages(self, name: str) -> None:
        make, shape, compute = LAYERS[name]
        layer, x = make(), torch.randn(3, *shape)
        latent = layer.weight.detach().clone()  # type: ignore[union-attr, operator]
        made = binarize_(layer, precision="binary", norm=False)
        made.real_weights = made.real_inputs = True
        torch.testing.assert_close(made(x), compute(x, latent, layer.bias))


class TestLayer:
    """What else a binary layer has."""

    @pytest.mark.parametrize("pad_value", [-1, 0, 1])
    def test_padding_comes_after_the_sign(self, pad_value: int) -> None:
        torch.manual_seed(0)
        ours = BinaryConv(4, 6, kernel=5, stride=2, pad_value=pad_value)
        made = binarize_(
            nn.Conv2d(4, 6, 5, stride=2, padding=2, bias=False), precision="binary", norm=False, pad_value=pad_value
        )
        made.load_state_dict(ours.state_dict())
        x = torch.randn(2, 4, 9, 8)
        torch.testing.assert_close(made(x), ours(x))

    def test_gradients_are_those_of_a_binary_convolution(self) -> None:
        torch.manual_seed(0)
        ours = BinaryConv(4, 6)
        made = binarize_(nn.Conv2d(4, 6, 3, padding=1, bias=False), precision="binary", norm=False)
        made.load_state_dict(ours.state_dict())
        x = torch.randn(2, 4, 5, 5)
        for layer in (ours, made):
            layer(x).square().sum().backward()
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(dict(made.named_parameters())[name].grad, parameter.grad)

    @pytest.mark.parametrize(
        ("layer", "size"),
        [
            (nn.Conv1d(4, 6, 3), (5,)), (nn.Conv2d(4, 6, 3), (4, 5)), (nn.ConvTranspose1d(4, 6, 3), (4,)),
            (nn.ConvTranspose2d(4, 6, 3), (4, 5)), (nn.Linear(4, 6), ()),
        ],
    )  # fmt: skip
    def test_one_image_without_a_batch_is_normalised_as_a_batch_of_one(
        self, layer: nn.Module, size: tuple[int, ...]
    ) -> None:
        made = binarize_(copy.deepcopy(layer), precision="binary").eval()
        for values in (made.norm.running_mean, made.norm.running_var):  # type: ignore[union-attr]
            values.uniform_(0.1, 1)  # type: ignore[union-attr, operator]
        x = torch.randn(4, *size)
        torch.testing.assert_close(made(x), made(x.unsqueeze(0)).squeeze(0))

    def test_annealed_weights_harden(self) -> None:
        made = binarize_(nn.Linear(8, 4), precision="weight", weights="group").train()
        set_hardness(made, 0.0)
        assert len(made.binary_weight()[0].unique()) > 2
        assert len(made.eval().binary_weight()[0].unique()) == 2

    def test_the_object_stays_the_same(self) -> None:
        layer = nn.Linear(3, 4)
        assert binarize_(layer, precision="binary") is layer
        assert isinstance(layer, nn.Linear)
        assert "precision='binary', weights='xnor'" in repr(layer)

    @pytest.mark.parametrize(
        ("layer", "settings", "expected"),
        [
            (nn.Conv3d(1, 1, 1), {"precision": "binary"}, "binarize: Conv1d, Conv2d, Linear, "),
            (nn.Linear(1, 1), {"precision": "real"}, "binarize: Conv1d, Conv2d, Linear, "),
            (nn.Linear(1, 1), {"precision": "binary", "weights": "xnr"}, "weight binarizer 'xnr' is not known"),
        ],
    )
    def test_what_cannot_be_is_one_line_and_changes_nothing(
        self, layer: nn.Module, settings: dict[str, str], expected: str
    ) -> None:
        kind = type(layer)
        with pytest.raises(BnasError) as caught:
            binarize_(layer, **settings)  # type: ignore[arg-type]
        assert str(caught.value).startswith(expected)
        assert type(layer) is kind


def test_all_layers_of_binary_weights_are_of_one_type() -> None:
    layers = [BinaryConv(4, 4), BinaryLinear(4, 4), ExpertConv(4, 4), binarize_(nn.Linear(4, 4), precision="weight")]
    for layer in layers:
        assert isinstance(layer, BinaryLayer)
        assert layer.has_binary_weights
        assert layer.binary_weight().shape == layer.weight.shape
        assert layer.weights == "xnor"
    assert not BinaryConv(4, 4, precision="real").has_binary_weights


def test_every_kind_of_layer_is_tested() -> None:
    assert {type(make()) for make, _, _ in LAYERS.values()} == set(BINARIZED)
