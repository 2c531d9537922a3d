"""From settings to a trained encoder: the pieces fit, seeds decide, and what a preset says is what is built."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from audiossl_lite.common.parameters import SCALES
from audiossl_lite.data.clips import Clips
from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.evaluation import embed_clips, few_shot_accuracy
from audiossl_lite.experiments.build import (
    few_shot_of,
    make_encoder,
    make_frontend,
    make_method,
    make_views,
    pretrain,
    train_and_test,
    train_config,
)
from audiossl_lite.experiments.build_mae import (
    make_mae,
    make_mae_frontend,
    prepare_mae,
    pretrain_mae,
)
from audiossl_lite.experiments.settings.audiomae import MaskedPretraining
from audiossl_lite.experiments.settings.presets import EXPERIMENTS, Pretraining, preset
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.methods import BYOL
from audiossl_lite.training import TrainConfig

TINY = {
    "steps": 4, "batch_size": 8, "warmup_steps": 1, "hidden_dim": 32, "projection_dim": 16,
    "segment_s": 0.5, "log_every": 1, "save_every": 2, "memory_size": 16, "on_collapse": "continue",
}  # fmt: skip
TINY_MAE = {
    "steps": 4, "batch_size": 8, "warmup_steps": 1, "n_frames": 96, "log_every": 1, "save_every": 2,
    "decoder_dim": 32, "decoder_depth": 1,
}  # fmt: skip


def tones(n_classes: int = 5, per_class: int = 6) -> Clips:
    """Noisy tones: the class is the pitch, the group a made-up recording of two clips."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    n = len(labels)
    lengths = torch.randint(9_000, 16_001, (n,), generator=generator)
    pitch_hz = 200.0 * 1.5 ** labels[:, None]
    waves = 0.2 * torch.sin(2 * torch.pi * pitch_hz * torch.arange(16_000) / 16_000)
    waves = waves + 0.05 * torch.randn(n, 16_000, generator=generator)
    waves = waves * (torch.arange(16_000) < lengths[:, None])
    return Clips(
        waveforms=waves.float(),
        lengths=lengths,
        labels={"pitch": labels},
        class_names={"pitch": tuple(f"tone {i}" for i in range(n_classes))},
        groups={"pitch": torch.arange(n) // 2},
        names=tuple(f"clip {i}" for i in range(n)),
    )


def tiny(experiment: str, **overrides):
    return preset(experiment, "lite", TINY | overrides)


def tiny_mae(**overrides) -> MaskedPretraining:
    return preset("audiomae", "lite", TINY_MAE | overrides)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(experiment):
    result = pretrain(tones(), tiny(experiment), device="cpu")
    assert result.result.history[-1]["step"] == 4
    assert result.encoder is next(iter(result.method.encoders.values()))
    score = few_shot_of(result.encoder, result.frontend, tones(), n_episodes=20)
    assert score.mean > 30, "five tones in noise are easy even for a random encoder"


def test_initial_weights_depend_on_the_seed_alone():
    config = tiny("atst")
    first = make_encoder(config, 3).state_dict()
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again, other = make_encoder(config, 3).state_dict(), make_encoder(config, 4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["pos_embed"], other["pos_embed"])
    method = make_method(config, 3)
    assert torch.equal(method.student["encoder"].pos_embed, first["pos_embed"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_method_is_what_the_preset_says():
    for experiment, scale in itertools.product(EXPERIMENTS, SCALES):
        config = preset(experiment, scale)
        with torch.device("meta"):
            method = make_method(config)
        projector = method.student["projector"]
        built = {
            "reduction": method.reduction, "joint_views": method.joint_views,
            "head_bias": projector[0].bias is not None, "hidden_dim": projector[0].out_features,
            "projection_dim": projector[3].out_features,
        }  # fmt: skip
        if config.encoder.startswith("atst"):
            blocks = method.student["encoder"].blocks
            built["drop_path"] = max(block.drop_path.probability for block in blocks)
        said = {name: getattr(config, name) for name in built}
        assert isinstance(method, BYOL) and built == pytest.approx(said), (experiment, scale)


def test_the_views_are_what_the_preset_says():
    for experiment, scale in itertools.product(EXPERIMENTS, SCALES):
        config = preset(experiment, scale)
        views = make_views(config, make_frontend(config.frontend, tones().waveforms))
        first, second = views.mixup
        built = {
            "segments": views.segments, "crop_from": views.crop_from,
            "mixup": views.mixup is not None, "resized_crop": views.resized_crop is not None,
            "memory_size": first.memory_size, "shared_memory": first is second,
            "normalise_views": views.normalise_views is not None,
        }  # fmt: skip
        assert built == {name: getattr(config, name) for name in built}, (experiment, scale)
        frames = views.size if config.crop_from == "spectrogram" else views.size // 160 + 1
        assert frames == pytest.approx(100 * config.segment_s + 1, abs=0.5), (experiment, scale)


def test_the_loop_gets_the_settings_of_the_preset():
    names = {f.name for f in dataclasses.fields(TrainConfig)}
    for experiment in EXPERIMENTS:
        config = preset(experiment, "paper")
        loop = train_config(config, seed=9)
        shared = names & {f.name for f in dataclasses.fields(config)}
        assert loop.seed == 9 and len(shared) >= 15
        other = [name for name in shared if getattr(loop, name) != getattr(config, name)]
        assert other == [], experiment


def test_frontends_are_fitted_to_the_clips():
    waveforms = tones().waveforms
    frontend = make_frontend("byola", waveforms)
    out = frontend(waveforms)
    assert isinstance(frontend, BYOLAFrontend)
    assert out.mean().abs() < 1e-2 and out.std().item() == pytest.approx(1, abs=1e-2)
    for variant in ("official", "paper"):
        frontend = make_frontend(f"atst_{variant}", waveforms)
        out = frontend(waveforms)
        assert isinstance(frontend, ATSTFrontend) and frontend.variant == variant
        assert (out.min().item(), out.max().item()) == pytest.approx((-1, 1), abs=1e-3)


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match="unknown frontend 'mel'"):
        make_frontend("mel", torch.zeros(1, 4000))
    with pytest.raises(KeyError, match="unknown encoder 'atst_huge'"):
        make_encoder(tiny("atst", encoder="atst_huge"))
    with pytest.raises(KeyError, match="unknown method 'dino'"):
        make_method(tiny("atst", method="dino"))


# Every kind of pretraining, with what drops out where something can.
KINDS = {
    "BYOL": lambda **more: tiny("atst_official", drop_path=0.1, **more),
    "masked": lambda **more: tiny_mae(decoder="window", n_frames=128, decoder_depth=2, **more),
    "latents": lambda **more: preset("eat", "lite", TINY_MAE | more),
}


def run(config, **options):
    train = pretrain if isinstance(config, Pretraining) else pretrain_mae
    return train(tones(), config, device="cpu", **options)


def weights(trained) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(trained.method.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_resumes_to_the_same_weights_and_a_probe_changes_none(kind, tmp_path):
    config, seen = KINDS[kind](), []
    run(config, output_dir=tmp_path, stop_after=3)
    resumed = run(config, output_dir=tmp_path)
    assert resumed.result.started_at == 3

    def probe(encoder, frontend):
        seen.append((encoder, frontend))
        return {"few_shot": few_shot_of(encoder, frontend, tones(), n_episodes=10).mean}

    whole = run(KINDS[kind](probe_every=2), probe=probe)
    assert torch.equal(weights(resumed), weights(whole))
    assert [row["step"] for row in whole.result.history if "few_shot" in row] == [0, 2, 4]
    assert all(pair == (whole.encoder, whole.frontend) for pair in seen)
    assert whole.encoder is next(iter(whole.method.encoders.values()))
    other = run(config, seed=1)
    assert not torch.equal(weights(other), weights(whole))


def test_few_shot_keeps_groups_apart():
    clips = tones(5, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = make_encoder(tiny("byola"))
    frontend = make_frontend("byola", clips.waveforms)
    grouped = few_shot_of(encoder, frontend, clips, n_episodes=20)
    assert grouped.n_query == 15, "with groups, classes may have fewer queries than asked for"
    features = embed_clips(encoder, frontend, clips.waveforms, clips.lengths)
    expected = few_shot_accuracy(
        features, clips.labels["pitch"], n_episodes=20, groups=clips.groups["pitch"]
    )
    assert (grouped.per_episode == expected.per_episode).all()


def test_embedded_clips_for_training_and_scoring_are_different_clips_of_the_same_classes():
    config = preset("atst", "lite", {"clips_per_class": 1, "clip_s": 1.0})
    both = train_and_test("", config, seed=0)
    assert both.train.class_names == both.test.class_names
    assert len(both.train) == len(both.test) == len(both.train.class_names[both.train.task])
    assert both.train.fingerprint() != both.test.fingerprint()
    other = train_and_test("", config, seed=1)
    assert len({c.fingerprint() for c in (both.train, both.test, other.train, other.test)}) == 4


# --- masked autoencoders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("structured", [False, True])
def test_pretraining_lowers_the_loss(structured):
    config = tiny_mae(steps=12, structured=structured, log_every=6, learning_rate=3e-3)
    run = pretrain_mae(tones(), config, device="cpu")
    rows = run.result.history
    assert rows[-1]["step"] == 12 and rows[-1]["loss"] < rows[0]["loss"]
    score = few_shot_of(run.encoder, run.frontend, tones(), n_episodes=20)
    assert score.mean > 30


def test_prepared_clips_are_whole_with_the_frontend_s_padding():
    clips = tones()
    prepared = prepare_mae(clips, tiny_mae())
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
    encoder, frontend = make_mae(tiny_mae()).encoder, make_mae_frontend(tiny_mae(), clips)
    together = embed_clips(encoder, frontend, clips.waveforms, clips.lengths)
    for index in (0, 7):
        length = clips.lengths[index : index + 1]
        alone = embed_clips(encoder, frontend, clips.waveforms[index : index + 1, :length], length)
        torch.testing.assert_close(together[index], alone[0], atol=1e-3, rtol=0)


def test_the_autoencoder_is_what_the_preset_says():
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


def test_unknown_names_of_masked_runs_are_refused():
    with pytest.raises(KeyError, match="unknown encoder 'atst_small'"):
        make_mae(tiny_mae(encoder="atst_small"))
    with pytest.raises(KeyError, match="unknown decoder 'swin'"):
        make_mae(tiny_mae(decoder="swin"))
    with pytest.raises(ValueError, match="normalisation"):
        make_mae_frontend(tiny_mae(normalisation="batch"), tones())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_probing_on_a_gpu_leaves_the_run_on_the_gpu():
    def probe(encoder, frontend):
        return {
            "there": few_shot_of(encoder, frontend, tones(), n_episodes=10).mean,
            "on_cpu": few_shot_of(encoder, frontend, tones(), n_episodes=10, device="cpu").mean,
        }

    config = tiny("atst_official", probe_every=2)
    result = pretrain(tones(), config, device="cuda", probe=probe)
    assert result.result.history[-1]["step"] == 4
    assert next(result.encoder.parameters()).device.type == "cuda"
