"""A description and its network -> model.py, and what it imports: layers.py, and files of the user's."""

import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from bnas.amounts import show
from bnas.cost.plan import PlannedLayer, plan
from bnas.cost.totals import BOPS_PER_OP, NOT_COUNTED, Cost, cost
from bnas.cost.trace.plain_model import wrappers
from bnas.layers.activations import RSign
from bnas.layers.binarized import Binarized
from bnas.layers.binary_layer import BinaryLayer
from bnas.layers.blocks import Block
from bnas.layers.stems import stem
from bnas.lookup import load_reference
from bnas.networks.build import head_settings, stem_settings
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS, preset_for
from bnas.select.conversion import ConvertedModel
from bnas.ship.description import Description, HeldModel
from bnas.ship.source import LICENCE, joined, with_imports
from bnas.ship.users_code import UsersCode
from bnas.space.arch import Architecture, BlockSpec
from bnas.space.values import OURS, Size, shrunk

LAYERS = "The layers of the network in model.py with all that they need: modules of bnas, whole. Only torch is needed."

_WIDTH = 120  # characters a line
_CHOSEN = ("kernel", "stride", "groups", "experts", "precision")  # by a search


class ModelFiles(NamedTuple):
    """What makes a network: path -> text; the modules of ours in layers.py; packages it needs, as `name==version`."""

    files: dict[str, str]
    layers: list[str]
    needs: list[str]


class _Body(NamedTuple):
    """What differs from one model.py to another: the network's title, imports, functions, modules of ours."""

    title: str
    imports: str
    functions: str
    ours: list[str]


class Seen(NamedTuple):
    """What the network was trained to see and to say: names of the classes, and normalisation as bnas has it."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def model_files(
    described: Description, network: nn.Module, price: Cost, *, seen: Seen | None = None, notes: str = ""
) -> ModelFiles:
    """Return model.py, whose `build()` returns the described network with fresh weights, and what it imports.

    Args:
        network: what is described.
        price: what it costs.
        seen: what `predict` needs; None leaves it out.
        notes: lines for the end of the text at the top of model.py.
    Raises:
        ExportError: something of the user's own cannot go with it.
        SpecError: nothing says how the network is made.
    """
    if isinstance(described, HeldModel):
        described.build()  # which says why it cannot be
    users = UsersCode()
    signs = [module for module in network.modules() if isinstance(module, BinaryLayer | RSign)]
    binarizers = {name for module in signs for name in (getattr(module, "weights", ""), module.activations)}
    names = {name: users.gather(name) for name in sorted(binarizers) if ":" in name}  # by which the export finds them
    if isinstance(described, Architecture):
        body = _of_architecture(described, users)
    elif isinstance(described, ConvertedModel):
        body = _of_conversion(described, network, users)
    else:
        assert isinstance(described, ModelSpec)
        body = _of_model(described, users)
    layers = with_imports([*body.ours, BinaryLayer.__module__, *sorted(users.ours)])
    heading = _heading(described, body.title, price, users) + notes
    functions = body.functions
    for name, found in names.items():
        functions = functions.replace(literal(name), literal(found))
    imports, functions = body.imports, f"\n\n{functions}"
    if seen:
        imports, functions = f"from pathlib import Path\n\n{imports}", _predict(described, seen) + functions
    text = f'"""{heading}"""\n\n{imports}\n{functions}'
    files = {"model.py": text, "layers.py": joined(layers, heading=LAYERS), **users.files}
    return ModelFiles(files, layers, sorted(users.needs))


def has_experts(described: Description) -> bool:
    """Return whether `build` in model.py takes `one_expert`, for the first stages of training."""
    return isinstance(described, Architecture) and described != described.with_one_expert()


def _heading(described: Description, title: str, price: Cost, users: UsersCode) -> str:
    channels, height, width = described.input
    return f"""{title}; {f"needs torch, {', '.join(sorted(users.needs))}" if users.needs else "only torch is needed"}.

Images [batch, {channels}, {height}, {width}] -> logits [batch, {described.classes}].
Counted for one image: {show(price.ops)} OPs = {price.flops} FLOPs + {price.bops} BOPs / {BOPS_PER_OP};
{price.bytes} bytes packed, {price.parameters} parameters;
{NOT_COUNTED}.

    from safetensors.torch import load_file

    model = build()
    model.load_state_dict(load_file("weights.safetensors"))
    model.eval()

`predict("image.png")` does so for an image file; requirements.txt says what that needs beside torch.
{LICENCE}{f", but for {', '.join(users.files)}" if users.files else ""}.
"""


def _predict(described: Description, seen: Seen) -> str:
    """Return the function that names the class of an image file, and what it needs to know."""
    return f'''
HERE = Path(__file__).resolve().parent
INPUT = {described.input!r}  # channels, height, width
CLASSES = {_list(seen.classes)}
MEAN = {seen.mean!r}  # per channel, of images from 0 to 1
STD = {seen.std!r}


def predict(path: str) -> str:
    """Return the class of an image file, read as in training; needs numpy, Pillow and safetensors beside torch."""
    from safetensors.torch import load_file

    from images import read_image
    from training import normalised

    network = build()
    network.load_state_dict(load_file(HERE / "weights.safetensors"))
    image = read_image(Path(path), INPUT)
    logits = network.eval()(normalised(image.unsqueeze(0), MEAN, STD))
    return CLASSES[int(logits.argmax())]
'''


def _list(names: Sequence[str]) -> str:
    """Return a tuple of names as Python source, on lines that are not too long."""
    whole = literal(tuple(names))
    return whole if len(whole) < _WIDTH - 10 else _call("", *map(literal, names), indent=0)


def _of_architecture(arch: Architecture, users: UsersCode) -> _Body:
    """Return what builds an architecture, with a line for each block, and the size and cost of each stage."""
    own = [block.block for blocks in arch.blocks() for block in blocks if block.block != OURS]
    names = {name: users.gather(name) for name in dict.fromkeys(own)}
    first = _keywords(stem_settings(arch.stem, arch.binarizers))
    last = _keywords(head_settings(arch.classifier, arch.binarizers))
    takes, says = "", f"Return the network with fresh weights; architecture {arch.id}."
    if has_experts(arch):
        takes = "*, one_expert: bool = False"
        says += (
            "\n\n    Args:\n        one_expert: have one in place of several, as the first stages of training do.\n    "
        )
    functions = f'''def build({takes}) -> nn.Module:
    """{says}"""
    stages = [
{_stages(arch, names)}    ]
    first = {_call("stem", str(arch.input[0]), str(arch.stem.width), *first, indent=4)}
    return Network(first, stages, {_call("Head", str(arch.last_width), str(arch.classes), *last, indent=4)})
'''
    modules = {name.partition(":")[0] for name in names.values()}
    imports = "\n".join([*(f"import {module}" for module in sorted(modules)), "from torch import nn", ""])
    imports += "\nfrom layers import Block, Head, Network, stem"
    return _Body(
        f"Binary network {arch.id} in plain torch, as bnas found it",
        imports,
        functions,
        [stem.__module__, Block.__module__],
    )


def _stages(arch: Architecture, names: Mapping[str, str]) -> str:
    """Return the stages of an architecture; one that is not there is an empty list."""
    planned: dict[str, list[PlannedLayer]] = {}
    for layer in plan(arch):
        planned.setdefault(".".join(layer.name.split(".")[:2]), []).append(layer)
    lines, size = "", shrunk(arch.input[1:], arch.stem.stride)
    for number, blocks in enumerate(arch.blocks()):
        for block in blocks:
            size = shrunk(size, block.stride)
        lines += _stage(blocks, planned[f"stages.{number}"], size, names) if blocks else "        [],\n"
    return lines


def _stage(blocks: Iterable[BlockSpec], layers: list[PlannedLayer], size: Size, names: Mapping[str, str]) -> str:
    """Return the blocks of a stage: always what a search chooses, and what else differs from the defaults.

    Args:
        size: of what it gives.
        names: of the user's blocks, as `module:attr` in the export.
    """
    usual = inspect.signature(Block).parameters
    (height, width), lines = size, ""
    for block in blocks:
        own = block.block != OURS
        settings = {k: v for k, v in block.settings.items() if own or k in _CHOSEN or v != usual[k].default}
        said = _keywords(settings)
        if block.experts > 1:
            said = [x.replace("experts=", "experts=1 if one_expert else ") for x in said]
        name = names[block.block].replace(":", ".") if own else "Block"
        lines += f"            {_call(name, str(block.in_channels), str(block.out_channels), *said, indent=12)},\n"
    return f"        [  # {block.out_channels} x {height} x {width}, {show(cost(layers).ops)} OPs\n{lines}        ],\n"


def _of_model(spec: ModelSpec, users: UsersCode, *, function: str = "build") -> _Body:
    """Return what makes a reference network, or the user's: a call without arguments, or a copy of a ready module."""
    what = "network" if function == "build" else "float model"
    head = f'def {function}() -> nn.Module:\n    """Return the {what} with fresh weights."""\n'
    title, torch = f"{spec.model.rpartition('/')[2]} in plain torch, as bnas trained it", "from torch import nn"
    if spec.model not in MODELS:
        module, _, attribute = users.gather(spec.model).rpartition(":")
        found = load_reference(spec.model, what="model")
        # Of a network that is compiled, or wrapped to run in parallel, the one inside was trained.
        inside = "".join(f".{name}" for name in wrappers(found if isinstance(found, nn.Module) else found()))
        if isinstance(found, nn.Module):
            imports = f"from copy import deepcopy\n\n{torch}\n\nfrom {module} import {attribute} as made"
            return _Body(title, imports, f"{head}    return deepcopy(made){inside}\n", [])
        imports = f"{torch}\n\nfrom {module} import {attribute} as make"
        return _Body(title, imports, f"{head}    return make(){inside}\n", [])
    preset = preset_for(spec.model, precision=spec.precision, first=spec.first, last=spec.last, weights=spec.weights)
    maker = MODELS[spec.model].build
    network, settings = (maker.func, maker.keywords) if isinstance(maker, partial) else (maker, {})
    kept = preset._replace(real_inputs=tuple(preset.real_inputs))._asdict()
    lines = f"""    preset = {_call("Preset", *_keywords(kept), indent=4)}
    return {_call(network.__name__, "preset", str(spec.classes), *_keywords(settings), indent=4)}
"""
    imports = f"{torch}\n\nfrom layers import {', '.join(sorted(('Preset', network.__name__)))}"
    return _Body(title, imports, head + lines, [network.__module__])


def _of_conversion(model: ConvertedModel, network: nn.Module, users: UsersCode) -> _Body:
    """Return what makes the float model, and makes some of its layers binary."""
    original = ModelSpec(model=model.original.model, input=model.input, classes=model.classes)
    made = _of_model(original, users, function="build_original")
    layers = {path: module for path, module in network.named_modules() if isinstance(module, Binarized)}
    rows = "".join(f"        {literal((p, x.precision, x.norm is not None))},\n" for p, x in layers.items())
    how = {"weights": model.binarizers.weight, "activations": model.binarizers.activation}
    said = _keywords({**how, "pad_value": model.binarizers.pad_value})
    functions = f'''{made.functions}

def build() -> nn.Module:
    """Return the converted model with fresh weights."""
    network = build_original()
    chosen = (  # path, precision, and whether a batch norm stands before the sign of the input
{rows}    )
    for path, precision, norm in chosen:
        layer = network.get_submodule(path)
        {_call("binarize_", "layer", "precision=precision", "norm=norm", *said, indent=8)}
    stop_fusing(network)
    return network
'''
    title = made.title.replace(" in plain", f" with {len(layers)} layers in one bit, in plain")
    imports = f"{made.imports}\nfrom layers import binarize_, stop_fusing"
    return _Body(title, imports, functions, [Binarized.__module__, *made.ours])


def literal(value: object) -> str:
    """Return a value as Python source, texts in double quotes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(value: str) -> str:
    written = (f"\\{char}" if char in '"\\' else char if char.isprintable() else ascii(char)[1:-1] for char in value)
    return f'"{"".join(written)}"'


def _keywords(values: Mapping[str, object]) -> list[str]:
    return [f"{key}={literal(value)}" for key, value in values.items()]


def _call(name: str, *arguments: str, indent: int) -> str:
    """Return a call, on one line if that is short enough."""
    inside, margin = ", ".join(arguments), " " * (indent + 4)
    if indent + len(name) + len(inside) + 15 <= _WIDTH:  # what else may be on the line
        return f"{name}({inside})"
    wrap = textwrap.TextWrapper(
        _WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
    return f"{name}(\n{wrap.fill(inside + ',')}\n{' ' * indent})"
