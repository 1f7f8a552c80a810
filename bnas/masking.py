"""Text and JSON-able values -> the same without passwords, fit to be written where others read it."""

import math
import re
from pathlib import PurePath
from typing import Any

_HIDDEN = "***"
# Greedy to the last @, and across spaces: hiding a little too much is better than half a password.
_IN_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s:/@]*):.*@", re.IGNORECASE)
_IN_OPTIONS = re.compile(r"((?:password|passwd|pwd|secret|token)[^\s=&]*=)[^\s&#]+", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Return the text with the password of every URL in it, and every `password=` option, shown as ***."""
    return _IN_OPTIONS.sub(rf"\1{_HIDDEN}", _IN_URL.sub(rf"\1:{_HIDDEN}@", text))


def without_secrets(value: Any) -> Any:
    """Return a JSON-able value with the secrets in its texts masked, paths as text and tuples as lists."""
    if isinstance(value, str | PurePath):
        return mask_secrets(str(value))
    if isinstance(value, dict):
        return {str(key): without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return value


def strict_json(value: Any) -> Any:
    """Return the value with its secrets masked and `nan` and `inf`, which JSON does not know, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): strict_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(inner) for inner in value]
    return without_secrets(value)
