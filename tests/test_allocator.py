"""Freed memory is kept for its next use."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS, PAGES = 10, 10_240  # of 4 KiB each: 40 MiB a tensor
SCRIPT = f"""
import resource, sys
import torch
from bnas.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = sys.argv[1] == "keep" and keep_freed_memory()
def work():
    for _ in range({ROUNDS}):
        [torch.ones({PAGES} * 1024) for _ in range(4)]  # all freed together: more than glibc keeps of itself

work()
before = faults()
work()
print(kept, faults() - before)
"""

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library's allocator takes no orders")


def run(what: str, **environment: str) -> tuple[str, int]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, check=True, env=plain | environment
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@glibc_only
@pytest.mark.skipif(
    HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(), reason="with huge pages there are few to count"
)
def test_no_page_is_taken_twice() -> None:
    kept, faults = run("keep")
    assert kept == "True"
    assert faults < PAGES
    assert run("leave")[1] > ROUNDS * PAGES  # as it is: of four times as many that are written


@glibc_only
def test_what_the_environment_has_set_stays() -> None:
    kept, _ = run("keep", MALLOC_TOP_PAD_="0")
    assert kept == "False"
