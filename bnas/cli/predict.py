"""`bnas predict`: a packed network and image files -> their classes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.amounts import percent
from bnas.errors import DataError

BATCH = 64


def predict_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A packed network, or the folder that holds it.")],
    images: Annotated[list[Path], typer.Argument(help="Image files; they are resized and normalised as in training.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print for each image, the likeliest first.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of threads, unless told the fastest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Print the class of each image, and its share of the softmax over all classes.

    Example: bnas predict packed/network.bnas cat.jpg dog.png --top 3
    """
    from bnas.runtime import load

    network = load(file, threads=threads)
    channels = network.program.input[0]
    if channels not in (1, 3):
        raise DataError(
            f"{file}: takes images of {channels} channels, which no picture has; give arrays to it in Python, as "
            "bnas.runtime.load(FILE)(images), normalised"
        )
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        for path, classes in zip(some, _classes(network, some, top), strict=True):
            if as_json:
                print(json.dumps({"image": str(path), "classes": [{"class": name, "share": s} for name, s in classes]}))
            else:
                print(path, *(f"{name} {percent(share)}" for name, share in classes), sep="\t", flush=True)


def _classes(network: Any, paths: list[Path], top: int) -> Iterator[list[tuple[str, float]]]:
    """Yield the likeliest classes of each image."""
    import numpy as np

    from bnas.data.picture import read_image

    pixels = np.stack([read_image(path, network.program.input).numpy() for path in paths])
    logits = network(network.normalised(pixels)).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    names = network.card.class_names or tuple(map(str, range(network.program.classes)))
    for row in shares:
        yield [(names[number], float(row[number])) for number in np.argsort(-row, kind="stable")[:top]]
