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


def shared_folder() -> Path | None:
    """AUDIOSSL_SHARED, or `shared` beside the checkout, if it exists."""
    named = os.environ.get("AUDIOSSL_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder if folder.is_dir() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all that executes the real chapters or reads the built book in one of pytest-xdist's workers."""
    for item in items:
        if "site" in item.fixturenames or item.path.parent.name == "notebooks":
            item.add_marker(pytest.mark.xdist_group("chapters"))


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
