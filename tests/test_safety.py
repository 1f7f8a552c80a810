"""Nothing foreign is run, nothing is written elsewhere, no secret is told: what the sources may not hold, and tries."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bnas
from bnas.errors import BnasError, SpecError
from bnas.networks.weights import load_weights
from bnas.runs.documents import settings_of
from bnas.ship import load
from bnas.spec import parse_yaml
from tests.test_cli import bnas as command
from tests.tiny import tiny_file

SOURCES = sorted(Path(bnas.__file__).parent.rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
READERS = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
SECRET = "geheim"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a source by what is called, as in `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_source_reads_a_file_in_a_way_that_runs_what_it_holds(source: Path) -> None:
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not UNPICKLERS & {name.partition(".")[0] for name in names}
    for name, call in calls(tree):
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            assert told["weights_only"] == "True"
        assert name not in {f"yaml.{reader}" for reader in READERS}
        assert not name.endswith((".read_pickle", ".UnsafeLoader", ".FullLoader"))
        assert told.get("allow_pickle", "False") == "False"
        assert told.get("trust_remote_code", "False") == "False"


class Evil:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self._trace,)


def test_weights_that_are_a_foreign_pickle_are_refused_unread(tmp_path) -> None:
    trace, folder = tmp_path / "trace", tmp_path / "best"
    folder.mkdir()
    pickle.loads(pickle.dumps(Evil(trace)))
    assert trace.exists()  # it would
    trace.unlink()
    for name in ("weights.pt", "weights.safetensors"):
        torch.save({"weight": Evil(trace)}, tmp_path / name)
        with pytest.raises(BnasError, match=name):
            load_weights(torch.nn.Linear(2, 2), tmp_path / name)
    (folder / "weights.safetensors").write_bytes((tmp_path / "weights.pt").read_bytes())
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(BnasError):
        load(folder)
    assert not trace.exists()


def test_yaml_that_builds_objects_is_refused_unread(tmp_path) -> None:
    text = f"a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{tmp_path}/trace']]"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SpecError, match="not valid YAML"):
        parse_yaml(text, source="test")
    with pytest.raises(BnasError, match="is damaged"):
        settings_of(text.encode(), tmp_path / "config.yaml", hint="mend it")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("url", [f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/x", f"mysql://h/x?password={SECRET}"])
def test_no_secret_of_a_storage_is_told_or_written(tmp_path, url) -> None:
    done = command("search", tiny_file(tmp_path), "--out", tmp_path / "run", "--storage", url)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr or "is not installed" in done.stderr
    for said in (
        done.stdout,
        done.stderr,
        *(file.read_text() for file in (tmp_path / "run").rglob("*.*") if file.is_file()),
    ):
        assert SECRET not in said


@pytest.mark.parametrize("name", ["...yaml", "..yaml"])
def test_a_space_whose_name_would_lead_out_of_the_folder_of_runs_needs_an_out(tmp_path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_file(tmp_path).rename(tmp_path / name)
    done = command("search", name, "--data", "nowhere")
    assert done.returncode == 2
    assert "for --out" in done.stderr
    assert "nowhere" in command("search", name, "--data", "nowhere", "--out", "run").stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
