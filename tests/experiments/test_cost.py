"""Pin: FLOPs, activations and memory are what a pencil says; estimates are arithmetic on a calibration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from audiossl_lite.encoders.transformer import Block
from audiossl_lite.experiments.calibration import Calibration, Stepper
from audiossl_lite.experiments.cost import SHARE_OF_MEMORY, as_record, calibrate, estimate, main
from audiossl_lite.experiments.counting import (
    Counted,
    Kept,
    attention_counter,
    count,
    parameter_counts,
)
from audiossl_lite.experiments.roofline import bandwidth, peak_flops
from audiossl_lite.experiments.settings.jobs import JOBS
from audiossl_lite.training import Compute, train
from tests.experiments.tiny_sets import lite_job

B, N, D, HEADS = 3, 7, 12, 2
GIB = 2**30


class Toy(nn.Module):
    """A method of one network: its loss is the mean of what comes out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x, monitors=False):
        return {"loss": self.network(x).mean()}


def tokens() -> tuple[torch.Tensor]:
    return (torch.randn(B, N, D, generator=torch.Generator().manual_seed(0)),)


def test_flops_of_a_linear_layer_by_hand():
    # Forward: N products of D x 4 D, a multiplication and an addition each. Backward: for the weights as much again;
    # for the input nothing, since nobody asks for its gradient.
    counted = count(Toy(nn.Linear(D, 4 * D)), tokens())
    assert counted.forward_flops == 2 * N * D * 4 * D
    assert counted.flops == 2 * counted.forward_flops


def block_flops(n: int, d: int) -> tuple[int, int]:
    """Linear layers (3 + 1 + 4 + 4 squares of the width for each token) and attention (two products of N x N x D)."""
    return 2 * n * 12 * d * d, 2 * 2 * n * n * d


def test_flops_of_a_transformer_block_by_hand():
    linear, attention = block_flops(N, D)
    x = tokens()[0].requires_grad_()
    counted = count(Toy(Block(D, HEADS)), (x,))
    assert counted.forward_flops == linear + attention
    # Backward: twice the forward pass, the scores of fused attention not counted a second time.
    assert counted.flops == 3 * (linear + attention)


@pytest.mark.parametrize("groups", [1, 4])
def test_flops_of_a_convolution_in_groups_by_hand(groups):
    """Each of 16 outputs a pixel sums 9 x 8 / groups products; backwards twice as many, or the weights' alone."""
    layer, pixels = nn.Conv2d(8, 16, 3, padding=1, groups=groups), 2 * 5 * 6
    forward = 2 * pixels * 16 * 9 * 8 // groups
    for needs_gradient, passes in ((True, 3), (False, 2)):
        with attention_counter() as counter:
            layer(torch.randn(2, 8, 5, 6, requires_grad=needs_gradient)).sum().backward()
        assert counter.get_total_flops() == passes * forward


def test_flops_do_not_depend_on_the_kernel_of_attention():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    x = tokens()[0].requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        plain = count(Toy(Block(D, HEADS)), (x,))
    assert plain.flops == count(Toy(Block(D, HEADS)), (x,)).flops


def test_activations_of_a_small_network_by_hand():
    # The first layer keeps its input, which is there anyway; ReLU keeps its output, which the second layer shares.
    network = nn.Sequential(nn.Linear(D, 5), nn.ReLU(), nn.Linear(5, 2), nn.GELU())
    kept = Kept(Toy(network), x := tokens())
    with kept:
        Toy(network)(*x)
    assert kept.bytes("all") == 4 * B * N * (5 + 2)  # GELU keeps its input
    assert kept.bytes("outside") == kept.bytes("all")
    assert kept.bytes("copies") == 0


def test_fixed_bytes_are_weights_gradients_and_two_moments():
    layer = nn.Linear(D, 5)
    frozen = nn.Linear(D, D).requires_grad_(False)
    counted = count(Toy(nn.Sequential(frozen, layer)), tokens())
    weights = D * 5 + 5
    assert (counted.trained, counted.frozen, counted.teacher) == (weights, D * D + D, 0)
    assert counted.fixed_bytes == 4 * (weights + D * D + D) + 12 * weights
    assert counted.memory_bytes(10) == counted.fixed_bytes + 10 * (
        counted.saved_bytes + counted.view_bytes
    )


def test_the_teacher_is_counted_apart():
    parts, _ = lite_job("atst_small")
    trained, frozen, teacher = parameter_counts(parts.method)
    assert teacher == sum(p.numel() for p in parts.method.teacher.parameters())
    assert trained == sum(p.numel() for p in parts.method.parameters()) - teacher and frozen == 0


@pytest.mark.parametrize("name", ["byola", "atst_small", "audiomae", "uamix"])
def test_counting_is_linear_in_the_clips_and_leaves_the_weights_alone(name):
    found = []
    for batch in (2, 4):
        parts, source = lite_job(name)
        before = [p.clone() for p in parts.method.parameters()]
        found.append(Stepper(parts, source, device="cpu", batch=batch).count())
        assert all(map(torch.equal, before, parts.method.parameters()))
        assert all(p.grad is None for p in parts.method.parameters())
    two, four = found
    # What does not grow: scores within a batch, statistics of batch norm, the queue.
    assert four.flops == pytest.approx(two.flops, rel=0.01)
    assert four.saved_bytes == pytest.approx(two.saved_bytes, rel=0.1)
    assert two.fixed_bytes == four.fixed_bytes
    assert 0 < four.outside_bytes < 0.2 * four.saved_bytes
    assert four.recomputed_bytes <= four.saved_bytes
    inside = Compute(n_parts=4)
    assert four.memory_bytes(64, inside) < four.memory_bytes(64)
    if name in ("atst_small", "uamix"):
        assert four.memory_bytes(64, Compute(recompute=True)) < 0.7 * four.memory_bytes(64)


def test_bf16_keeps_less_of_a_clip_and_a_copy_of_the_weights():
    found = []
    for precision in ("32-true", "bf16-mixed"):
        parts, source = lite_job("audiomae")
        parts.config = replace(parts.config, precision=precision)
        found.append(Stepper(parts, source, device="cpu", batch=4).count())
    plain, low = found
    assert low.flops == plain.flops
    assert 0.4 * plain.saved_bytes < low.saved_bytes < 0.85 * plain.saved_bytes
    # Every matrix of the network in two bytes; norms, biases and positions are not cast, or not kept.
    assert 1.5 * plain.trained < low.fixed_bytes - plain.fixed_bytes <= 2 * plain.parameters


def test_a_frozen_half_costs_no_backward_pass():
    head, upper = (
        Stepper(*lite_job(n), device="cpu", batch=2).count() for n in ("uamix_head", "uamix")
    )
    assert head.forward_flops == pytest.approx(upper.forward_flops, rel=0.05)
    assert head.flops < 1.1 * head.forward_flops < upper.flops


def test_the_stepper_computes_the_losses_of_the_training_loop():
    losses = []
    parts, source = lite_job("atst_small", 8)
    stepper = Stepper(parts, source, device="cpu", batch=4)
    for step in range(3):
        losses.append(float(stepper.learn(step, stepper.view(step))))
    parts, source = lite_job("atst_small", 8)
    config = replace(parts.config, batch_size=4, log_every=1)
    history = train(parts.method, parts.views, source, config, device="cpu", stop_after=3).history
    assert losses == [row["loss"] for row in history]


def test_without_the_optimiser_the_weights_stay_and_what_the_views_remember_is_counted():
    parts, source = lite_job("atst_small")
    stepper = Stepper(parts, source, device="cpu", batch=4, update=False)
    method = count(parts.method, stepper.view(0))
    remembered = sum(x.numel() * x.element_size() for x in parts.views.buffers())
    assert remembered > 4 * 64 * 512  # the mixup memory
    assert stepper.count().fixed_bytes == method.fixed_bytes + remembered
    before = [p.clone() for p in parts.method.student.parameters()]
    stepper.seconds(1)
    assert all(map(torch.equal, before, parts.method.student.parameters()))
    assert not stepper.optimizer.state


def made_up(**changes) -> Calibration:
    counted = Counted(
        trained=10**6, frozen=0, teacher=10**6, flops=3e9, forward_flops=1e9, fixed_bytes=GIB,
        saved_bytes=0.1 * GIB, outside_bytes=0.001 * GIB, recomputed_bytes=0.011 * GIB,
        block_bytes=0.01 * GIB, view_bytes=0.0,
    )  # fmt: skip
    values = {
        "job": "atst_small", "scale": "paper", "device": "CPU, 1 thread", "precision": "32-true",
        "threads": 1, "batch": 2, "steps": 2, "step_s": 0.5, "data_s": 0.1, "counted": counted,
        "peak_bytes": 1.2 * GIB, "measured": False, "peak_flops": 24e9, "encoder_parts": True,
    }  # fmt: skip
    return Calibration(**values | changes)


def test_an_estimate_is_arithmetic_on_the_calibration():
    found = estimate(made_up(), memory_bytes=1000 * GIB)
    assert (found.steps, found.batch, found.clips) == (39_000, 1536, 39_000 * 1536)
    assert found.hours == pytest.approx(39_000 * 1536 / 4 / 3600)
    assert found.calibration.utilisation == pytest.approx(0.5)
    assert found.calibration.data_clips_per_s == pytest.approx(20.0)
    assert found.fits == "fits"
    assert found.asked_bytes == found.memory_bytes == pytest.approx((1 + 153.6) * GIB)
    # 200,000 clips of 10 s, 100 frames a second of 64 bands of two bytes: the "about 26 GB".
    assert found.disk_bytes == pytest.approx(25.6e9)
    assert found.hours_at(1e15, 0.5) == pytest.approx(39_000 * 1536 * 3e9 / 0.5e15 / 3600)
    four = estimate(made_up(), processes=4, memory_bytes=1000 * GIB)
    assert four.hours == pytest.approx(found.hours / 4)
    assert four.device_hours == pytest.approx(found.hours)
    text = found.text()
    for part in ("39,000 steps", "4 clips/s", "25.6 GB", "50 %", ": fits;", "154.6 GiB"):
        assert part in text, part


@pytest.mark.parametrize(
    ("gib", "parts", "words"),
    [
        (100, True, "fits with n_parts=2"),
        (30, True, "fits with n_parts=8"),
        (40, False, "fits with recompute"),
        (20, False, "does not fit: needs 2 processes"),
    ],
)
def test_what_does_not_fit_is_made_to_fit_or_said_not_to(gib, parts, words):
    made = made_up(encoder_parts=parts)
    found = estimate(made, memory_bytes=gib * GIB)
    assert found.fits == words
    assert words in found.text()
    if found.compute is None:
        assert found.hours == pytest.approx(39_000 * 1536 / 4 / 3600)
    else:
        assert found.memory_bytes <= SHARE_OF_MEMORY * gib * GIB < found.asked_bytes
        # The forward pass, a third of the arithmetic, is done twice.
        assert found.hours == pytest.approx(39_000 * 1536 / 4 / 3600 * 4 / 3)


@pytest.mark.parametrize("name", list(JOBS))
def test_every_job_can_be_calibrated(name):
    made = calibrate(name, "lite", device="cpu", steps=1)
    assert made.batch == 2 and not made.measured and made.device.startswith("CPU")
    assert 0 < made.data_s < made.step_s
    assert made.flops_per_s == pytest.approx(made.counted.flops * 2 / made.step_s)
    assert made.encoder_parts == (name != "byola")
    found = estimate(made)
    assert found.fits == "fits" and found.disk_bytes == 0 and found.hours > 0
    assert "depends on your data" in found.text()


def test_the_calibration_takes_settings_and_batch():
    made = calibrate("audiomae", "lite", device="cpu", batch=3, steps=1, compute=Compute(n_parts=3),
                     overrides={"mask_ratio": 0.5})  # fmt: skip
    plain = calibrate("audiomae", "lite", device="cpu", steps=1)
    assert made.batch == 3 and made.compute.n_parts == 3
    assert made.counted.flops > plain.counted.flops  # more patches are encoded
    assert estimate(made).compute == Compute(n_parts=3)


def test_the_roofs_are_positive():
    assert min(peak_flops("cpu", size=64), bandwidth("cpu", n_bytes=2**16)) > 0


def test_the_command_prints_the_estimate_and_writes_it(tmp_path: Path, capsys):
    asked = tmp_path / "a.yaml"
    asked.write_text("preset: lite\ndata_root: not/there\noverrides: {job: byola, steps: 7}\n")
    out = tmp_path / "cost.json"
    assert main([str(asked), "--device", "cpu", "--steps", "1", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "byola at scale lite" in shown and "7 steps of 32 clips = 224 clips" in shown
    record = json.loads(out.read_text())
    assert record["clips"] == 224 and record["calibration"]["clips_per_s"] > 0
    assert set(record) == set(as_record(estimate(made_up())))
    asked.write_text("overrides: {job: byol}\n")
    assert main([str(asked)]) == 2
    assert "did you mean 'byola'" in capsys.readouterr().err
