"""Linear classifiers trained at once: equal to classifiers trained alone, and to torch's own SGD."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from audiossl_lite.evaluation.heads import (
    ParallelHeads,
    epoch_batches,
    head_losses,
    step_rates,
    train_heads,
)
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.training import NotFiniteError
from tests.evaluation.toys import QUICK_LINEAR as QUICK
from tests.evaluation.toys import clouds, several


def changed(**changes):
    return dataclasses.replace(QUICK, **changes)


def by_hand(data, rate: float, config, seed: int = 0):
    """One classifier the ordinary way: BatchNorm1d, Linear, torch's SGD, a rate a epoch."""
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm1d(data.inputs.shape[1], affine=False)
    linear = nn.Linear(data.inputs.shape[1], len(data.class_names))
    start = config.init_std * torch.randn(linear.weight.T.shape, generator=generator)
    linear.weight.data.copy_(start.T)
    linear.bias.data.zero_()
    model = nn.Sequential(norm, linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    loss = nn.BCEWithLogitsLoss() if data.multi_label else nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(seed)
    end = config.final_learning_rate
    for epoch in range(config.epochs):
        share = (1 + math.cos(math.pi * epoch / config.epochs)) / 2
        optimizer.param_groups[0]["lr"] = end + (rate - end) * share
        for index in epoch_batches(len(data), config.batch_size, generator):
            optimizer.zero_grad()
            loss(model(data.inputs[index]), data.targets[index]).backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize("data", [clouds(9), several(37)], ids=["one label", "several"])
def test_heads_trained_at_once_equal_heads_trained_alone_and_by_hand(data):
    config = changed(learning_rates=(0.01, 0.3, 2.0), epochs=7, batch_size=16)
    together = train_heads(data, data, config)
    for i, rate in enumerate(config.learning_rates):
        alone = train_heads(data, data, dataclasses.replace(config, learning_rates=(rate,)))
        torch.testing.assert_close(together.scores[:, i], alone.scores[:, 0], atol=1e-6, rtol=0)
        # the last epoch alone, so that the weights of the same moment are compared
        last = dataclasses.replace(config, learning_rates=(rate,), evaluate_every=99)
        head = train_heads(data, data, last).head
        scaled = rate * config.batch_size / 256
        expected = by_hand(data, scaled, config)
        torch.testing.assert_close(head(data.inputs), expected(data.inputs), atol=1e-4, rtol=1e-4)


def test_the_heads_do_not_see_each_other():
    heads = ParallelHeads(3, 8, 4, normalise=False, init_std=0.1, seed=0)
    with torch.no_grad():
        heads.weight[:, 1] *= 5.0
    data = clouds(4)
    (together,) = torch.autograd.grad(
        head_losses(heads(data.inputs), data.targets).sum(), heads.weight
    )
    for i in range(3):
        single = heads.single(i)
        loss = nn.functional.cross_entropy(single(data.inputs), data.targets)
        (alone,) = torch.autograd.grad(loss, single[1].weight)
        torch.testing.assert_close(together[:, i], alone.T, atol=1e-6, rtol=1e-5)


def test_between_equal_scores_the_lower_loss_decides():
    data = clouds(10, spread=0.1)
    best = train_heads(data, data, QUICK)
    assert (best.scores == 1.0).sum() > 3, "many rates and epochs are perfect"
    rate = changed(learning_rates=(best.learning_rate,), evaluate_every=99)
    losses = [
        nn.functional.cross_entropy(head(data.inputs).detach(), data.targets).item()
        for head in (train_heads(data, data, rate, stop_at=e).head for e in range(1, 13))
    ]
    assert best.learning_rate == 1.0 and best.epoch > 3
    assert losses[best.epoch - 1] == pytest.approx(min(losses), abs=1e-6)


def test_the_rates_grow_with_the_batch_and_fall_to_the_last():
    config = preset("linear", "paper")
    factor = step_rates(config) / torch.tensor(config.learning_rates)
    torch.testing.assert_close(factor.float(), torch.full((len(factor),), 4.0))
    assert step_rates(changed(scale_rates=False)).tolist() == [0.1, 1.0]
    for bad in ((), (0.1, -1.0)):
        with pytest.raises(ValueError, match="learning rates are positive"):
            step_rates(changed(learning_rates=bad))


def test_every_clip_comes_once_an_epoch_and_never_alone():
    for n in (2, 15, 16, 17, 18, 33):
        batches = epoch_batches(n, 16, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(batches).tolist()) == list(range(n))
        assert min(map(len, batches)) >= 2, n


def test_a_rate_that_diverges_is_not_chosen_and_all_diverging_is_an_error():
    data = clouds(10)
    result = train_heads(data, data, changed(learning_rates=(0.3, 1e39), scale_rates=False))
    assert result.learning_rate == 0.3 and result.scores[:, 1].isnan().all()
    with pytest.raises(NotFiniteError, match="all 1 classifiers diverged"):
        train_heads(data, data, changed(learning_rates=(1e39,), scale_rates=False))
