"""Pin: names, messages and settings that the typed pages of the appendix quote are those of the code."""

from __future__ import annotations

import dataclasses
import re

import pytest

from audiossl_lite.common.parameters import ParameterError, make_parameters
from audiossl_lite.experiments.settings.audiomae import MaskedPretraining
from audiossl_lite.experiments.settings.data2vec import LatentPretraining
from audiossl_lite.experiments.settings.evaluation import FineTuning, LinearEvaluation
from audiossl_lite.experiments.settings.presets import EXPERIMENTS, Pretraining
from audiossl_lite.experiments.settings.uamix import Tuning
from tests.book.library_index import LIBRARY, ROOT, all_definitions

BOOK = ROOT / "book"
# Messages of other programs.
FOREIGN = {
    "OSError: Could not load this library: .../torchaudio/lib/...",
    "make: command not found",
    "no kernel named python3",
}
UNKNOWN_PRESET = "unknown preset 'light'; did you mean 'lite'?"


def body_rows(name: str) -> list[list[str]]:
    """Cells of every table row of a page, without heads."""
    lines = [line for line in (BOOK / name).read_text().splitlines() if line.startswith("|")]
    is_head = [i + 1 < len(lines) and lines[i + 1].startswith("|---") for i in range(len(lines))]
    rows = [x for x, head in zip(lines, is_head) if not head and not x.startswith("|---")]
    return [[cell.strip() for cell in row.strip().strip("|").split(" | ")] for row in rows]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def spoken() -> str:
    """All text of the library and the Makefile, its pieced-together messages joined."""
    paths = [*LIBRARY.rglob("*.py"), ROOT / "Makefile"]
    text = "\n".join(path.read_text() for path in paths)
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)


def pieces(message: str) -> list[str]:
    """The parts of a message that do not depend on the case at hand."""
    message = re.sub(r"^(\w+Error|killed|timed out): ", "", message)
    parts = re.split(r"\.\.\.|'[^']*'|\d+ to \d+", message)
    return [part.strip(" ;?:()") for part in parts if len(part.strip(" ;?:()")) > 2]


MESSAGES = [
    message
    for row in body_rows("appendix_troubleshooting.md")
    for message in quoted(row[0])
    if " " in message and message not in FOREIGN | {UNKNOWN_PRESET}
]


def test_every_quoted_message_is_one_of_the_projects_own():
    text = spoken()
    assert [part for message in MESSAGES for part in pieces(message) if part not in text] == []


def test_a_misspelt_scale_gets_the_quoted_answer():
    assert UNKNOWN_PRESET in (BOOK / "appendix_troubleshooting.md").read_text()
    with pytest.raises(ParameterError, match=re.escape(UNKNOWN_PRESET)):
        make_parameters({"preset": "light"})


def test_an_invented_message_would_be_noticed():
    assert len(MESSAGES) > 15
    assert [part for part in pieces("the moon is ... too bright") if part not in spoken()]


def test_the_troubleshooting_page_has_a_remedy_in_every_row():
    rows = body_rows("appendix_troubleshooting.md")
    assert len(rows) > 30
    assert all(len(row) == 3 and row[0] and row[2] for row in rows)


def test_the_differences_name_code_that_exists():
    known = {item.name for item in all_definitions()}
    known |= {name.rpartition(".")[2] for name in known}
    known |= {name + ".forward" for name in known}
    known |= {field.name for field in dataclasses.fields(Pretraining)}
    for settings in (
        MaskedPretraining,
        LatentPretraining,
        Tuning,
        LinearEvaluation,
        FineTuning,
    ):
        known |= {f"{settings.__name__}.{field.name}" for field in dataclasses.fields(settings)}
    rows = body_rows("appendix_differences.md")
    named = [name for row in rows for name in quoted(row[0])]
    assert len(rows) > 40 and len(named) > 40
    plain = {re.sub(r"\(.*", "", name).removeprefix("views.") for name in named}
    assert not plain - known
    assert all(len(row) == 5 and row[4] for row in rows)


# The row's first words, the setting, the experiment, and the value as the row shows it.
QUOTED = [
    ("peak learning rate", "learning_rate", "atst", "5e-4"),
    ("peak learning rate", "learning_rate", "atst_base", "2e-4"),
    ("peak learning rate", "learning_rate", "atst_official", "3e-3"),
    ("peak learning rate", "learning_rate", "atst_base_official", "1.2e-3"),
    ("memory of mixup", "memory_size", "atst", "2048"),
    ("memory of mixup", "memory_size", "atst_official", "2000"),
    ("Adam's `eps`", "eps", "atst", "1e-8"),
    ("Adam's `eps`", "eps", "atst_official", "1e-6"),
    ("length of the Base run", "steps", "atst_base", "260,400"),
    ("length of the Base run", "steps", "atst_base_official", "318,000"),
]


def test_the_differences_quote_the_presets():
    rows = body_rows("appendix_differences.md")
    for item, setting, experiment, shown in QUOTED:
        (row,) = [row for row in rows if row[0].startswith(item)]
        value = getattr(EXPERIMENTS[experiment]["paper"], setting)
        assert value == float(shown.replace(",", "")) and shown in row[3], (item, experiment)


def test_the_glossary_is_sorted_and_says_something_about_each_term():
    text = (BOOK / "appendix_glossary.md").read_text().split("```{glossary}\n")[1].split("```")[0]
    entries = [entry.strip().split("\n  ") for entry in text.strip().split("\n\n")]
    terms = [entry[0] for entry in entries]
    assert 40 <= len(terms) <= 90
    assert terms == sorted(set(terms), key=str.lower)
    assert all(len(entry) == 2 and len(entry[1]) > 20 for entry in entries)
