"""Thousands of malformed spaces, architectures, manifests and commands: one line each, soon, and no file elsewhere."""

import copy
import io
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bnas
import bnas.api.rank_check
import bnas.api.select
import bnas.trace  # what a command imports when it is needed takes seconds the first time
from bnas.cli.app import main
from bnas.errors import BnasError
from bnas.exporters import load
from bnas.spec import dump, parse_yaml
from tests.tiny import TINY, tiny_space

SECONDS = 5.0  # of work after which a command hangs
PATIENCE = 60.0  # seconds, for one that waits, on a machine that has other things to do
EXAMPLES = {"spaces": 550, "architectures": 550, "manifests": 400, "commands": 550}
SPACE: Any = parse_yaml(TINY, source="tiny")
ARCHITECTURE: Any = parse_yaml(dump(tiny_space().largest()), source="tiny")

NAMES = [
    "../../out",
    "/",
    "~",
    "..",
    "\0",
    "a\nb",
    "nan",
    "1e999",
    "9" * 5000,
    "3M",
    "-1k",
    "50%",
    "math:pi",
    "nowhere:x",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from([*NAMES, 2**31, 2**63, 10**30, 10**400, 1e-320]),
)  # fmt: skip
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | SCALARS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    said: str


class Here:
    """A folder in which commands run; it notes what they write anywhere else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.elsewhere, self.watches = folder, list[str](), False
        sys.addaudithook(self._audit)

    def bnas(self, *arguments: str) -> Done:
        """Run a command in this process, which has torch loaded already."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["bnas", *arguments])
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.chdir(self.folder)
            try:
                self.soon(main)
                code: int | str | None = 0
            except SystemExit as ended:
                code = ended.code
        return Done(int(code or 0), err.getvalue())

    def soon(self, action: Callable[[], object]) -> object:
        """Do what must end soon, and write nothing elsewhere."""
        timers = [(signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, PATIENCE)]
        before = {number: signal.signal(number, _too_long) for _, number, _ in timers}
        for timer, _, seconds in timers:
            signal.setitimer(timer, seconds)
        self.watches = True
        try:
            return action()
        finally:
            self.watches = False
            for timer, number, _ in timers:
                signal.setitimer(timer, 0)
                signal.signal(number, before[number])
            assert not self.elsewhere, self.elsewhere

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not self.watches or not (writes or name in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")):
            return
        path = Path(os.path.realpath(arguments[0])) if isinstance(arguments[0], str | os.PathLike) else self.folder
        if not path.is_relative_to(self.folder) and path != Path(os.devnull):
            self.elsewhere.append(f"{name} {path}")


class Hangs(BaseException):
    """Nothing of ours catches it."""


def _too_long(*_: object) -> None:
    raise Hangs(f"still at work after {SECONDS:g} s of computing, or {PATIENCE:g} s of waiting")


def assert_one_line(done: Done) -> None:
    assert done.code in (0, 1, 2)
    assert "Traceback" not in done.said
    assert "error of bnas itself" not in done.said, done.said
    if done.code == 1:
        assert done.said.startswith("bnas: ")
        assert done.said.count("\n") == 1


def examples(what: str) -> Any:
    return settings(max_examples=EXAMPLES[what], suppress_health_check=list(HealthCheck))


@st.composite
def spoiled(draw: st.DrawFn, whole: Any) -> Any:
    """A document of which one to three places hold something else, or nothing."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(data))
        if not places:
            return draw(JUNK)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "remove", "add", "wrap"])):
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=5))] = draw(JUNK)
            case "wrap":
                holder[key] = [holder[key]]
            case _:
                holder[key] = draw(JUNK)
    return data


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from _places(data[key])


def texts(whole: Any) -> st.SearchStrategy[str]:
    """YAML texts: of spoiled documents, or torn and patched."""
    text = yaml.safe_dump(whole)
    patches = st.text(max_size=8) | st.sampled_from(["&a [*a]", "!!python/x", "\t", "{", "---\n"])
    torn = st.builds(
        lambda at, length, patch: text[:at] + patch + text[at + length :],
        st.integers(0, len(text)), st.integers(0, 20), patches,
    )  # fmt: skip
    return torn | spoiled(whole).map(lambda data: yaml.dump(data, Dumper=yaml.SafeDumper, allow_unicode=True))


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Here:
    return Here(tmp_path_factory.mktemp("here"))


@examples("spaces")
@given(text=texts(SPACE))
def test_a_malformed_space_is_one_line(here, text) -> None:
    (here.folder / "space.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    # Where the space is sound after all, the data set that is not there ends it before any training.
    done = here.bnas("search", "space.yaml", "--data", "nowhere", "--out", "run")
    assert done.code == 1
    assert_one_line(done)
    assert not (here.folder / "run").exists()


@examples("architectures")
@given(text=texts(ARCHITECTURE), form=st.sampled_from(["--json", "--csv", "--input=3x9x9"]))
def test_a_malformed_architecture_is_one_line(here, text, form) -> None:
    (here.folder / "arch.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert_one_line(here.bnas("cost", "arch.yaml", form))


@pytest.fixture(scope="module")
def searched(here) -> Iterator[Path]:
    """A folder with a run and an export of it that a person has added a file to, so that it is never replaced."""
    bnas.search(tiny_space(), out=here.folder / "run", trials=2, top=1)
    bnas.export(here.folder / "run", out=here.folder / "out")
    (here.folder / "out" / "notes.txt").touch()
    yield here.folder
    shutil.rmtree(here.folder / "run")


FILES = [
    "run/best/manifest.json",
    "run/best/architecture.yaml",
    "run/config.yaml",
    "run/environment.json",
    "out/manifest.json",
]


@examples("manifests")
@given(data=st.data(), name=st.sampled_from(FILES), torn=st.booleans())
def test_a_malformed_manifest_is_one_line(here, searched, data, name, torn) -> None:
    file = searched / name
    whole = file.read_text()
    if torn:
        at = data.draw(st.integers(0, len(whole)))
        text = whole[:at] + data.draw(st.text(max_size=3))
    elif name.endswith(".json"):
        text = json.dumps(data.draw(spoiled(json.loads(whole)).filter(_is_json)))
    else:
        text = yaml.safe_dump(data.draw(spoiled(yaml.safe_load(whole))))
    try:
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        done = here.bnas("export", "run", "-o", "out")
        assert done.code == 1
        assert_one_line(done)
        for folder in ("run/best", "out"):
            with suppress(BnasError):
                here.soon(lambda folder=folder: load(searched / folder))
    finally:
        file.write_text(whole)


def _is_json(data: Any) -> bool:
    try:
        json.dumps(data)
    except (TypeError, ValueError):
        return False
    return True


COMMANDS = ["search", "select", "train", "cost", "export", "rank-check", "report", "nothing", ""]
OPTIONS = shlex.split("""
    --data --budget --trials --sampler --seed --out -o --retrain --storage --device --engine --workers --lease
    --ray-address --json --recipe --weights --precision --teacher --epochs --validation --input --first --last
    --convention --divisor --csv --to --networks --metric --ratio --method --keep --preset --selection --include
    --finetune --nothing -- -
""")
VALUES = shlex.split("""
    tiny.yaml arch.yaml folder binary.bin lenet5 resnet18 nowhere.py:x run.py:none ../../out / ~ .. math:pi nowhere:x :
    ops=1 ops=3M ops= = bytes=-1 ops=1..0 1.. 50% nan 1e999 3M -1k xnor expert processes ray in-process sqlite:///x/y.db
    postgresql://u:secret@127.0.0.1:1/x notadb:// cuda meta cpu:7 0 -1 99999999999999999999 1.5 3x8x8 0x0 1x1x1 x
    literature evolution tpe 0.5 training
""")
PARTS = st.sampled_from(OPTIONS) | st.sampled_from(VALUES) | st.text(max_size=5).filter(lambda text: "\0" not in text)


@examples("commands")
@given(command=st.sampled_from(COMMANDS), parts=st.lists(PARTS, max_size=6), shuffle=st.integers(0, 99))
def test_a_malformed_command_is_one_line(here, command, parts, shuffle) -> None:
    (here.folder / "tiny.yaml").write_text(TINY)
    (here.folder / "arch.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    (here.folder / "run.py").write_text("none = None\n")
    (here.folder / "binary.bin").write_bytes(bytes(range(256)))
    (here.folder / "folder").mkdir(exist_ok=True)
    Random(shuffle).shuffle(parts)
    # Data that is not there ends what would be a sound command before any work.
    ending = ["--data", "nowhere"] if command in ("search", "select", "train") else []
    done = here.bnas(command, *parts, *ending)
    assert_one_line(done)
