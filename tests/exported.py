"""What the tests of exports share: runs, what model.py builds, and train.py where bnas cannot be imported."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnas.cost.totals import Cost, cost
from bnas.runs import Run
from bnas.ship import Description, rebuild
from bnas.ship.model_file import ModelFiles, model_files
from bnas.space.recipe import Recipe
from bnas.spec import dump

FREE = cost(())  # for texts in whose heading the cost does not matter


def files_of(described: Description, price: Cost = FREE) -> ModelFiles:
    """Return model.py and what it imports."""
    return model_files(described, rebuild(described), price)


def text_of(described: Description) -> str:
    """Return model.py."""
    return files_of(described).files["model.py"]


def built(files: Mapping[str, str]) -> nn.Module:
    """Return what model.py builds where it lies beside the other files, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_text(text)
        with importing_from(Path(folder)) as module:
            return module("model").build()


@contextmanager
def importing_from(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Give what imports the modules in a folder as a script there would; afterwards they are forgotten."""
    before, names = dict(sys.modules), {entry.stem for entry in folder.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})


def shaken(network: nn.Module) -> nn.Module:
    """Return a network whose parameters and statistics are nowhere what they start as."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.add_(noise if name.endswith("running_var") else 0.2 * (noise - 0.5))
    return network


def images_of(described: Description, *, batch: int = 5) -> Tensor:
    return torch.randn(batch, *described.input, generator=torch.Generator().manual_seed(2))


def trained(described: Description, *, seed: int = 0) -> nn.Module:
    """Return a network whose batch norm has seen images."""
    torch.manual_seed(seed)
    network = rebuild(described)
    with torch.no_grad():
        network.train()(images_of(described, batch=16))
    return network.eval()


def finished_run(path: Path, network: nn.Module, described: Description, by: Recipe, **known: Any) -> Path:
    """Return the folder of a run with this network, trained by a recipe, as its best."""
    channels = described.input[0]
    manifest = {
        "architecture_id": described.id,
        "accuracy": {"proxy": 0.5, "validation": 0.25, "test": 0.125},
        "normalisation": {"mean": [0.3] * channels, "std": [0.37] * channels},
        "augmentation": ["flip", "shift"],
        "recipe": by.model_dump(mode="json"),
    }
    run = Run.open(path, config={}, space_yaml="stem: 1\n")
    with run.lock():
        run.best.write(dump(described), tensors=dict(network.state_dict()), manifest=manifest | known)
    return path


def manifest_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def ran(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run train.py as a person would, where bnas cannot be imported."""
    hide = folder / "hide"
    hide.mkdir(exist_ok=True)
    (hide / "bnas.py").write_text("raise ImportError('train.py must not need bnas')")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(hide)}
    command = [sys.executable, str(folder / "train.py"), "--device", "cpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
