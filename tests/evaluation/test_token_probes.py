"""Gated layers and prototypes against loops over clips and tokens, and what they find that a mean hides."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from audiossl_lite.encoders import ATSTEncoder, AudioMAEEncoder, BYOLAEncoder
from audiossl_lite.evaluation import Labelled, embed_clips
from audiossl_lite.evaluation.token_probes import (
    GatedLayers,
    PrototypePool,
    block_tokens,
    drawn_tokens,
    frozen_tokens,
    pool_probe,
)
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from tests.evaluation.toys import names, noise, seeded

QUICK = preset(
    "finetune_atst", "lite",
    {"epochs": 20, "warmup_epochs": 1, "batch_size": 16, "learning_rate": 4.0, "evaluate_every": 5},
)  # fmt: skip


def test_gated_layers_are_the_weighted_sum_of_a_loop():
    pool, layers = GatedLayers(3, 5), noise(4, 3, 5)
    torch.testing.assert_close(pool(layers), layers.mean(1))
    with torch.no_grad():
        pool.gate.copy_(torch.tensor([0.5, -1.0, 2.0]))
    weights = [2.718281828**g for g in (0.5, -1.0, 2.0)]
    for row, clip in zip(pool(layers), layers, strict=True):
        expected = sum(w * layer for w, layer in zip(weights, clip)) / sum(weights)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


def test_prototypes_take_the_nearest_valid_token_of_a_loop():
    prototypes, tokens, lengths = noise(6, 5, seed=1), noise(4, 7, 5), torch.tensor([7, 3, 1, 5])
    out = PrototypePool(prototypes)(tokens, lengths)
    for row, clip, n in zip(out, tokens, lengths.tolist(), strict=True):
        for value, p in zip(row, prototypes, strict=True):
            nearest = max(float(t @ p / t.norm() / p.norm()) for t in clip[:n])
            assert value.item() == pytest.approx(nearest, abs=1e-5)
    torch.testing.assert_close(PrototypePool(prototypes)(tokens)[0], out[0])


def test_prototypes_start_as_valid_tokens_of_their_class():
    targets, lengths = torch.arange(12) % 3, torch.arange(12) % 4 + 1
    tokens = 10 * targets[:, None] + torch.arange(5)  # class and place
    data = Labelled(tokens[..., None].float(), targets, names(3), lengths=lengths)
    drawn = drawn_tokens(data, 4, seed=2)[:, 0]
    assert (drawn // 10).tolist() == [0] * 4 + [1] * 4 + [2] * 4 and (drawn % 10).max() < 4
    assert torch.equal(drawn, drawn_tokens(data, 4, seed=2)[:, 0])
    assert not torch.equal(drawn, drawn_tokens(data, 4, seed=3)[:, 0])
    with pytest.raises(ValueError, match="a class without clips"):
        drawn_tokens(data.subset(targets < 2), 4)


ENCODERS = {
    "atst": (lambda: ATSTEncoder(24, 3, 2), ATSTFrontend("paper")),
    "audiomae": (lambda: AudioMAEEncoder(24, 3, 2, n_frames=128, n_mels=64), AudioMAEFrontend(128, n_mels=64)),
    "byola": (lambda: BYOLAEncoder(16, channels=4), BYOLAFrontend()),
}  # fmt: skip


@pytest.mark.parametrize(("maker", "frontend"), ENCODERS.values(), ids=ENCODERS)
def test_tokens_and_layers_of_a_padded_clip_are_those_of_the_clip_alone(maker, frontend):
    encoder, lengths = seeded(maker).train(), torch.tensor([16_000, 9_000, 12_000])
    waves = 0.1 * noise(3, 16_000) * (torch.arange(16_000) < lengths[:, None])
    layers, tokens, counts = frozen_tokens(encoder, frontend, waves, lengths, batch_size=2)
    depth = 1 if frontend is ENCODERS["byola"][1] else 3
    assert encoder.training and layers.shape == (3, depth, encoder.embed_dim)
    for i, n in enumerate(lengths.tolist()):
        alone = frozen_tokens(encoder, frontend, waves[i : i + 1, :n])
        assert counts[i] == alone[2][0] <= tokens.shape[1]
        for ours, theirs in ((layers[i], alone[0][0]), (tokens[i, : counts[i]], alone[1][0])):
            torch.testing.assert_close(ours, theirs[: len(ours)], atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(layers[i, -1], tokens[i, : counts[i]].mean(0))


@torch.no_grad()
def test_layers_are_the_token_means_of_every_block():
    waves = 0.1 * noise(2, 16_000)
    encoder, frontend = seeded(ENCODERS["atst"][0]).eval(), ENCODERS["atst"][1]
    layers, _, _ = frozen_tokens(encoder, frontend, waves)
    means = embed_clips(encoder, frontend, waves, features=encoder.linear_features)[:, 3 * 24 :]
    torch.testing.assert_close(layers.flatten(1), means, atol=1e-5, rtol=1e-5)
    encoder, frontend = seeded(ENCODERS["audiomae"][0]).eval(), ENCODERS["audiomae"][1]
    layers, _, _ = frozen_tokens(encoder, frontend, waves)
    blocks = encoder.blocks
    for depth in (3, 2, 1):
        encoder.blocks = blocks[:depth]
        expected = embed_clips(encoder, frontend, waves)
        torch.testing.assert_close(layers[:, depth - 1], expected, atol=1e-5, rtol=1e-5)


def needles(n: int, seed: int) -> Labelled:
    """Noise tokens, one of them pointing along the axis of its class: hardly seen in the mean."""
    targets, tokens = torch.arange(n) % 4, noise(n, 30, 16, seed=seed)
    place = torch.randint(30, (n,), generator=torch.Generator().manual_seed(seed))
    tokens[torch.arange(n), place] = 8 * torch.eye(16)[targets]
    tokens[torch.arange(n), (place + 1) % 30] = -8 * torch.eye(16)[targets]
    return Labelled(tokens, targets, names(4), lengths=torch.full((n,), 30))


def test_prototypes_find_a_token_that_the_mean_hides():
    train, validation, test = needles(96, 1), needles(48, 2), needles(64, 3)

    class Mean(GatedLayers):
        def forward(self, tokens, lengths=None):
            return tokens.mean(1) + 0 * self.gate.sum()

    pool = PrototypePool(torch.cat([torch.eye(16)[:4] + 0.3 * noise(4, 16, seed=5)]))
    before = pool.prototypes.clone()
    result = pool_probe(pool, train, test, QUICK, validation=validation, device="cpu")
    mean = pool_probe(Mean(1, 16), train, test, QUICK, validation=validation, device="cpu")
    assert result.score > 0.9 and mean.score < 0.5
    assert torch.equal(pool.prototypes, before), "the given pool is left as it is"
    assert not torch.equal(result.model.encoder.prototypes, before), "the copy has learnt"


def test_the_gate_opens_for_the_layer_that_knows_the_class():
    def layers(n, seed):
        targets, x = torch.arange(n) % 4, noise(n, 5, 16, seed=seed)
        x[:, 2] += 3 * torch.eye(16)[targets]
        return Labelled(x, targets, names(4))

    train, test = layers(96, 1), layers(64, 2)
    result = pool_probe(GatedLayers(5, 16), train, test, QUICK, device="cpu", seed=1)
    gate = result.model.encoder.gate.detach().softmax(0)
    assert gate.argmax() == 2 and gate[2] > 0.25 and result.score > 0.7
    assert result.n_train < 96, "the epoch was chosen on clips held out"
    several = dataclasses.replace(train, targets=train.shares())
    config = dataclasses.replace(QUICK, loss="bce", epochs=5)
    assert 0 < pool_probe(GatedLayers(5, 16), several, several, config, device="cpu").score <= 1


@pytest.mark.parametrize(("maker", "frontend"), [*ENCODERS.values()][:2], ids=[*ENCODERS][:2])
def test_pieces_are_encoded_as_clips_of_their_own(maker, frontend):
    """With pieces of 48 frames a clip of 100 has two of them, and what is left is too short for a third."""
    encoder, spec = seeded(maker).eval(), noise(2, 112, 64)
    lengths = torch.tensor([98, 60])
    layers, counts = block_tokens(encoder, spec, lengths, 48)
    first, n = block_tokens(encoder, spec[:, :48], torch.tensor([48, 48]))
    second, m = block_tokens(encoder, spec[:, 48:96], torch.tensor([48, 12]))
    assert counts.tolist() == (n + m).tolist()
    for i, (a, b) in enumerate(zip(n.tolist(), m.tolist())):
        alone = torch.cat([first[-1][i, :a], second[-1][i, :b]])
        torch.testing.assert_close(layers[-1][i, : a + b], alone)
