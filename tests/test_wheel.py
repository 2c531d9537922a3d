"""The wheel alone: built, installed into a fresh environment, and used outside the repository as the README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl_lite.book.chapters import this_project

ROOT = this_project().root
PACKED = ("audiossl_lite", "pyproject.toml", "README.md", "LICENSE", "LICENSE-text")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that knows nothing of the repository; fails the test with what it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel, and all else from the tests' own environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = (
        folder / "source"
    )  # a copy: building leaves files behind, and takes in those of an earlier build
    source.mkdir()
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "-w", folder, cwd=folder)
    venv.create(folder / "env")
    programs = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = folder.glob("audiossl_lite-*.whl")
    python = programs / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    (Path(own.strip()) / "others.pth").write_text(sysconfig.get_path("purelib"))
    return programs


@pytest.fixture
def recordings(tmp_path) -> Path:
    folder, rng = tmp_path / "recordings", np.random.default_rng(0)
    folder.mkdir()
    for name, rate_hz, seconds in (
        ("a.wav", 16_000, 1.0),
        ("b.flac", 44_100, 2.5),
        ("c.ogg", 22_050, 0.5),
    ):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(round(rate_hz * seconds)), rate_hz)
    return folder


def test_embed_works_without_the_repository(installed, recordings, tmp_path):
    arguments = ("embed", recordings.name, "--model", "cnn_events", "--out", "out.npz")
    said = run(installed / "audiossl-lite", *arguments, cwd=tmp_path)
    assert "3 rows of 512 numbers, from 3 files, 0 left out" in said
    with np.load(tmp_path / "out.npz") as table:
        assert table["file"].tolist() == ["a.wav", "b.flac", "c.ogg"]
        assert table["embedding"].shape == (3, 512) and np.isfinite(table["embedding"]).all()


def test_the_first_lines_of_the_readme_work_without_the_repository(installed, recordings, tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1]
    code += "import audiossl_lite\nprint(rows.vectors.shape, audiossl_lite.__file__)"
    shape, place = run(installed / "python", "-c", code, cwd=tmp_path).strip().rsplit(" ", 1)
    assert shape == "(3, 512)"
    assert Path(place).is_relative_to(installed.parent)
