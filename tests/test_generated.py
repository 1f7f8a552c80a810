"""Generated recipes, selections, checkpoints and models of users: used, or refused in one line; never an error of ours.

BNAS_EXAMPLES=500 draws 2,000 of them; malformed spaces, commands and manifests are in test_fuzz.py, images in
test_data_fuzz.py.
"""

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from safetensors.torch import save
from torch import Tensor

from bnas.api import selecting_by_name
from bnas.report import training_page
from bnas.spec import parse_yaml
from tests.test_data_sources import encoded
from tests.test_fuzz import Here, texts

EXAMPLES = int(os.environ.get("BNAS_EXAMPLES", "38"))  # of each kind
SIDE, CLASSES = 6, 2
done: dict[str, list[int]] = {"recipes": [], "selections": [], "checkpoints": [], "models": []}  # exit codes

often = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))

RECIPE = """
batch: 8
stages:
  - {epochs: 1, weights: real, rate: 1.0e-3, distill: {logits: 1.0}}
  - {epochs: 1, weights: binary, optimizer: sgd, rate: 2.0e-3, mixup: 0.2}
"""
SELECTION = """
original: {model: "net.py:build", input: [1, 6, 6], classes: 2}
binarizers: {weight: xnor, activation: sign}
layers:
  "0": {precision: real, why: first}
  "3": {precision: binary}
  "6": {precision: weight}
"""
NET = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(144, 2),
    )
"""
TRAIN = "train {} --data set --epochs 1 --trust --out new"
SELECT = "select net.py:build --data set -o picked"
WRITTEN = ("new", "picked", "inductor")  # the last by torch.compile


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Here:
    """A folder with a few images and a sound file of each kind; drawings, which take seconds, are left out."""
    here = Here(tmp_path_factory.mktemp("here"))
    for label in range(CLASSES):
        (here.folder / "set" / f"class {label}").mkdir(parents=True)
        for shade in range(60):
            image = encoded(shade + 60 * label, mode="L", side=SIDE)
            (here.folder / "set" / f"class {label}" / f"{shade}.png").write_bytes(image)
    for name, text in {"recipe.yaml": RECIPE, "selection.yaml": SELECTION, "net.py": NET}.items():
        (here.folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_course", "draw_filters", "draw_usage", "draw_confusion"):
            patch.setattr(training_page, name, lambda *_: Figure(figsize=(0.1, 0.1)))
        patch.setattr(selecting_by_name.report, "write_selection_report", lambda *_, **__: None)
        torch.save(sound_state(), here.folder / "w.pt")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(here.folder / "inductor"))
        here.keep()
        yield here


def used_or_refused(here: Here, kind: str, command: str, **files: str | bytes) -> None:
    """Run a command that reads generated files, named as in `recipe_yaml`."""
    written = {name.replace("_", "."): content for name, content in files.items()}
    for name, content in written.items():
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (here.folder / name).write_bytes(data)
    found = here.bnas(*command.split(), writes=[*written, *WRITTEN])
    assert found.code in (0, 1, 2)
    assert "Traceback" not in found.said
    assert "error of bnas itself" not in found.said, found.said
    if found.code == 1:  # what is said before is what images were read, and warnings
        assert found.said.splitlines()[-1].startswith("bnas: "), found.said
    done[kind].append(found.code)


@pytest.mark.parametrize("command", [
    TRAIN.format("net.py:build --recipe recipe.yaml"), TRAIN.format("selection.yaml"), "cost selection.yaml --trust",
    SELECT + " --selection selection.yaml", SELECT + " --budget ops=50%", SELECT + " --budget ops=50% --weights w.pt",
])  # fmt: skip
def test_what_is_sound_is_used(here: Here, command: str) -> None:
    found = here.bnas(*command.split(), writes=WRITTEN)
    assert found.code == 0, found.said


@often
@given(text=texts(parse_yaml(RECIPE, source="recipe")), model=st.sampled_from(["net.py:build", "selection.yaml"]))
def test_any_recipe_is_used_or_refused(here: Here, text: str, model: str) -> None:
    used_or_refused(here, "recipes", TRAIN.format(f"{model} --recipe recipe.yaml"), recipe_yaml=text)


@often
@given(
    text=texts(parse_yaml(SELECTION, source="selection")),
    command=st.sampled_from([
        TRAIN.format("selection.yaml"), "cost selection.yaml --trust", SELECT + " --selection selection.yaml --trust",
    ]),
)  # fmt: skip
def test_any_selection_is_used_or_refused(here: Here, text: str, command: str) -> None:
    used_or_refused(here, "selections", command, selection_yaml=text)


STATE = {
    "0.weight": (4, 1, 3, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "1.running_mean": (4,),
    "1.running_var": (4,), "3.weight": (4, 4, 3, 3), "3.bias": (4,), "4.weight": (4,), "4.bias": (4,),
    "4.running_mean": (4,), "4.running_var": (4,), "6.weight": (2, 144), "6.bias": (2,),
}  # fmt: skip


def sound_state() -> dict[str, Tensor]:
    """Weights by which the bright images of the second class are told from the dark ones of the first."""
    state = {name: torch.zeros(shape) for name, shape in STATE.items()}
    for name in ("1.weight", "1.running_var", "4.weight", "4.running_var"):
        state[name] += 1
    for name in ("0.weight", "3.weight", "6.weight"):
        state[name] += 1 / state[name][0].numel()
    state["6.weight"][0] *= -1
    state["6.bias"] += torch.tensor([0.1, -0.1])
    return state


# What a tensor of a checkpoint is made into, or stands in its place.
ODD: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda tensor: tensor * torch.nan,
    "infinite": lambda tensor: tensor + torch.inf,
    "huge": lambda tensor: tensor.sign() * 3e38,
    "zero": torch.zeros_like,
    "double": lambda tensor: tensor.double(),
    "half": lambda tensor: tensor.half(),
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "integers": lambda tensor: (tensor * 9).int(),
    "booleans": lambda tensor: tensor > 0,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "nowhere": lambda tensor: tensor.to("meta"),
    "flat": lambda tensor: tensor.flatten(),
    "wider": lambda tensor: torch.stack([tensor, tensor]),
    "empty": lambda tensor: tensor[:0],
    "a scalar": lambda tensor: tensor.sum(),
    "a view": lambda tensor: tensor.expand(3, *tensor.shape)[0],
    "a parameter": torch.nn.Parameter,
    "an array": lambda tensor: tensor.numpy(),
    "a list": lambda tensor: tensor.tolist(),
    "nothing": lambda tensor: None,
    "text": lambda tensor: "weight",
    "a mapping": lambda tensor: {"weight": tensor},
}
KEYS = st.sampled_from(["0.weight", "", ".", "a.b", "0", "epoch", "model", 0, None, ("a", 1), "\ud800"])
AROUND: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda state: state,
    "a checkpoint": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {}},
    "two": lambda state: {"model": state, "ema": state},
    "itself": lambda state: {"model": {"model": {"state_dict": state}}},
    "a prefix": lambda state: {f"module.{name}": value for name, value in state.items()},
    "two prefixes": lambda state: {f"{of}.{name}": value for of in "ab" for name, value in state.items()},
    "a list": lambda state: [state],
    "a tensor": lambda state: torch.zeros(3),
    "other weights": lambda state: {"params": {}, "net": state},
}  # fmt: skip


@st.composite
def checkpoints(draw: st.DrawFn) -> bytes:
    """What `torch.save` or safetensors write of a state dict: spoiled, wrapped, torn."""
    state: dict[Any, Any] = sound_state()
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*STATE]))
        match draw(st.sampled_from(["odd", "gone", "called otherwise", "too much"])):
            case "odd" if isinstance(state.get(name), Tensor) and state[name].dtype == torch.float32:
                state[name] = ODD[draw(st.sampled_from([*ODD]))](state[name].detach())
            case "gone":
                state.pop(name, None)
            case "called otherwise" if name in state:
                state[draw(KEYS)] = state.pop(name)
            case _:
                state[draw(KEYS)] = torch.zeros(2)
    file = io.BytesIO()
    if draw(st.booleans()):
        try:
            file.write(save(state))
        except Exception:  # which safetensors cannot hold
            torch.save(state, file)
    else:
        around = AROUND[draw(st.sampled_from([*AROUND]))]
        torch.save(around(state), file, _use_new_zipfile_serialization=draw(st.booleans()))
    return torn(draw, file.getvalue())


def torn(draw: st.DrawFn, content: bytes) -> bytes:
    """The content of a file, cut or with other bytes in it, as one in three is."""
    match draw(st.sampled_from(["whole", "whole", "whole", "whole", "cut", "other bytes"])):
        case "cut":
            return content[: draw(st.integers(0, len(content)))]
        case "other bytes":
            place = draw(st.integers(0, min(len(content), 400)))
            patch = draw(st.binary(min_size=1, max_size=8))
            return content[:place] + patch + content[place + len(patch) :]
    return content


@often
@given(content=checkpoints(), name=st.sampled_from(["w.pt", "w.safetensors"]), budget=st.sampled_from(["50%", "90%"]))
def test_any_checkpoint_is_used_or_refused(here: Here, content: bytes, name: str, budget: str) -> None:
    command = f"{SELECT} --budget ops={budget} --weights {name}"
    used_or_refused(here, "checkpoints", command, **{name.replace(".", "_"): content})


LAYERS = st.sampled_from([
    "nn.Conv2d(c, 4, 3, padding=1)", "nn.Conv2d(c, 4, 3, padding=1, groups=c)", "nn.Conv2d(c, 6, 1, bias=False)",
    "nn.Conv2d(c, 4, 3, padding=1, padding_mode='reflect')", "nn.Conv2d(c, 4, (3, 1), dilation=2, stride=(2, 1))",
    "nn.Conv2d(c, 4, 3, padding='same')", "nn.ConvTranspose2d(c, 4, 2)", "nn.LazyConv2d(4, 3)", "nn.Conv1d(c, 4, 3)",
    "nn.Conv2d(c, 4, 9)", "nn.Conv3d(c, 4, 1)", "nn.BatchNorm2d(c)", "nn.BatchNorm2d(c, affine=False)",
    "nn.BatchNorm2d(c, track_running_stats=False)", "nn.BatchNorm2d(c, momentum=None)", "nn.GroupNorm(1, c)",
    "nn.InstanceNorm2d(c)", "nn.LayerNorm(6)", "nn.ReLU()", "nn.ReLU(inplace=True)", "nn.Hardtanh()", "nn.PReLU(c)",
    "nn.Dropout2d()", "nn.MaxPool2d(2)", "nn.AvgPool2d(2, ceil_mode=True)", "nn.AdaptiveAvgPool2d(1)",
    "nn.Upsample(scale_factor=2)", "nn.PixelShuffle(2)", "nn.Identity()", "nn.Sequential()", "nn.Unfold(2)",
    "nn.LSTM(6, 4)", "nn.MultiheadAttention(6, 2)", "nn.Embedding(4, 4)", "nn.Bilinear(6, 6, 4)", "nn.Softmax(1)",
    "nn.utils.parametrizations.weight_norm(nn.Conv2d(c, 4, 1))", "nn.Conv2d(c, 4, 1).double()",
    "nn.Conv2d(c, 4, 1).requires_grad_(False)", "nn.Conv2d(c, 4, 1, device='meta')", "nn.Conv2d(c, 0, 1)",
])  # fmt: skip
HEADS = st.sampled_from([
    "nn.LazyLinear(2)", "nn.LazyLinear(3)", "nn.LazyLinear(1)", "nn.Linear(4, 2)", "nn.Identity()",
    "nn.Sequential(nn.LazyLinear(2), nn.Softmax(1))",
])  # fmt: skip
FORWARDS = st.sampled_from([
    "return out", "return out", "return out", "return out", "return out, x", "return {'logits': out}", "return None",
    "return out.tolist()", "return out.detach()", "return out.double()", "return out.argmax(1)", "return out[:1]",
    "return out * float('nan')", "return out.numpy()", "return torch.zeros(len(x), 2)", "return out.to_sparse()",
    "raise ValueError('no\\nway')", "raise SystemExit(3)", "assert not self.training; return out",
    "assert self.training; return out", "self.seen = x; return out", "x.zero_(); return out",
    "self.more = nn.Linear(2, 2); return self.more(out)", "print('hello'); return out", "return out if x.sum() else x",
    "torch.manual_seed(0); return out",
    "return out + torch.rand(())", "return self(x)", "self.eval(); return out", "return out.requires_grad_(False)",
])  # fmt: skip
MAKES = st.sampled_from([
    "build = Net", "build = Net", "build = Net", "build = Net()", "build = lambda: Net().half()", "build = [Net()]",
    "build = lambda: torch.compile(Net())", "build = lambda: nn.DataParallel(Net())", "build = lambda x: Net()",
    "build = None", "net = Net", "build = lambda: torch.jit.script(Net())", "def build(", "build = build",
    "import nowhere", "build = lambda: Net().share_memory()", "import sys; sys.exit(0)", "build = Net().state_dict",
    "build = lambda: Net().cpu().train(False)",
    "def build():\n    net = Net()\n    net.twin = net\n    return net",
    "def build():\n    net = Net()\n    net.again = net.body\n    return net",
])  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> str:
    """The source of a user's model: a few layers, which fit or do not, a head, and what may follow them."""
    body, channels = [], 1
    for layer in draw(st.lists(LAYERS, max_size=5)):
        body.append(
            layer.replace("(c", f"({channels}")
            .replace("groups=c", f"groups={channels}")
            .replace(" c)", f" {channels})")
        )
        channels = next((n for n in (4, 6) if f"c, {n}, " in layer), channels)
    return f"""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential({", ".join(body)})
        self.head = {draw(HEADS)}
        with torch.no_grad():
            try:
                self.head(self.body(torch.rand(2, 1, {SIDE}, {SIDE})).flatten(1))
            except Exception:
                {draw(st.sampled_from(["pass", "raise"]))}

    def forward(self, x):
        out = self.head(self.body(x).flatten(1))
        {draw(FORWARDS)}


{draw(MAKES)}
"""


@often
@given(source=models(), command=st.sampled_from([
    "cost net.py:build --input 1x6x6", "cost net.py:build --input 1x6x6 --json",
    TRAIN.format("net.py:build --recipe recipe.yaml"), SELECT + " --budget ops=60%",
    SELECT + " --ratio 0.5 --method greedy",
]))  # fmt: skip
def test_any_model_is_used_or_refused(here: Here, source: str, command: str) -> None:
    used_or_refused(here, "models", command, net_py=source)


def test_of_each_kind_some_were_used_and_some_refused() -> None:
    if not all(done.values()):
        pytest.skip("it looks at what the other tests of this file have done")
    for kind, codes in done.items():
        assert len(codes) >= EXAMPLES, kind
        assert 0 < codes.count(0) < len(codes), kind
