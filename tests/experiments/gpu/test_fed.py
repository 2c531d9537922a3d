"""Pin: the way from the store to the device is recorded for every form, and delivers the store's own clips."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.experiments.gpu import fed
from audiossl_lite.experiments.gpu.stages import TIMED
from audiossl_lite.experiments.real_sounds.task import record_path
from audiossl_lite.experiments.records import load, record
from tests.experiments.gpu.tasks import means, toy_task


def eats(out, job: str, clips_per_s: float) -> None:
    """The complete record of a timed job."""
    record(
        record_path(out, f"fast_{job}"), experiment="x", scale="toy", data="none", data_fingerprint="",
        device="cpu", seeds=[0], seconds=1.0, config={}, more={"complete": True},
        values=[{"name": "clips per second", "mean": clips_per_s, "ci95": None}],
    )  # fmt: skip


def test_every_form_is_recorded_beside_what_the_steps_eat(tmp_path):
    eats(tmp_path, "atst_small", 50.0)
    task = toy_task("fed", tmp_path)
    fed.run(task)
    found = load(task.record_path)
    rates = means(found)
    assert found["complete"] and found["eaten"] == {"atst_small": 50.0}
    for kind in fed.KINDS:
        assert {f"{kind}, read and sent", f"{kind}, on the device"} <= set(rates)
    assert len(rates) == 3 + 2 * (1 + 3) + 2 * 2 and min(rates.values()) > 0
    for row in found["values"]:
        assert row["times_the_step"] == {"atst_small": pytest.approx(row["mean"] / 50.0)}
    assert not any(path.is_dir() for path in task.folder.iterdir())  # no store is left


def test_the_stores_hold_the_noise(tmp_path):
    size = fed.Size(n_clips=5, clip_s=0.5, batch=3, form_s=0.0)
    noise = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    stores = fed.make_stores(tmp_path, noise, size)
    clips, _ = stores["waveform"].batch(torch.arange(5), "cpu")
    assert torch.allclose(clips, noise[[0, 1, 2, 0, 1]], atol=1 / 2**15)
    assert [len(store) for store in stores.values()] == [5, 5, 5]
    again = fed.make_stores(tmp_path, noise, size)  # what an interrupted call left is no hindrance
    assert again["audiomae"].digest() == stores["audiomae"].digest()


def test_the_feed_passes_every_batch_through_the_frontend(tmp_path):
    size = fed.Size(n_clips=4, clip_s=0.5, batch=3, form_s=0.0)
    noise = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    store, seen = fed.make_stores(tmp_path, noise, size)["waveform"], []
    rate = fed.fed(store, torch.device("cpu"), size, lambda clips: seen.append(clips.shape))
    assert rate > 0 and seen == [(3, 8000)] * (2 + 4 + 4)


def test_without_records_of_steps_nothing_is_compared(tmp_path):
    assert fed.steps_eat(toy_task("fed", tmp_path)) == {}
    for number, job in enumerate(TIMED):
        eats(tmp_path, job, float(number + 1))
    assert list(fed.steps_eat(toy_task("fed", tmp_path)).values()) == [1, 2, 3, 4, 5, 6]
