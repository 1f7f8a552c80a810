from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from spaces import arch_data, line_of, make_arch, make_space, rich_space, space_data

from bnas.errors import SpecError
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, SearchSettings
from bnas.space.space import SearchSpace
from bnas.spec import Spec, dump, parse, parse_yaml, read

S = TypeVar("S", bound=Spec)
NAN, INF = float("nan"), float("inf")


def refusal(kind: type[Spec], data: object) -> str:
    """Return the one line that refuses data."""
    with pytest.raises(SpecError) as caught:
        parse(kind, data, source="mine.yaml")
    line = line_of(caught)
    assert line.startswith("mine.yaml: ")
    return line.removeprefix("mine.yaml: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stagess": 1}, "stagess: unknown key; known here: input, classes, stem, stages, shortcut, squeeze_excite"),
        ({"stem": {"width": 8, "kernle": 3}}, "stem.kernle: unknown key; known here: kind, width, kernel, stride"),
        ({"search": {"trails": 9}}, "search.trails: unknown key; known here: budget, trials, sampler, validation"),
        ({"search": {"supernet": {"lr": 1}}}, "search.supernet.lr: unknown key; known here: mode, epochs"),
        (
            {"search": {"retrain": {"recipe": {"stages": [{"epochs": 1, "distill": {"kl": 1}}]}}}},
            "search.retrain.recipe.stages[0].distill.kl: unknown key; known here: logits, attention, temperature",
        ),
    ],
)
def test_an_unknown_key_is_answered_with_the_known_ones(change: dict[str, Any], expected: str) -> None:
    assert refusal(SearchSpace, space_data(**change)).startswith(expected)


def test_an_unknown_key_of_a_stage_says_which_stage() -> None:
    stages = [{"width": 8}, {"width": 8, "widht": 9}]
    expected = "stages[1].widht: unknown key; known here: depth, width, groups, experts, kernel, stride, precision"
    assert refusal(SearchSpace, space_data(stages=stages)) == expected


@pytest.mark.parametrize("key", ["input", "classes", "stem", "stages"])
def test_a_missing_key_is_named(key: str) -> None:
    data = {name: value for name, value in space_data().items() if name != key}
    assert refusal(SearchSpace, data) == f"{key}: this key is required"


def test_further_errors_are_counted() -> None:
    assert refusal(SearchSpace, space_data(classes=1, input=[3, 0, 8])).endswith("(1 more to correct)")


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        ("32", "stages[0].width[0]: must be a whole number, but got '32'"),
        (True, "stages[0].width[0]: must be a whole number, but got True"),
        (16.0, "stages[0].width[0]: must be a whole number, but got 16.0"),
        (NAN, "stages[0].width[0]: must be a whole number, but got nan"),
        (INF, "stages[0].width[0]: must be a whole number, but got inf"),
        ([8, "x"], "stages[0].width[1]: must be a whole number, but got 'x'"),
        ([[8]], "stages[0].width[0]: must be a whole number, but got [8]"),
        (None, "stages[0].width: must be a list, but got None"),
        ({"from": 8}, "stages[0].width: must be a list, but got {'from': 8}"),
        ([], "stages[0].width: must have at least 1 value(s), but got []"),
        (list(range(1, 66)), "stages[0].width: must have at most 64 value(s), but got [1, 2, 3"),
        ([8, 16, 8], "stages[0].width: a choice is given twice in [8, 16, 8]; give each once"),
        (0, "stages[0].width[0]: Input should be greater than or equal to 1, but got 0"),
        (-8, "stages[0].width[0]: Input should be greater than or equal to 1, but got -8"),
        (10**400, "stages[0].width[0]: Input should be less than or equal to 65536, but got 1000"),
        pytest.param(16**5000, "stages[0].width[0]: Input should be less than or equal to 65536", id="5000 digits"),
    ],
)
def test_a_width_that_is_none_is_refused(width: object, expected: str) -> None:
    assert refusal(SearchSpace, space_data(stage={"width": width})).startswith(expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"classes": 1}, "classes: Input should be greater than or equal to 2"),
        ({"classes": "10"}, "classes: must be a whole number, but got '10'"),
        ({"classes": NAN}, "classes: must be a whole number, but got nan"),
        ({"input": [3, 8]}, "input[2]: this key is required"),
        ({"input": [3, 8, 8, 8]}, "input: must have at most 3 value(s)"),
        ({"input": "3x8x8"}, "input: must be a list, but got '3x8x8'"),
        ({"input": [3, 8, 10**30]}, "input[2]: Input should be less than or equal to 4096"),
        ({"stages": []}, "stages: must have at least 1 value(s), but got []"),
        ({"stages": {"width": 8}}, "stages: must be a list, but got {'width': 8}"),
        ({"stages": [8]}, "stages[0]: must hold `key: value` lines, but got 8"),
        ({"stem": 8}, "stem: must hold `key: value` lines, but got 8"),
        ({"shortcut": "conv"}, "shortcut: must hold `key: value` lines, but got 'conv'"),
        ({"shortcut": {"kind": "skip"}}, "shortcut.kind: Input should be 'repeat', 'conv' or 'bottleneck'"),
        ({"shortcut": {"reduction": 0}}, "shortcut.reduction: Input should be greater than or equal to 1, but got 0"),
        ({"squeeze_excite": 1}, "squeeze_excite: must be true or false, but got 1"),
        ({"binarizers": {"pad_value": 2}}, "binarizers.pad_value: Input should be -1, 0 or 1, but got 2"),
        ({"binarizers": {"weight": 5}}, "binarizers.weight: Input should be a valid string, but got 5"),
        ({1: 2}, "[1]: a key must be text, but got 1"),
        ({"two\nlines": 1}, r"'two\nlines': unknown key"),
        ({"k" * 1000: 1}, "'kkkk"),
    ],
)
def test_what_is_wrong_outside_the_stages_is_refused(change: dict[Any, Any], expected: str) -> None:
    assert refusal(SearchSpace, space_data() | change).startswith(expected)


@pytest.mark.parametrize("value", [NAN, INF, -1, 0, 10**400, "fast", None, [1]])
def test_a_rate_must_be_a_positive_number(value: object) -> None:
    assert refusal(SearchSettings, {"supernet": {"rate": value}}).startswith("supernet.rate: ")


def test_a_rate_may_be_written_as_yaml_reads_no_number() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    assert parse(SearchSettings, {"supernet": {"rate": "1e-3"}}, source="").supernet.rate == 1e-3


@pytest.mark.parametrize("value", [1.5, -0.1, NAN, "half"])
def test_a_share_lies_between_0_and_1(value: object) -> None:
    assert refusal(SearchSettings, {"scoring": {}, "supernet": {"warmup": value}}).startswith("supernet.warmup: ")


@pytest.mark.parametrize("value", [[1], NAN, {"at_most": 3}])
def test_a_limit_of_a_budget_is_text_or_a_number(value: object) -> None:
    assert refusal(SearchSettings, {"budget": {"ops": value}}).startswith("budget.ops")


def test_a_recipe_needs_a_stage() -> None:
    assert refusal(Recipe, {"stages": []}) == "stages: must have at least 1 value(s), but got []"


@pytest.mark.parametrize("data", [[1], None, 5, "text", [], [["a", 1]], True])
@pytest.mark.parametrize("kind", [SearchSpace, Architecture, Recipe])
def test_a_description_is_a_mapping(kind: type[Spec], data: object) -> None:
    assert refusal(kind, data) == f"must hold `key: value` lines, but holds {data!r}"


def test_a_long_value_is_cut() -> None:
    line = refusal(SearchSpace, space_data(stage={"width": "x" * 10_000}))
    assert line.endswith("x...")


def test_a_description_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_arch().classes = 7  # type: ignore[misc]


def test_equal_descriptions_are_equal_values() -> None:
    assert make_arch() == make_arch()
    assert hash(make_arch()) == hash(make_arch())
    assert make_arch() != make_arch(classes=6)


@pytest.mark.parametrize("spec", [make_arch(), make_space(), rich_space(squeeze_excite=True)])
def test_what_is_written_reads_back_equal(spec: Spec, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(dump(spec))
    assert read(type(spec), path) == spec


def test_a_schema_for_editors_can_be_made() -> None:
    schema = SearchSpace.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"input", "classes", "stem", "stages"}


class TestFiles:
    """What is said of a file that holds no description."""

    def refusal(self, path: str | Path) -> str:
        with pytest.raises(SpecError) as caught:
            read(SearchSpace, path)
        return line_of(caught)

    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "none.yaml"
        assert self.refusal(path) == f"{path}: no such file; give the path of a YAML file"

    def test_folder(self, tmp_path: Path) -> None:
        assert "cannot be read as text: " in self.refusal(tmp_path)

    def test_path_that_cannot_be_one(self) -> None:
        with pytest.raises(SpecError, match="cannot be read as text"):
            read(SearchSpace, "a\0b")

    def test_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.bin"
        path.write_bytes(b"\xff\xfe\x00\x01")
        assert "cannot be read as text: " in self.refusal(path)

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.yaml"
        path.touch()
        assert self.refusal(path) == f"{path}: must hold `key: value` lines, but holds None"

    def test_list(self, tmp_path: Path) -> None:
        path = tmp_path / "list.yaml"
        path.write_text("- width: 8\n- width: 16\n")
        assert self.refusal(path).startswith(f"{path}: must hold `key: value` lines, but holds [")


def yaml_refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, source="mine.yaml")
    return line_of(caught)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", "line 1, column 9: not valid YAML: expected ',' or ']'"),
        ("a: 1\nb: c: d", "line 2, column 5: not valid YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1", "line 2, column 1: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML: but found another document"),
        ("!!python/object/apply:os.system [ls]", "line 1, column 1: not valid YAML: could not determine a constructor"),
        ("a: 2001-99-99", "not valid YAML: ValueError: month must be in 1..12"),
        ("a: " + "1" * 5000, "not valid YAML: ValueError: Exceeds the limit"),
        ("[" * 500, "not valid YAML: RecursionError"),
        ("a: \0", "not valid YAML: special characters are not allowed"),
        ("!!timestamp soon", "not valid YAML: AttributeError"),
        ("!!bool maybe", "not valid YAML: KeyError"),
        ("!!int ''", "not valid YAML: IndexError"),
        ("!<tag%0Awith%0Alines> 1", "line 1, column 1: not valid YAML: could not determine a constructor"),
    ],
)
def test_what_is_not_yaml_says_where(text: str, expected: str) -> None:
    assert yaml_refusal(text).startswith(f"mine.yaml: {expected}")


def laughs(levels: int, *, line: str) -> str:
    """Return a text in which every level holds the one before ten times."""
    first = "a0: &a0 {k: 1}\n"
    return first + "".join(line.format(n=n, ten=", ".join([f"*a{n - 1}"] * 10)) for n in range(1, levels))


@pytest.mark.parametrize(
    "text",
    [
        laughs(12, line="a{n}: &a{n} [{ten}]\n"),
        laughs(12, line="a{n}: &a{n} {{<<: [{ten}]}}\n"),
        "&a [*a]",
        "a: &a {b: *a}",
    ],
    ids=["billion laughs", "billion merges", "list in itself", "mapping in itself"],
)
def test_a_text_that_grows_is_refused(text: str) -> None:
    assert yaml_refusal(text) == "mine.yaml: holds more than 100,000 values, aliases written out; use fewer"


def test_aliases_may_be_used() -> None:
    text = "one: &one {width: 8}\ntwo: {<<: *one, depth: 2}\n"
    assert parse_yaml(text, source="") == {"one": {"width": 8}, "two": {"width": 8, "depth": 2}}


TEXT = st.text(alphabet="ab0:-[]{}&*!<>|'\"#%@,.\n \t~?=\\\0\x85\u2028\ufeff\N{GRINNING FACE}", max_size=60)


@given(TEXT)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_yaml(text, source="mine.yaml")
    except SpecError as problem:
        line = str(problem)
    else:
        return
    assert "\n" not in line


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.dates(), st.binary(max_size=4))
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
WORDS = st.sampled_from(["real", "weight", "binary", "conv", "branched", "repeat", "sign"])
SMALL = st.integers(-1, 9)
VALUES = ANYTHING | SMALL | st.lists(SMALL, max_size=3) | WORDS | st.lists(WORDS, max_size=3)


def damaged(kind: type[Spec], data: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a description with some values, anywhere in it, exchanged for others."""
    stage_keys = ["depth", "width", "groups", "experts", "kernel", "stride", "precision", "x"]
    stage = st.dictionaries(st.sampled_from(stage_keys), VALUES, max_size=4).map(lambda change: {"width": 8} | change)
    stages = st.lists(stage | VALUES, min_size=1, max_size=3)
    parts = {"stem": st.dictionaries(st.sampled_from(["kind", "width", "kernel", "stride"]), VALUES)}
    other = dict.fromkeys(kind.model_fields, VALUES)
    return st.fixed_dictionaries({}, optional=other | parts | {"stages": stages}).map(lambda change: data | change)


def parsed(kind: type[S], data: object) -> S | None:
    """Return the description, or None where it is refused, which must be in one line."""
    try:
        return parse(kind, data, source="mine.yaml")
    except SpecError as problem:
        line = str(problem)
    assert "\n" not in line
    return None


@given(damaged(SearchSpace, space_data()))
def test_any_space_is_taken_or_refused_in_one_line(data: dict[str, Any]) -> None:
    space = parsed(SearchSpace, data)
    assert space is None or space.contains(space.smallest())


@given(damaged(Architecture, arch_data()))
def test_any_architecture_is_taken_or_refused_in_one_line(data: dict[str, Any]) -> None:
    arch = parsed(Architecture, data)
    assert arch is None or parsed(Architecture, yaml.safe_load(dump(arch))) == arch
