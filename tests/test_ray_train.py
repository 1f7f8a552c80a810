"""Training under Ray Train: the search of two ranks that torchrun would have started."""

import os
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

import bnas
from tests.test_ranks import in_ranks
from tests.tiny import tiny_space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install 'bnas[ray]'"),
]


def a_search(ranks, folder: Path) -> str:
    return bnas.search(tiny_space(), data="digits", out=folder, ranks=ranks).best.architecture.id


def on_ray(folder: Path) -> None:
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    space = tiny_space()

    def work() -> None:  # travels by value, so it uses nothing of this module
        bnas.together(lambda ranks: bnas.search(space, data="digits", out=folder / "ray", ranks=ranks))

    source = str(Path(bnas.__file__).parents[1])
    ray.init(
        address="local", num_cpus=3, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}}, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        TorchTrainer(
            work, torch_config=TorchConfig(backend="gloo"), scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(folder / "storage")),
        ).fit()  # fmt: skip
    finally:
        ray.shutdown()


def test_two_workers_of_ray_train_find_what_two_ranks_of_torchrun_find(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setitem(os.environ, "RAY_USAGE_STATS_ENABLED", "0")
    on_ray(tmp_path)
    best = in_ranks(a_search, tmp_path / "torchrun")
    assert bnas.load(tmp_path / "ray" / "best")
    found, wanted = (pd.read_csv(tmp_path / way / "candidates.csv") for way in ("ray", "torchrun"))
    pd.testing.assert_frame_equal(found, wanted)
    assert best in {*found["id"], *pd.read_csv(tmp_path / "ray" / "twin.csv")["id"]}
