"""Say in one sentence what is wrong with an installation, before a chapter fails half-way.

`python -m audiossl_lite.common.environment` lists what is installed, with versions and licences.
"""

from __future__ import annotations

import platform
import sys
from importlib import import_module, metadata

from audiossl_lite._version import __version__

MINIMUM_PYTHON = (3, 11)
SHOWN_PACKAGES = ("torch", "torchaudio", "lightning", "numpy", "soundfile")


class InstallationError(RuntimeError):
    """The installation cannot run the book; the message says what to do."""


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise InstallationError(
            f"{package} is not installed for {sys.executable}; run `make book` or "
            "`pip install -c constraints.txt -e .[dev]` in the project folder."
        ) from error


def check_env() -> dict[str, str]:
    """Return the versions that matter and print them in one line, or fail with one clear sentence.

    Errors: InstallationError when Python is older than 3.11, a package is missing, or
    torchaudio does not import beside torch.
    """
    if sys.version_info[:2] < MINIMUM_PYTHON:
        raise InstallationError(
            f"Python {platform.python_version()} is too old; the book needs Python 3.11 or newer."
        )
    versions = {"audiossl_lite": __version__, "python": platform.python_version()}
    versions |= {package: _installed_version(package) for package in SHOWN_PACKAGES}
    try:
        import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        raise InstallationError(
            f"torchaudio {versions['torchaudio']} does not import beside torch {versions['torch']} "
            f"({error}); take both from PyPI, `pip install -c constraints.txt -e .[dev]`: torch from "
            "the CPU-only index does not fit, and PyPI's runs without a GPU too."
        ) from error
    print(" | ".join(f"{name} {version}" for name, version in versions.items()))
    return versions


def licences() -> dict[str, str]:
    """The licence of every installed package, as its metadata state it, by `name version`."""
    stated = {}
    for package in metadata.distributions():
        told = package.metadata
        classified = [
            text.rpartition(" :: ")[2]
            for text in told.get_all("Classifier", [])
            if text.startswith("License ::")
        ]
        free = (told.get("License") or "").strip().splitlines()[:1]  # some put the whole text here
        licence = told.get("License-Expression") or ", ".join(classified) or "".join(free)
        stated[f"{told['Name']} {package.version}"] = licence or "not stated"
    return dict(sorted(stated.items(), key=lambda item: item[0].lower()))


if __name__ == "__main__":
    for name, licence in licences().items():
        print(f"{name:<44} {licence}")
