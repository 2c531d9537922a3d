"""What all tests share: one thread, no progress bars, reference outputs, and the optional shared folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("AUDIOSSL_PROGRESS", "off")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = Path(__file__).parent / "fixtures"
# Files whose tests share what takes long to make run in one process.
TOGETHER = {
    "chapters": (
        "tests/book/test_browser.py",
        "tests/book/test_exercises.py",
        "tests/book/test_pages.py",
        "tests/notebooks/",
    ),
    "sets": ("tests/experiments/test_zoo.py", "tests/experiments/test_differences.py"),
}


def shared_folder() -> Path | None:
    """AUDIOSSL_SHARED, or `shared` beside the checkout, if it exists."""
    named = os.environ.get("AUDIOSSL_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder if folder.is_dir() else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep a file's tests in one process (`-n`), and those of files that stand `TOGETHER`.

    The marks of `--dist loadgroup` would say it, but pytest-xdist 3.8 cannot hand them on in pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            shared = [name for name, files in TOGETHER.items() if nodeid.startswith(files)]
            return shared[0] if shared else nodeid.split("::")[0]

    config.option.loadscopereorder = (
        False  # the chapters take longest, and come first by their folder's name
    )
    return ByFile(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Chapters that tests ask for are run side by side, at the first of these tests."""
    from tests import chapters  # after AUDIOSSL_PROGRESS is set

    asked: set[str] = set()
    for item in session.items:
        if "site" in item.fixturenames:
            asked |= set(chapters.NAMES)
        elif item.nodeid.startswith(TOGETHER["chapters"]) and hasattr(item, "callspec"):
            asked |= {item.callspec.params.get("name", "")}
    chapters.WANTED[:] = [name for name in chapters.NAMES if name in asked]


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if folder is None:
        pytest.skip("no shared folder (set AUDIOSSL_SHARED)")
    return folder


@pytest.fixture(scope="session")
def reference():
    """Reads a trimmed reference output by name."""

    def read(name: str) -> dict:
        return torch.load(FIXTURES / f"{name}.pt", weights_only=True)

    return read


@pytest.fixture(scope="session")
def full_reference(shared: Path):
    """Reads a full-size reference output by name, from the shared folder."""

    def read(name: str) -> dict:
        path = shared / "fixtures" / f"{name}.pt"
        if not path.exists():
            pytest.skip(f"the shared folder has no {name}.pt")
        return torch.load(path, weights_only=True)

    return read


@pytest.fixture(scope="session")
def made_up_weights():
    """The fill rule of the reference outputs."""
    from audiossl_lite.experiments.gpu.compare import (
        made_up_weights,  # after AUDIOSSL_PROGRESS is set
    )

    return made_up_weights


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
