"""C code and pixels -> the classes and logits that it gives, compiled and run here; or why that cannot be."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.errors import ExportError
from bnas.ship.c_code.header import SOURCE

COMPILERS = ("cc", "gcc", "clang")  # the first of them that works
FLAGS = ("-std=c99", "-O2")

_PATIENCE_SECONDS = 600
_PROBE = "#include <math.h>\n#include <stdint.h>\n#include <stdio.h>\nint main(void) { return 0; }\n"
_MAIN = """\
#include <stdio.h>
#include "network.h"

int main(void)
{
    static uint8_t image[NETWORK_CHANNELS * NETWORK_HEIGHT * NETWORK_WIDTH];
    static float row[1 + NETWORK_CLASSES];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        row[0] = (float)network_predict(image, row + 1);
        if (fwrite(row, sizeof row, 1, stdout) != 1)
            return 1;
    }
    return 0;
}
"""


class Ran(NamedTuple):
    """What code gave: the classes that it returned [n], and logits [n, classes]."""

    classes: NDArray[np.int64]
    logits: NDArray[np.float32]


def find_compiler() -> tuple[str, str]:
    """Return a compiler whose programs run here, or the empty text, and why there is none."""
    why = f"none of {', '.join(COMPILERS)} is installed"
    for name in COMPILERS:
        if shutil.which(name) is not None:
            said = what_fails((name, *FLAGS))
            if not said:
                return name, ""
            why = f"{name} does not work here: {said}"
    return "", why


def what_fails(command: Sequence[str], *, start: Sequence[str] = ()) -> str:
    """Return why a compiler, or a program that it makes, does not run here; nothing where it does.

    Args:
        command, start: as in `run_code`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        probe, program = Path(scratch, "probe.c"), str(Path(scratch, "probe"))
        probe.write_text(_PROBE, encoding="utf-8")
        return _failure([*command, str(probe), "-o", program, "-lm"], [*start, program])


def run_code(folder: Path, pixels: NDArray[np.uint8], *, command: Sequence[str], start: Sequence[str] = ()) -> Ran:
    """Return what the code in a folder gives of pixels [n, channels, height, width].

    Args:
        command: the compiler and its options.
        start: what stands before a program that another machine would run, such as an emulator.
    Raises:
        ExportError: it cannot be compiled, or its program fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        main, program = Path(scratch, "main.c"), str(Path(scratch, "program"))
        main.write_text(_MAIN, encoding="utf-8")
        built = [*command, f"-I{folder}", str(main), str(folder / SOURCE), "-o", program, "-lm"]
        if said := _failure(built):
            raise ExportError(f"{SOURCE}: {command[0]} does not compile it: {said}; please report this")
        done = subprocess.run(
            [*start, program], input=pixels.tobytes(), capture_output=True, timeout=_PATIENCE_SECONDS, check=False
        )
    rows = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4")
    if done.returncode or not len(pixels) or len(rows) % len(pixels):
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0] or f"exit code {done.returncode}"
        raise ExportError(f"{SOURCE}: compiled by {command[0]}, it fails: {said}; please report this")
    table = rows.reshape(len(pixels), -1)
    return Ran(table[:, 0].astype(np.int64), table[:, 1:])


def _failure(*commands: Sequence[str]) -> str:
    """Run commands; return what the first that fails says, or nothing."""
    for command in commands:
        try:
            done: Any = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False, errors="replace"
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            return str(problem)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            return lines[0].strip() if lines else f"exit code {done.returncode}"
    return ""
