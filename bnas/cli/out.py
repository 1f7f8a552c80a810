"""What commands have in common: what a shell completes, the folder of a run, the line that says which images."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from bnas.cli.cost import parse_shape
from bnas.errors import ShapeError

KNOWN_DATA = ("digits", "mnist", "cifar10", "sketches")
DATA_HELP = f"{', '.join(KNOWN_DATA)}, a folder, Parquet, CSV or .npz file, a hub name, file.py:attr."


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes the beginning of a name; where none begins so, a shell goes on with files."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


DATA = typer.Option(help=DATA_HELP, autocompletion=one_of(KNOWN_DATA))
AUGMENT = typer.Option(
    help="Of training images: none, or some of flip, flip_vertical, crop, shift, turn, affine, cutout, with commas.",
    show_default="what the recipe or space says, or suits a known data set; else shift",
)
NORMALISE = typer.Option(
    help="How a trained model wants its images: imagenet, unit (0 to 1), bytes (0 to 255), or MEAN/STD.",
    show_default="by mean and deviation of the training images",
)
DEVICE = typer.Option(help="cpu, cuda, cuda:1.", show_default="a GPU if there is one")


def named_after(what: str | Path) -> Path:
    """Return the run folder of a space, or of a model, called after its file.

    Raises:
        BadParameter: the file has no name to give it.
    """
    name = Path(str(what).partition(":")[0]).stem
    if not name.strip("."):
        raise typer.BadParameter(f"{what} has no name to call a run folder after; give one", param_hint="--out")
    return Path("runs") / name


def image_shape(text: str | None) -> tuple[int, int, int] | None:
    """Return channels, height and width of what `--input` says, None where it was not given.

    Raises:
        ShapeError: it says something else.
    """
    if text is None:
        return None
    sides = parse_shape(text)
    if len(sides) != 3:
        raise ShapeError(f"--input: images have channels, height and width, as in 3x224x224, but got {text}")
    return sides[0], sides[1], sides[2]


def say_loading(command: str) -> None:
    """Say at once that a command is at work, where torch is still to be loaded, which takes seconds."""
    if "torch" not in sys.modules:
        print(f"bnas {command}: loads torch, then what it was given", file=sys.stderr, flush=True)


class _Said(logging.Handler):
    """Prints each message on stderr, once."""

    def __init__(self) -> None:
        super().__init__()
        self._before = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._before:
            self._before.add(message)
            print(message, file=sys.stderr, flush=True)


@contextmanager
def images_said() -> Iterator[None]:
    """Print what the images are on stderr as soon as a command has read them, and before it works with them."""
    logger, handler = logging.getLogger("bnas.images"), _Said()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
