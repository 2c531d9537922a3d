"""The event pool is hard for spectrum statistics and easy for a small network with labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from audiossl_lite.data.sounds import synthetic_clips


def log_mel(waveforms: Tensor) -> Tensor:
    """(B, S) to (B, T, 64) in dB, the setting of ATST's frontend without its scaling."""
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=1024, hop_length=160, f_min=60, f_max=7800, n_mels=64
    )
    pieces = []
    for piece in waveforms.split(64):
        level = 10 * torch.log10(mel(piece).clamp_min(1e-10))
        level = torch.maximum(level, level.amax((1, 2), keepdim=True) - 80)
        pieces.append(level.transpose(1, 2))
    return torch.cat(pieces)


def few_shot_percent(features: Tensor, labels: Tensor, n_way: int = 5, n_query: int = 15) -> float:
    """Nearest-centroid 1-shot accuracy over 600 episodes, squared Euclidean distance, in percent."""
    rng = np.random.default_rng(0)
    points, classes = features.double().numpy(), labels.unique().numpy()
    members = {k: np.flatnonzero(labels.numpy() == k) for k in classes}
    hits = []
    for _ in range(600):
        drawn = [rng.permutation(members[k]) for k in rng.choice(classes, n_way, replace=False)]
        support = points[[who[0] for who in drawn]]
        query = points[np.concatenate([who[1 : 1 + n_query] for who in drawn])]
        distance = ((query[:, None] - support[None]) ** 2).sum(-1)
        hits.append(np.mean(distance.argmin(1) == np.repeat(np.arange(n_way), n_query)))
    return 100 * float(np.mean(hits))


@pytest.mark.parametrize("seed", [0, 1])
def test_spectrum_statistics_recognise_events_at_most_at_45_percent(seed):
    clips = synthetic_clips("event", clips_per_class=16, seed=seed)
    level = log_mel(clips.waveforms)
    statistics = torch.cat([level.mean(1), level.std(1, correction=0)], dim=1)
    percent = few_shot_percent(statistics, clips.labels["event"])
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
    inputs, unseen = (log_mel(c.waveforms)[:, :400] for c in (train, test))
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
