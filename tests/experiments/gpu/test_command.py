"""The whole command at toy sizes on a CPU: it records, and a second call skips what is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audiossl_lite.experiments.gpu.command import chosen_stages
from audiossl_lite.experiments.gpu.stages import FIRST, STAGES

ROOT = Path(__file__).resolve().parents[3]
ONLY = "card,sounds,learnt_cnn"


def call(out: Path) -> tuple[int, dict[str, str], str]:
    """Exit status, how each stage ended, and what was printed."""
    command = [sys.executable, "-m", "audiossl_lite", "gpu", "--device", "cpu", "--minutes", "4"]
    command += ["--out", str(out), "--only", ONLY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    rows = json.loads((out / "table.json").read_text())
    return done.returncode, {row["stage"]: row["status"] for row in rows}, done.stdout


@pytest.mark.slow
def test_a_toy_run_records_and_is_not_repeated(tmp_path):
    status, ended, said = call(tmp_path)
    recorded = dict.fromkeys(ONLY.split(","), "recorded")
    assert (status, ended) == (0, recorded) and "say nothing about a GPU" in said, said
    for name in recorded:
        entry = json.loads((tmp_path / "records" / f"gpu_{name}.json").read_text())
        assert entry["scale"] == "toy" and entry["complete"] and entry["values"]

    status, ended, said = call(tmp_path)
    assert (status, ended) == (0, dict.fromkeys(ONLY.split(","), "recorded before")), said


def test_a_toy_run_has_one_stage_of_a_kind_and_time_for_each():
    stages = chosen_stages("", toy=True)
    assert [stage.name for stage in stages] == [stage.name for stage in FIRST]
    assert all(stage.at_least_s <= 1.0 for stage in stages)
    assert [s.name for s in chosen_stages("")] == [s.name for s in STAGES]
    assert [s.name for s in chosen_stages("fed,card")] == ["card", "fed"]
