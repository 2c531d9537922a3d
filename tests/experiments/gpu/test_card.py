"""Pin: the card's record is complete, and a clock's laps are what it says."""

from __future__ import annotations

import time

import pytest
import torch

from audiossl_lite.experiments.gpu import card
from audiossl_lite.experiments.records import load
from audiossl_lite.experiments.roofline import Clock, times
from tests.experiments.gpu.tasks import means, toy_task

CPU = torch.device("cpu")


def test_the_record_holds_facts_and_positive_rates(tmp_path):
    task = toy_task("card", tmp_path)
    card.run(task)
    record = load(task.record_path)
    assert record["complete"] and record["scale"] == "toy"
    assert record["config"]["name"] == "cpu" and record["config"]["torch"] == torch.__version__
    assert len(record["values"]) == 5 and min(means(record).values()) > 0
    assert task.record_of("card")["values"][0]["name"] == card.BF16


def test_a_known_card_stands_beside_its_data_sheet(tmp_path, monkeypatch):
    monkeypatch.setattr(card, "describe", lambda device: {"name": "NVIDIA H100 80GB HBM3"})
    task = toy_task("card", tmp_path)
    card.run(task)
    sheet = {row["name"]: row["data_sheet"] for row in load(task.record_path)["values"]}
    assert sheet["device to device copy"] == 3.35 and sheet[card.BF16] == 989
    assert sheet["fp32 matrix product"] is None


def test_a_card_that_stops_half_way_leaves_an_incomplete_record(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no copy")

    monkeypatch.setattr(card, "bandwidth", broken)
    task = toy_task("card", tmp_path)
    with pytest.raises(RuntimeError, match="no copy"):
        card.run(task)
    assert list(means(load(task.record_path))) == [card.BF16]
    assert task.record_of("card") is None


def test_laps_add_up_and_warm_up_is_not_among_them():
    calls = []
    laps = times(lambda: calls.append(sum(range(20_000))), CPU, repeats=4, warm_up=2)
    assert len(calls) == 6 and len(laps) == 4 and min(laps) > 0
    clock = Clock(CPU)
    sum(range(20_000))
    clock.mark()
    first = clock.laps()
    time.process_time()
    assert clock.seconds() == pytest.approx(sum(clock.laps())) and clock.laps()[:1] == first


def test_power_is_not_measured_on_a_cpu():
    with card.Watts(CPU) as watts:
        pass
    assert watts.median is None


def test_power_is_the_median_of_what_the_driver_says(monkeypatch):
    lines = "print('100.5\\n[N/A]\\n300.0\\n310.0', flush=True); import time; time.sleep(60)"
    asked = ["python3", "-c", lines]
    monkeypatch.setattr(card, "_question", lambda *_: asked)
    with card.Watts(torch.device("cuda")) as watts:
        assert watts._asking.stdout.readline().strip() == "100.5"
        time.sleep(0.2)
    assert watts.median == 305.0
    monkeypatch.setattr(card, "_question", lambda *_: ["no-such-program-anywhere"])
    with card.Watts(torch.device("cuda")) as watts:
        pass
    assert watts.median is None
    assert card.ask_driver(torch.device("cuda"), "driver_version") == "not known"
