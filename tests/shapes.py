"""A seed -> pictures of circles, squares, triangles and crosses, of many sizes and places, as folders a class.

`python -m tests.shapes FOLDER [IMAGES]` writes them: what a person brings who has a few hundred images of their own.
"""

import sys
from math import cos, pi, sin
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

KINDS = ("circle", "cross", "square", "triangle")
SIDES = (40, 120)  # pixels, of a picture
SIZES = (0.3, 0.8)  # diameter of a shape, as a share of the shorter side


def write(folder: Path, images: int = 600, *, seed: int = 0) -> Path:
    """Write FOLDER/KIND/NUMBER.png, as many of each kind; return the folder."""
    for number in range(images):
        kind = KINDS[number % len(KINDS)]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        draw(kind, Random(f"{seed}/{number}")).save(folder / kind / f"{number:04}.png")
    return folder


def draw(kind: str, random: Random) -> Image.Image:
    """Return one picture: a filled shape on a plain ground, in two colours that can be told apart."""
    width, height = random.randint(*SIDES), random.randint(*SIDES)
    ground, ink = _colours(random)
    picture = Image.new("RGB", (width, height), ground)
    radius = random.uniform(*SIZES) * min(width, height) / 2
    x, y = random.uniform(radius, width - radius), random.uniform(radius, height - radius)
    angle = random.uniform(-0.3, 0.3)
    pen = ImageDraw.Draw(picture)
    if kind == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    else:
        pen.polygon([(x + radius * a, y + radius * b) for a, b in _outline(kind, angle)], fill=ink)
    return picture


def _outline(kind: str, angle: float) -> list[tuple[float, float]]:
    """Return the corners of a shape in the unit circle, turned a little."""
    if kind == "cross":
        arm, end = 0.3, 0.95
        corners = [
            (arm, -end), (arm, -arm), (end, -arm), (end, arm), (arm, arm), (arm, end),
            (-arm, end), (-arm, arm), (-end, arm), (-end, -arm), (-arm, -arm), (-arm, -end),
        ]  # fmt: skip
    else:
        count, first = (4, pi / 4) if kind == "square" else (3, -pi / 2)
        corners = [(cos(first + 2 * pi * i / count), sin(first + 2 * pi * i / count)) for i in range(count)]
    return [(a * cos(angle) - b * sin(angle), a * sin(angle) + b * cos(angle)) for a, b in corners]


def _colours(random: Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return two colours whose brightness differs by a quarter of full scale at least, either way round."""
    while True:
        pair = [tuple(random.randrange(256) for _ in range(3)) for _ in range(2)]
        if abs(sum(pair[0]) - sum(pair[1])) >= 3 * 64:
            return pair[0], pair[1]


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
