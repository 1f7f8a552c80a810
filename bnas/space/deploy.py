"""A space with `deploy:` -> the part of it that the target takes, and what is left out."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from bnas.errors import SpecError
from bnas.space.choices import StageChoices
from bnas.space.space import SearchSpace
from bnas.space.targets import TARGETS, Target
from bnas.space.values import Downsample


class Deployable(NamedTuple):
    """A space whose every network a target takes.

    Attributes:
        space: what is left, with the same `deploy`.
        left_out: what it has no more, for people; empty where all of it is taken.
    """

    space: SearchSpace
    left_out: str


_NONE_OF = {  # what a stage may offer nothing but, and what to offer
    "experts": ("experts", "1"), "squeeze_excite": ("squeeze-excite", "false"), "activation": ("PReLU", "sign")
}  # fmt: skip


def deployable(space: SearchSpace) -> Deployable:
    """Return the part of a space that its target takes.

    What the space does not say is set as the target wants it: the value that is padded, the kind of shortcut, PReLU.

    Raises:
        SpecError: the space says something that the target never takes; names the keys and the rules.
    """
    if space.deploy is None:
        return Deployable(space, "")
    takes = TARGETS[space.deploy]
    never = [*_never_taken(space, takes), *_without_choice(space, takes)]
    if never:
        raise SpecError(f"deploy: {space.deploy} takes no network of this space: {'; '.join(never)}")
    left = space.but(**_settings(space, takes), stages=tuple(_taken(space, i, takes) for i in range(len(space.stages))))
    if left == space:
        return Deployable(space, "")
    return Deployable(left, f"deploy {space.deploy}: {'; '.join(_told(space, left))}; {counted(space, left)}")


def _never_taken(space: SearchSpace, takes: Target) -> Iterator[str]:
    """Yield what is fixed for the whole space and never taken, with what to write in its place."""
    usual = {
        key: any(getattr(stage, key) is None for stage in space.stages) for key in ("squeeze_excite", "activation")
    }
    if space.squeeze_excite and usual["squeeze_excite"] and not takes.gates:
        yield "squeeze_excite: true multiplies values with each other; give false"
    if not takes.prelu:
        if space.binarizers.shifts and usual["activation"]:
            yield "binarizers.activation: react brings PReLU; give sign"
        if space.shortcut.kind == ("bottleneck",):
            yield "shortcut.kind: bottleneck has PReLU; give repeat or conv"
        if "prelu" in space.model_fields_set and space.prelu:
            yield "prelu: true; give false, or leave it out"
    if not _shortcuts(space, takes) and "kind" in space.shortcut.model_fields_set:
        if space.shortcut.kind == ("repeat",):
            yield "shortcut.kind: repeat repeats channels; give conv, leave it out, or offer one width"
        elif len(space.shortcut.kind) > 1:
            yield "shortcut.kind: repeat repeats channels, and bottleneck has PReLU; offer conv"
    if space.shortcut.pool == "max" and not all(_pools(space, index, takes) for index in range(len(space.stages))):
        yield "shortcut.pool: max, but of max poolings it takes those whose stride divides the size; give average"
    if not takes.picks and space.stem.levels not in (None, (1,)):
        yield f"stem.levels: {list(space.stem.levels or ())} repeat channels; give 1, or kind: space_to_depth"
    said = "binarizers" in space.model_fields_set and "pad_value" in space.binarizers.model_fields_set
    if said and _pads_bits(space) and space.binarizers.pad_value not in takes.pad_values:
        given, right = space.binarizers.pad_value, takes.pad_values[0]
        yield f"binarizers.pad_value: {given} is not what bits are padded with; give {right}, or leave it out"


def _without_choice(space: SearchSpace, takes: Target) -> Iterator[str]:
    """Yield the stages of whose choices none is taken."""
    for index, stage in enumerate(space.stages):
        for key, left in _taken_of(stage, takes).items():
            if not left:
                what, offer = _NONE_OF[key]
                yield f"stages[{index}].{key}: {list(getattr(stage, key))}, but it takes no {what}; offer {offer}"
        if not _groups(space, index, takes):
            rule = "no groups" if takes.groups == "one" else "no groups of one channel"
            yield f"stages[{index}].groups: {list(stage.groups)}, but it takes {rule}; offer 1"
        if not _downsample(space, index, takes):
            yield (
                f"stages[{index}].downsample: max_pool, but it takes none whose windows reach over the edge; offer conv"
            )


def _taken_of(stage: StageChoices, takes: Target) -> dict[str, tuple[Any, ...]]:
    """Return the choices that are taken whatever else is chosen, of keys that a stage says."""
    refused = {
        "experts": () if takes.experts else [n for n in stage.experts if n > 1],
        "squeeze_excite": () if takes.gates else [True],
        "activation": () if takes.prelu else ["react"],
    }
    said = {key: getattr(stage, key) for key in refused if getattr(stage, key) is not None}
    return {key: tuple(value for value in values if value not in refused[key]) for key, values in said.items()}


def _settings(space: SearchSpace, takes: Target) -> dict[str, Any]:
    """Return what is set for the whole space."""
    settings: dict[str, Any] = {"prelu": space.prelu and takes.prelu}
    if _pads_bits(space) and space.binarizers.pad_value not in takes.pad_values:
        settings["binarizers"] = space.binarizers.model_copy(update={"pad_value": takes.pad_values[0]})
    kinds = _shortcuts(space, takes) or ("conv",)
    if kinds != space.shortcut.kind:
        settings["shortcut"] = space.shortcut.model_copy(update={"kind": kinds})
    return settings


def _taken(space: SearchSpace, index: int, takes: Target) -> StageChoices:
    """Return the choices of a stage that are taken."""
    stage = space.stages[index]
    by_size = {"groups": _groups(space, index, takes), "downsample": _downsample(space, index, takes)}
    return stage.model_copy(update=_taken_of(stage, takes) | by_size)


def _groups(space: SearchSpace, index: int, takes: Target) -> tuple[int, ...]:
    """Return the groups of a stage that are taken whatever its widths, and those before it, turn out to be."""
    stage = space.stages[index]
    inputs = {*space.widths_before(index), *(stage.width if max(stage.depth) > 1 else ())}
    refused = {"any": set[int](), "several": inputs, "one": set(stage.groups)}[takes.groups] - {1}
    return tuple(groups for groups in stage.groups if groups not in refused)


def _downsample(space: SearchSpace, index: int, takes: Target) -> tuple[Downsample, ...]:
    """Return who may take the stride of a stage."""
    return tuple(how for how in space.stages[index].downsample if how == "conv" or _pools(space, index, takes))


def _pools(space: SearchSpace, index: int, takes: Target) -> bool:
    """Say whether max poolings may take the stride of a stage, whatever the strides before it turn out to be."""
    stage, sizes = space.stages[index], space.sizes_before(index)
    whole = all(side % stride == 0 for size in sizes for side in size for stride in stage.stride)
    return whole or takes.pools == "any"


def _pads_bits(space: SearchSpace) -> bool:
    stem = space.stem.levels is not None and any(kernel != 1 for kernel in space.stem.kernel)
    return stem or any(set(stage.kernel) != {1} and "binary" in stage.precision for stage in space.stages)


def _shortcuts(space: SearchSpace, takes: Target) -> tuple[str, ...]:
    """Return the kinds of shortcuts that are taken; `repeat` repeats or leaves out channels between two widths."""
    widths = {*space.stem.width, *(width for stage in space.stages for width in stage.width)}
    is_taken = {"repeat": takes.picks or len(widths) == 1, "bottleneck": takes.prelu, "conv": True}
    return tuple(kind for kind in space.shortcut.kind if is_taken[kind])


def _told(space: SearchSpace, left: SearchSpace) -> Iterator[str]:
    """Yield what was left out, and what was set."""
    for key in ("experts", "groups", "downsample", "squeeze_excite", "activation"):
        gone: dict[tuple[Any, ...], list[str]] = {}
        for index, (old, new) in enumerate(zip(space.stages, left.stages, strict=True)):
            lacking = sorted(set(getattr(old, key) or ()) - set(getattr(new, key) or ()))
            gone.setdefault(tuple(lacking), []).append(f"stages[{index}]")
        for values, stages in gone.items():
            if values:
                yield f"leaves out {key} {', '.join(str(value).lower() for value in values)} of {', '.join(stages)}"
    if left.binarizers.pad_value != space.binarizers.pad_value:
        yield f"pads bits with {left.binarizers.pad_value}"
    if left.shortcut != space.shortcut and len(space.shortcut.kind) == 1:
        yield "shortcuts of another width are real 1x1 convolutions"
    elif left.shortcut != space.shortcut:
        yield f"leaves out shortcuts {', '.join(sorted(set(space.shortcut.kind) - set(left.shortcut.kind)))}"
    if left.prelu != space.prelu:
        yield "blocks have no PReLU"


def counted(space: SearchSpace, left: SearchSpace) -> str:
    """Return in words how many networks of a space are left."""
    return f"{left.size:,} of {space.size:,} networks stay"
