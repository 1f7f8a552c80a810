"""A `Program` and its card -> the header of its C code, which says how it is called and what it takes."""

import re

from bnas.runtime.network import Card
from bnas.runtime.program import Program

SOURCE, HEADER = "network.c", "network.h"


def header(program: Program, card: Card, told: str) -> str:
    """Return the header.

    Args:
        told: what the code takes of flash and RAM.
    """
    channels, height, width = program.input
    names = "".join(f" *   {number}: {_harmless(name)}\n" for number, name in enumerate(card.class_names))
    return f"""\
/* A network of bits for images of {channels} x {height} x {width}: channels, height, width. Made by bnas.
 *
 * {told}
 * Needs C99 and its standard library, no more: cc -std=c99 -O2 -c {SOURCE}, and -lm where it is linked.
 * The static memory is that of one image: two threads must not call it at once.
{f" * Classes:{chr(10)}{names}" if names else ""} */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#define NETWORK_CHANNELS {channels}
#define NETWORK_HEIGHT {height}
#define NETWORK_WIDTH {width}
#define NETWORK_CLASSES {program.classes}

#ifdef __cplusplus
extern "C" {{
#endif

/* Returns the class of an image, and writes the logits of all classes where `logits` is not NULL.
 *
 * image: from 0 to 255, channel by channel, each row by row: that of channel c in row y and column x is
 *     image[(c * NETWORK_HEIGHT + y) * NETWORK_WIDTH + x]. It is normalised here, as in training.
 * logits: room for NETWORK_CLASSES values.
 */
int network_predict(const uint8_t *image, float *logits);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _harmless(name: str) -> str:
    """Return a name as it can stand in a comment: it neither ends nor begins one, and has no trigraph."""
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in name)
    return re.sub(r"\?(?=\?)", "? ", shown.replace("*/", "* /").replace("/*", "/ *"))
