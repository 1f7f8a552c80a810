import subprocess
import sys

TORCH_FREE = [
    "errors", "lookup", "progress", "allocator", "spec", "space", "cost", "select",
    "space.arch", "space.choices", "space.space", "space.recipe", "space.settings", "space.original",
    "cost.plan", "cost.totals", "cost.budget", "searcher.feasible", "searcher.by_metric",
]  # fmt: skip
HEAVY = ["torch", "optuna", "matplotlib", "networkx", "scipy", "pandas", "numpy", "sklearn", "datasets"]


def loaded_by(statement: str) -> set[str]:
    """Return the heavy libraries that a statement loads in a fresh interpreter."""
    code = f"{statement}; import sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_descriptions_plan_cost_and_sampling_load_no_heavy_library() -> None:
    assert loaded_by("; ".join(f"import bnas.{module}" for module in TORCH_FREE)) == set()


def test_the_package_itself_loads_no_heavy_library() -> None:
    assert loaded_by("import bnas") == set()


def test_work_begins_before_what_draws_its_report_is_loaded() -> None:
    loaded = loaded_by(
        "import bnas; bnas.search, bnas.search_targets, bnas.train_model, bnas.select_layers, bnas.export"
    )
    assert not loaded & {"matplotlib", "networkx", "scipy", "sklearn", "datasets"}


def test_what_a_packed_network_runs_with_is_numpy_alone_until_it_is_loaded() -> None:
    assert loaded_by("import bnas.runtime") <= {"numpy"}
