"""An architecture -> its proxy accuracy: shared weights, batch norm set anew, held-out training images."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from bnas.binarize.error import InputError, input_error, summed
from bnas.cost.trace.wholes import is_binary
from bnas.data import DataSet, Split
from bnas.errors import TrainingError
from bnas.layers.blocks import Network
from bnas.searcher.candidate import Score
from bnas.select.conversion import before_sign
from bnas.space.arch import Architecture
from bnas.space.settings import Scoring
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train import evaluate, recalibrate


def scored_on(data: DataSet, scoring: Scoring, *, seed: int) -> Split:
    """Return the held-out images that candidates are scored on, drawn where there are more than are asked for.

    A data set's own validation images may lie class by class.
    """
    return data.validation.take(scoring.validation_images, seed=seed)


class Scorer:
    """Scores architectures of one trained supernet; a score depends on the architecture alone, for nothing is drawn."""

    def __init__(self, supernet: Supernet, data: DataSet, scoring: Scoring, *, seed: int, device: torch.device) -> None:
        wanted = min(scoring.recalibration_images, len(data.train))
        batches = -(-wanted // scoring.batch)  # of one size, for each counts as much as any other
        images = data.train.batches(wanted // batches, seed=seed, epoch=0, augment=False, drop_last=True, device=device)
        scored = scored_on(data, scoring, seed=seed).batches(
            scoring.batch, augment=False, drop_last=False, device=device
        )
        self._supernet = supernet.to(device)
        self._recalibration = [_laid_out(batch) for batch, _ in itertools.islice(images, batches)]
        self._held_out = [(_laid_out(batch), labels) for batch, labels in scored]

    def __call__(self, arch: Architecture) -> Score:
        """Return the proxy accuracy and loss of an architecture of the supernet's space.

        Raises:
            TrainingError: the network gives values that are not finite.
        """
        accuracy, loss = evaluate(self.network(arch), self._held_out)
        if not math.isfinite(loss):
            raise TrainingError(f"candidate {arch.id}: the proxy loss is {loss}; its batch norm may not be calibrated")
        return Score(accuracy, loss)

    @torch.no_grad()
    def input_errors(self, arch: Architecture) -> dict[tuple[int, int], InputError]:
        """Return what a binary input loses in each block (stage, number) of an architecture, over its layers."""
        network = self.network(arch)
        found: dict[tuple[int, int], list[InputError]] = defaultdict(list)

        def note(place: tuple[int, int]) -> Callable[..., None]:
            return lambda *called: found[place].append(input_error(before_sign(*called)))

        for place, layers in binary_layers(network).items():
            for layer in layers:
                layer.register_forward_pre_hook(note(place), with_kwargs=True)
        for images in self._recalibration:
            network(images)
        return {place: summed(errors) for place, errors in found.items()}

    @property
    def space(self) -> SearchSpace:
        """The space whose architectures it scores."""
        return self._supernet.space

    def network(self, arch: Architecture) -> Network:
        """Return the network that is scored: copies of the shared weights, batch norm set anew, in evaluation mode."""
        network = self._supernet.extract(arch)
        recalibrate(network, self._recalibration)
        return network

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a twin in another process needs beside the space: weights and images, by name.

        Images are [batch, height, width, channels].
        """
        images, labels = zip(*self._held_out, strict=True)
        lists = {"recalibration": map(_rows, self._recalibration), "images": map(_rows, images), "labels": labels}
        numbered = {f"{name}/{index}": batch for name, some in lists.items() for index, batch in enumerate(some)}
        return {f"weights/{name}": tensor for name, tensor in self._supernet.state_dict().items()} | numbered

    @classmethod
    def from_tensors(cls, space: SearchSpace, tensors: Mapping[str, Tensor], device: torch.device) -> Self:
        """Return the twin of a scorer, which computes with these very tensors where they are on the device."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = tensor.to(device)
        twin = cls.__new__(cls)
        twin._supernet = Supernet(space).to(device)
        twin._supernet.load_state_dict(parts["weights"], assign=True)
        twin._recalibration = [_of_rows(batch) for batch in parts["recalibration"].values()]
        twin._held_out = [
            (_of_rows(batch), labels)
            for batch, labels in zip(parts["images"].values(), parts["labels"].values(), strict=True)
        ]
        return twin


def binary_layers(network: Network) -> dict[tuple[int, int], list[nn.Module]]:
    """Return the layers of bnas, which know their precision, in each block (stage, number) of a network."""
    return {
        (stage, number): [part for part in block.modules() if is_binary(part)]
        for stage, blocks in enumerate(network.stages)
        for number, block in enumerate(cast(nn.Sequential, blocks))
    }


def _laid_out(images: Tensor) -> Tensor:
    """Return a copy whose channels lie last in memory, a single one too: benchmarks/scoring.py says what it saves."""
    return _of_rows(_rows(images).clone(memory_format=torch.contiguous_format))


def _rows(images: Tensor) -> Tensor:
    """Return images as [batch, height, width, channels], a view of those whose channels lie last in memory."""
    return images.permute(0, 2, 3, 1)


def _of_rows(rows: Tensor) -> Tensor:
    """Return the images of which these are the rows, a view."""
    return rows.permute(0, 3, 1, 2)
