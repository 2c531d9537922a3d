"""The loop: what happens in a step and in which order, and how it stops when something is wrong."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from audiossl_lite.training import CollapseError, NotFiniteError, cosine, warmup_cosine
from audiossl_lite.training.loop import batch_indices, step_generator
from tests.training.tiny_run import STEPS, make_config, make_data, make_method, make_views, run


def record_momenta(method):
    """Note every momentum given to `update_teacher`, and check that the teacher moves as it says."""
    momenta, update = [], method.update_teacher

    def recorded(momentum):
        before = [p.clone() for p in method.teacher.parameters()]
        update(momentum)
        momenta.append(momentum)
        for old, new, goal in zip(
            before, method.teacher.parameters(), method.student.parameters(), strict=True
        ):
            torch.testing.assert_close(new, momentum * old + (1 - momentum) * goal.detach())

    method.update_teacher = recorded
    return momenta


def test_the_teacher_follows_once_a_step_by_the_momentum_in_the_history():
    method = make_method()
    start = [p.clone() for p in method.teacher.parameters()]
    momenta = record_momenta(method)
    result = run(method=method)
    assert momenta == [cosine(step, STEPS, 0.9, 1.0) for step in range(STEPS)]
    for row in result.history:
        assert row["momentum"] == momenta[row["step"] - 1]
        assert row["learning_rate"] == warmup_cosine(row["step"] - 1, STEPS, 4, 3e-3, 1e-6)
        assert row["weight_decay"] == cosine(row["step"] - 1, STEPS, 0.04, 0.4)
    assert not any(torch.equal(a, b) for a, b in zip(start, method.teacher.parameters()))
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_is_updated_after_the_optimiser():
    """With momentum 0 the teacher equals the student after the step, not before it."""
    method = make_method()
    run(method=method, config=make_config(momentum=0.0, final_momentum=0.0), stop_after=3)
    for ours, theirs in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_run_equals_a_plain_loop():
    """The same steps, written out without the loop of the library."""
    from audiossl_lite.training import make_optimizer, set_schedule
    from tests.training.tiny_run import make_views

    config, data = make_config(), make_data()
    method, views = make_method().train(), make_views()
    optimizer = make_optimizer(method, learning_rate=1.0, weight_decay=0.04)
    losses = []
    with torch.random.fork_rng():
        for step in range(STEPS):
            generator = step_generator(3, step)
            torch.manual_seed(step_generator(3, step, of="network").initial_seed())
            set_schedule(optimizer, step, config)
            pair = views(data[batch_indices(40, 16, step, 3)], generator)
            optimizer.zero_grad()
            loss = method(*pair)["loss"]
            loss.backward()
            optimizer.step()
            method.update_teacher(cosine(step, STEPS, 0.9, 1.0))
            losses.append(loss.item())
    result = run()
    assert [row["loss"] for row in result.history] == [
        losses[row["step"] - 1] for row in result.history
    ]
    for ours, theirs in zip(method.parameters(), result.method.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_every_epoch_shows_every_clip_once_in_a_new_order():
    epochs = []
    for epoch in range(3):
        batches = [batch_indices(40, 8, 5 * epoch + i, seed=1) for i in range(5)]
        assert all(len(batch) == 8 for batch in batches)
        order = torch.cat(batches)
        assert sorted(order.tolist()) == list(range(40))
        epochs.append(order.tolist())
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != torch.cat([batch_indices(40, 8, i, seed=2) for i in range(5)]).tolist()


def test_the_incomplete_last_batch_is_dropped():
    batches = torch.cat([batch_indices(11, 4, step, seed=0) for step in range(2)])
    assert len(set(batches.tolist())) == 8
    assert len(batch_indices(11, 4, 2, seed=0)) == 4


def test_fewer_clips_than_a_batch_are_one_batch():
    assert sorted(batch_indices(5, 16, 3, seed=0).tolist()) == list(range(5))
    with pytest.warns(UserWarning, match="batch_size=16 is more than the 5 clips: each step takes"):
        result = run(data=make_data(5))
    assert result.history[-1]["step"] == STEPS
    with pytest.raises(ValueError, match="at least two clips, got 1"):
        run(data=make_data(1))


def test_a_batch_that_does_not_fit_into_memory_is_named():
    views = make_views()
    views.forward = lambda *_, **__: torch.empty(2**50)
    with pytest.raises(MemoryError, match="a step with batch_size=16 does not fit into .* of cpu"):
        run(views=views)


def test_steps_have_independent_seeds():
    first = [torch.rand(1, generator=step_generator(0, step)).item() for step in range(-500, 500)]
    other = [torch.rand(1, generator=step_generator(1, step)).item() for step in range(-500, 500)]
    assert len(set(first + other)) > 1990
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.1
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1


def test_what_the_network_draws_is_not_what_the_views_drew():
    """Drop path must not skip the clips whose segment lies at the end."""
    drawn = []

    class Listening(nn.Module):
        def forward(self, clips, generator, lengths, *, ids):
            drawn.append((torch.rand(50, generator=generator), torch.rand(50)))
            return make_views()(clips, generator, lengths, ids=ids)

    run(views=Listening(), stop_after=10)
    of_views, of_network = (torch.cat(part).numpy() for part in zip(*drawn, strict=True))
    assert abs(np.corrcoef(of_views, of_network)[0, 1]) < 0.15


def test_the_same_seed_repeats_a_run_and_another_does_not():
    first, again, other = run(), run(), run(config=make_config(seed=4))
    losses = [[row["loss"] for row in result.history] for result in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


def test_the_callers_random_state_is_untouched():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before, before_np = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(stop_after=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_np).all()  # noqa: NPY002


def test_lengths_reach_the_views():
    data = make_data()
    padded = torch.cat([data, torch.full((40, 30, 8), 1e6)], dim=1)
    result = run(data=padded, lengths=torch.full((40,), 30), stop_after=5)
    assert [row["loss"] for row in result.history] == [
        row["loss"] for row in run(stop_after=5).history
    ]


def test_the_probe_is_called_when_due():
    calls = []

    def probe(method):
        calls.append(method)
        torch.rand(3)  # drawing in a probe must not change the run
        return {"few_shot": 20.0 + len(calls)}

    method = make_method()
    result = run(method=method, config=make_config(probe_every=10), probe=probe)
    probed = [row for row in result.history if "few_shot" in row]
    assert [row["step"] for row in probed] == [0, 10, 20, STEPS]
    assert [row["few_shot"] for row in probed] == [21, 22, 23, 24]
    assert calls == [method] * 4
    plain = [row["loss"] for row in run().history]
    assert [row["loss"] for row in result.history if "loss" in row] == plain
    assert result.summary().startswith(f"{STEPS} steps")


@pytest.mark.parametrize("spoiled_at", [1, 7, 9])
def test_nan_stops_the_run_with_the_step(tmp_path, spoiled_at):
    method, calls = make_method(), 0

    def spoil(module, inputs):
        nonlocal calls
        calls += 1
        if calls == spoiled_at:
            with torch.no_grad():
                module.student["encoder"].linear.weight.fill_(math.nan)

    method.register_forward_pre_hook(spoil)
    with pytest.raises(NotFiniteError, match=r"loss is nan at step \d+ .*learning rate") as error:
        run(tmp_path, method=method)
    step = int(str(error.value).split("at step ")[1].split()[0])
    assert spoiled_at <= step <= spoiled_at + 2, "found at the next logged step at the latest"
    logged = [json.loads(line)["step"] for line in (tmp_path / "history.jsonl").open()]
    assert logged[-1] == step


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """With a save between two logged steps, a spoiled run must not replace the good checkpoint."""
    method, calls = make_method(), 0

    def spoil(module, inputs):
        nonlocal calls
        calls += 1
        if calls == 9:
            with torch.no_grad():
                module.student["encoder"].linear.weight.fill_(math.nan)

    method.register_forward_pre_hook(spoil)
    with pytest.raises(NotFiniteError):
        run(tmp_path, method=method, config=make_config(log_every=20))
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["method"].values())


class Collapsed(torch.nn.Module):
    """An encoder that says the same of every clip."""

    embed_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(torch.ones(12))

    def forward(self, spec):
        return self.answer.expand(len(spec), 12)


def test_collapse_stops_the_run_and_says_what_to_try(tmp_path):
    from audiossl_lite.methods import BYOL

    def make():
        return BYOL(Collapsed(), hidden_dim=16, projection_dim=8)

    with pytest.raises(CollapseError, match=r"collapse at step 1: .*momentum.*on_collapse"):
        run(tmp_path / "a", method=make(), config=make_config(on_collapse="stop"))
    logged = [json.loads(line) for line in (tmp_path / "a" / "history.jsonl").open()]
    assert logged[-1]["spread"] < 0.05
    result = run(tmp_path / "b", method=make(), config=make_config(on_collapse="continue"))
    assert result.history[-1]["step"] == STEPS


def test_spread_is_the_std_relative_to_even():
    for row in run().history:
        assert row["spread"] == pytest.approx(row["std"] * math.sqrt(8))


def test_a_healthy_run_does_not_count_as_collapsed():
    assert run(config=make_config(on_collapse="stop")).history[-1]["step"] == STEPS


def test_outputs_along_few_directions_are_warned_of():
    """The spread alone sees no such collapse."""
    from audiossl_lite.training.watch import check_health

    method, config = make_method(), make_config(on_collapse="stop", batch_size=64)
    row = {"step": 9, "loss": 1.0, "spread": 0.8, "learning_rate": 1e-3}
    for rank, expected in ((0.3, True), (0.5, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_health(row | {"rank": rank}, method, config)
        assert [("less than 5% of the 8 directions" in str(w.message)) for w in caught] == [
            True
        ] * expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_health(row, method, config)
        check_health(row | {"rank": 0.3}, method, make_config(on_collapse="continue"))
