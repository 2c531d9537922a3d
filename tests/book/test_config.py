"""Pin: every key of the book's settings is one that jupyter-book reads; it ignores others silently."""

from __future__ import annotations

import yaml

from audiossl_lite.book.chapters import this_project

ALLOWED = {
    "": {
        "title", "author", "copyright", "only_build_toc_files", "exclude_patterns", "execute",
        "bibtex_bibfiles", "html", "parse", "sphinx", "logo",
    },
    "execute": {"execute_notebooks", "stderr_output"},
    "html": {"use_repository_button", "use_issues_button", "use_edit_page_button", "baseurl"},
    "parse": {"myst_enable_extensions"},
    "sphinx": {"config", "extra_extensions"},
}  # fmt: skip


def settings() -> dict:
    return yaml.safe_load((this_project().book / "_config.yml").read_text(encoding="utf-8"))


def test_every_key_is_known() -> None:
    config = settings()
    assert set(config) <= ALLOWED[""]
    for section in ("execute", "html", "parse", "sphinx"):
        assert set(config[section]) <= ALLOWED[section], section


def test_notebooks_are_executed_by_the_runner_only() -> None:
    assert settings()["execute"]["execute_notebooks"] == "off"


def test_formulas_come_from_files_that_are_here() -> None:
    config = settings()["sphinx"]["config"]
    root = this_project().book / "_vendor"
    name = config["mathjax_path"]
    assert name.startswith("../vendor/")
    assert (root / name.removeprefix("../")).stat().st_size > 1_000_000
    assert (root / "vendor" / "mathjax" / "LICENSE").is_file()
