"""The ablations: which rows there are, what is the same between them, and that nothing finished runs twice."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from audiossl_lite.common.parameters import SCALES
from audiossl_lite.encoders import atst_tiny, byola_tiny
from audiossl_lite.evaluation import few_shot_accuracy
from audiossl_lite.evaluation.few_shot import FewShotResult
from audiossl_lite.experiments import ablations
from audiossl_lite.experiments.ablations import (
    Protocol,
    Row,
    record_rows,
    run_rows,
    segment_lengths,
    segment_sweep,
    table_1_rows,
    view_rows,
)
from audiossl_lite.experiments.build import TrainTest, pretrain, trained_frames
from audiossl_lite.experiments.networks import Network
from audiossl_lite.experiments.records import load
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.studies import Finished
from tests.experiments.test_build import TINY, tiny, tones


@pytest.fixture(scope="module")
def data() -> TrainTest:
    clips = tones()
    return TrainTest(clips, clips, "scored on the clips it was trained on")


def small_rows() -> list[Row]:
    return table_1_rows(tiny("atst"), tiny("byola"), clip_s=1.0)


def differing(first, second) -> set[str]:
    a, b = dataclasses.asdict(first), dataclasses.asdict(second)
    return {name for name in a if a[name] != b[name]}


def test_segments_of_ten_seconds_are_the_papers():
    assert segment_lengths(10.0) == [1.0, 6.0]
    assert segment_lengths(4.0) == [0.4, 2.4]
    assert segment_lengths(120.0) == [1.0, 6.0], "longer clips get the paper's lengths"
    assert segment_lengths(0.5) == [0.2, 0.3], "nothing below 0.2 s"

    for clip_s, shares in ((0.3, (0.1,)), (4.0, (0.0,)), (4.0, (1.2,))):
        with pytest.raises(ValueError, match="segment"):
            segment_lengths(clip_s, shares)


def test_table_1_has_its_five_rows_at_every_scale():
    for scale in SCALES:
        rows = table_1_rows(preset("atst", scale), preset("byola", scale), clip_s=10.0)
        views = [(row.config.segments, row.config.segment_s) for row in rows]
        assert views == [("one", 1.0), ("one", 1.0), ("two", 1.0), ("one", 6.0), ("two", 6.0)]
        assert rows[0].config.encoder.startswith("byola") and rows[0].config.frontend == "byola"
        assert len({row.name for row in rows}) == 5
        seen = {row.config.steps * row.config.batch_size for row in rows}
        assert len(seen) == 1, "every row sees as many clips"
        for row in rows[1:]:
            assert differing(row.config, rows[1].config) <= {"segments", "segment_s"}


def test_the_paper_scale_contains_the_papers_own_run():
    config = preset("atst", "paper")
    assert view_rows(config, 10.0)[-1].config == config


def test_the_sweep_changes_the_length_alone():
    rows = segment_sweep(preset("atst", "lite"), 4.0)
    assert [row.config.segment_s for row in rows] == [0.4, 1.2, 2.4, 3.2]
    assert {row.config.segments for row in rows} == {"two"}
    assert differing(rows[0].config, rows[2].config) == {"segment_s"}


def test_a_transformer_embeds_chunk_by_chunk_and_a_cnn_the_whole_clip():
    spec = torch.randn(2, 100, 64, generator=torch.Generator().manual_seed(0))
    # the second clip: 40 + 20 frames, and 20 are not more than half
    lengths = torch.tensor([100, 60])
    atst, cnn = atst_tiny().eval(), byola_tiny().eval()
    with torch.no_grad():
        first = (atst(spec[:1, :40]) + atst(spec[:1, 40:80])) / 2  # a tail of 20 is dropped
        expected = torch.cat([first, atst(spec[1:, :40])])
        whole = cnn(spec, lengths)
    out = ablations._embed(atst, spec, lengths, 40)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    config, hop = preset("byola"), SimpleNamespace(hop_s=0.01)
    assert trained_frames(config, hop) == 0
    assert trained_frames(preset("atst", "lite", {"segment_s": 0.4}), hop) == 41
    assert trained_frames(preset("uamix", "workshop"), hop) == 208
    torch.testing.assert_close(ablations._embed(cnn, spec, lengths, 0), whole, atol=0, rtol=0)


def test_a_row_reports_what_a_run_by_hand_gives(data):
    row = small_rows()[4]
    (result,) = run_rows(Protocol(data, device="cpu", n_episodes=30), [row])
    trained = pretrain(data.train, row.config, device="cpu")
    frames = round(100 * row.config.segment_s) + 1
    for name, network in trained.method.encoders.items():
        embedded = Network("", network, trained.frontend, frames).embed(data.test)
        labels, groups = (x[data.test.task] for x in (data.test.labels, data.test.groups))
        by_hand = few_shot_accuracy(embedded, labels, n_episodes=30, groups=groups)
        assert result[name] == pytest.approx(by_hand.mean)
        assert result[f"{name}_ci95"] == pytest.approx(by_hand.ci95)
        assert result[f"{name}_gain"] == pytest.approx(by_hand.mean - result["untrained"])
    assert result["mean"] == result["teacher"], "BYOL keeps the teacher"
    assert [step for step, *_ in result["history"]] == [1, 2, 3, 4]
    assert np.isfinite([line[1] for line in result["history"]]).all()


def test_contrastive_rows_keep_their_student(data):
    row = Row("contrastive", tiny("atst", method="contrastive"))
    (result,) = run_rows(Protocol(data, device="cpu", n_episodes=10), [row])
    assert "teacher" not in result
    assert result["mean"] == result["student"]


def test_without_stop_gradient_the_student_is_what_is_kept(data):
    config = tiny("atst", stop_gradient=False)
    kept = pretrain(data.train, config, device="cpu").method.encoders
    means = {"untrained": 50.0, **dict(zip(kept, (60.0, 20.0), strict=True))}
    scores = {name: FewShotResult(x, 0.0, np.array([x]), 5, 1, 15) for name, x in means.items()}
    assert list(kept) == ["student", "teacher"] and ablations._numbers(scores)["mean"] == 60.0


def count_runs(monkeypatch) -> list[str]:
    """Names of the rows that are really pretrained from here on."""
    names = []

    def counting(*arguments, description, **options):
        names.append(description)
        return pretrain(*arguments, description=description, **options)

    monkeypatch.setattr(ablations, "pretrain", counting)
    return names


def few_episodes(data, folder=None) -> Protocol:
    return Protocol(data, device="cpu", n_episodes=10, finished=Finished(folder))


def test_an_interrupted_job_goes_on_with_the_next_row(data, tmp_path, monkeypatch):
    rows = small_rows()[1:4]
    whole = run_rows(few_episodes(data), rows)
    run_rows(few_episodes(data, tmp_path), rows[:1])
    # The second row stops half-way: two of its four steps are in its folder.
    protocol = few_episodes(data, tmp_path)
    folder = tmp_path / protocol.finished.key("row", protocol.settings(rows[1]))
    pretrain(data.train, rows[1].config, device="cpu", output_dir=folder, stop_after=2)
    names = count_runs(monkeypatch)
    resumed = run_rows(protocol, rows)
    assert names == [rows[1].name, rows[2].name]
    for a, b in zip(whole, resumed, strict=True):
        assert {k: v for k, v in a.items() if "seconds" not in k} == {
            k: v for k, v in b.items() if "seconds" not in k
        }
    assert not list(tmp_path.rglob("last.pt")), "finished rows keep no optimiser state"
    assert len(list(tmp_path.rglob("weights.pt"))) == 3


def test_other_settings_data_seeds_and_protocols_are_other_results(data):
    row, other = small_rows()[1:3]
    fewer = data.test.subset(torch.arange(24))

    def key(protocol, row):
        return protocol.finished.key("row", protocol.settings(row))

    keys = {
        key(Protocol(data), row),
        key(Protocol(data), other),
        key(Protocol(data, seed=1), row),
        key(Protocol(data, n_way=4), row),
        key(Protocol(data, n_episodes=10), row),
        key(Protocol(TrainTest(fewer, data.test, "")), row),
        key(Protocol(TrainTest(data.train, fewer, "")), row),
    }
    assert len(keys) == 7
    assert key(Protocol(data), row) == key(Protocol(data), Row("renamed", row.config))


def test_the_record_holds_rows_baselines_and_circumstances(data, tmp_path):
    protocol = Protocol(data, device="cpu", n_episodes=10, seed=3)
    rows = small_rows()[1:2]
    record_rows(protocol, tmp_path / "atst_table1_lite.json", rows, "lite")
    entry = load(tmp_path / "atst_table1_lite.json")
    assert entry["experiment"] == "atst_table1_lite"
    assert entry["seeds"] == [3] and entry["scale"] == "lite"
    assert [value["name"] for value in entry["values"]] == [
        rows[0].name, "log-mel statistics", "MFCC statistics",
    ]  # fmt: skip
    assert all({"name", "mean", "ci95"} <= set(value) for value in entry["values"])
    assert entry["config"][rows[0].name]["steps"] == TINY["steps"]
    assert "history" not in json.dumps(entry["values"])
