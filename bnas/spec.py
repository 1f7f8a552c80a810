"""YAML or plain data -> a checked, frozen description, or one line that says where it is wrong."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from bnas.errors import SpecError
from bnas.yaml_text import line_of, read_text
from bnas.yaml_text import parse_yaml as parse_yaml
from bnas.yaml_text import read_yaml as read_yaml


class Spec(BaseModel):
    """A description: frozen, compared by value, no unknown keys, no quiet conversions between kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    later: ClassVar[Mapping[str, Any]] = {}
    """Fields that came later, and the values that are not written: so descriptions from before, and ids, stay."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the description that a YAML file holds.

        Raises:
            SpecError: the file is missing, is not YAML, or is no valid description of this kind.
        """
        text = read_text(path)
        return parse(cls, parse_yaml(text, source=str(path)), source=str(path), text=text)

    def but(self, **changes: Any) -> Self:
        """Return the same with other values of some fields, checked, and with nothing kept that was computed before.

        Raises:
            ValueError: a value breaks a rule.
        """
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)

    def without_later(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is to be written, without fields that came later where their values are the usual ones."""
        return {key: value for key, value in said.items() if key not in self.later or value != self.later[key]}

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_later(whole(self))


S = TypeVar("S", bound=Spec)

# A quoted "32" or a bare `yes` is no number. Floats stay lenient: YAML 1.1 reads `1e-3` as text.
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]

_LONGEST_VALUE_SHOWN = 60
_ODD = re.compile(r"^\s*[-+]?0[0-9]|[_\s]")  # in the text of a number
_ODD_OR_TEXT = re.compile(r"^\s*[-+]?[0-9]+_")  # where text may stand, too: `1_000`, but not `40 k`
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


def parse(kind: type[S], data: object, *, source: str, text: str = "") -> S:
    """Return `data` checked as `kind`.

    Args:
        kind: the description class.
        data: what `parse_yaml` gives: nested dicts, lists and scalars.
        source: where the data came from, for the message (a path, "--budget").
        text: the YAML that the data was read from, so that the message can say the line.
    Raises:
        SpecError: one line with the source, the first wrong field, the rule and the value.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"{source}: must hold `key: value` lines, but holds {shown(data)}")
    try:
        made = kind.model_validate(data)
    except ValidationError as problem:
        raise SpecError(f"{source}: {_first(problem, kind, text)}") from problem
    for path, value in _odd_numbers(made, data, ()):
        line = _line(text, path)
        raise SpecError(
            f"{source}: {_where(path)}must be a number in plain decimal digits, but got {shown(value)}{line}"
        )
    return made


def dump(spec: Spec) -> str:
    """Return a description as YAML text that `read` takes back to an equal one."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def id_of(spec: Spec, *, spaced: bool = True) -> str:
    """Return twelve hexadecimal digits that name a description; equal ones have equal names.

    Args:
        spaced: whether there are spaces in the JSON that is summed; names are kept, so each kind stays with its own.
    """
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=None if spaced else (",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


Place = tuple[int | str, ...]  # in a document: keys and places in lists


def _odd_numbers(made: Spec, data: Any, path: Place) -> Iterator[tuple[Place, object]]:
    """Yield what a lenient conversion took for a number though nobody writes one so: `true`, `"007"`, `"1_000"`."""
    for name in made.model_fields_set if isinstance(data, Mapping) else ():
        value, here = getattr(made, name), (*path, name)
        if name in (numbers := _numbers_of(type(made))):
            odd = _ODD_OR_TEXT if numbers[name] else _ODD
            yield from (found for found in _scalars(data.get(name), here) if _is_odd(found[1], odd))
        elif isinstance(value, Spec):
            yield from _odd_numbers(value, data.get(name), here)
        elif isinstance(value, tuple) and isinstance(data.get(name), list | tuple):
            for place, (part, given) in enumerate(zip(value, data[name], strict=False)):
                if isinstance(part, Spec):
                    yield from _odd_numbers(part, given, (*here, place))


@cache
def _numbers_of(kind: type[Spec]) -> dict[str, bool]:
    """Return the fields of a description that hold numbers, or lists or mappings of them; and whether text, too."""
    leaves = {name: set(_leaves(field.annotation)) for name, field in kind.model_fields.items()}
    return {name: str in found for name, found in leaves.items() if found & {int, float} and not found & {bool, object}}


def _leaves(annotation: Any) -> Iterator[type]:
    """Yield the types of what may stand in a field; `object` for any, and for descriptions, which have fields."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_args(annotation):
        for inner in get_args(annotation):
            yield from _leaves(inner)
    elif isinstance(annotation, type):
        yield object if issubclass(annotation, BaseModel) else annotation
    elif annotation is Any:
        yield object


def _scalars(value: object, path: Place) -> Iterator[tuple[Place, object]]:
    inner = enumerate(value) if isinstance(value, list | tuple) else value.items() if isinstance(value, dict) else None
    if inner is None:
        yield path, value
    else:
        for key, part in inner:
            yield from _scalars(part, (*path, key))


def _is_odd(value: object, text: "re.Pattern[str]") -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and bool(text.search(value)))


def _where(path: Place) -> str:
    """Return a path as messages begin with it: `stages[2].groups: `."""
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path).lstrip(".")
    return f"{said}: " if said else ""


def _line(text: str, path: Place) -> str:
    return f" (line {line_of(text, path)})" if text else ""


def _first(problem: ValidationError, kind: type[Spec], text: str) -> str:
    """Say the first thing that is wrong: `stages[2].groups: rule, but got value`."""
    error, *others = problem.errors(include_url=False)
    # A list whose item is wrong is reported as too short as well.
    count = sum(other["loc"] != error["loc"][: len(other["loc"])] for other in others)
    rest = _line(text, error["loc"]) + (f" ({count} more to correct)" if count else "")
    lead = _where(error["loc"])
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
