import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from spaces import arch_data, line_of, make_arch, make_space, rich_space, space_data

from bnas.errors import SpecError
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.space.settings import SearchSettings
from bnas.space.space import SearchSpace
from bnas.spec import Spec, dump, parse, parse_yaml
from bnas.yaml_text import MOST_BYTES

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
        (
            {"search": {"trails": 9}},
            "search.trails: unknown key; known here: budget, targets, start_with, trials, sampler, validation",
        ),
        ({"search": {"supernet": {"lr": 1}}}, "search.supernet.lr: unknown key; known here: epochs, steps, mode"),
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
    expected = (
        "stages[1].widht: unknown key; known here: depth, width, groups, experts, kernel, stride, downsample, "
        "squeeze_excite, activation, block, precision"
    )
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
        ({"shortcut": {"kind": "skip"}}, "shortcut.kind[0]: Input should be 'repeat', 'conv' or 'bottleneck'"),
        ({"shortcut": {"reduction": 0}}, "shortcut.reduction: Input should be greater than or equal to 1, but got 0"),
        ({"squeeze_excite": 1}, "squeeze_excite: must be true or false, but got 1"),
        ({"binarizers": {"pad_value": 2}}, "binarizers.pad_value: Input should be -1, 0 or 1, but got 2"),
        ({"binarizers": {"weight": 5}}, "binarizers.weight[0]: Input should be a valid string, but got 5"),
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
    assert type(spec).read(path) == spec


def test_a_schema_for_editors_can_be_made() -> None:
    schema = SearchSpace.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"input", "classes", "stem", "stages"}


KEYWORDS = {
    "minLength": {"string"}, "maxLength": {"string"}, "minItems": {"array"}, "maxItems": {"array"},
    "minimum": {"integer", "number"}, "maximum": {"integer", "number"},
}  # fmt: skip


@pytest.mark.parametrize("kind", [SearchSpace, Architecture, Recipe])
def test_keywords_of_the_schema_are_those_of_the_type_they_stand_with(kind: type[Spec]) -> None:
    def walk(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            yield part
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from walk(inner)

    parts = [part for part in walk(kind.model_json_schema()) if isinstance(part.get("type"), str)]
    assert [
        part for part in parts for word, types in KEYWORDS.items() if word in part and part["type"] not in types
    ] == []


@pytest.mark.parametrize(
    ("changes", "admitted"),
    [
        ({"stage": {"width": 16}}, True),
        ({"stage": {"width": [16, 32]}}, True),
        ({"stage": {"width": []}}, False),
        ({"stage": {"width": list(range(1, 66))}}, False),
        ({"stages": []}, False),
        ({"stage": {"kernel": [[1, 3], [3, 1]]}}, True),
        ({"stage": {"kernel": ["1x5", 3]}}, True),
        ({"stage": {"kernel": "1x4"}}, False),
        ({"stage": {"kernel": 2}}, False),
        ({"latency": "latency.yaml"}, True),
        ({"latency": {"machine": "m", "kernels": "k", "nanoseconds": {"call": 1}}}, True),
        ({"latency": 3}, False),
        ({"search": {"budget": {"ops": "20k..40k", "bytes": 4096}}}, True),
    ],
)
def test_the_schema_admits_what_a_space_may_be(changes: dict[str, Any], admitted: bool) -> None:
    schema = jsonschema.Draft202012Validator(SearchSpace.model_json_schema())
    data = json.loads(json.dumps(space_data(**changes)))
    assert schema.is_valid(data) is admitted
    if not admitted:
        with pytest.raises(SpecError):
            parse(SearchSpace, data, source="space")


class TestFiles:
    """What is said of a file that holds no description."""

    def refusal(self, path: str | Path) -> str:
        with pytest.raises(SpecError) as caught:
            SearchSpace.read(path)
        return line_of(caught)

    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "none.yaml"
        assert self.refusal(path) == f"{path}: no such file; give the path of a YAML file"

    def test_folder(self, tmp_path: Path) -> None:
        assert "cannot be read as text: " in self.refusal(tmp_path)

    def test_path_that_cannot_be_one(self) -> None:
        with pytest.raises(SpecError, match="cannot be read as text"):
            SearchSpace.read("a\0b")

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
        ("a: [1, 2\nb: 1", "line 2, column 2: not valid YAML: did not find expected ',' or ']'"),
        ("a: 1\nb: c: d", "line 2, column 5: not valid YAML: mapping values are not allowed in this context"),
        ("a:\n\tb: 1", "line 2, column 1: not valid YAML: found character that cannot start any token"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML: but found another document"),
        ("!!python/object/apply:os.system [ls]", "line 1, column 1: not valid YAML: could not determine a constructor"),
        ("a: 2001-99-99", "not valid YAML: ValueError: month must be in 1..12"),
        ("a: " + "1" * 5000, "not valid YAML: ValueError: Exceeds the limit"),
        ("[" * 101, "line 1, column 101: more than 100 lists or mappings in each other"),
        ("[" * 1_000_000, "line 1, column 10"),  # at 101 by us, unless PyYAML stops sooner: since 6.0.4 at 1001
        ("a: \0", "not valid YAML: control characters are not allowed"),
        ("a: \ud800", "not valid YAML: surrogates not allowed"),
        ("!!timestamp soon", "not valid YAML: AttributeError"),
        ("!!bool maybe", "not valid YAML: KeyError"),
        ("!!int ''", "not valid YAML: IndexError"),
        ("!<tag%0Awith%0Alines> 1", "line 1, column 1: not valid YAML: could not determine a constructor"),
    ],
)
def test_what_is_not_yaml_says_where(text: str, expected: str) -> None:
    assert yaml_refusal(text).startswith(f"mine.yaml: {expected}")


@pytest.mark.parametrize("name", ["dup_recipe", "dup_search", "dup_top"])
def test_a_key_that_stands_twice_is_refused_with_both_lines(name: str) -> None:
    lines = DUPLICATES[name].splitlines()
    key, first, second = WHERE[name]
    assert all(lines[line - 1].strip().startswith(f"{key}:") for line in (first, second))
    assert yaml_refusal(DUPLICATES[name]).startswith(f"mine.yaml: line {second}, column ")
    assert f"'{key}' is given twice, first in line {first}; keep one" in yaml_refusal(DUPLICATES[name])


DUPLICATES = {
    "dup_recipe": "batch: 64\nstages:\n  - epochs: 5\n    rate: 1e-3\n    rate: 1.0e-1\n    epochs: 1\n",
    "dup_search": "input: [1, 8, 8]\nsearch:\n  budget: {ops: 40k}\n# added at the end\nsearch: {trials: 2}\n",
    "dup_top": "classes: 10\nshortcut: {kind: repeat}\nclasses_: 1\nshortcut: {kind: project}\n",
}
WHERE = {"dup_recipe": ("rate", 4, 5), "dup_search": ("search", 2, 5), "dup_top": ("shortcut", 2, 4)}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n'a': 2", "{a: 1, a: 1}", "a: 1\n? a\n: 2", "yes: 1\ntrue: 2", "1: a\n+1: b", "- [{b: {c: 1, c: 2}}]",
        "~: 1\nnull: 2", "{a: &x {b: 1}, c: {<<: *x, <<: *x}}", "? {a: 1, a: 2}\n: b",
    ],
)  # fmt: skip
def test_a_key_that_is_written_in_two_ways_is_the_same_key(text: str) -> None:
    assert "is given twice, first in line 1; keep one" in yaml_refusal(text)


@pytest.mark.parametrize("text", ["1: a\n'1': b", "a: {b: 1}\nc: {b: 1}", "a: &x {b: 1}\nc: {<<: *x, b: 2}"])
def test_keys_that_differ_may_stand_side_by_side(text: str) -> None:
    assert parse_yaml(text, source="") == yaml.safe_load(text)


ODD = [
    "017",
    "-017",
    "0x10",
    "0b101",
    "1_000",
    "1:30",
    "1_0.5",
    "1:30.5",
    "1_0e+3",
    "007.5",
    "+0x1F",
    "00",
    "190:20:30",
]


@pytest.mark.parametrize("number", ODD)
def test_a_number_that_yaml_reads_as_another_is_refused_with_its_line(number: str) -> None:
    if isinstance(yaml.safe_load(number), str):  # no number to YAML: the field that it is for says so
        return
    line = yaml_refusal(f"a: 1\ntrials: {number}")
    assert line.startswith(f"mine.yaml: line 2, column 9: {number} would be read as another number than it looks like")
    assert "write decimal digits" in line


@pytest.mark.parametrize(
    "number", ["0", "-1", "+5", "17", "0.5", ".5", "5.", "1.0e-3", "1.5E+3", "-.inf", ".nan", "'017'"]
)
def test_a_number_that_is_what_it_looks_like_is_taken(number: str) -> None:
    assert repr(parse_yaml(f"a: {number}", source="")) == repr(yaml.safe_load(f"a: {number}"))


@pytest.mark.parametrize("text", ["true", "yes", "'017'", "08", "'1_000'", "1_000e1", "' 12'", "'1:30'", *ODD])
@pytest.mark.parametrize(
    ("key", "space"),
    [
        ("search.trials", "search:\n  trials: {}"),
        ("search.supernet.rate", "search:\n  supernet: {{epochs: 1, rate: {}}}"),
        ("search.retrain.halvings", "search:\n  retrain: {{halvings: [0.1, {}]}}"),
        ("search.limit", "search:\n\n  limit: {}"),
        ("stages[0].width", "stages: [{{width: [8, {}]}}]"),
        ("classes", "classes: {}"),
    ],
)
def test_what_is_no_plain_number_is_none_in_any_field(tmp_path: Path, text: str, key: str, space: str) -> None:
    base = yaml.safe_dump({k: v for k, v in space_data().items() if k != key.partition(".")[0].partition("[")[0]})
    (tmp_path / "mine.yaml").write_text(base + space.format(text))
    with pytest.raises(SpecError) as caught:
        SearchSpace.read(tmp_path / "mine.yaml")
    line = line_of(caught)
    last = base.count("\n") + 1 + space.count("\n")
    assert f"(line {last})" in line or f": line {last}, column " in line
    assert key in line or "would be read as another number" in line


@pytest.mark.parametrize("amount", ["true", "1_000", "[true]", "017"])
def test_an_amount_of_a_budget_is_a_number_or_an_amount(tmp_path: Path, amount: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"budget:\n  ops: {amount}\n")
    with pytest.raises(SpecError, match=r"line 2"):
        SearchSettings.read(tmp_path / "mine.yaml")


def test_an_amount_of_a_budget_may_have_a_unit() -> None:
    assert parse(SearchSettings, {"budget": {"ops": "40 k", "bytes": 20}}, source="").budget["ops"] == "40 k"


def test_no_field_of_any_description_takes_a_truth_for_a_number() -> None:
    """Whoever adds a field gets this without thinking of it."""
    kinds = [kind for kind in descriptions(Spec) if kind.__module__.startswith("bnas.")]
    assert {SearchSpace, Architecture, Recipe} <= set(kinds)
    numbers = 0
    for kind in kinds:
        for name, field in kind.model_fields.items():
            if any(leaf in str(field.annotation) for leaf in ("int", "float")) and "Flag" not in str(field.annotation):
                numbers += 1
                for value in (True, [True], (True,), {"ops": True}):
                    with pytest.raises(SpecError):
                        parse(kind, {name: value}, source="")
    assert numbers > 40


def descriptions(kind: type[Spec]) -> list[type[Spec]]:
    return [kind] + [inner for sub in kind.__subclasses__() for inner in descriptions(sub)]


@pytest.mark.parametrize(
    ("stages", "line", "says"),
    [
        ("stages:\n- width: 8\n- {width: 8,\n   widht: 9}", 4, "stages[1].widht: unknown key"),
        ("stages:\n- width: 8\n- width: [8,\n    16,\n    x]", 5, "stages[1].width[2]: must be a whole number"),
        ("stages:\n- &w {width: 8,\n  depth: x}\n\n- {<<: *w,\n width: 9}", 3, "stages[0].depth[0]: must be a whole"),
        ("stages:\n- width: 8\n-\n  depth: 2", 4, "stages[1].width: this key is required"),
    ],
)
def test_the_message_says_the_line(tmp_path: Path, stages: str, line: int, says: str) -> None:
    base = yaml.safe_dump({key: value for key, value in space_data().items() if key != "stages"})
    (tmp_path / "mine.yaml").write_text(base + stages)
    with pytest.raises(SpecError) as caught:
        SearchSpace.read(tmp_path / "mine.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'mine.yaml'}: {says}")
    assert f" (line {base.count(chr(10)) + line})" in str(caught.value)


class TestSizes:
    """A text is refused by its size before it is read, and by what it would grow to before it is built."""

    def test_a_large_file_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "large.yaml"
        with path.open("wb") as file:
            file.truncate(20_000_000_000)  # a hole: to read it would take more memory than there is
        with pytest.raises(SpecError, match="holds 20,000,000,000 bytes, but a description has at most 1,048,576"):
            SearchSpace.read(path)

    @pytest.mark.parametrize("kind", ["pipe", "folder"])
    def test_what_is_no_file_is_not_read(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "mine.yaml"
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
        with pytest.raises(SpecError, match="cannot be read as text: it is no file"):
            SearchSpace.read(path)

    @pytest.mark.parametrize("text", ["x: &x [{}]\n", "x: &x {{{}}}\n"])
    def test_many_aliases_are_counted_without_writing_them_out(self, text: str) -> None:
        inner = ", ".join(f"k{n}: 1" if "{{" in text else "1" for n in range(1000))
        many = text.format(inner) + "y: [" + ", ".join(["*x"] * 300_000) + "]\n"
        many = many[: MOST_BYTES - 2] + "]\n"
        tracemalloc.start()
        assert "aliases written out" in yaml_refusal(many)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 20 * MOST_BYTES

    def test_the_selection_of_a_thousand_layers_is_taken(self) -> None:
        layer = (
            "  stages.{}.blocks.0.conv: {{precision: binary, norm: true, why: its inputs lose little and save much}}\n"
        )
        text = "layers:\n" + "".join(layer.format(number) for number in range(1000))
        assert len(parse_yaml(text, source="")["layers"]) == 1000  # type: ignore[index]


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
