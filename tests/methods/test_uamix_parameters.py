"""NNCLR tuning: sizes, learning rates, the projector's moving average, and the step from head to encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiossl_lite.encoders.audiomae import audiomae_base
from audiossl_lite.methods.heads import mlp_head, nnclr_projector
from audiossl_lite.methods.uamix import NNCLRTuning
from audiossl_lite.training.optim import make_optimizer, set_schedule
from tests.methods.tiny_tuning import B, batch, make, make_encoder

# --- parameters and their rates ---------------------------------------------------------------------


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def test_step_2_at_base_size_trains_the_papers_fifty_million():
    method = NNCLRTuning(audiomae_base(), trainable="upper", queue_size=8, ema_projector=True)
    assert count(method) == 50_934_272
    assert count(method.projector) == 6_300_160
    assert count(method.predictor) == 2_105_344
    assert count(*method.encoder.blocks) == 42_527_232
    assert count(method.encoder.norm) == 1_536
    assert sum(p.numel() for g in method.parameter_groups() for p in g["params"]) == 50_934_272


def test_the_head_has_the_layers_of_the_paper_it_follows():
    kinds = [type(layer) for layer in nnclr_projector(768)]
    assert kinds == [
        nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear,
        nn.BatchNorm1d,
    ]  # fmt: skip
    linear = [layer for layer in nnclr_projector(768) if isinstance(layer, nn.Linear)]
    linear += [layer for layer in make().predictor if isinstance(layer, nn.Linear)]
    assert all(layer.bias is None for layer in linear)
    assert [tuple(layer.weight.shape) for layer in linear[:3]] == [
        (2048, 768), (2048, 2048), (256, 2048),
    ]  # fmt: skip
    assert count(nnclr_projector(768), mlp_head(256, 4096, 256, bias=False)) == 8_405_504


@pytest.mark.parametrize(("depth", "tuned"), [(12, range(6, 12)), (4, (2, 3)), (5, (2, 3, 4))])
def test_every_rate_falls_by_layer_and_weight_decay_by_part(depth, tuned):
    method = make(encoder=make_encoder(depth))
    optimizer = make_optimizer(method, learning_rate=1e-4, weight_decay=0.05)

    class config:
        schedule, learning_rate, weight_decay, final_weight_decay = "constant", 1e-4, 0.05, 0.05
        steps, warmup_steps, final_learning_rate = 10, 0, 0.0

    set_schedule(optimizer, 3, config)
    given = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    names = {name for name, p in method.named_parameters() if p.requires_grad}
    assert len(given) == len(names) == sum(len(g["params"]) for g in optimizer.param_groups)
    for name, p in method.named_parameters():
        if name not in names:
            assert id(p) not in given
            continue
        in_head = name.startswith(("projector.", "predictor."))
        block = int(name.split(".")[2]) if name.startswith("encoder.blocks.") else depth
        assert in_head or block in {*tuned, depth}, name
        assert given[id(p)]["lr"] == pytest.approx(1e-4 * 0.65 ** (depth - block)), name
        decay = 0.0 if p.dim() == 1 else 1e-5 if in_head else 0.05
        assert given[id(p)]["weight_decay"] == pytest.approx(decay), name
    if depth == 12:
        scales = {round(g["lr_scale"], 4) for g in optimizer.param_groups}
        assert scales == {1.0, 0.65, 0.4225, 0.2746, 0.1785, 0.1160, 0.0754}


def test_step_1_gives_the_optimizer_the_head_alone():
    method = make("head")
    given = {id(p) for group in method.parameter_groups() for p in group["params"]}
    assert given == {
        id(p) for part in (method.projector, method.predictor) for p in part.parameters()
    }


# --- the projector's moving average and the step from head to encoder -----------------------------------


def test_the_moving_average_follows_its_formula_and_copies_the_batch_statistics():
    method = make(ema_projector=True).train()
    for ours, theirs in zip(
        method.target_projector.parameters(), method.projector.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs) and ours is not theirs and not ours.requires_grad
    optimizer = make_optimizer(method, learning_rate=1e-2)
    expected = {n: p.detach().clone() for n, p in method.projector.named_parameters()}
    for step in range(3):
        method(*batch(step))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.update_teacher(0.99)
        for name, p in method.projector.named_parameters():
            expected[name] = 0.99 * expected[name] + 0.01 * p.detach()
    for name, p in method.target_projector.named_parameters():
        torch.testing.assert_close(p, expected[name], atol=1e-6, rtol=0)
        assert not torch.equal(p, dict(method.projector.named_parameters())[name])
    for ours, theirs in zip(
        method.target_projector.buffers(), method.projector.buffers(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert (
        method.projector[1].num_batches_tracked == 3
    )  # the neighbour's lookup has a net of its own


def test_without_a_moving_average_an_update_changes_nothing():
    method = make().train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.update_teacher(0.5)
    assert method.target_projector is None
    assert all(torch.equal(value, before[n]) for n, value in method.state_dict().items())


def test_step_2_takes_over_the_head_and_the_queue_and_not_the_encoder():
    first, second = make("head").train(), make(ema_projector=True, seed=9)
    with torch.no_grad():
        first(*batch())
        for p in (*first.parameters(), *first.predictor[1].buffers()):
            p.add_(1)
    encoder = {name: value.clone() for name, value in second.encoder.state_dict().items()}
    second.load_head_state(first.head_state())
    taken = {n: v for n, v in first.state_dict().items() if not n.startswith("encoder.")}
    assert taken.keys() == first.head_state().keys()
    assert {n.split(".")[0] for n in taken} == {"projector", "predictor", "queue"}
    for name, value in taken.items():
        assert torch.equal(second.state_dict()[name], value), name
    assert (second.queue.ids[:B] == torch.arange(B)).all() and second.queue.position == B
    for name, value in second.encoder.state_dict().items():
        assert torch.equal(value, encoder[name]), name
    for name, value in second.projector.state_dict().items():
        assert torch.equal(second.target_projector.state_dict()[name], value), name
    # a copy: training goes on in one of them
    with torch.no_grad():
        first.projector[0].weight.add_(1)
    assert not torch.equal(first.projector[0].weight, second.projector[0].weight)


def test_a_head_that_does_not_fit_is_refused():
    method = make()
    with pytest.raises(ValueError, match=r"does not fit: .*projector.0.weight.*same sizes"):
        method.load_head_state(make(hidden_dim=16).head_state())
    with pytest.raises(ValueError, match=r"does not fit: \['queue"):
        method.load_head_state(make(queue_size=16).head_state())
    with pytest.raises(ValueError, match="does not fit"):
        method.load_head_state({})
    with pytest.raises(ValueError, match="trainable is 'head'"):
        make("everything")
