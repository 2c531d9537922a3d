"""The table of uaMix-MAE: who hears what, what starts from what, resuming, failing rows, the record."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from audiossl_lite.evaluation.statistics import as_text, difference, mean_interval
from audiossl_lite.experiments import zoo
from audiossl_lite.experiments.build import Trained
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.records import load, recorded_scores, table_rows
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.settings.uamix import START
from audiossl_lite.experiments.uamix import (
    CLAIMS,
    answers,
    conclusion,
    in_words,
    record_uamix,
    start_summary,
    uamix_scores,
)
from audiossl_lite.training.loop import CollapseError

MAE = preset(
    "audiomae", "lite",
    {"clips_per_class": 3, "clip_s": 1.0, "n_frames": 96, "steps": 3, "batch_size": 8,
     "warmup_steps": 1, "decoder_dim": 32, "decoder_depth": 1},
)  # fmt: skip
TUNING = preset(
    "uamix", "lite",
    {"hidden_dim": 24, "predictor_dim": 20, "projection_dim": 12, "queue_size": 16,
     "head_steps": 2, "head_batch_size": 8, "steps": 4, "batch_size": 8, "log_every": 1,
     "n_frames": 96, "learning_rate": 1e-2, "probe_every": 2, "save_every": 2},
)  # fmt: skip
PAIR = ["No Mixing", "T-CutMix, rule paper"]


@pytest.fixture(scope="module")
def pools():
    """Events of one second, voices of half a second."""
    short = dataclasses.replace(MAE, clip_s=0.5)
    return [tuning_pools("", MAE, voices=False)[0], tuning_pools("", short)[1]]


def tuning_set(pools, **options) -> zoo.EncoderSet:
    configs = {"AudioMAE": MAE, "uaMix-MAE": TUNING}
    return zoo.EncoderSet(pools, configs, device="cpu", n_episodes=20, **options)


def encoder_of(encoders, variant, seed):
    return encoders.trained(f"uaMix-MAE: {variant}", seed).encoder


@pytest.fixture(scope="module")
def done(pools, tmp_path_factory):
    """A whole table of two variants and two seeds, on disk."""
    folder = tmp_path_factory.mktemp("uamix")
    encoders = tuning_set(pools, output_dir=folder / "runs")
    entry = record_uamix(encoders, folder / "uamix_test.json", PAIR, [0, 1], "lite")
    return encoders, entry, folder


def test_every_column_is_scored_for_every_kind_of_features(done):
    encoders, _, _ = done
    scores = uamix_scores(encoders, PAIR, [0, 1])
    assert list(scores) == [
        "log-mel statistics", "MFCC statistics", "untrained encoder", START, *PAIR,
    ]  # fmt: skip
    columns = ["events, heard", "events, never heard", "speakers, heard", "speakers, never heard"]
    for name, found in scores.items():
        assert list(found) == columns
        n_seeds = 1 if name.endswith("statistics") else 2
        assert all(values.shape == (n_seeds, 20) for values in found.values())
    assert encoders.scoring.ways() == dict(zip(columns, (5, 5, 5, 3), strict=True))
    assert not encoders.failures and not encoders.scoring.left_out


def test_variants_share_encoder_and_head_and_differ_in_what_they_learn(done):
    encoders, _, _ = done
    start = encoders.network("AudioMAE", 0).encoder.state_dict()
    first, second = (encoder_of(encoders, variant, 0).state_dict() for variant in PAIR)
    frozen = [k for k in start if k.startswith(("patch_embed", "pos_embed", "blocks.0."))]
    assert frozen and all(torch.equal(start[k], first[k]) for k in frozen)
    assert not torch.equal(first["norm.weight"], second["norm.weight"])
    mixings = [encoders.trained(f"uaMix-MAE: {v}", 0).config.mixing for v in PAIR]
    assert mixings == ["none", "t_cutmix"]
    other = encoders.network("AudioMAE", 1).encoder.state_dict()
    assert not torch.equal(start["norm.weight"], other["norm.weight"])


def test_a_second_job_reads_what_the_first_left_and_trains_nothing(done, pools):
    encoders, entry, folder = done
    weights = encoder_of(encoders, PAIR[1], 1).state_dict()
    again = tuning_set(pools, output_dir=folder / "runs")
    for name, value in encoder_of(again, PAIR[1], 1).state_dict().items():
        assert torch.equal(value, weights[name])
    second = record_uamix(again, folder / "second.json", PAIR, [0, 1], "lite")
    assert second["values"] == entry["values"]
    steps = [TUNING.head_steps, MAE.steps, TUNING.steps]
    for encoder in (encoders, again):
        encoder.head(0), encoder.trained("AudioMAE", 0)
    runs = [run for run in again.finished.runs.values() if isinstance(run, Trained)]
    assert runs and all(run.result.started_at in steps for run in runs)
    assert start_summary(again, 0) == start_summary(encoders, 0)
    assert not list(folder.rglob("last.pt")), "finished runs keep no optimiser state"


def test_the_record_holds_what_the_scores_say(done):
    encoders, entry, folder = done
    assert load(folder / "uamix_test.json") == entry
    assert entry["seeds"] == [0, 1] and entry["scale"] == "lite" and entry["seconds"] > 0
    assert entry["config"]["ways"] == encoders.scoring.ways()
    scores = uamix_scores(encoders, PAIR, [0, 1])
    rows = {row["name"]: row for row in entry["values"]}
    assert list(rows) == list(scores)
    for name, found in scores.items():
        for column, values in found.items():
            kept = rows[name]["columns"][column]
            mean, half_width = mean_interval(values)
            assert kept["mean"] == pytest.approx(mean) and kept["ci95"] == pytest.approx(half_width)
            assert kept["by_seed"] == pytest.approx(values.mean(1).tolist())
            gain, _ = mean_interval(values - scores[START][column])
            assert kept["gain"] == pytest.approx(gain)
    asked = [[row["question"] for row in answers(s)] for s in (scores, recorded_scores(entry))]
    assert asked[0] == asked[1] != []
    curve = rows["No Mixing"]["curve"]
    assert [point["step"] for point in curve] == [0, 2, 4]
    last = rows["No Mixing"]["columns"]["events, heard"]["mean"]
    assert curve[-1]["events, heard"] == pytest.approx(last)
    assert curve[0]["events, heard"] == pytest.approx(
        rows[START]["columns"]["events, heard"]["mean"]
    )


def test_settings_data_and_seed_have_folders_of_their_own(done, pools, tmp_path):
    folder = done[2]
    folders = {path.name for path in (folder / "runs" / "encoders").iterdir() if path.is_dir()}
    assert len(folders) == 2 * (1 + 1 + len(PAIR)), "of each seed: encoder, head, variants"
    fewer = tuning_set(pools[:1], output_dir=tmp_path)
    fewer.trained("AudioMAE", 0)
    (other,) = (p.name for p in (tmp_path / "encoders").iterdir() if p.is_dir())
    assert other not in folders


def test_a_variant_that_fails_is_named_and_the_others_go_on(pools, monkeypatch):
    real = zoo.tuning_parts

    def parts(encoder, config, frontend, **options):
        if config.mixing == "mixup":
            raise CollapseError("collapse at step 3")
        return real(encoder, config, frontend, **options)

    monkeypatch.setattr(zoo, "tuning_parts", parts)
    encoders = tuning_set(pools[:1])
    scores = uamix_scores(encoders, ["MixUp + LS", "No Mixing"], [0])
    assert "MixUp + LS" not in scores and "No Mixing" in scores
    assert encoders.failures == {"MixUp + LS": "seed 0: collapse at step 3"}


# --- the report --------------------------------------------------------------------------------------------


def test_answers_pair_by_seed_and_name_the_better_side():
    seeds = np.array([50.0, 40.0, 60.0])
    scores = {
        START: {"events, heard": seeds},
        "No Mixing": {"events, heard": seeds + np.array([2.0, 2.5, 3.0])},
        "T-CutMix, rule paper": {"events, heard": seeds + np.array([2.0, 3.5, 2.0])},
        "log-mel statistics": {"events, heard": np.array([70.0])},
    }
    rows = {row["question"]: row["events, heard"] for row in answers(scores)}
    mean, half_width = mean_interval(np.array([2.0, 2.5, 3.0]))
    assert (
        rows["Does tuning beat the pretrained encoder?"]
        == f"+{mean:.1f} ± {half_width:.1f}: better"
    )
    assert rows["Does mixing beat no mixing?"].endswith(": unclear")
    assert rows["And against a plain spectrogram?"].endswith(": unclear")
    assert "Does T-CutMix beat TF-CutMix?" not in rows
    assert difference(scores, "log-mel statistics", START, "events, heard").tolist() == [20, 30, 10]
    table = table_rows(scores)
    assert [row["seeds"] for row in table] == [3, 3, 3, 1]
    assert table[-1]["events, heard"] == "70.0"


def test_answers_in_words_sort_the_columns_by_what_they_say():
    rows = [
        {
            "question": "Does it help?", "a minus b": "x − y", "events, heard": "+2.0 ± 1.0: better",
            "events, never heard": "+0.1 ± 1.0: unclear", "speakers, heard": "+3.0 ± 1.0: better",
        }
    ]  # fmt: skip
    assert in_words(rows) == [
        "**Does it help?** Better on events, heard and speakers, heard; unclear on events, never heard."
    ]
    never = {"A": "better", "US": "worse", "c": "better", "d": "better"}
    rows = [
        {"question": "Why?"} | {f"{c}, never heard": f"+1.0 ± 0.5: {w}" for c, w in never.items()}
    ]
    assert in_words(rows) == ["**Why?** Better on A, c and d; worse on US, never heard."]
    assert in_words([{"question": "?", "events": "+1.0"}]) == []


def test_the_conclusion_says_of_each_part_of_the_claim_what_its_interval_allows():
    gains = iter(([1.0, 1.2, 1.1], [0.5, 0.6, 0.7, 0.0], [-0.6, -0.5, -0.6], [-9.0, 0.0, 12.0]))
    found = {claim[:2]: np.array(gain) for claim, gain in zip(CLAIMS, gains, strict=True)}
    said = conclusion(lambda a, b: found[a, b])
    assert [line.split("**")[1] for line in said] == [
        claim[part] for claim, part in zip(CLAIMS, (2, 4, 3, 4), strict=True)
    ]
    assert said[0].endswith(f"No Mixing − {START} +1.1 ± 0.2, 3 seeds.") and "4 seeds" in said[1]
    assert conclusion(lambda a, b: found[a, b][:1]) == []


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    assert as_text(-0.01, 0.2, signed=True) == "+0.0 ± 0.2" and as_text(-0.0, np.nan) == "0.0"


def test_one_seed_uses_the_episodes_and_a_lone_number_has_no_interval():
    values = np.array([[10.0, 20.0, 30.0, 40.0]])
    mean, half_width = mean_interval(values)
    assert mean == 25.0 and half_width == pytest.approx(1.96 * values.std() / 2)
    mean, half_width = mean_interval(np.array([10.0, 12.0, 17.0]))
    assert mean == 13.0
    assert half_width == pytest.approx(
        4.302653 * np.std([10, 12, 17], ddof=1) / np.sqrt(3), rel=1e-6
    )
    assert np.isnan(mean_interval(np.array([5.0]))[1])
    with pytest.raises(ValueError, match="shape"):
        mean_interval(np.zeros((0, 3)))
