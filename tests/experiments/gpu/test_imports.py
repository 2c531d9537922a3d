"""The stages need what training needs, and nothing of the notebooks: a GPU machine often has no more."""

from __future__ import annotations

import subprocess
import sys

from audiossl_lite.experiments.gpu.stages import STAGES

NOT_NEEDED = (
    "papermill", "nbformat", "nbclient", "IPython", "ipywidgets", "ipykernel", "jupyter_client",
    "jupyterlab", "matplotlib", "seaborn", "psutil", "pygments", "timm", "torchvision", "pytest",
)  # fmt: skip
# Packages of others may look for these where they are installed; this one must not.
REFUSE = """
import builtins, importlib
plain = builtins.__import__
def refuse(name, globals=None, *rest):
    if (globals or {{}}).get("__name__", "").startswith("audiossl_lite"):
        if name.split(".")[0] in {refused!r}:
            raise ImportError(f"{{globals['__name__']}} imports {{name}}")
    return plain(name, globals, *rest)
builtins.__import__ = refuse
for name in ("audiossl_lite.experiments.gpu.worker", "audiossl_lite.experiments.gpu.command", *{modules!r}):
    importlib.import_module(name)
"""


def imports(refused: tuple[str, ...]) -> subprocess.CompletedProcess:
    modules = sorted({stage.function.split(":")[0] for stage in STAGES})
    code = REFUSE.format(refused=refused, modules=modules)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_stages_import_without_what_notebooks_need():
    done = imports(NOT_NEEDED)
    assert done.returncode == 0, done.stderr


def test_what_is_imported_before_stages_are_copied_asks_for_no_gpu():
    """A copy of a process that has asked the driver cannot use a GPU, and threads are not copied."""
    code = """
import threading, torch
def asked(*_):
    raise SystemExit("the driver was asked")
for name in ("_cuda_getDeviceCount", "_cuda_init", "_cuda_setDevice", "_cuda_getDevice"):
    assert hasattr(torch._C, name) or not torch.version.cuda
    setattr(torch._C, name, asked)
torch.cuda.device_count = torch.cuda.is_available = asked
import audiossl_lite.experiments.gpu.worker
assert threading.active_count() == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_test_sees_an_import():
    assert "imports soundfile" in imports(("soundfile",)).stderr
