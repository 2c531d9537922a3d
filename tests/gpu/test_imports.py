"""The stages need what training needs, and nothing of the notebooks: a GPU machine often has no more."""

from __future__ import annotations

import subprocess
import sys

from audiossl_lite.gpu.stages import STAGES

NOT_NEEDED = (
    "papermill", "nbformat", "nbclient", "IPython", "ipywidgets", "ipykernel", "jupyter_client",
    "jupyterlab", "matplotlib", "seaborn", "psutil", "pygments", "timm", "torchvision", "pytest",
)  # fmt: skip


def test_stages_import_without_what_notebooks_need():
    modules = sorted({stage.function.split(":")[0] for stage in STAGES})
    code = f"""
import importlib, sys
for name in {NOT_NEEDED!r}:
    sys.modules[name] = None  # importing it is now an ImportError
for name in ("audiossl_lite.gpu.worker", "audiossl_lite.gpu.command", *{modules!r}):
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
