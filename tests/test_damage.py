"""Whatever is damaged in a finished run is named, made anew, or harmless: never another answer, never a traceback."""

import json
import logging
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import bnas
from bnas.api import searching
from bnas.errors import BnasError
from bnas.report.findings import read_findings
from bnas.report.page import Picture, render
from bnas.runs import Run
from tests.packed import MANY, pairs
from tests.tiny import tiny_space

SPACE = tiny_space()
FOUND = (
    "candidates.csv", "twin.csv", "pareto.csv", "ledger.json", "retrained.csv", "confusion.csv",
    "best/architecture.yaml", "best/weights.safetensors", "config.yaml", "space.yaml", "environment.json",
)  # fmt: skip
CHECKED = ("alone.csv", "ranking.csv", "ranking.json")  # made anew by the command that made them
ODD: list[Any] = [None, True, [], {}, "", "x", -1, 1e300, 10**40, [[]], {"a": {}}, "\ud800", ["\udfff"], 0.5, [1, 2, 3]]
Damage = Callable[[bytes, Random], bytes | None]


def a_bit(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def a_digit(content: bytes, random: Random) -> bytes | None:
    places = [match.start() for match in re.finditer(rb"[0-9]", content)]
    if not places:
        return a_bit(content, random)
    place = random.choice(places)
    other = random.choice([digit for digit in b"0123456789" if digit != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


def a_line(times: int) -> Damage:
    def damage(content: bytes, random: Random) -> bytes:
        lines = content.splitlines(keepends=True)
        place = random.randrange(len(lines))
        return b"".join(lines[:place] + lines[place : place + 1] * times + lines[place + 1 :])

    return damage


def two_lines_changed_over(content: bytes, random: Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return a_bit(content, random)
    place = random.randrange(len(lines) - 1)
    lines[place : place + 2] = lines[place + 1], lines[place]
    return b"".join(lines)


def a_cut_tail(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content))]


def a_last_line_less(content: bytes, random: Random) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def a_byte_less(content: bytes, random: Random) -> bytes:
    return content[:-1]


def a_block_of_zeros(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content))
    return content[:place] + bytes(min(512, len(content) - place)) + content[place + 512 :]


def something_behind(content: bytes, random: Random) -> bytes:
    return content + random.choice([b"\0", b"x", b"\n\n", b"}", content[:100]])


def odd_values(content: bytes, random: Random) -> bytes:
    """Other values in JSON that is still JSON, in a file or in one of its lines."""
    lines = content.splitlines(keepends=True)
    is_lines = lines[0].rstrip().endswith(b"}")
    place = random.randrange(len(lines))
    try:
        document = json.loads(lines[place] if is_lines else content)
    except ValueError:
        return a_digit(content, random) or b""
    for _ in range(random.randint(1, 3)):
        spoil(document, random)
    text = json.dumps(document).encode() + b"\n"
    return b"".join([*lines[:place], text, *lines[place + 1 :]]) if is_lines else text


def spoil(document: Any, random: Random) -> None:
    places = [(holder, key) for holder, key in inner(document)]
    if places:
        holder, key = random.choice(places)
        if isinstance(holder, dict) and random.random() < 0.25:
            del holder[key]
        else:
            holder[key] = random.choice(ODD)


def inner(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in list(keys):
        yield document, key
        yield from inner(document[key])


def deep_nesting(content: bytes, random: Random) -> bytes:
    place = content.find(b": ") + 2
    return content[:place] + b"[" * 100_000 + b"]" * 100_000 + content[place:]


DAMAGES: dict[str, Damage] = {
    "a bit": a_bit,
    "a digit": a_digit,
    "a line twice": a_line(2),
    "a line gone": a_line(0),
    "two lines changed over": two_lines_changed_over,
    "a cut tail": a_cut_tail,
    "a last line less": a_last_line_less,
    "a byte less": a_byte_less,
    "zeros": a_block_of_zeros,
    "something behind": something_behind,
    "odd values": odd_values,
    "deep nesting": deep_nesting,
    "empty": lambda content, random: b"",
    "gone": lambda content, random: None,
}


class Whole(NamedTuple):
    """A finished run, and what it says."""

    path: Path
    page: str
    files: list[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching.report, "write_report", lambda run: None)
        again(path)
        check_again(path)
        files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        yield Whole(path, page_of(path), files)


def again(path: Path) -> None:
    """Run the command that began the run."""
    bnas.search(SPACE, data="digits", out=path)


def check_again(path: Path) -> None:
    """Run the command that checked its ranking."""
    bnas.check_ranking(path, networks=3, repeated=2)


def page_of(path: Path) -> str:
    """The page of a run; drawing would take seconds."""
    page = render(read_findings(Run.read(path)), defaultdict(lambda: Picture("data:,", 100)))
    return page.replace(str(path), "run")


def without_goes(page: str) -> str:
    """A page but for how often the run was worked on."""
    return re.sub(r"By its log .* UTC\.", "", page)


def old(path: Path) -> None:
    """Take the checksums out of a run, as builds before them wrote it."""
    (path / "sums.json").unlink(missing_ok=True)
    lines = (path / "log.jsonl").read_text().splitlines()
    (path / "log.jsonl").write_text("".join(line.partition(', "after": "')[0] + "}\n" for line in lines))
    manifest = json.loads((path / "best" / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    (path / "best" / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def damaged(folder: Path, whole: Whole, file: str, kind: str, seed: int, *, is_old: bool = False) -> Path | None:
    """A copy of the run with one file damaged; None where the damage changes nothing."""
    path = Path(shutil.copytree(whole.path, folder / "run"))
    if is_old:
        old(path)
        if file == "sums.json":
            return None
    content = (path / file).read_bytes()
    spoiled = DAMAGES[kind](content, Random(f"{file} {kind} {seed}")) if content else None
    if spoiled == content:
        return None
    (path / file).unlink() if spoiled is None else (path / file).write_bytes(spoiled)
    return path


def assert_named(file: str, said: str) -> None:
    """It may be named by what it belongs to: a checkpoint by its folder, what SQLite says by the study."""
    assert Path(file).name.removesuffix(".previous") in said or str(Path(file).parent) in said, said


def check(path: Path, whole: Whole, file: str, caplog: pytest.LogCaptureFixture) -> None:
    """Report, load, and run the same command: each names the file, or says what it said before."""
    with caplog.at_level(logging.WARNING):
        try:
            page = page_of(path)
        except BnasError as problem:
            assert_named(file, str(problem))
        else:
            if page != whole.page:
                assert_named(file, caplog.text)
        try:
            network = bnas.load(path / "best")
        except BnasError as problem:
            assert_named(file, str(problem))
        else:
            before = bnas.load(whole.path / "best").state_dict()
            assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
        try:
            again(path)
        except BnasError as problem:
            assert_named(file, str(problem))
            return
    for name in FOUND:
        assert (path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert set(scores(path)) == set(scores(whole.path))
    if file in CHECKED:
        check_again(path)
        for name in CHECKED:
            assert (path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert without_goes(page_of(path)) == without_goes(whole.page)


def scores(path: Path) -> dict[str, tuple[float, float]]:
    return {e["id"]: (e["proxy_accuracy"], e["proxy_loss"]) for e in Run.read(path).events() if e["event"] == "scored"}


FILES = (
    "alone.csv", "best/architecture.yaml", "best/manifest.json", "best/weights.safetensors", "candidates.csv",
    "confusion.csv", "config.yaml", "environment.json", "ledger.json", "log.jsonl", "pareto.csv", "ranking.csv",
    "ranking.json", "retrained.csv", "space.yaml", "study.db", "sums.json", "twin.csv",
)  # fmt: skip
CHECKPOINTS = ("supernet/weights.safetensors", "retrain/rungs/weights.safetensors")


def test_what_killed_writers_left_is_removed_by_the_next_call(whole: Whole, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole.path, tmp_path / "run"))
    alone = Run.read(path).read_table("alone").iloc[0]
    weights = path / "alone" / f"{alone['id']}-{alone['seed']}-0" / "weights.safetensors"
    lefts = [
        weights, weights.with_name(".weights.0123456789abcdef.tmp.safetensors"),
        path / ".report.0123456789abcdef.tmp.html", path / "figures" / ".topology-dark.0123456789abcdef.tmp.png",
    ]  # fmt: skip
    for left in lefts:
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half")
    check_again(path)
    assert not [left for left in lefts if left.exists()]
    assert not (path / "alone").exists()


def test_every_file_of_a_run_is_damaged_here(whole: Whole) -> None:
    assert {file for file in whole.files if not file.startswith(("retrain/", "supernet/"))} == set(FILES)
    assert set(CHECKPOINTS) <= set(whole.files)


OFTEN = ("a digit", "a line gone", "a line twice", "a cut tail", "odd values", "gone")


@pytest.mark.parametrize(("file", "kind"), pairs(FILES, OFTEN, each=2))
def test_what_is_damaged_is_named_or_made_anew(whole, tmp_path, caplog, file: str, kind: str) -> None:
    path = damaged(tmp_path, whole, file, kind, seed=0)
    if path:
        check(path, whole, file, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6) if MANY else [1])
@pytest.mark.parametrize(("file", "kind"), pairs([*CHECKPOINTS, *FILES], DAMAGES))
def test_whatever_is_damaged_is_named_or_made_anew(whole, tmp_path, caplog, file: str, kind: str, seed: int) -> None:
    path = damaged(tmp_path, whole, file, kind, seed)
    if path:
        check(path, whole, file, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4) if MANY else [0])
@pytest.mark.parametrize(("file", "kind"), pairs(FILES, DAMAGES))
def test_a_run_without_checksums_says_in_one_line_what_it_cannot_use(whole, tmp_path, file, kind, seed) -> None:
    path = damaged(tmp_path, whole, file, kind, seed, is_old=True)
    for use in (page_of, lambda path: bnas.load(path / "best"), again, page_of) if path else ():
        with suppress(BnasError):
            use(path)


def test_a_run_without_checksums_says_what_it_said_and_has_some_when_it_was_driven(whole, tmp_path) -> None:
    path = Path(shutil.copytree(whole.path, tmp_path / "run"))
    old(path)
    assert page_of(path) == whole.page
    again(path)
    for name in FOUND:
        assert (path / name).read_bytes() == (whole.path / name).read_bytes() or name == "environment.json", name
    (path / "candidates.csv").write_bytes((path / "candidates.csv").read_bytes()[:-1])
    with pytest.raises(BnasError, match=r"candidates\.csv: is damaged"):
        page_of(path)


@pytest.mark.parametrize("tables", [["candidates", "twin"], ["pareto"], ["retrained", "candidates", "pareto", "twin"]])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_finished_run_whose_tables_are_cut_rebuilds_them(whole, tmp_path, tables, share) -> None:
    path = Path(shutil.copytree(whole.path, tmp_path / "run"))
    for name in tables:
        file = path / f"{name}.csv"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[: int(share * len(lines))]))  # at the end of a line: it is still a table
    again(path)
    for name in FOUND:
        assert (path / name).read_bytes() == (whole.path / name).read_bytes(), name
