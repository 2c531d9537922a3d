"""Masked pretraining from settings: seeds decide, runs resume bit by bit, presets say what is built."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.evaluation import embed_clips
from audiossl_lite.experiments.build import few_shot_of
from audiossl_lite.experiments.build_mae import (
    make_mae,
    make_mae_frontend,
    prepare_mae,
    pretrain_mae,
)
from audiossl_lite.experiments.settings.audiomae import MaskedPretraining
from audiossl_lite.experiments.settings.presets import SCALES, preset
from tests.experiments.test_build import tones

TINY = {
    "steps": 4, "batch_size": 8, "warmup_steps": 1, "n_frames": 96, "log_every": 1, "save_every": 2,
    "decoder_dim": 32, "decoder_depth": 1,
}  # fmt: skip


def tiny(**overrides) -> MaskedPretraining:
    return preset("audiomae", "lite", TINY | overrides)


@pytest.mark.parametrize("structured", [False, True])
def test_pretraining_lowers_the_loss(structured):
    config = tiny(steps=12, structured=structured, log_every=6, learning_rate=3e-3)
    run = pretrain_mae(tones(), config, device="cpu")
    rows = run.result.history
    assert rows[-1]["step"] == 12 and rows[-1]["loss"] < rows[0]["loss"]
    score = few_shot_of(run.encoder, run.frontend, tones(), n_episodes=20)
    assert score.mean > 30


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    config = tiny(decoder="window", n_frames=128, decoder_depth=2)  # dropout in the position bias
    pretrain_mae(tones(), config, device="cpu", output_dir=tmp_path, stop_after=3)
    resumed = pretrain_mae(tones(), config, device="cpu", output_dir=tmp_path)
    assert resumed.result.started_at == 3
    whole = pretrain_mae(tones(), config, device="cpu")
    for a, b in zip(resumed.method.parameters(), whole.method.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_student_of_latents_resumes_to_the_same_weights(tmp_path):
    config = preset(
        "eat", "lite", TINY | {"warmup_steps": 1, "decoder_dim": 32, "decoder_depth": 1}
    )
    pretrain_mae(tones(), config, device="cpu", output_dir=tmp_path, stop_after=3)
    resumed = pretrain_mae(tones(), config, device="cpu", output_dir=tmp_path)
    assert resumed.result.started_at == 3
    whole = pretrain_mae(tones(), config, device="cpu")
    assert whole.encoder is whole.method.student
    named = dict(whole.method.named_parameters())
    for name, weight in resumed.method.named_parameters():
        assert torch.equal(weight, named[name]), name
    rows = [run.result.history for run in (whole, resumed)]
    assert rows[0][-1]["loss"] == rows[1][-1]["loss"] < rows[0][0]["loss"]


def test_seeds_decide():
    runs = [pretrain_mae(tones(), tiny(), seed=s, device="cpu") for s in (1, 1, 2)]
    weights = [run.encoder.norm.weight.detach() for run in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    before = torch.random.get_rng_state()
    assert torch.equal(make_mae(tiny(), 1).encoder.cls_token, make_mae(tiny(), 1).encoder.cls_token)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_probe_sees_the_encoder():
    seen = []

    def probe(encoder, frontend):
        seen.append((encoder, frontend))
        return {"clips": 1.0}

    run = pretrain_mae(tones(), tiny(probe_every=2), device="cpu", probe=probe)
    assert [row["step"] for row in run.result.history if "clips" in row] == [0, 2, 4]
    assert all(pair == (run.encoder, run.frontend) for pair in seen)


def test_prepared_clips_are_whole_with_the_frontend_s_padding():
    clips = tones()
    prepared = prepare_mae(clips, tiny())
    assert prepared.data.shape == (len(clips), 112, 64)  # 98 frames, in whole patches
    assert prepared.lengths.tolist() == [(n - 400) // 160 + 1 for n in clips.lengths.tolist()]
    for spec, length in zip(prepared.data, prepared.lengths, strict=True):
        torch.testing.assert_close(
            spec[length:], torch.full_like(spec[length:], prepared.frontend.pad_value)
        )
    alone = clips.waveforms[3:4, : clips.lengths[3]]
    length = int(prepared.lengths[3])
    torch.testing.assert_close(
        prepared.data[3, : min(length, 96)], prepared.frontend(alone)[0, :length], atol=1e-3, rtol=0
    )


def test_a_clip_embeds_the_same_in_any_company():
    clips = tones()
    encoder, frontend = make_mae(tiny()).encoder, make_mae_frontend(tiny(), clips)
    together = embed_clips(encoder, frontend, clips.waveforms, clips.lengths)
    for index in (0, 7):
        length = clips.lengths[index : index + 1]
        alone = embed_clips(encoder, frontend, clips.waveforms[index : index + 1, :length], length)
        torch.testing.assert_close(together[index], alone[0], atol=1e-3, rtol=0)


def test_the_model_is_what_the_preset_says():
    decoders = {"global": GlobalDecoder, "window": WindowDecoder}
    for scale in SCALES:
        config = preset("audiomae", scale)
        with torch.device("meta"):
            mae = make_mae(config)
        built = {
            "decoder_dim": mae.decoder.dim, "decoder_depth": len(mae.decoder.decoder_blocks),
            "n_frames": mae.encoder.n_frames, "n_mels": mae.encoder.n_mels,
            "norm_patches": mae.norm_patches,
        }  # fmt: skip
        assert built == {name: getattr(config, name) for name in built}, scale
        assert isinstance(mae.decoder, decoders[config.decoder]), scale


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match="unknown encoder 'atst_small'"):
        make_mae(tiny(encoder="atst_small"))
    with pytest.raises(KeyError, match="unknown decoder 'swin'"):
        make_mae(tiny(decoder="swin"))
    with pytest.raises(ValueError, match="normalisation"):
        make_mae_frontend(tiny(normalisation="batch"), tones())
