"""BYOL-A's CNN: sizes, published names, exact masking, pooling, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from audiossl_lite.encoders import byola_cnn


def spectrograms(b: int, t: int) -> torch.Tensor:
    return torch.randn(b, t, 64, generator=torch.Generator().manual_seed(0))


def untrained(dim: int = 512):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = byola_cnn(dim)
        encoder.train()
        with torch.no_grad():
            for _ in range(3):  # batch-norm statistics away from 0 and 1
                encoder(0.5 + 2 * spectrograms(4, 64))
    return encoder.eval()


@pytest.mark.parametrize(("dim", "count"), [(512, 600_192), (1024, 1_649_792), (2048, 5_321_856)])
def test_the_published_sizes(dim, count):
    with torch.device("meta"):
        encoder = byola_cnn(dim)
    assert sum(p.numel() for p in encoder.parameters()) == count
    assert encoder.embed_dim == dim


def test_the_parameter_names_and_shapes_are_the_published_ones():
    expected = {}
    for conv, norm, c_in in ((0, 1, 1), (4, 5, 64), (8, 9, 64)):
        expected[f"features.{conv}.weight"] = (64, c_in, 3, 3)
        expected[f"features.{conv}.bias"] = (64,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            expected[f"features.{norm}.{name}"] = (64,)
        expected[f"features.{norm}.num_batches_tracked"] = ()
    for layer in ("fc.0", "fc.3"):
        expected |= {f"{layer}.weight": (512, 512), f"{layer}.bias": (512,)}
    state = byola_cnn(512).state_dict()
    assert len(state) == 25
    assert {key: tuple(value.shape) for key, value in state.items()} == expected


@torch.no_grad()
def test_the_forward_pass_equals_a_re_derivation_layer_by_layer():
    encoder, spec = untrained(), spectrograms(2, 50)
    state = encoder.state_dict()
    x = spec.transpose(1, 2).unsqueeze(1)
    for conv, norm in ((0, 1), (4, 5), (8, 9)):
        x = F.conv2d(x, state[f"features.{conv}.weight"], state[f"features.{conv}.bias"], padding=1)
        mean, var, scale, shift = (
            state[f"features.{norm}.{name}"].view(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.max_pool2d(F.relu((x - mean) / (var + 1e-5).sqrt() * scale + shift), 2)
    rows = []
    for item in x:  # (64 channels, 8 bands, 6 frames)
        frames = []
        for t in range(item.shape[2]):
            flat = torch.stack([item[c, m, t] for m in range(8) for c in range(64)])
            hidden = F.relu(state["fc.0.weight"] @ flat + state["fc.0.bias"])
            frames.append(F.relu(state["fc.3.weight"] @ hidden + state["fc.3.bias"]))
        frames = torch.stack(frames)
        rows.append(frames.max(0).values + frames.mean(0))
    torch.testing.assert_close(encoder(spec), torch.stack(rows), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_one_frame_embedding_per_eight_frames():
    encoder = untrained()
    for frames, tokens in ((8, 1), (96, 12), (301, 37), (501, 62)):
        assert encoder.tokens(spectrograms(1, frames)).shape == (1, tokens, 512)
    assert encoder(spectrograms(1, 96)).min() >= 0


@torch.no_grad()
@pytest.mark.parametrize("length", [8, 9, 15, 16, 55, 63, 64, 97])
def test_a_padded_item_gives_what_it_gives_alone(length):
    encoder, spec = untrained(), spectrograms(3, 97)
    lengths = torch.tensor([97, length, 40])
    garbage = spec.clone()
    garbage[1, length:] = 1e3
    padded = encoder(garbage, lengths)
    alone = torch.cat([encoder(item[None, :n]) for item, n in zip(spec, lengths.tolist())])
    torch.testing.assert_close(padded, alone, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(encoder(garbage, lengths.tolist()), padded)


@torch.no_grad()
def test_a_batch_equals_its_items():
    encoder, spec = untrained(), spectrograms(3, 40)
    items = torch.cat([encoder(item[None]) for item in spec])
    torch.testing.assert_close(encoder(spec), items, atol=1e-4, rtol=1e-5)


def test_dropout_acts_in_training_only():
    encoder, spec = untrained(), spectrograms(2, 40)
    with torch.no_grad():
        assert torch.equal(encoder(spec), encoder(spec))
        encoder.train()
        assert not torch.equal(encoder(spec), encoder(spec))


def test_bad_input_is_refused_with_a_reason():
    encoder = untrained()
    with pytest.raises(ValueError, match=r"\(batch, frames, 64\).*\(2, 64, 100\)"):
        encoder(torch.zeros(2, 64, 100))
    with pytest.raises(ValueError, match="7 valid frames; the encoder needs at least 8"):
        encoder(torch.zeros(2, 7, 64))
    with pytest.raises(ValueError, match="5 valid frames"):
        encoder(torch.zeros(2, 30, 64), torch.tensor([30, 5]))
    with pytest.raises(ValueError, match="divide by 8, got 60"):
        byola_cnn(512, n_mels=60)
