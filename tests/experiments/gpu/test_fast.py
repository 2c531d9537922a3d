"""Pin: utilisation, hours and ratios are arithmetic on measured steps; what does not fit is tried smaller."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import replace

import pytest
import torch

from audiossl_lite.experiments.calibration import Stepper
from audiossl_lite.experiments.gpu import fast
from audiossl_lite.experiments.gpu.card import BF16
from audiossl_lite.experiments.gpu.fast_report import TARGETS, UNFINISHED
from audiossl_lite.experiments.gpu.stages import TIMED
from audiossl_lite.experiments.real_sounds.recipes import way_to_compile
from audiossl_lite.experiments.records import load
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.training import Compute
from tests.experiments.gpu.tasks import means, toy_task
from tests.experiments.tiny_sets import lite_job

CPU = torch.device("cpu")


def card_of(out, rate: float, name: str = "NVIDIA H100 80GB HBM3") -> None:
    """A complete record of a card with `rate` TFLOP/s."""
    task = toy_task("card", out)
    task.write([{"name": BF16, "mean": rate, "ci95": None}], config={"name": name})


@pytest.mark.parametrize("job", ["byola", "uamix_head"])
def test_a_job_is_recorded_in_every_form(tmp_path, job):
    card_of(tmp_path, 0.5)
    task = toy_task(f"fast_{job}", tmp_path, 300.0)
    fast.run(task)
    record = load(task.record_path)
    rows = means(record)
    forms = {"fused", "plain", "step"} | ({"blocks"} if job != "byola" else set())
    assert record["complete"] and {f"clips per second, {form}" for form in forms} <= set(rows)
    whole = [row for row in record["values"] if row["name"].startswith("clips per second, ")]
    best = max(
        row["mean"] for row in whole if row["batch"] == 2 and not row["name"].endswith("plain")
    )
    assert rows["clips per second"] == best
    assert rows["times plain"] == pytest.approx(best / rows["clips per second, plain"])
    assert rows["model FLOPs utilisation"] == pytest.approx(
        record["flops_per_clip"] * best / 0.5e12
    )
    for profile in record["profile"].values():
        shares = [kernel["share"] for kernel in profile["longest"]]
        assert len(shares) == 10 and shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1 + 1e-9 and 0 <= profile["idle_share"] < 1
    assert "fused" in record["profile"] and set(record["profile"]) <= forms - {"plain"}
    assert not any(row["name"].startswith("failed") for row in record["values"])


def report_of(out) -> fast.Report:
    parts, source = lite_job("atst_small")
    counted = Stepper(parts, source, device="cpu", batch=2).count()
    config = replace(parts.config, steps=39_000, batch_size=1536)
    task = toy_task("fast_atst_small", out)
    return fast.Report(task, replace(parts, config=config), replace(counted, flops=50e9))


def test_the_rows_are_arithmetic_on_the_steps(tmp_path):
    card_of(tmp_path, 800.0)
    report = report_of(tmp_path)
    whole, viewed = [0.4, 0.3, 0.5], [0.04, 0.03, 0.05]
    steps = fast.Steps(1536, Compute(n_parts=2), whole, viewed, peak_bytes=2**35, watts=600.0)
    report.add("fused", steps)
    report.add("plain", fast.Steps(256, Compute(), [0.5], [0.1]))
    rows = {row["name"]: row for row in load(report.task.record_path)["values"]}
    assert rows["clips per second"]["mean"] == pytest.approx(1536 / 0.4)
    assert rows["seconds a step"]["low"] == 0.3 and rows["seconds a step"]["high"] == 0.5
    used = rows["model FLOPs utilisation"]
    assert used["mean"] == pytest.approx(50e9 * 1536 / 0.4 / 800e12)
    assert (used["target"], used["met"]) == (0.4, False)
    assert rows["the same of the data sheet"]["mean"] == pytest.approx(used["mean"] * 800 / 989)
    assert rows["peak memory"]["mean"] == 32.0
    assert rows["share of the step in the views"]["mean"] == pytest.approx(0.1)
    assert rows["times plain"]["mean"] == pytest.approx(3840 / 512) and rows["times plain"]["met"]
    hours = 39_000 * 0.4 / 3600
    assert rows["hours of the paper's run"]["mean"] == pytest.approx(hours)
    assert rows["energy of the paper's run"]["mean"] == pytest.approx(hours * 0.6)
    assert load(report.task.record_path)["complete"] is False


def test_what_is_not_measured_has_no_number(tmp_path):
    report = report_of(tmp_path)
    report.add("fused", fast.Steps(4, Compute(), [1.0], [0.1]))
    rows = means(load(report.task.record_path))
    missing = {name for name, mean in rows.items() if mean is None}
    assert missing == {
        "model FLOPs utilisation", "the same of the data sheet", "peak memory", "times plain",
        "energy of the paper's run",
    }  # fmt: skip


@pytest.mark.parametrize("job", ["atst_small", "audiomae", "uamix"])
def test_the_plain_step_has_the_loss_of_the_fused_one_and_keeps_its_softmax(job):
    losses, kernels = [], []
    for plainly in (False, True):
        stepper = Stepper(*lite_job(job, 4), device="cpu", batch=4)
        with (
            fast.plainly() if plainly else contextlib.nullcontext(),
            torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        ):
            losses.append(float(stepper.learn(0, stepper.view(0))))
        kernels.append({event.key for event in profile.key_averages()})
    # Batch norm over four clips of noise, which look alike to a new network, magnifies rounding.
    assert losses[0] == pytest.approx(losses[1], rel=5e-4)
    fused = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert fused in kernels[0] and fused not in kernels[1]
    assert "aten::_softmax" in kernels[1] or "aten::_safe_softmax" in kernels[1]


def test_plainness_ends_with_its_block():
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    try:
        with fast.plainly():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert torch.backends.cuda.math_sdp_enabled()
            assert not torch.backends.cuda.flash_sdp_enabled()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32 == convolutions
        assert torch.backends.cuda.flash_sdp_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_runs_out_of_memory_is_tried_smaller():
    tried = []

    def attempt(way):
        tried.append(way)
        if len(tried) < 3:
            raise torch.OutOfMemoryError("full")
        return way[1].n_parts

    assert fast.first_that_fits(attempt, fast.more_parts((8, Compute()))) == 8
    assert [way[1].n_parts for way in tried] == [2, 4, 8]
    tried.clear()
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        fast.first_that_fits(attempt, [(8, Compute()), (4, Compute())])


def test_a_step_goes_on_after_one_that_ran_out_of_memory():
    timing = fast.Timing(*lite_job("atst_small", 8), CPU, budget_s=0.0)
    learn, failures = Stepper.learn, [1, 1]

    def full_at_first(self, step, batch):
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("full")
        return learn(self, step, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "learn", full_at_first)
        steps = fast.first_that_fits(timing.measure, fast.more_parts((8, Compute())))
    assert (steps.batch, steps.compute.n_parts) == (8, 8)  # two and four parts failed
    assert timing.parts.method.n_parts == 8


def test_the_first_way_is_the_one_whose_memory_is_a_line_through_two_batches(monkeypatch):
    timing = fast.Timing(*lite_job("atst_small"), CPU, budget_s=0.0)
    # 10 fixed and 1 for each clip: 1536 clips in n parts need 18 + 1528 / n or so.
    monkeypatch.setattr(timing, "peak", lambda batch: 10 + batch)
    monkeypatch.setattr(fast, "memory_of", lambda device: 500)
    ways = list(timing.ways(1536))
    assert [way[1].n_parts for way in ways] == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert {way[0] for way in ways} == {1536}
    conv = fast.Timing(*lite_job("byola"), CPU, budget_s=0.0)
    assert [way[0] for way in conv.ways(16)] == [16, 8, 4, 2]


def test_measured_steps_are_whole_and_their_views_are_part_of_them():
    timing = fast.Timing(*lite_job("byola", 4), CPU, budget_s=0.0)
    steps = timing.measure((4, Compute()))
    assert len(steps.whole) == len(steps.viewed) == 3
    assert all(0 < a < b for a, b in zip(steps.viewed, steps.whole, strict=True))
    assert steps.clips_per_s == pytest.approx(4 / statistics.median(steps.whole))
    assert steps.peak_bytes is None and steps.watts is None
    assert len(timing.measure((4, Compute()), at_most=1).whole) == 1


def test_power_and_time_are_those_of_steps_that_are_warm(monkeypatch):
    """What is compiled or allocated in the first steps draws no power that counts."""
    told, learn = [], Stepper.learn

    class Watched(fast.Watts):
        def __enter__(self):
            told.append("on")
            return super().__enter__()

        def __exit__(self, *error):
            told.append("off")

    monkeypatch.setattr(fast, "Watts", Watched)
    monkeypatch.setattr(
        Stepper, "learn", lambda self, *batch: [told.append("step"), learn(self, *batch)][1]
    )
    fast.Timing(*lite_job("byola", 4), CPU, budget_s=0.0).measure((4, Compute()))
    assert told == ["step", "step", "on", "step", "step", "step", "off"]


def test_a_profile_without_kernels_says_nothing_of_idle_time(monkeypatch):
    monkeypatch.setattr(torch.profiler.profile, "key_averages", lambda self: [])
    profile = fast.Timing(*lite_job("byola", 4), CPU, budget_s=0.0).profile((4, Compute()), 1.0, 1)
    assert profile["idle_share"] is None and profile["longest"] == []


def test_variants_change_one_thing():
    way = (16, Compute(n_parts=2, compile="step"))
    named = dict(fast.variants(way, in_parts=True))
    assert {name: (other[0], other[1].n_parts) for name, other in named.items()} == {
        "n_parts=1": (16, 1), "n_parts=4": (16, 4), "batch of 8": (8, 1),
    }  # fmt: skip
    assert all(other[1].compile == "step" for other in named.values())
    assert [name for name, _ in fast.variants((8, Compute()), in_parts=False)] == ["batch of 4"]


def test_every_timed_job_exists_and_every_target_is_of_one():
    assert all(find_job(name).name == name for name in TIMED)
    assert set(TARGETS) < set(TIMED)


def test_a_form_that_fails_is_recorded_and_the_next_one_is_tried(tmp_path, monkeypatch):
    card_of(tmp_path, 0.5)
    measure = fast.Timing.measure

    def broken_in_blocks(self, way, *more):
        if way[1].compile == "blocks":
            raise RuntimeError("no such\nkernel")
        return measure(self, way, *more)

    monkeypatch.setattr(fast.Timing, "measure", broken_in_blocks)
    task = toy_task("fast_uamix_head", tmp_path, 300.0)
    fast.run(task)
    record = load(task.record_path)
    errors = {row["name"]: row.get("error") for row in record["values"]}
    assert errors["failed: blocks"] == "RuntimeError: no such kernel"
    assert record["complete"] and "clips per second, step" in errors


def test_a_stage_that_ends_while_it_compiles_has_said_so(tmp_path, monkeypatch):
    """A compiler cannot be interrupted, so nothing of this process may be needed for the record."""
    measure = fast.Timing.measure

    def killed_in_step(self, way, *more):
        if way[1].compile == "step":
            raise KeyboardInterrupt  # passes through as a killed process would
        return measure(self, way, *more)

    task = toy_task("fast_uamix_head", tmp_path, 300.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fast.Timing, "measure", killed_in_step)
        fast.run(task)
    record = load(task.record_path)
    errors = {row["name"]: row.get("error") for row in record["values"]}
    assert errors["failed: step"] == UNFINISHED and not record["complete"]
    assert "clips per second, blocks" in errors
    fast.run(toy_task("fast_uamix_head", tmp_path, 300.0))
    again = load(task.record_path)
    assert again["complete"] and "failed: step" not in {r["name"] for r in again["values"]}


def test_a_program_is_worth_its_compilation_or_is_not_taken(tmp_path):
    report = report_of(tmp_path)
    report.add("fused", fast.Steps(8, Compute(), [1.0], [0.1], first_s=2.0))
    report.add("plain", fast.Steps(8, Compute(), [0.1], [0.1]))
    report.add("blocks", fast.Steps(8, Compute(compile="blocks"), [0.8], [0.1], first_s=10.0))
    report.add("step", fast.Steps(8, Compute(compile="step"), [0.5], [0.1], first_s=60.0))
    report.add("batch of 4", fast.Steps(4, Compute(compile="step"), [0.01], [0.01]))
    record = load(report.task.record_path)
    assert record["fastest"] == "step"
    taken = {s: way_to_compile(record, s) for s in (20.0, 100.0, 1000.0)}
    assert taken == {20.0: "none", 100.0: "blocks", 1000.0: "step"}
    assert way_to_compile(None, 60.0) == "none"
