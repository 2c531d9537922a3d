"""Effects of single settings: every change is one, neutral ones change nothing, and pages are filled from records."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import pytest

from audiossl_lite.common.parameters import SCALES
from audiossl_lite.common.ranges import RANGES
from audiossl_lite.experiments import differences
from audiossl_lite.experiments.differences import (
    ABOUT,
    BASE,
    CHANGES,
    Change,
    changed_score,
    changed_set,
    effect,
    fill_effects,
    record_differences,
)
from audiossl_lite.experiments.records import ROOT, record, recorded
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.study_set import encoder_set
from audiossl_lite.experiments.workshop import RECORD as STUDY
from audiossl_lite.experiments.workshop import RUNS
from tests.experiments.tiny_sets import shared_set, tiny_pools, tiny_set

LABELS = [f"{family}: {name}" for family, changes in CHANGES.items() for name in changes]


@pytest.fixture(scope="module")
def zoo():
    return shared_set()


def test_a_change_changes_what_it_names_and_nothing_else():
    faults = []
    for scale, label in itertools.product(SCALES, LABELS):
        family, name = label.split(": ")
        zoo = encoder_set(tiny_pools(), preset("encoders", scale), scale, device="cpu")
        change = CHANGES[family][name]
        other = changed_set(zoo, family, change)
        before, after = asdict(zoo.configs[family]), asdict(other.configs[family])
        changed = {key for key in before if before[key] != after[key]}
        named = set(change.settings) | set(change.scaled)
        # At the papers' own sizes the project may already have what a change asks for, at lite never.
        if not changed <= named or (scale == "lite" and changed != named):
            faults.append(f"{label} at {scale}: {changed}, names {named}")
        if change.against != BASE and change.against not in CHANGES[family]:
            faults.append(f"{label}: against {change.against}")
        if not named and (change.network, change.features) == ("teacher", "embedding"):
            faults.append(f"{label}: changes nothing")
    assert faults == []


@pytest.mark.parametrize("family", CHANGES)
def test_without_a_change_a_run_repeats_itself_and_is_that_of_the_set(zoo, family, monkeypatch):
    once = changed_score(zoo, family, BASE, 0)
    network = zoo.network(family, 0)
    found = zoo.scoring.score([network.embed(part) for part in zoo.scored])
    assert once == {column: pytest.approx(values.mean()) for column, values in found.items()}
    monkeypatch.setitem(CHANGES[family], "nothing", Change({"save_every": 3}, against="nothing"))
    assert changed_score(zoo, family, "nothing", 0) == once, "trained anew"


def test_finished_scores_are_read_back(tmp_path, monkeypatch):
    once = changed_score(tiny_set(tmp_path), "ATST", "student kept", 0)
    assert len(list(tmp_path.rglob("score_*.json"))) == 1
    monkeypatch.setattr(differences.EncoderSet, "trained", lambda *a: pytest.fail("trained again"))
    again = changed_score(tiny_set(tmp_path), "ATST", "student kept", 0)
    assert again == once


def test_a_record_holds_effects_beside_scores_and_a_failure_is_named(zoo, tmp_path, monkeypatch):
    few = {"ATST": {k: CHANGES["ATST"][k] for k in ("student kept", "linear features, own mean")}}
    monkeypatch.setitem(RANGES, "learning_rate", (0, 1e38))  # so fast that numbers overflow
    few["ATST"]["too fast"] = Change({"learning_rate": 1e30})
    monkeypatch.setattr(differences, "CHANGES", few)
    short = zoo.changed("ATST", replace(zoo.configs["ATST"], steps=3))
    entry = record_differences(short, tmp_path / "differences_lite.json", [0, 1], "lite")
    names = [row["name"] for row in entry["values"]]
    assert names[0] == f"ATST: {BASE}" and "ATST: student kept" in names
    assert "ATST: too fast" not in names and "ATST: too fast failed: seed 0" in entry["note"]
    base, student = entry["values"][0], entry["values"][names.index("ATST: student kept")]
    for column, cell in student["columns"].items():
        against = base["columns"][column]["by_seed"]
        gain = sum(a - b for a, b in zip(cell["by_seed"], against, strict=True)) / 2
        assert cell["gain"] == pytest.approx(gain, abs=1e-4)
    mean, half = effect("ATST: student kept", tmp_path)
    assert mean == student["columns"]["events, never heard"]["gain"] and half >= 0


def test_pages_are_filled_from_records_or_say_not_run(tmp_path):
    text = "| measured(ATST: drop path) | measured(sounds_workshop: A, b minus C) |"
    assert fill_effects(text, tmp_path) == "| not run | *A, b* − *C*: not run |"
    assert fill_effects(ABOUT, tmp_path).endswith("not run.")

    def row(name, gain, half, *by_column, seeds=(0, 1)):
        columns = zip(("events, never heard", "words, never heard", "words, heard"), by_column)
        columns = {c: {"by_seed": v, "gain": gain, "gain_ci95": half} for c, v in columns}
        return {"name": name, "columns": columns} | ({"seeds": list(seeds)} if seeds else {})

    common = {
        "data": "x: 2 clips", "data_fingerprint": "0", "device": "CPU", "seeds": [0, 1],
        "seconds": 1.0, "config": {},
    }  # fmt: skip
    effects = {"drop path": (-1.26, 2.0), "eps of 1e-6": (1.0, 0.5), "heads without bias": (0, 0)}
    effects |= {"student kept": (0.3, 47.2), BASE: (0.0, 0.0)}
    record(
        tmp_path / "differences_lite.json", experiment="differences_lite", scale="lite",
        values=[row(f"ATST: {name}", *cell, [1.0]) for name, cell in effects.items()], **common,
    )  # fmt: skip
    study = [
        row("A, b", 0, None, [3.0, 5.0], [3.0, 5.0], [99.0, 0.0]),
        row("C", 0, None, [2.0, 7.0, 1.0], [2.0, 7.0, 1.0], [0.0, 0.0, 0.0], seeds=(1, 2, 0)),
        row("D", 0, None, [1.0], [2.0], seeds=(0,)),
    ]
    record(
        tmp_path / "sounds_workshop.json", experiment="x", scale="workshop", values=study, **common
    )
    assert fill_effects(text, tmp_path) == (
        "| -1.3 ± 2.0 | *A, b* − *C*: unclear (± 6) (`sounds_workshop`, 2 seeds) |"
    )
    shown = fill_effects("measured(sounds_workshop: D minus A, b)", tmp_path)
    assert shown == "*D* − *A, b*: -1.5 (`sounds_workshop`, one run)"
    assert fill_effects("measured(ATST: student kept)", tmp_path) == "unclear (± 47)"
    assert fill_effects("measured(ATST: heads without bias)", tmp_path) == "not measured"
    about = fill_effects(ABOUT, tmp_path)
    assert "scale `lite`" in about and "2 seeds, x, 5-way" in about
    assert "1 of these effects leaves zero out, and luck alone gives about 0." in about


def test_an_effect_that_no_job_measures_is_an_error():
    with pytest.raises(KeyError, match="no job measures 'ATST: louder'"):
        fill_effects("measured(ATST: louder)")


# Changes of which the appendix shows a larger run instead: of real sounds, over seeds or on a card.
SHOWN_ELSEWHERE = {"uaMix-MAE: both directions", "ATST: student kept"}


def test_the_appendix_asks_for_every_change_and_only_for_those():
    text = (ROOT / "book" / "appendix_differences.md").read_text()
    asked = [label for label in differences.TOKEN.findall(text) if " minus " not in label]
    assert sorted({*asked, *SHOWN_ELSEWHERE}) == sorted(LABELS)
    assert SHOWN_ELSEWHERE.isdisjoint(asked) and text.count(ABOUT) == 1
    fill_effects(text)


def test_the_pairs_of_the_appendix_are_rows_of_their_records_or_of_runs_to_come():
    text = (ROOT / "book" / "appendix_differences.md").read_text()
    pairs = [label for label in differences.TOKEN.findall(text) if " minus " in label]
    for label in pairs:
        name, rows = label.split(": ", 1)
        known = {row["name"] for row in recorded(name)["values"]} | {
            *(RUNS if name == STUDY else ())
        }
        assert set(rows.split(" minus ")) <= known, label
    assert len(pairs) >= 6
