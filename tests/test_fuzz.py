"""Hundreds of malformed spaces, architectures, manifests and commands: one line each, soon, and no file elsewhere."""

import copy
import io
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import bnas
import bnas.api.rank_checking
import bnas.api.selecting
import bnas.cost.trace.trace_model  # what a command imports when it is needed takes seconds the first time
from bnas.cli.app import main
from bnas.errors import BnasError
from bnas.report import page
from bnas.runs.temporary import is_temporary, target_of
from bnas.ship import load
from bnas.ship import training as exporting
from bnas.spec import dump, parse_yaml
from tests.packed import MANY
from tests.tiny import TINY, tiny_space

SECONDS = 5.0  # of work, or of waiting for anything but a processor, after which a command hangs
PATIENCE = 60.0  # seconds after which it is ended, for other programs may have the processors meanwhile
EXAMPLES = {"spaces": 200, "architectures": 200, "manifests": 80, "commands": 200, "writers": 80}
MALFORMED = 500  # distinct inputs that must have been refused, of all kinds together
if MANY:
    EXAMPLES = {"spaces": 750, "architectures": 750, "manifests": 300, "commands": 700, "writers": 300}
    MALFORMED = 2000
UNKNOWN = "data set 'nowhere' is not known"  # said of what is sound up to there
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


refused: dict[str, set[object]] = {what: set() for what in EXAMPLES}  # the distinct inputs that were


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    said: str
    changed: list[Path]  # files


class Here:
    """A folder in which commands run, the same before each; what they write anywhere but where they may is an error."""

    def __init__(self, folder: Path) -> None:
        self._top, self._copy = folder / "top", folder / "copy"
        self.folder = self._top / "a" / "b"  # so that ../../out is seen too
        self.folder.mkdir(parents=True)
        self._may: list[Path] | None = None
        self._changed: list[Path] = []
        self._elsewhere: list[str] = []
        sys.addaudithook(self._audit)

    def keep(self) -> None:
        """Take what is in the folder now for what is there before every command."""
        shutil.copytree(self._top, self._copy)
        self._before = self._seen()

    def bnas(self, *arguments: str, writes: Iterable[str] = ()) -> Done:
        """Run a command, which may write under some names, in this process, which has torch loaded already."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["bnas", *arguments])
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.chdir(self.folder)
            try:
                self.soon(main, writes=writes)
                code: int | str | None = 0
            except SystemExit as ended:
                code = ended.code
        return Done(int(code or 0), err.getvalue(), self._changed)

    def soon(self, action: Callable[[], object], *, writes: Iterable[str] = ()) -> None:
        """Do what must end soon, and write nothing but what it may."""
        before = signal.signal(signal.SIGALRM, _too_long)
        started, waited = time.monotonic(), _waited_for_a_processor()
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        roots = [Path(os.path.realpath(self.folder / name)) for name in writes]
        self._elsewhere.clear()
        self._may = [root for root in roots if not self.folder.is_relative_to(root)]  # it is never empty
        try:
            action()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            seconds = time.monotonic() - started - (_waited_for_a_processor() - waited)
            self._look_round()
        if seconds > SECONDS:
            raise Hangs(f"was at work for {seconds:.1f} s")

    def _look_round(self) -> None:
        may, self._may = self._may or [], None
        after = self._seen()
        paths = after.keys() | self._before.keys()
        changed = [path for path in paths if after.get(path) != self._before.get(path)]
        self._changed = [path for path in changed if _FOLDER not in (after.get(path), self._before.get(path))]
        self._elsewhere += [f"changed {path}" for path in changed if not _is_under(path, may)]
        self._restore(sorted(changed))
        assert not self._elsewhere, self._elsewhere

    def _restore(self, changed: list[Path]) -> None:
        for path in changed:
            if path.is_dir() and self._before.get(path) != _FOLDER:
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink(missing_ok=True)
        for path in changed:
            kept = self._copy / path.relative_to(self._top)
            if self._before.get(path) == _FOLDER:
                path.mkdir(exist_ok=True)
            elif path in self._before:
                shutil.copy2(kept, path)

    def _seen(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for path in self._top.rglob("*"):
            known = path.lstat()
            found[path] = _FOLDER if path.is_dir() else (known.st_size, known.st_mtime_ns)
        return found

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if self._may is None or not (writes or name in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")):
            return
        path = Path(os.path.realpath(arguments[0])) if isinstance(arguments[0], str | os.PathLike) else self.folder
        is_ours = any(is_temporary(path.name) and target_of(path).stem == may.stem for may in self._may)
        if not (_is_under(path, self._may) or is_ours or path.is_relative_to(self._top) or path == NOTHING):
            self._elsewhere.append(f"{name} {path}")


NOTHING = Path(os.devnull)
_FOLDER = (0, 0)


def _is_under(path: Path, roots: list[Path]) -> bool:
    """Whether the path is one of the roots, lies in one, or is a folder on the way to one."""
    return any(path.is_relative_to(root) or root.is_relative_to(path) for root in roots)


def _waited_for_a_processor() -> float:
    """Seconds for which this thread could have worked, but others had the processors; 0 where nobody says."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Hangs(BaseException):
    """Nothing of ours catches it."""


def _too_long(*_: object) -> None:
    raise Hangs(f"still there after {PATIENCE:g} s")


def assert_one_line(done: Done) -> None:
    assert done.code in (0, 1, 2)
    assert "Traceback" not in done.said
    assert "error of bnas itself" not in done.said, done.said
    if done.code == 1:
        assert done.said.startswith("bnas: ")
        assert done.said.count("\n") == 1


def count(what: str, given: object, done: Done) -> None:
    """Count an input that was refused for itself."""
    if done.code and UNKNOWN not in done.said:
        refused[what].add(given)


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
    """A folder with a run, an export of it, and other files; drawings and proofs, which take seconds, are left out."""
    here = Here(tmp_path_factory.mktemp("here"))
    folder = here.folder
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "arch.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    (folder / "run.py").write_text("none = None\n")
    (folder / "binary.bin").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_pareto", "draw_search", "draw_losses", "draw_topology", "draw_layers"):
            patch.setattr(page, name, lambda *_: Figure(figsize=(0.1, 0.1)))
        patch.setattr(exporting, "prove_model_file", lambda *_, **__: {})
        bnas.search(folder / "tiny.yaml", out=folder / "run", trials=2, top=1)
        bnas.export(folder / "run", out=folder / "done")
        here.keep()
        yield here


@examples("spaces")
@given(text=texts(SPACE))
def test_a_malformed_space_is_one_line(here, text) -> None:
    (here.folder / "space.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    # Where the space is sound after all, the data set that is not there ends it before any training.
    done = here.bnas("search", "space.yaml", "--data", "nowhere", "--out", "new", writes=["space.yaml"])
    assert done.code == 1
    assert_one_line(done)
    count("spaces", text, done)


@examples("architectures")
@given(text=texts(ARCHITECTURE), form=st.sampled_from(["--json", "--csv"]))
def test_a_malformed_architecture_is_one_line(here, text, form) -> None:
    (here.folder / "arch.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    done = here.bnas("cost", "arch.yaml", form, writes=["arch.yaml"])
    assert_one_line(done)
    count("architectures", text, done)


# What is spoilt, and the command that reads it.
FILES = {
    "run/best/manifest.json": "export run -o out",
    "run/best/architecture.yaml": "export run -o out",
    "run/config.yaml": "export run -o out",
    "done/manifest.json": "export run -o done",
}


@examples("manifests")
@given(data=st.data(), name=st.sampled_from(list(FILES)), torn=st.booleans())
def test_a_malformed_manifest_is_one_line(here, data, name, torn) -> None:
    file = here.folder / name
    whole = file.read_text()
    if torn:
        at = data.draw(st.integers(0, len(whole)))
        text = whole[:at] + data.draw(st.text(max_size=3))
    elif name.endswith(".json"):
        text = json.dumps(data.draw(spoiled(json.loads(whole)).filter(_is_json)))
    else:
        text = yaml.safe_dump(data.draw(spoiled(yaml.safe_load(whole))))

    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with suppress(BnasError):
        load(file.parent)
    command = FILES[name].split()
    done = here.bnas(*command, writes=[name, command[-1]])
    assert_one_line(done)
    count("manifests", (name, text), done)


def _is_json(data: Any) -> bool:
    try:
        json.dumps(data)
    except (TypeError, ValueError):
        return False
    return True


COMMANDS = ["init", "search", "select", "train", "cost", "export", "rank-check", "report", "nothing", ""]
OPTIONS = shlex.split("""
    --data --budget --trials --sampler --seed --out -o --top --storage --device --engine --workers --lease
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
    Random(shuffle).shuffle(parts)
    # Data that is not there ends what would be a sound command before any work.
    ending = ["--data", "nowhere"] if command in ("init", "search", "select", "train") else []
    done = here.bnas(command, *parts, *ending)
    assert_one_line(done)
    count("commands", (command, *parts), done)


# Commands that write, with a place for what spoils them, and the one folder that they may write.
WRITERS = [
    "export run * -o OUT", "export * run --out OUT --to training", "export done -o OUT *", "report * OUT",
    "search tiny.yaml --data digits --trials 2 --top 1 * --out OUT",
]  # fmt: skip
OUTS = [
    "out", "new/deep/out", "out.v1", ".out", "../../out", "../x", "done", "run", "run/best", "run/out", "folder",
    "folder/", "binary.bin", "binary.bin/out", "", ".", "..", "../..", "~", "a b", "ä", "a\nb", "x" * 300, "run/../out",
    "-x", "%s?",
]  # fmt: skip
NAMED = st.sampled_from(OUTS) | st.text(max_size=4).filter(lambda text: "\0" not in text)


@examples("writers")
@given(writer=st.sampled_from(WRITERS), out=NAMED, parts=st.lists(PARTS, max_size=2))
def test_a_command_that_writes_does_so_in_the_folder_it_names_alone(here, writer, out, parts) -> None:
    write(here, writer, out, parts)


@pytest.mark.parametrize("out", OUTS)
def test_an_export_to_whatever_name_stays_there(here, out) -> None:
    write(here, WRITERS[0], out, [])


def write(here: Here, writer: str, out: str, parts: list[str]) -> None:
    words = {"*": parts, "OUT": ["run" if writer.startswith(("search", "report")) else out]}
    command = [word for part in writer.split() for word in words.get(part, [part])]
    named = [name for option, name in pairwise(command) if option in ("-o", "--out", "report")]
    done = here.bnas(*command, writes=named)
    assert_one_line(done)
    if done.code == 0:
        wrote.add(command[0])
    elif command[0] == "export":
        assert not done.changed
    count("writers", tuple(command), done)


wrote = set[str]()  # commands that did


def test_most_inputs_were_malformed_each_another_and_every_writer_wrote() -> None:
    if not all(refused.values()):
        pytest.skip("it counts what the other tests of this file have done")
    assert sum(map(len, refused.values())) >= MALFORMED, {what: len(given) for what, given in refused.items()}
    assert wrote == {"export", "report", "search"}
