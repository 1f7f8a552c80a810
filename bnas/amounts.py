"""Numbers -> texts as people read them: 2.95M, 98.61 %, 2 min 14 s, 0:02:14."""

import math
import re

NONE = "\u2013"  # in the place of a number that is not known
_UNBROKEN = "\u00a0"
_BEFORE_A_UNIT = re.compile(r"(?<=\d) (?=(?:%|min\b|h\b|s\b))")


def show(value: float) -> str:
    """Return an amount as people read it: 2.95M, 512, 17.3k."""
    for factor, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= 0.9995 * factor:  # three digits round it up to the factor
            return f"{float(f'{value / factor:.3g}'):g}{suffix}"
    return f"{value:.3g}"


def percent(share: float | None) -> str:
    """Return a share as people read it: 98.61 %."""
    return NONE if share is None or math.isnan(share) else f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """Return seconds as people read them: 48 s, 2 min 14 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """Return seconds as a clock that runs: 0:02:14."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def unbroken(text: str) -> str:
    """Return a text whose numbers stay on one line with their units."""
    return _BEFORE_A_UNIT.sub(_UNBROKEN, text)


def broken(text: str) -> str:
    """Return the same text with plain spaces, as a terminal and who searches in its lines want them."""
    return text.replace(_UNBROKEN, " ")
