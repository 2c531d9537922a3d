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


def test_the_test_sees_an_import():
    assert "imports soundfile" in imports(("soundfile",)).stderr
