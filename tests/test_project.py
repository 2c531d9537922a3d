"""Pin: pins agree everywhere, licences and citation are there, and sources follow the rules."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import audiossl_lite
from audiossl_lite.book.chapters import this_project
from audiossl_lite.common.environment import InstallationError, check_env, licences

ROOT = this_project().root
EXACT = {
    "jupyter-book": "1.0.4.post1",
    "sphinx-book-theme": "1.1.4",
}
MAX_FILE_LINES = 350


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared_requirements() -> list[Requirement]:
    project = pyproject()["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    texts = [text for group in groups for text in group]
    return [item for text in texts if (item := Requirement(text)).name != "audiossl_lite"]


def locked() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(item.name): item for item in found}


def pinned_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", f"{requirement} is not pinned"
    return specifier.version


def test_every_dependency_is_locked_within_its_declared_range() -> None:
    lock = locked()
    for requirement in declared_requirements():
        version = pinned_version(lock[canonicalize_name(requirement.name)])
        assert version in requirement.specifier, f"{requirement} against {version}"


def test_the_pairs_that_must_not_drift_are_exact_in_both_places() -> None:
    declared = {item.name: item for item in declared_requirements()}
    for name, version in EXACT.items():
        assert pinned_version(declared[name]) == version
        assert pinned_version(locked()[name]) == version


def test_a_newer_torch_is_allowed_and_the_malicious_uploads_are_not() -> None:
    declared = {item.name: item.specifier for item in declared_requirements()}
    assert "2.11.0" in declared["torch"] and "2.14.1" in declared["torch"]
    assert "2.11.1" in declared["torchaudio"] and "2.12.0" not in declared["torchaudio"]
    assert [v for v in ("2.6.1", "2.6.2", "2.6.3", "2.6.6") if v in declared["lightning"]] == [
        "2.6.1",
        "2.6.6",
    ]


def test_what_is_installed_is_what_is_locked() -> None:
    lock = locked()
    for requirement in declared_requirements():
        installed = metadata.version(requirement.name).split("+")[0]
        assert installed == pinned_version(lock[canonicalize_name(requirement.name)])


def hashed() -> dict[str, tuple[str, list[str]]]:
    """Of every package of the lock with checksums: its version, and the checksums of its files."""
    text = (ROOT / "requirements-hashed.txt").read_text(encoding="utf-8")
    entries = {}
    for block in re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)):
        first, *rest = block.split(" \\\n")
        requirement = Requirement(first.strip())
        sums = [line.strip().removeprefix("--hash=sha256:") for line in rest]
        entries[canonicalize_name(requirement.name)] = (pinned_version(requirement), sums)
    return entries


def test_the_lock_with_checksums_has_the_same_versions_and_the_build_tools() -> None:
    versions = {name: version for name, (version, _) in hashed().items()}
    assert versions == {name: pinned_version(item) for name, item in locked().items()}
    for text in pyproject()["build-system"]["requires"]:
        build_tool = Requirement(text)
        assert versions[build_tool.name] in build_tool.specifier
    wrong = [name for name, (_, sums) in hashed().items() if not sums]
    wrong += [
        n for n, (_, sums) in hashed().items() for s in sums if not re.fullmatch("[0-9a-f]{64}", s)
    ]
    assert wrong == []


@pytest.mark.parametrize("place", ["book/_vendor", "tests"])
def test_the_scripts_that_come_along_are_those_that_were_looked_at(place: str) -> None:
    folder = ROOT / place
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = {
        p.relative_to(folder).as_posix(): p for p in (folder / "vendor").rglob("*") if p.is_file()
    }
    assert {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()} == sums


def test_licences_of_what_is_installed_are_listed() -> None:
    stated = licences()
    assert len(stated) > 100
    by_name = {canonicalize_name(key.split()[0]): licence for key, licence in stated.items()}
    assert {item.name for item in declared_requirements()} <= by_name.keys()
    assert "BSD" in by_name["torch"] and "MIT" in by_name["pyyaml"]


def test_the_conda_route_has_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "audiossl_lite"
    assert environment["channels"][0] == "conda-forge"
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (python,) = [item for item in conda if item.startswith("python=")]
    assert (
        python.removeprefix("python=")
        in Requirement("python" + pyproject()["project"]["requires-python"]).specifier
    )
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    options = [item for item in pip if item.startswith("-")]
    assert options == ["--constraint constraints.txt", "--editable .[dev]"]
    pins = {
        item.name: item for text in pip if not text.startswith("-") for item in [Requirement(text)]
    }
    assert set(pins) == {item.name for item in declared_requirements()}
    lock = locked()
    for name, requirement in pins.items():
        assert requirement.specifier == lock[canonicalize_name(name)].specifier, name


def test_licences_and_citation() -> None:
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    text_licence = (ROOT / "LICENSE-text").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/" in text_licence
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == audiossl_lite.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)


def test_check_env_reports_versions_and_refuses_only_what_does_not_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = check_env()
    assert versions["audiossl_lite"] == audiossl_lite.__version__
    assert f"torch {versions['torch']}" in capsys.readouterr().out
    # A newer torch beside torchaudio 2.11 works.
    newer = lambda name: "2.14.1" if name == "torch" else "2.11.0"  # noqa: E731
    monkeypatch.setattr("audiossl_lite.common.environment.metadata.version", newer)
    assert check_env()["torch"] == "2.14.1"

    def fails(name: str) -> None:
        raise OSError("libtorch_cuda.so: cannot open shared object file")

    monkeypatch.setattr("audiossl_lite.common.environment.import_module", fails)
    with pytest.raises(
        InstallationError, match="does not import beside torch 2.14.1 .*libtorch_cuda"
    ):
        check_env()
    monkeypatch.setattr("audiossl_lite.common.environment.metadata.version", metadata.version)
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(InstallationError, match=r"needs Python 3\.11"):
        check_env()


def test_ci_runs_the_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines and lines[-1] == "make test"


def test_every_file_of_the_library_goes_into_the_wheel() -> None:
    library = ROOT / "audiossl_lite"
    packed = pyproject()["tool"]["setuptools"]["package-data"]["audiossl_lite"]
    listed = {path for pattern in ("**/*.py", *packed) for path in library.glob(pattern)}
    others = {path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert others - listed == set()


def source_files() -> list[Path]:
    folders = ("audiossl_lite", "tests", "data_scripts")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_files_are_short_enough_to_hold_one_idea() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): n_lines
        for path in source_files()
        if (n_lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_no_committed_text_names_a_place_on_one_machine() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    place = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/\w")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if name.startswith("book/_vendor/") or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.name not in ("test_project.py", "test_sources.py") and place.search(text):
            wrong.append(name)
    assert wrong == []


def test_the_readme_names_only_commands_and_folders_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", readme)) - {"it"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target}"
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
