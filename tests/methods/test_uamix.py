"""NNCLR tuning: who learns, what enters the queue and when, and why a clip must not find itself."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from audiossl_lite.methods.uamix import NNCLRTuning
from audiossl_lite.training.optim import make_optimizer
from tests.methods.tiny_tuning import MELS, B, T, batch, make, seeded


def projection(method: NNCLRTuning, spec: torch.Tensor, which: str = "projector") -> torch.Tensor:
    """Unit projections as the method makes them, with batch statistics and without touching it."""
    copied = copy.deepcopy(method).train()
    with torch.no_grad():
        return F.normalize(getattr(copied, which)(copied.encoder(spec)), dim=1)


# --- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [1.0, 0.3, [0.1, 0.5, 0.9, 0.3, 0.4, 0.8, 0.2, 0.7]])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("ema", [False, True])
def test_the_loss_equals_its_definition(lam, symmetric, ema):
    method = make(symmetric=symmetric, ema_projector=ema).train()
    if ema:
        with torch.no_grad():
            for p in method.target_projector.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=seeded(4)))
    anchor, positive, labels, avoid, ids = batch(lam=lam)
    reference = copy.deepcopy(method).train()
    seeker = "target_projector" if ema else "projector"
    with torch.no_grad():
        predict = [
            F.normalize(reference.predictor(reference.projector(reference.encoder(v))), dim=1)
            for v in (positive, anchor)
        ]
    total = 0.0
    for view, predictions, exclude, targets in (
        (anchor, predict[0], avoid, labels),
        (positive, predict[1], ids[:, None], labels.T / labels.sum(0)[:, None]),
    ):
        found = method.queue.neighbours(projection(method, view, seeker), exclude)
        log_p = (found @ predictions.T / 0.15).log_softmax(1)
        total += -(targets * log_p).sum(1).mean().item()
        if not symmetric:
            break
    loss = method(anchor, positive, labels, avoid, ids)["loss"]
    assert loss.item() == pytest.approx(total / (1 + symmetric), abs=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_without_neighbours_it_is_info_nce(symmetric):
    """k = 0: the anchor's own projection must find its positive; the queue plays no part."""
    method = make(symmetric=symmetric, k=0).train()
    anchor, positive, labels, avoid, ids = batch(lam=1.0)
    z = [projection(method, view) for view in (anchor, positive)]
    reference = copy.deepcopy(method).train()
    with torch.no_grad():
        p = [
            F.normalize(reference.predictor(reference.projector(reference.encoder(v))), dim=1)
            for v in (anchor, positive)
        ]
    own = torch.arange(len(anchor))
    expected = F.cross_entropy(z[0] @ p[1].T / 0.15, own)
    if symmetric:
        expected = 0.5 * (expected + F.cross_entropy(z[1] @ p[0].T / 0.15, own))
    method.queue.vectors.fill_(0.0)
    loss = method(anchor, positive, labels, avoid, ids)["loss"]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_views_have_their_own_batch_statistics():
    """Each view passes the head alone: the anchor cannot move the batch statistics of the positive."""
    anchor, positive, labels, avoid, ids = batch()
    seen = []
    method = make().train()
    method.predictor.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    method(anchor, positive, labels, avoid, ids)
    method = make().train()
    method.predictor.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    method(100 * anchor + 3, positive, labels, avoid, ids)
    assert torch.equal(*seen)
    hidden = copy.deepcopy(method.predictor[:2])(projection(method, positive) * 3)
    assert hidden.mean(0).abs().max() < 1e-5


def test_a_clip_that_is_in_no_mixture_does_not_spoil_the_symmetric_loss():
    """With a lambda per clip, clip 0 may be replaced whole while its partner stays whole."""
    anchor, positive, labels, avoid, ids = batch()
    labels[0] = F.one_hot(torch.tensor(B - 1), B).float()
    loss = make(symmetric=True).train()(anchor, positive, labels, avoid, ids)["loss"]
    assert torch.isfinite(loss)


# --- who carries gradient -------------------------------------------------------------------------


def gradients(method: NNCLRTuning, **options) -> tuple:
    views = batch(**options)
    anchor, positive = (view.clone().requires_grad_() for view in views[:2])
    method(anchor, positive, *views[2:])["loss"].backward()
    return anchor.grad, positive.grad


def test_one_direction_teaches_through_the_positives_alone():
    anchor, positive = gradients(make().train(), lam=0.4)
    assert anchor is None
    assert (positive.flatten(1).norm(dim=1) > 0).all()


def test_both_directions_teach_through_both_views():
    anchor, positive = gradients(make(symmetric=True).train(), lam=0.4)
    assert (anchor.flatten(1).norm(dim=1) > 0).all()
    assert (positive.flatten(1).norm(dim=1) > 0).all()


def test_the_neighbour_lookup_carries_no_gradient():
    """The gradient is that of the loss with its neighbours as fixed numbers."""
    method = make(ema_projector=True).train()
    views = batch(lam=0.4)
    found = method.queue.neighbours(projection(method, views[0], "target_projector"), views[3])
    reference = copy.deepcopy(method)
    method(*views)["loss"].backward()
    predictions = reference.predictor(reference.projector(reference.encoder(views[1])))
    logits = found @ F.normalize(predictions, dim=1).T / 0.15
    F.cross_entropy(logits, views[2]).backward()
    for (name, ours), theirs in zip(method.named_parameters(), reference.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("trainable", ["head", "upper", "all"])
def test_exactly_the_trainable_parts_get_gradient(trainable):
    method = make(trainable, ema_projector=True).train()
    gradients(method)
    moving = ("projector.", "predictor.")
    if trainable == "upper":
        moving += ("encoder.blocks.2.", "encoder.blocks.3.", "encoder.norm.")
    if trainable == "all":
        moving += ("encoder.cls", "encoder.patch_embed.", "encoder.blocks.", "encoder.norm.")
    for name, p in method.named_parameters():
        assert p.requires_grad == name.startswith(moving), name
        assert (p.grad is not None) == name.startswith(moving), name
        if p.grad is not None and not name.endswith("attn.qkv.bias"):  # a key's bias has none
            assert p.grad.abs().max() > 0, name


# --- the queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_clean_positives_enter_after_the_loss_and_mixtures_never(ema, symmetric):
    method = make(ema_projector=ema, symmetric=symmetric).train()
    if ema:
        with torch.no_grad():
            method.target_projector[0].weight.mul_(1.5).add_(0.1)
    views = batch(lam=0.3, ids=torch.arange(50, 50 + B))
    entering = projection(method, views[1], "target_projector" if ema else "projector")
    mixtures = projection(method, views[0], "target_projector" if ema else "projector")
    rest = method.queue.vectors[B:].clone()
    asked = []
    inner = method.queue.neighbours
    method.queue.neighbours = lambda *a, **k: (
        asked.append(method.queue.ids.clone()),
        inner(*a, **k),
    )[1]
    method(*views)
    assert len(asked) == 1 + symmetric
    assert all((ids == -1).all() for ids in asked), "the batch entered before the loss"
    torch.testing.assert_close(method.queue.vectors[:B], entering, atol=1e-5, rtol=0)
    assert torch.equal(method.queue.vectors[B:], rest)
    assert method.queue.ids.tolist() == list(range(50, 50 + B)) + [-1] * (32 - B)
    assert (mixtures @ method.queue.vectors.T).max() < 0.9999


def test_nothing_enters_in_eval_mode():
    method = make().eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        method(*batch())
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


def run_epochs(exclude: bool, steps: int = 60) -> tuple[list[float], float]:
    """Eight noise clips seen again and again: the losses, and how often the neighbour was the clip itself."""
    method = make("head", queue_size=16, seed=2).train()
    optimizer = make_optimizer(method, learning_rate=3e-3)
    clips = torch.randn(B, T, MELS, generator=seeded(1))
    losses, own = [], []
    inner = method.queue.neighbours

    def watched(queries, avoid, **options):
        found = inner(queries, avoid, **options)
        place = (found @ method.queue.vectors.T).argmax(1)
        own.append((method.queue.ids[place] == torch.arange(B)).float().mean().item())
        return found

    method.queue.neighbours = watched
    for step in range(steps):
        noise = 0.1 * torch.randn(2, B, T, MELS, generator=seeded(step))
        ids = torch.arange(B)
        avoid = ids[:, None] if exclude else torch.full((B, 1), -99)
        out = method(clips + noise[0], clips + noise[1], torch.eye(B), avoid, ids)
        out["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(out["loss"].item())
    return losses, sum(own[-10:]) / 10


def test_without_id_exclusion_the_neighbour_is_the_own_past_and_the_loss_falls():
    free, found_itself = run_epochs(exclude=False)
    held, never = run_epochs(exclude=True)
    assert never == 0.0
    assert found_itself > 0.9
    assert sum(free[-10:]) / 10 < 0.25 * sum(held[-10:]) / 10
    assert free[-1] < 0.3 * free[0]


def test_k_picks_among_the_nearest_and_one_is_the_nearest():
    views = batch()
    one, many = make(k=1).train(), make(k=20).train()
    assert one(*views)["loss"].item() != pytest.approx(many(*views)["loss"].item(), abs=1e-4)


# --- frozen parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["head", "upper"])
def test_frozen_parts_stay_in_eval_mode(trainable):
    method = make(trainable)
    encoder = method.encoder
    frozen = [encoder] if trainable == "head" else [encoder.patch_embed, *encoder.blocks[:2]]
    moving = [method.projector, method.predictor]
    if trainable == "upper":
        moving += [*encoder.blocks[2:], encoder.norm]
    wrapped = nn.Sequential(method)  # as the training loop wraps it
    for _ in range(2):
        wrapped.train()
        assert not any(part.training for module in frozen for part in module.modules())
        assert all(part.training for module in moving for part in module.modules())
        wrapped.eval()
        assert not any(part.training for part in method.modules())


@pytest.mark.parametrize("trainable", ["head", "upper", "all"])
def test_frozen_parts_are_bit_identical_after_training(trainable):
    method = make(trainable, ema_projector=True)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = make_optimizer(method, learning_rate=1e-2, weight_decay=0.5)
    for step in range(3):
        method.train()
        method(*batch(step, lam=0.7))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.update_teacher(0.9)
    moving = ("projector.", "predictor.", "target_projector.", "queue.")
    if trainable == "upper":
        moving += ("encoder.blocks.2.", "encoder.blocks.3.", "encoder.norm.")
    if trainable == "all":
        moving += ("encoder.cls", "encoder.patch_embed.", "encoder.blocks.", "encoder.norm.")
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith(moving), name


# --- monitors ---------------------------------------------------------------------------------------


def test_the_monitors_carry_no_gradient_and_found_counts_both_clips_of_a_mixture():
    method = make().train()
    out = method(*batch(lam=0.5))
    assert out["loss"].requires_grad
    assert not any(value.requires_grad for name, value in out.items() if name != "loss")
    assert 0 <= out["found"] <= 1
    assert math.isfinite(float(out["std"])) and float(out["rank"]) >= 1
    everybody = torch.full((B, B), 1 / B)
    views = batch()
    assert method(*views[:2], everybody, *views[3:])["found"] == 1.0
    assert list(method.encoders.values()) == [method.encoder]


def test_a_batch_that_does_not_fit_the_queue_is_refused():
    with pytest.raises(ValueError, match="a batch of 8 does not fit a queue of 4"):
        make(queue_size=4).train()(*batch())


@pytest.mark.parametrize("ema_projector", [False, True])
@pytest.mark.parametrize("k", [0, 1])
def test_no_gradient_passes_through_what_is_looked_up(k, ema_projector):
    """With k = 0 the anchor's own projection stands where a neighbour would, and is as fixed as one."""
    method = make(k=k, ema_projector=ema_projector).train()
    embedding = torch.randn(8, method.encoder.embed_dim, requires_grad=True)
    assert not method._lookup(embedding, torch.arange(8)[:, None]).requires_grad
