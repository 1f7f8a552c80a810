"""YAML or plain data -> a checked, frozen description, or one line that says where it is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bnas.errors import SpecError


class Spec(BaseModel):
    """A description: frozen, compared by value, no unknown keys, no quiet conversions between kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Spec)

# A quoted "32" or a bare `yes` is no number. Floats stay lenient: YAML 1.1 reads `1e-3` as text.
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]

_LONGEST_VALUE_SHOWN = 60
_MOST_VALUES = 100_000  # in one file; a space has some hundreds
_IN_YAML_WORDS = {
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must hold `key: value` lines",
    "model_type": "must hold `key: value` lines",
    "too_short": "must have at least {min_length} value(s)",
    "too_long": "must have at most {max_length} value(s)",
    "invalid_key": "a key must be text",
}


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
        raise SpecError(f"{source}: must hold `key: value` lines, but holds {shown(data)}")
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
    except (OSError, ValueError) as problem:  # ValueError: not UTF-8, or a path that cannot be one
        raise SpecError(f"{path}: cannot be read as text: {problem}") from problem
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> object:
    """Return what a YAML text holds; `SpecError` with line and column where it is not YAML, or grows by aliases."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if _grows(root):
            raise SpecError(f"{source}: holds more than {_MOST_VALUES:,} values, aliases written out; use fewer")
        return None if root is None else loader.construct_document(root)
    except SpecError:
        raise
    except Exception as problem:  # beside YAMLError, PyYAML lets through whatever a conversion raises
        mark = getattr(problem, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = getattr(problem, "problem", None) or getattr(problem, "reason", None)
        reason = " ".join(str(said or f"{type(problem).__name__}: {problem}").split())
        raise SpecError(f"{source}: {where}not valid YAML: {reason}") from problem


def dump(spec: Spec) -> str:
    """Return a description as YAML text that `read` takes back to an equal one."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def _grows(root: yaml.Node | None) -> bool:
    """Say whether a document is too large once its aliases are written out; ends for one that holds itself, too."""
    waiting, seen = [root], 0
    while waiting and seen <= _MOST_VALUES:
        node = waiting.pop()
        seen += 1
        if isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
    return seen > _MOST_VALUES


def _first(problem: ValidationError, kind: type[Spec]) -> str:
    """Say the first thing that is wrong: `stages[2].groups: rule, but got value`."""
    error, *others = problem.errors(include_url=False)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in error["loc"]).lstrip(".")
    # A list whose item is wrong is reported as too short as well.
    count = sum(other["loc"] != error["loc"][: len(other["loc"])] for other in others)
    rest = f" ({count} more to correct)" if count else ""
    lead = f"{where}: " if where else ""
    if error["type"] == "extra_forbidden":
        return f"{lead}unknown key; known here: {', '.join(_keys_at(kind, error['loc'][:-1]))}{rest}"
    if error["type"] == "missing":
        return f"{lead}this key is required{rest}"
    ours = _IN_YAML_WORDS.get(error["type"])
    message = ours.format(**error.get("ctx", {})) if ours else error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] == "value_error" else f", but got {shown(error['input'])}"
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


def _key(name: str) -> str:
    return name if name.isidentifier() and len(name) <= _LONGEST_VALUE_SHOWN else shown(name)


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, and cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out integers of more than some thousand digits
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST_VALUE_SHOWN else f"{text[:_LONGEST_VALUE_SHOWN]}..."
