"""YAML or plain data -> a checked, frozen description, or one line that says where it is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bnas.errors import SpecError


class Spec(BaseModel):
    """A description: frozen, compared by value, no unknown keys, no quiet conversions between kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Spec)

_LONGEST_VALUE_SHOWN = 60


def parse(kind: type[S], data: object, *, source: str) -> S:
    """Return `data` checked as `kind`.

    Args:
        kind: the description class.
        data: what `yaml.safe_load` gives: nested dicts, lists and scalars.
        source: where the data came from, for the message (a path, "--budget").
    Raises:
        SpecError: one line with the source, the first wrong field, the rule and the value.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"{source}: must hold `key: value` lines, but holds {_shown(data)}")
    try:
        return kind.model_validate(data)
    except ValidationError as problem:
        raise SpecError(f"{source}: {_first(problem, kind)}") from problem


def read(kind: type[S], path: str | Path) -> S:
    """Return the description that a YAML file holds.

    Raises:
        SpecError: the file is missing, is not YAML, or is not a valid `kind`.
    """
    return parse(kind, read_yaml(path), source=str(path))


def read_yaml(path: str | Path) -> object:
    """Return what a YAML file holds, read safely (no tags that build objects)."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise SpecError(f"{path}: no such file; give the path of a YAML file") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise SpecError(f"{path}: cannot be read as text: {problem}") from problem
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> object:
    """Return what a YAML text holds; `SpecError` with line and column where it is not YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = getattr(problem, "problem", None) or type(problem).__name__
        raise SpecError(f"{source}: {where}not valid YAML: {reason}") from problem


def dump(spec: Spec) -> str:
    """Return a description as YAML text that `read` takes back to an equal one."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def _first(problem: ValidationError, kind: type[Spec]) -> str:
    """Say the first thing that is wrong: `stages[2].groups: rule, but got value`."""
    errors = problem.errors(include_url=False)
    error = errors[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    rest = f" ({len(errors) - 1} more like it)" if len(errors) > 1 else ""
    lead = f"{where}: " if where else ""
    if error["type"] == "extra_forbidden":
        return f"{lead}unknown key; known here: {', '.join(_keys_at(kind, error['loc'][:-1]))}{rest}"
    if error["type"] == "missing":
        return f"{lead}this key is required{rest}"
    message = error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] == "value_error" else f", but got {_shown(error['input'])}"
    return f"{lead}{message}{got}{rest}"


def _keys_at(kind: type[Spec], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the description that `path` leads to."""
    here: Any = kind
    for part in path:
        if isinstance(part, str):
            here = here.model_fields[part].annotation
        while not (isinstance(here, type) and issubclass(here, BaseModel)):
            inner = [a for a in getattr(here, "__args__", ()) if a is not type(None) and a is not Ellipsis]
            if not inner:
                return []
            here = inner[0]
    return list(here.model_fields)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE_SHOWN else f"{text[:_LONGEST_VALUE_SHOWN]}..."
