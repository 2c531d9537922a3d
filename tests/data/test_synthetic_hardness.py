"""The event pool is hard for spectrum statistics and easy for a small network with labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.evaluation import few_shot_accuracy, log_mel_statistics
from audiossl_lite.frontends import ATSTFrontend


@pytest.mark.parametrize("seed", [0, 1])
def test_spectrum_statistics_recognise_events_at_most_at_45_percent(seed):
    clips = synthetic_clips("event", clips_per_class=16, seed=seed)
    statistics = log_mel_statistics(clips.waveforms)
    percent = few_shot_accuracy(statistics, clips.labels["event"]).mean
    assert 25 < percent <= 45  # above chance (20), so something is there to improve on


class SmallNetwork(nn.Module):
    """Three convolution blocks, then mean and maximum over time."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        blocks, width_in = [], 1
        for width in (16, 32, 64):
            size, stride = (5, 2) if width_in == 1 else (3, 1)
            conv = nn.Conv2d(width_in, width, size, stride, padding=size // 2)
            blocks += [conv, nn.BatchNorm2d(width), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)] if stride == 1 else []
            width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(2 * 64 * 8, n_classes)

    def forward(self, level: Tensor) -> Tensor:
        maps = self.blocks(level[:, None])  # (B, 64, T / 8, 8)
        return self.classifier(torch.cat([maps.mean(2), maps.amax(2)], 1).flatten(1))


@pytest.mark.slow
def test_a_small_supervised_network_reaches_90_percent_on_unseen_clips():
    train, test = (
        synthetic_clips("event", clips_per_class=n, seed=s) for n, s in ((24, 0), (8, 1))
    )
    decibels = ATSTFrontend("official").decibels
    inputs, unseen = (decibels(c.waveforms)[:, :400] for c in (train, test))
    inputs, unseen = ((x - x.mean((1, 2), keepdim=True)) / 20 for x in (inputs, unseen))
    labels = train.labels["event"]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallNetwork(32)
    n_epochs, batch, peak_lr = 12, 16, 4e-3
    steps = n_epochs * (len(labels) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), peak_lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=steps)
    for _ in range(n_epochs):
        for index in torch.randperm(len(labels), generator=generator).split(batch):
            shift = int(torch.randint(-6, 7, (1,), generator=generator))
            logits = network(torch.roll(inputs[index], shift, dims=2))
            loss = F.cross_entropy(logits, labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        predicted = torch.cat([network(piece).argmax(1) for piece in unseen.split(64)])
    percent = 100 * float((predicted == test.labels["event"]).float().mean())
    assert percent >= 90, percent
