"""Stage "Right" at toy size: every row right, a planted fault is named and ends nothing, lack of time is recorded."""

from __future__ import annotations

import multiprocessing
import sys
import time

import pytest
import torch

from audiossl_lite.encoders import ATSTEncoder
from audiossl_lite.experiments import records as results
from audiossl_lite.experiments.gpu import checks, other_ways, right
from audiossl_lite.experiments.gpu.compare import Check, relative, row
from audiossl_lite.frontends import BYOLAFrontend
from tests.experiments.gpu.tasks import toy_task

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def entry(tmp_path_factory) -> dict:
    """The record of the whole stage."""
    out = tmp_path_factory.mktemp("right")
    right.run(toy_task("right", out))
    assert not any((out / "stages" / "right").iterdir()), "what it needed on the way is removed"
    return results.load(out / "records" / "gpu_right.json")


@pytest.mark.slow
def test_every_row_is_right(entry):
    wrong = [r for r in entry["values"] if r["passed"] is not True]
    assert not wrong
    assert entry["failed"] == entry["not_run"] == []
    assert entry["complete"] and entry["right"] == len(entry["values"])
    assert entry["headline"] == f"{entry['right']} of {entry['right']} right"


@pytest.mark.slow
def test_float32_is_measured_and_not_assumed(entry):
    errors = {r["name"]: r["mean"] for r in entry["values"]}
    for name in ("ATST-Small, fp32", "AudioMAE, fp32: gradient", "2 parts: gradients"):
        assert 0 < errors[name] < 1e-4
    for name in ("BYOL-A, bf16", "contrastive, bf16: gradient"):
        assert errors[name] > 1e-4, "bf16 that is as good as float32 was not bf16"


@pytest.mark.slow
def test_all_that_was_asked_for_is_there(entry):
    names = " | ".join(r["name"] for r in entry["values"])
    for wanted in (
        *checks.ENCODERS, *checks.METHODS, *checks.FRONTENDS, *other_ways.WAYS, "neighbours, bf16",
        "official", "two processes", "killed and resumed",
    ):  # fmt: skip
        assert wanted in names, wanted


def test_an_encoder_one_per_cent_off_is_named(monkeypatch):
    def off(self, spec, lengths=None, honest=ATSTEncoder.forward):
        return honest(self, spec, lengths) * (1.01 if spec.dtype == torch.float32 else 1.0)

    monkeypatch.setattr(ATSTEncoder, "forward", off)
    rows = {r["name"]: r for r in checks.encoder("ATST-Small", CPU, True)}
    assert rows["ATST-Small, fp32"]["passed"] is False
    assert rows["ATST-Small, fp32"]["mean"] == pytest.approx(0.01, rel=1e-3)


def turned(share: float, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient with noise of that share of its length."""
    torch.manual_seed(0)
    noise = torch.randn_like(gradient)
    return gradient + share * noise * gradient.norm() / noise.norm()


@pytest.mark.parametrize(("times", "passed"), [(1.2, True), (1.5, False)])
def test_bf16_may_be_as_far_off_as_that_of_the_cpu(monkeypatch, times, passed):
    """A card is compared with the CPU in bf16 where that is beyond the tolerance itself."""
    honest = checks.loss_and_gradient

    def worse(method, batch, device, dtype, *, bf16=False):
        loss, gradient = honest(method, batch, CPU, dtype)
        share = 0.4 * (times if device.type != "cpu" else 1.0)
        return loss, turned(share, gradient) if bf16 else gradient

    monkeypatch.setattr(checks, "loss_and_gradient", worse)
    monkeypatch.setitem(checks.COSINES, "bf16", 0.5)
    rows = {r["name"]: r for r in checks.step("contrastive", torch.device("meta"), True)}
    assert rows["contrastive, bf16: gradient"]["mean"] > checks.GRADIENTS["bf16"]
    assert rows["contrastive, bf16: gradient"]["passed"] is passed


def test_a_gradient_of_the_wrong_direction_is_named(monkeypatch):
    """Its length alone is within the tolerance of bf16."""
    honest = checks.loss_and_gradient

    def other(method, batch, device, dtype, *, bf16=False):
        loss, gradient = honest(method, batch, device, dtype)
        return loss, turned(0.249, gradient) if bf16 else gradient

    monkeypatch.setattr(checks, "loss_and_gradient", other)
    monkeypatch.setitem(checks.COSINES, "bf16", 0.98)
    rows = {r["name"]: r for r in checks.step("contrastive", CPU, True)}
    assert rows["contrastive, fp32: gradient"]["passed"] is True
    assert rows["contrastive, bf16: gradient"]["mean"] < checks.GRADIENTS["bf16"]
    assert rows["contrastive, bf16: gradient"]["passed"] is False


def test_views_that_draw_from_the_global_state_are_named(monkeypatch):
    honest = checks.RandomGain.forward
    monkeypatch.setattr(
        checks.RandomGain, "forward", lambda s, x, g: honest(s, x, g) + 0.1 * torch.rand(1)
    )
    rows = {r["name"]: r["passed"] for r in checks.views(CPU, True)}
    assert not rows.pop("random gain") and all(rows.values())


def test_a_frontend_that_sees_the_whole_batch_is_named(monkeypatch):
    honest = BYOLAFrontend.forward
    monkeypatch.setattr(
        BYOLAFrontend, "forward", lambda s, x: honest(s, x) - 1e-3 * honest(s, x).mean()
    )
    assert [r["passed"] for r in checks.frontend("BYOL-A", CPU)] == [False]


def test_a_run_computed_otherwise_with_another_rate_is_named():
    plain = {"losses": [1.0, 0.5], "gradients": [torch.ones(3)], "before": {"w": torch.zeros(3)}}
    plain["state"] = {"w": torch.ones(3)}
    other = plain | {"state": {"w": 1.01 * torch.ones(3)}}
    verdicts = [r["passed"] for r in other_ways.agreement("way", other, plain)]
    assert verdicts == [True, True, False]


def test_a_check_that_raises_is_a_row_and_the_others_are_run(tmp_path):
    def broken():
        yield row("first half", 0.0, 0.1)
        raise RuntimeError("CUDA error: planted\nmore")

    stage = toy_task("right", tmp_path)
    fine = Check("fine", lambda: [row("fine", 0.0, 0.1)])
    right.run_checks(stage, [Check("broken", broken), fine], {})
    entry = results.load(stage.record_path)
    assert [(r["name"], r["passed"]) for r in entry["values"]] == [
        ("first half", True), ("broken", False), ("fine", True),
    ]  # fmt: skip
    assert entry["values"][1]["detail"] == "RuntimeError: CUDA error: planted"
    assert (
        entry["complete"] and entry["failed"] == ["broken"] and entry["headline"] == "2 of 3 right"
    )


def test_lack_of_time_is_recorded_and_a_second_call_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "current_commit", lambda: "abc")
    calls: list[str] = []

    def check(name: str, seconds: float = 1.0, error: float = 0.0) -> Check:
        return Check(name, lambda: calls.append(name) or [row(name, error, 0.1)], seconds)

    asked = [check("quick"), check("wrong", error=1.0), check("long", 95.0)]
    right.run_checks(toy_task("right", tmp_path, 100.0), asked, {})
    entry = results.load(toy_task("right", tmp_path).record_path)
    assert not entry["complete"] and entry["not_run"] == ["long"] and entry["failed"] == ["wrong"]
    assert entry["values"][2]["detail"] == "not run: out of time" and calls == ["quick", "wrong"]
    right.run_checks(toy_task("right", tmp_path, 1000.0), asked, {})
    assert calls == ["quick", "wrong", "wrong", "long"], "what passed is not repeated"
    entry = results.load(toy_task("right", tmp_path).record_path)
    assert entry["complete"] and [r["name"] for r in entry["values"]] == ["quick", "wrong", "long"]
    right.run_checks(toy_task("right", tmp_path, 1000.0), asked, {"other": "settings"})
    assert calls[4:] == ["quick", "wrong", "long"]


def test_without_the_reference_outputs_the_row_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "FIXTURES", tmp_path / "none")
    (entry,) = checks.reference_outputs(CPU, True)
    assert entry["passed"] is None and entry["detail"] == "not run: no fixtures here"


def test_a_process_that_dies_or_hangs_is_an_error_with_the_end_of_its_log(tmp_path, monkeypatch):
    def start(folder, *_, processes=1, **__):
        folder.mkdir()
        started = []
        for number in range(processes):
            (folder / f"log-{number}.txt").write_text("no gloo")
            target, argument = (time.sleep, 60) if processes == 1 else (sys.exit, "no gloo")
            started.append(
                multiprocessing.get_context("spawn").Process(target=target, args=(argument,))
            )
            started[-1].start()
        return started

    monkeypatch.setattr(other_ways, "start", start)
    others = other_ways.OtherWays(CPU, tmp_path, True, wait_s=30.0)
    with pytest.raises(RuntimeError, match="process 0 ended with 1: no gloo"):
        list(others.two_processes())
    others.gives_up = 0.0
    with pytest.raises(RuntimeError, match="took too long"):
        list(others.resumed())
    others.close()
    assert all(p.exitcode is not None for p in (*others.pair, *others.killed))


def test_differences_are_relative_and_nothing_is_equal_by_accident():
    assert relative(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == pytest.approx(
        0.5 / 29.25**0.5
    )
    assert relative(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])) == 0.25
    assert row("nan", float("nan"), 1.0)["passed"] is False
    with pytest.raises(ValueError, match="shapes differ"):
        relative(torch.zeros(2, 1), torch.zeros(2))
