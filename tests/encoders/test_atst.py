"""ATST's encoder: exact against the official outputs, exact masking, sizes, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiossl_lite.encoders import ATSTEncoder, atst_base, atst_mini, atst_small, atst_tiny
from audiossl_lite.encoders.atst import chunk_average
from audiossl_lite.encoders.transformer import Attention, DropPath

CASES = ("f601_full", "f601_padded", "f401_full")


def spectrograms(b: int, t: int, seed: int = 0) -> torch.Tensor:
    """The recipe of the reference inputs: drawn as (batch, 1, mel, time), here (batch, time, mel)."""
    x = torch.randn(b, 1, 64, t, generator=torch.Generator().manual_seed(seed))
    return x[:, 0].transpose(1, 2).contiguous()


def untrained(maker=atst_tiny, **options) -> ATSTEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = maker(**options).eval()
        # away from its tiny initial weights, so that attention is not almost uniform
        for block in encoder.blocks:
            nn.init.normal_(block.attn.qkv.weight, std=0.2)
        nn.init.normal_(encoder.pos_embed, std=0.5)
    return encoder


@pytest.fixture(scope="module")
def small(reference, made_up_weights):
    encoder = atst_small().eval()
    encoder.load_state_dict(made_up_weights(reference("atst_small")["keys"]))
    return encoder


@pytest.fixture(scope="module")
def outputs(small):
    """Embedding, 12-block features and last-block features of every reference input, computed once."""
    x, long = spectrograms(2, 601), spectrograms(2, 1001, seed=1)
    inputs = {
        "f601_full": (x, [601, 601]),
        "f601_padded": (x, [601, 401]),
        "f401_full": (x[:, :401], [401, 401]),
        "f1001_full": (long, [1001, 1001]),
        "f1001_short2": (long, [1001, 700]),
    }
    result = {}
    with torch.no_grad():
        for name, (spec, lengths) in inputs.items():
            lengths = torch.tensor(lengths)
            result[name] = {
                "feat_linear12": small.linear_features(spec, lengths),
                "feat_ft1": small.linear_features(spec, lengths, last=1),
            }
            if name in CASES:
                result[name]["cls_out"] = small(spec, lengths)
                result[name]["tok0_3"] = small.embed(spec, lengths)[0][:, :3]
    return result


def test_the_parameter_names_and_shapes_are_the_published_ones(reference):
    keys = reference("atst_small")["keys"]
    assert len(keys) == 139
    with torch.device("meta"):
        state = atst_small().state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        key: tuple(shape) for key, shape in keys
    }


def test_the_reference_inputs_are_regenerated(reference):
    first, total, *_ = reference("atst_small")["x_check"]
    x = torch.randn(2, 1, 64, 601, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.flatten()[:8], first)
    assert x.double().sum().item() == pytest.approx(total)


@pytest.mark.parametrize("case", CASES)
def test_the_embedding_equals_the_reference(case, outputs, reference):
    expected = reference("atst_small")[case]
    torch.testing.assert_close(outputs[case]["cls_out"], expected["cls_out"], atol=2e-5, rtol=0)
    tokens = outputs[case]["tok0_3"][..., ::16]
    torch.testing.assert_close(tokens, expected["tok0_3"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", [*CASES, "f1001_full", "f1001_short2"])
def test_the_linear_features_equal_the_reference(case, outputs, reference):
    expected = reference("atst_small")[case]
    features = outputs[case]["feat_linear12"]
    assert features.shape == (2, 24 * 384)
    torch.testing.assert_close(features[:, ::37], expected["feat_linear12"], atol=2e-5, rtol=0)
    last = outputs[case]["feat_ft1"][:, ::7]
    torch.testing.assert_close(last, expected["feat_ft1"], atol=2e-5, rtol=0)


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
def test_all_dimensions_equal_the_full_reference(case, outputs, full_reference):
    expected = full_reference("atst_small")[case]
    for name in ("cls_out", "feat_linear12", "feat_ft1"):
        torch.testing.assert_close(outputs[case][name], expected[name], atol=2e-5, rtol=0)
    blocks = torch.cat([*expected["blocks_cls"], *expected["blocks_avg"]], dim=1)
    torch.testing.assert_close(outputs[case]["feat_linear12"], blocks, atol=2e-5, rtol=0)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["full", "short2"])
def test_all_dimensions_of_chunked_features_equal_the_full_reference(case, outputs, full_reference):
    expected = full_reference("atst_small")["f1001_chunks"][case]
    for name in ("feat_linear12", "feat_ft1"):
        torch.testing.assert_close(
            outputs[f"f1001_{case}"][name], expected[name], atol=2e-5, rtol=0
        )


@pytest.mark.parametrize(("maker", "count"), [(atst_small, 21_476_352), (atst_base, 85_420_032)])
def test_the_published_sizes(maker, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in maker().parameters()) == count


@pytest.mark.parametrize("maker", [atst_tiny, atst_mini])
def test_the_laptop_sizes_embed(maker):
    encoder = maker().eval()
    with torch.no_grad():
        spec = spectrograms(2, 41)
        assert encoder(spec).shape == (2, encoder.embed_dim)
        assert encoder.tokens(spec).shape == (2, 10, encoder.embed_dim)
        depth = len(encoder.blocks)
        assert encoder.linear_features(spec).shape == (2, 2 * depth * encoder.embed_dim)


@torch.no_grad()
@pytest.mark.parametrize("length", [4, 5, 57, 100, 198, 199, 200])
def test_a_padded_item_gives_what_it_gives_alone(length):
    encoder, spec = untrained(), spectrograms(3, 200)
    lengths = torch.tensor([200, length, 123])
    garbage = spec.clone()
    garbage[1, length:] = 1e4  # what lies beyond must not matter at all
    padded = encoder(garbage, lengths)
    alone = torch.cat([encoder(item[None, :n]) for item, n in zip(spec, lengths.tolist())])
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
    features = encoder.linear_features(garbage, lengths)
    alone = encoder.linear_features(spec[1:2, :length])
    torch.testing.assert_close(features[1:2], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_batch_equals_its_items_and_lengths_of_full_clips_change_nothing():
    encoder, spec = untrained(), spectrograms(3, 60)
    together = encoder(spec)
    torch.testing.assert_close(
        together, torch.cat([encoder(x[None]) for x in spec]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(together, encoder(spec, torch.full((3,), 60)), atol=1e-6, rtol=0)
    torch.testing.assert_close(together, encoder(spec, [60, 60, 60]), atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_order_of_frames_and_the_content_matter():
    encoder, spec = untrained(), spectrograms(1, 60)
    assert not torch.allclose(encoder(spec), encoder(spec.flip(1)), atol=1e-3)
    assert torch.equal(encoder(spec), encoder(torch.cat([spec, spec[:, :3]], dim=1))), (
        "up to three last frames are dropped"
    )


@torch.no_grad()
def test_longer_clips_are_averaged_over_their_filled_chunks():
    """Re-derive chunking clip by clip with a feature that can be read off: the mean of the frames."""

    def feature(chunk, left):
        valid = torch.arange(chunk.shape[1]) < left[:, None]
        return (chunk * valid[..., None]).sum(1) / left.clamp(max=chunk.shape[1])[:, None]

    spec, lengths = spectrograms(6, 35), torch.tensor([35, 30, 16, 15, 9, 10])
    out = chunk_average(feature, spec, lengths, 10)
    for item, length, row in zip(spec, lengths.tolist(), out, strict=True):
        parts = [item[i : min(i + 10, length)] for i in range(0, length, 10)]
        counted = [part for i, part in enumerate(parts) if i == 0 or len(part) > 5]
        expected = torch.stack([part.mean(0) for part in counted]).mean(0)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_two_ways_to_average_tokens_agree_on_one_chunk_only():
    encoder = untrained()
    for frames, agree in ((100, True), (160, False)):
        spec = spectrograms(2, frames)
        a, b = (
            encoder.linear_features(spec, chunk_frames=100, mean_over=name)
            for name in ("official", "chunk")
        )
        assert torch.allclose(a, b, atol=1e-5) == agree
        half = a.shape[1] // 2
        torch.testing.assert_close(a[:, :half], b[:, :half])
    with pytest.raises(ValueError, match="'official' or 'chunk', got 'clip'"):
        encoder.linear_features(spec, mean_over="clip")


def test_attention_equals_the_formula_head_by_head():
    torch.manual_seed(0)
    layer, x = Attention(12, 3, qkv_bias=True), torch.randn(2, 5, 12)
    visible = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]]).bool()
    out = layer(x, visible)
    weight, bias = layer.qkv.weight, layer.qkv.bias
    for b in range(2):
        keys = visible[b]
        heads = []
        for h in range(3):
            q, k, v = (
                x[b] @ weight[i * 12 + h * 4 : i * 12 + h * 4 + 4].T
                + bias[i * 12 + h * 4 : i * 12 + h * 4 + 4]
                for i in range(3)
            )
            scores = (q @ k[keys].T / 2.0).softmax(dim=1)
            heads.append(scores @ v[keys])
        expected = layer.proj(torch.cat(heads, dim=1))
        torch.testing.assert_close(out[b], expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="13 does not divide into 4"):
        Attention(13, 4, qkv_bias=True)


def test_drop_path_skips_whole_items_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = DropPath(0.25), torch.ones(8000, 2, 3)
    out = layer(x)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(out.amin((1, 2)), out.amax((1, 2)))
    assert out.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(DropPath(0.0)(x), x)
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        DropPath(1.0)


def test_drop_path_rises_linearly_over_the_blocks():
    with torch.device("meta"):
        rates = [block.drop_path.probability for block in atst_small(drop_path=0.1).blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])


def test_bad_input_is_refused_with_a_reason():
    encoder = untrained()
    with pytest.raises(ValueError, match=r"\(batch, frames, 64\).*\(2, 64, 100\)"):
        encoder(torch.zeros(2, 64, 100))
    with pytest.raises(ValueError, match="batch, frames, 64"):
        encoder(torch.zeros(2, 1, 100, 64))
    with pytest.raises(ValueError, match="3 frames make 0 tokens"):
        encoder(torch.zeros(2, 3, 64))
    with pytest.raises(ValueError, match="1004 frames make 251 tokens"):
        encoder(torch.zeros(1, 1004, 64))
    with pytest.raises(ValueError, match="3 valid frames"):
        encoder(torch.zeros(2, 100, 64), torch.tensor([100, 3]))
    with torch.no_grad():
        assert encoder(torch.zeros(1, 1003, 64)).shape == (1, 128)


def test_compiled_blocks_share_their_programs_whatever_their_drop_probability():
    torch.compiler.reset()
    encoder, programs = ATSTEncoder(32, 12, 2).train(), []

    def backend(graph, inputs):
        programs.append(graph)
        return graph.forward

    for block in encoder.blocks:
        block.compile(backend=backend)
    encoder(torch.randn(2, 40, 64))
    torch.compiler.reset()
    assert len(programs) == 2  # the first block, whose probability is 0, and all others


def test_dropped_paths_are_those_that_a_plain_number_draws():
    x = torch.randn(50, 3, 2)
    torch.manual_seed(1)
    keep = torch.empty(50, 1, 1).bernoulli_(0.7)
    torch.manual_seed(1)
    drop = DropPath(0.3)
    assert torch.equal(drop.train()(x), x * keep / 0.7)
    assert drop.probability == 0.3 and not drop.state_dict()
    drop.probability = 0.0
    assert drop(x) is x
