"""Pin: the workflow tests on two systems and two torches, by this project's commands; its actions are pinned."""

from __future__ import annotations

import re

import yaml

from audiossl_lite.book.chapters import this_project

ROOT = this_project().root
TEXT = (ROOT / ".github" / "workflows" / "book.yml").read_text()
JOBS = yaml.safe_load(TEXT)["jobs"]


def test_tests_run_on_both_systems_and_both_torches() -> None:
    matrix = JOBS["test"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert matrix["torch"] == ["pinned", "newest"]
    steps = "\n".join(step.get("run", "") for step in JOBS["test"]["steps"])
    assert "make install" in steps and "-m pytest" in steps and "ruff check" in steps


def test_the_book_is_built_and_published_from_main_alone() -> None:
    assert "make book" in [step.get("run") for step in JOBS["build"]["steps"]]
    publish = JOBS["publish"]
    assert set(publish["needs"]) == {"test", "build"} and "refs/heads/main" in publish["if"]


def test_every_action_has_an_exact_version_and_every_target_exists() -> None:
    used = re.findall(r"uses: (\S+)", TEXT)
    assert len(used) >= 6 and all(re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", name) for name in used)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", TEXT)) <= targets


def test_the_newest_torch_is_not_held_back_by_the_pins() -> None:
    (pattern,) = re.findall(r"grep -vE '([^']+)' constraints\.txt", TEXT)
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    left = [line for line in pins if not re.match(pattern, line)]
    assert len(left) > 50 and not any(re.match(r"torch|triton|nvidia|cuda", line) for line in left)
