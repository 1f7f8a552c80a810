"""The benchmark of the whole walk measures a search from outside, and holds it against its targets."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_file

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_walk_prints_its_claims_and_keeps_a_row(tmp_path) -> None:
    options = ["--seconds", "600", "--paid", "7", "--accuracy", "0.001", "--gib", "64", "--json"]
    command = [sys.executable, "benchmarks/walk.py", str(tiny_file(tmp_path)), "--data", "digits", *options]
    results = tmp_path / "walk.csv"
    done = subprocess.run(
        [*command, "--results", str(results)], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    claims = {claim["claim"].split()[0]: claim for claim in map(json.loads, done.stdout.splitlines())}
    assert {name: claim["holds"] for name, claim in claims.items()} == {
        "seconds": True, "candidates": False, "test": True, "GiB": True, "ops": True, "bytes": True
    }  # fmt: skip
    assert claims["candidates"]["ratio"] == 7 / 6
    (row,) = csv.DictReader(results.open())
    assert (row["space"], row["data"], row["paid"]) == ("tiny", "digits", "6")
    assert float(row["ops"]) == claims["ops"]["value"] <= 12_000
    assert 0.1 < float(row["gib"]) < 64
