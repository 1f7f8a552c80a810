"""What all tests share: the folder of real data, and one quick, repeatable way of drawing examples."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bnas.report import page
from tests.tiny import blank

# Ray's workers give way to every other process unless told otherwise, and the tests beside them leave nothing over.
os.environ.setdefault("RAY_worker_niceness", "0")

# Derandomized, so that a run says something about the code and not about its luck.
settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile("quick")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with most slow tests first, so that with several workers none of these is left for the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with mnist/ and cifar10/; the test is skipped where there is none."""
    folder = os.environ.get("BNAS_DATA")
    if not folder:
        pytest.skip("BNAS_DATA is not set; it names a folder with mnist/ and cifar10/")
    return Path(folder)


@pytest.fixture(autouse=True, scope="module")
def blank_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the figures of reports blank, which take half the time of a small search; not in modules marked `draws`."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("draws"):
            for name, value in blank().items():
                patch.setattr(page, name, value)
        yield


@pytest.fixture(autouse=True)
def modules_of_this_test_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the modules that a test wrote, and where they lay: another test has some of the same name."""
    places = list(sys.path)
    yield
    sys.path[:] = places
    folder = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(folder):
            del sys.modules[name]
