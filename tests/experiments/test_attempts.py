"""What was tried: scored on classes heard alone, added to the record one by one, resumed, and a failure is no row."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.data.corpus import held_out, tasks
from audiossl_lite.data.joined import read_corpus
from audiossl_lite.experiments import attempts, workshop
from audiossl_lite.experiments.records import load, recorded
from audiossl_lite.experiments.settings.study import RUNS
from tests.experiments.tiny_sets import small_study


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study of one run, and short attempts."""
    small_study(monkeypatch)
    monkeypatch.setattr(attempts, "N_EPISODES", 20)
    few = {
        "ATST, as in the study": ("ATST", {}),
        "AudioMAE, half hidden": ("AudioMAE", {"mask_ratio": 0.5}),
        "No Mixing, queue of 24": ("No Mixing", {"queue_size": 24}),
    }
    monkeypatch.setattr(attempts, "ATTEMPTS", few)
    workshop.train_all(tmp_path, None, ["ATST", "AudioMAE"], [0])
    return tmp_path


def test_what_is_scored_was_heard(folder):
    corpus = read_corpus(folder / "sounds")
    scores = attempts.validation(list(corpus.sounds))
    assert not held_out(list(corpus.sounds))[scores.used].any()
    assert [c.name for c in scores.columns] + list(scores.left_out) == [
        task.name for task in tasks(list(corpus.sounds))
    ]


def test_attempts_are_added_and_not_done_again(folder, monkeypatch, capsys):
    path = folder / "records" / "attempts_workshop.json"
    assert attempts.main(["--runs", str(folder), "--only", "ATST, as in the study"]) == 0
    first = load(path)
    names = ["log-mel statistics", "MFCC statistics", "ATST, as in the study"]
    assert [row["name"] for row in first["values"]] == names and first["seconds"] == 0
    assert attempts.main(["--runs", str(folder)]) == 0
    entry = load(path)
    assert entry["values"][:3] == first["values"]
    rows = {row["name"]: row for row in entry["values"]}
    assert list(rows) == [*names, "AudioMAE, half hidden", "No Mixing, queue of 24"]
    assert rows["AudioMAE, half hidden"]["changes"] == {"mask_ratio": 0.5}
    assert rows["AudioMAE, half hidden"]["steps"] == 4 and entry["seconds"] > 0
    for row in rows.values():
        by_task = [cell["mean"] for cell in row["columns"].values()]
        assert row["average"] == pytest.approx(sum(by_task) / len(by_task), abs=0.05)
    monkeypatch.setattr(attempts, "attempt", lambda *a: pytest.fail("trained again"))
    assert attempts.main(["--runs", str(folder)]) == 0
    assert load(path) == entry
    monkeypatch.setattr(attempts, "ATTEMPTS", attempts.ATTEMPTS | {"x": ("ATST", {})})
    monkeypatch.setattr(attempts, "attempt", lambda *a: (_ for _ in ()).throw(KeyError("no x")))
    assert attempts.main(["--runs", str(folder), "--only", "x"]) == 2
    assert capsys.readouterr().err == "attempts: no x\n"


def test_wrong_requests_are_refused(folder, capsys):
    assert attempts.main(["--runs", str(folder / "none")]) == 2
    assert "no sounds in" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "attempt", lambda *a: pytest.fail("trained before it was asked"))
        assert attempts.main(["--runs", str(folder), "--only", "AudioMAE, half hidden; ATST"]) == 2
    assert "no attempt is called 'ATST'; there are ATST, as in" in capsys.readouterr().err
    path = folder / "records" / "attempts_workshop.json"
    attempts.main(["--runs", str(folder), "--only", "ATST, as in the study"])
    path.write_text(path.read_text().replace(load(path)["data_fingerprint"], "other"))
    assert attempts.main(["--runs", str(folder), "--only", "AudioMAE, half hidden"]) == 2
    assert "is of other sounds than" in capsys.readouterr().err


def test_every_attempt_changes_settings_of_a_row():
    for name, (row, changes) in attempts.ATTEMPTS.items():
        config = attempts.settings_of(
            workshop.run_of(row, 0).options | changes, torch.device("cpu"), toy=False
        )
        assert all(getattr(config, key) == value for key, value in changes.items()), name
        assert not {"seed", "method"} & set(changes)
    assert {f"{row}, as in the study" for row in RUNS} < set(attempts.ATTEMPTS)
    known = {row["name"] for row in recorded("attempts_workshop")["values"]}
    assert {"log-mel statistics", "MFCC statistics"} < known
