"""Images and labels -> normalised batches, the same way whether the images lie in memory or stream from a disk."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bnas.data.resize import Shape, shape_of
from bnas.data.stream import Images, Stream, pick
from bnas.data.transforms import AUGMENTATIONS, normalised
from bnas.errors import DataError
from bnas.lookup import find

Batch = tuple[Tensor, Tensor]  # float images [batch, channels, height, width], int64 labels [batch]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Args:
        images: [n, channels, height, width], uint8 or float32; or a stream of them.
        labels: int64 [n], on the CPU.
        mean, std: per channel, in units of full scale (255 for uint8, 1 for float); batches are (image - mean) / std.
        augmentation: names from `AUGMENTATIONS`, applied in this order to augmented batches.
        origin: how these images came to be this part, for people.
    """

    images: Images
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: tuple[str, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(f"there are {len(self.images)} images but {len(self.labels)} labels; give one label each")
        if not len(self.mean) == len(self.std) == self.images.shape[1]:
            raise DataError(
                f"mean and std need one value for each of {self.images.shape[1]} channels, "
                f"but have {len(self.mean)} and {len(self.std)}"
            )
        for name in self.augmentation:
            find(name, AUGMENTATIONS, what="augmentation")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of every image."""
        return shape_of(self.images.shape)

    def select(self, indices: Tensor) -> "Split":
        """Return the part at these places (int64 [m]), in this order."""
        return replace(self, images=pick(self.images, indices), labels=self.labels[indices])

    def take(self, count: int, *, seed: int) -> "Split":
        """Return `count` images drawn without repeats, in the order they had; all where there are no more."""
        if count >= len(self):
            return self
        generator = torch.Generator().manual_seed(seed)
        return self.select(torch.randperm(len(self), generator=generator)[:count].sort().values)

    def steps(self, batch_size: int, *, drop_last: bool = True) -> int:
        """Return how many batches one pass has; `drop_last` leaves the short one at the end out."""
        return len(self) // batch_size if drop_last else -(-len(self) // batch_size)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augment: bool | None = None,
        drop_last: bool | None = None,
        device: torch.device | str = "cpu",
        places: Tensor | None = None,
    ) -> Iterator[Batch]:
        """Yield (images, labels): normalised float32 [batch, channels, height, width] and int64 [batch], on the device.

        With a seed it is a training pass: shuffled, augmented, the short last batch dropped, all a pure function of
        (seed, epoch, batch_size). Without one it is an evaluation pass: every image, in order, as it is.

        Args:
            batch_size: images a batch.
            seed, epoch: what fixes the order and the augmentation.
            augment, drop_last: say otherwise than above.
            device: where the batches go; uint8 travels there and is augmented and normalised there.
            places: of each batch, those that are wanted, int64 [part], as they are in the whole one; None wants all.
                The short last batch must be dropped.
        Raises:
            DataError: augment without a seed, or drop_last with fewer images than one batch.
        """
        augment = seed is not None if augment is None else augment
        drop_last = seed is not None if drop_last is None else drop_last
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, but got {batch_size}")
        if augment and seed is None:
            raise DataError("augmented batches are random: give seed and epoch, or augment=False")
        if drop_last and len(self) < batch_size:
            raise DataError(
                f"batch_size {batch_size} is more than the {len(self)} images there are, and the short batch "
                f"is dropped; choose at most {len(self)}"
            )
        if places is not None and not drop_last:
            raise DataError("places are those of a whole batch: drop the short last one, or leave places out")
        return self._walk(batch_size, seed, epoch, augment, self.steps(batch_size, drop_last=drop_last), device, places)

    def _walk(
        self,
        batch_size: int,
        seed: int | None,
        epoch: int,
        augment: bool,
        steps: int,
        device: torch.device | str,
        wanted: Tensor | None,
    ) -> Iterator[Batch]:
        order = torch.arange(len(self))
        generator = torch.Generator()
        if seed is not None:
            # Mixed, not added: (seed 0, epoch 1) and (seed 1, epoch 0) must not be the same pass.
            generator.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]))
            order = torch.randperm(len(self), generator=generator)
        order = order[: steps * batch_size]
        changes = [find(name, AUGMENTATIONS, what="augmentation") for name in self.augmentation] if augment else []
        raw = self._raw(order, batch_size, device, wanted)
        for images, places in zip(raw, order.split(batch_size), strict=True):
            # What is drawn for an image depends on its place, so the whole batch is changed, wanted or not.
            for change in changes:
                images = change(images, generator)
            if wanted is not None:
                images, places = images.index_select(0, wanted.to(images.device)), places[wanted]
            yield normalised(images, self.mean, self.std), self.labels[places].to(device)

    def _raw(
        self, order: Tensor, batch_size: int, device: torch.device | str, wanted: Tensor | None
    ) -> Iterator[Tensor]:
        if isinstance(self.images, Stream):
            pinned = torch.device(device).type == "cuda"
            if wanted is None:
                for batch in self.images.batches(order, batch_size, pinned=pinned):
                    yield batch.to(device, non_blocking=pinned)
                return
            # Decoding is what takes time: the others stay blank.
            rows = order.view(-1, batch_size)[:, wanted].flatten()
            for batch in self.images.batches(rows, len(wanted), pinned=pinned):
                whole = torch.zeros(batch_size, *self.image_shape, dtype=batch.dtype, device=device)
                yield whole.index_copy_(0, wanted.to(device), batch.to(device))
        else:
            for places in order.split(batch_size):
                yield self.images.index_select(0, places.to(self.images.device)).to(device)
