"""A description read from a file -> the code that it names, refused unless it is trusted.

Some fields name an entry of a table of ours, or code of a user's, as `file.py:attr` or `pkg.mod:attr`, which is run to
get what it names. What a person gives on the command line, or in a call, is theirs. What only a file names may be a
stranger's: a run folder, an export or a selection that somebody sent.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from bnas.errors import TrustError
from bnas.spec import Spec, shown

TRUST = "Run code that a file names, as file.py:attr or pkg.mod:attr; look at it first."  # what --trust does


class _Code:
    """Marks a field that may name code."""


CODE = _Code()
Named = Annotated[str, CODE]  # a name in a table of ours, `file.py:attr` or `pkg.mod:attr`


def check_code(spec: Spec, *, source: str, trust: bool) -> None:
    """Check that a description from a file names no code, unless it is trusted.

    Args:
        spec: the description.
        source: the file that it is from.
        trust: whether code that a file names may be run.
    Raises:
        TrustError: it does; says which file, which field, which code, what to do.
    """
    for field, name in _names(spec):
        check_name(name, field=field, source=source, trust=trust)


def names_code(spec: Spec) -> bool:
    """Whether a description names code, so that whoever opens the file it is in must trust it."""
    return any(":" in name for _, name in _names(spec))


def check_name(name: str, *, field: str, source: str, trust: bool) -> None:
    """Check that a name from a file names no code, unless it is trusted.

    Raises:
        TrustError: it does.
    """
    if ":" in name and not trust:
        raise TrustError(
            f"{source}: {field} names code, {shown(name)}, which would be run; look at it first, then give --trust "
            "(in Python trust=True)"
        )


def _names(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every name in a description, with its field."""
    if isinstance(value, Spec):
        for name, field in type(value).model_fields.items():
            here = f"{path}.{name}".lstrip(".")
            inner = getattr(value, name)
            if any(isinstance(mark, _Code) for mark in field.metadata):
                yield from ((here, text) for text in ([inner] if isinstance(inner, str) else inner or ()))
            else:
                yield from _names(inner, here)
    elif isinstance(value, tuple | list):
        for place, inner in enumerate(value):
            yield from _names(inner, f"{path}[{place}]")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _names(inner, f"{path}.{key}")
