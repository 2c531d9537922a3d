"""Progressive retraining from filter banks to a tuned encoder: where it starts, what it changes, how it resumes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from audiossl_lite.data.clips import Clips
from audiossl_lite.encoders.audiomae import AudioMAEEncoder
from audiossl_lite.evaluation import embed_clips, spectrograms
from audiossl_lite.experiments import build
from audiossl_lite.experiments.build import Prepared, Trained
from audiossl_lite.experiments.build_uamix import make_tuning, train_head, tune, tuning_parts
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.training import load_checkpoint
from audiossl_lite.training.identity import module_digest

TINY = {
    "hidden_dim": 24, "predictor_dim": 20, "projection_dim": 12, "queue_size": 16, "head_steps": 5,
    "head_batch_size": 8, "steps": 6, "batch_size": 6, "log_every": 1, "save_every": 2,
    "learning_rate": 1e-2,
}  # fmt: skip
FRONTEND = AudioMAEFrontend(96)


def tiny(**overrides):
    return preset("uamix", "lite", TINY | overrides)


def noises(n: int = 13, samples: int = 15_000) -> Clips:
    """Noise of different loudness and length."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2_000, samples + 1, (n,), generator=generator)
    waves = (
        0.1 * torch.rand(n, 1, generator=generator) * torch.randn(n, samples, generator=generator)
    )
    return Clips(
        waveforms=waves * (torch.arange(samples) < lengths[:, None]), lengths=lengths,
        labels={"half": torch.arange(n) % 2}, class_names={"half": ("a", "b")},
        groups={"half": torch.arange(n)}, names=tuple(f"clip {i}" for i in range(n)), splits=None,
    )  # fmt: skip


def make_encoder(seed: int = 0) -> AudioMAEEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AudioMAEEncoder(16, 4, 2, n_frames=96)


@pytest.fixture(scope="module")
def data():
    return Prepared(FRONTEND, *filter_banks(noises()))


def filter_banks(clips):
    return spectrograms(FRONTEND, clips.waveforms, clips.lengths)


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def head_of(data, seed: int = 0, **options) -> Trained:
    return train_head(make_encoder(), data, tiny(), seed=seed, device="cpu", **options)


# --- cached filter banks ----------------------------------------------------------------------------


def test_long_clips_are_cut_and_very_short_ones_are_kept():
    long = filter_banks(noises(4, 40_000))
    assert long[0].shape[1] == 96 and long[1].max() <= 96
    tiny_clips = dataclasses.replace(
        noises(3, 2_000).subset([0, 1, 2]),
        waveforms=torch.randn(3, 300, generator=torch.Generator().manual_seed(0)),
        lengths=torch.tensor([300, 200, 1]),
    )
    spec, frames = filter_banks(tiny_clips)
    assert frames.tolist() == [6, 6, 6] and spec.shape == (3, 16, 128)
    assert torch.isfinite(spec).all()


def test_tuning_sees_a_clip_as_evaluation_does(data):
    encoder = make_encoder().eval()
    clips = noises()
    with torch.no_grad():
        tuning = encoder(data.data, data.lengths)
    evaluated = embed_clips(encoder, FRONTEND, clips.waveforms, clips.lengths)
    # Kaldi's filter bank removes the mean of the padded clip, which depends a little on the padding.
    torch.testing.assert_close(tuning, evaluated, atol=5e-3, rtol=0)


# --- where it starts and what it changes ----------------------------------------------------------------


def test_step_1_leaves_the_encoder_as_it_is(data):
    encoder = make_encoder()
    before = weights(encoder)
    head = train_head(encoder, data, tiny(), device="cpu")
    assert_equal(weights(encoder), before)
    assert_equal(weights(head.encoder), before)
    assert head.encoder is not encoder and head.encoder is head.method.encoder
    assert [row["step"] for row in head.result.history] == [1, 2, 3, 4, 5]
    start = make_tuning(encoder, tiny(), step=1)
    assert not torch.equal(head.method.projector[0].weight, start.projector[0].weight)
    assert head.method.target_projector is None
    assert all(p.requires_grad for p in encoder.blocks.parameters())


def test_step_2_changes_the_upper_half_of_a_copy_and_nothing_it_starts_from(data):
    head = head_of(data)
    before = weights(head.method)
    tuned = tune(head, data, tiny(), device="cpu")
    assert_equal(weights(head.method), before)
    for name, value in tuned.encoder.state_dict().items():
        upper = name.startswith(("blocks.2.", "blocks.3.", "norm."))
        assert torch.equal(value, before["encoder." + name]) != upper, name
    assert len(tuned.result.history) == 6


def test_step_2_from_another_head_is_another_run(data):
    head = head_of(data)
    state = head.method.head_state()
    other = {name: value + 1 if "queue" in name else value for name, value in state.items()}
    digests = [
        module_digest(tuning_parts(head.encoder, tiny(), head.frontend, step=2, head=start).method)
        for start in (state, other, state)
    ]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("mixing", ["none", "mixup", "tf_cutmix", "t_cutmix"])
def test_every_variant_starts_equal_and_sees_the_same_clips(data, monkeypatch, mixing):
    head, starts = head_of(data), []

    def stop(method, views, data, config, **options):
        starts.append((weights(method), config, views.views.mixing))

    monkeypatch.setattr(build, "train", stop)
    tune(head, data, tiny(mixing=mixing), device="cpu")
    tune(head, data, tiny(mixing="t_cutmix", rule="linear"), device="cpu")
    assert starts[0][2] == mixing
    assert_equal(starts[0][0], starts[1][0])
    assert starts[0][1] == starts[1][1]
    start = starts[0][0]
    for name, value in head.method.state_dict().items():
        assert torch.equal(start[name], value), name
    for name, value in head.method.projector.state_dict().items():
        assert torch.equal(start["target_projector." + name], value), name


def test_the_seed_decides(data):
    def ends(seed):
        head = head_of(data, seed)
        return weights(tune(head, data, tiny(), seed=seed, device="cpu").method)

    torch.manual_seed(5)
    one, state = ends(0), torch.random.get_rng_state()
    torch.manual_seed(6)
    assert_equal(ends(0), one)
    other = ends(1)
    assert not torch.equal(other["encoder.norm.weight"], one["encoder.norm.weight"])
    assert torch.equal(one["encoder.cls_token"], other["encoder.cls_token"])
    torch.manual_seed(5)
    assert torch.equal(torch.random.get_rng_state(), state), "training moved the caller's state"


def test_step_1_is_never_mixed_and_the_settings_reach_both_steps(data, monkeypatch):
    seen = []
    inner = build.train
    monkeypatch.setattr(
        build,
        "train",
        lambda method, views, data, config, **options: (
            seen.append((method, views.views, config)),
            inner(method, views, data, config, **options),
        )[1],
    )
    config = tiny(k=3, temperature=0.3, symmetric=True, alpha=0.4, per_sample=True, rule="linear")
    head = train_head(make_encoder(), data, config, seed=4, device="cpu")
    tune(head, data, config, seed=4, device="cpu")
    (first, one, plan_1), (second, two, plan_2) = seen
    assert (one.mixing, two.mixing) == ("none", "t_cutmix")
    assert (two.rule, two.alpha, two.per_sample) == ("linear", 0.4, True)
    assert one.gain.log_unit == two.gain.log_unit == 2 * FRONTEND.std
    for method in (first, second):
        assert (method.k, method.temperature, method.symmetric) == (3, 0.3, True)
    assert (plan_1.steps, plan_1.batch_size, plan_1.warmup_steps) == (5, 8, 1)
    assert (plan_2.steps, plan_2.batch_size, plan_2.warmup_steps) == (6, 6, 1)
    assert (plan_1.learning_rate, plan_2.learning_rate) == (1e-3, 1e-2)
    for plan in (plan_1, plan_2):
        assert plan.betas == (0.9, 0.95) and plan.final_learning_rate == 0.0
        assert plan.weight_decay == plan.final_weight_decay == 0.05
        assert plan.momentum == plan.final_momentum == 0.99
    assert plan_1.seed != plan_2.seed, "both steps would draw the same batches"
    assert first.target_projector is None and second.target_projector is not None
    with pytest.raises(ValueError, match="steps 1 and 2, got 3"):
        make_tuning(make_encoder(), config, step=3)


# --- stop and go ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"k": 4, "symmetric": True, "per_sample": True}])
def test_both_steps_resume_bit_exactly(tmp_path, data, monkeypatch, settings):
    config, inner = tiny(**settings), build.train

    def both(folder):
        head = train_head(make_encoder(), data, config, device="cpu", output_dir=folder / "head")
        return tune(head, data, config, device="cpu", output_dir=folder / "tuned")

    whole = both(tmp_path / "whole")

    def stopping(step: int, at: int):
        def train(*args, **options):
            stop = at if options["description"].startswith(f"step {step}") else None
            result = inner(*args, **options, stop_after=stop)
            if stop:
                raise KeyboardInterrupt
            return result

        return train

    for step, at in ((1, 3), (2, 1), (2, 4)):
        monkeypatch.setattr(build, "train", stopping(step, at))
        with pytest.raises(KeyboardInterrupt):
            both(tmp_path / "parts")
    monkeypatch.setattr(build, "train", inner)
    torch.manual_seed(77)  # the caller's state must not matter
    resumed = both(tmp_path / "parts")
    assert resumed.result.started_at == 4
    assert_equal(weights(resumed.method), weights(whole.method))
    for step in ("head", "tuned"):
        ours, theirs = (
            load_checkpoint(tmp_path / run / step / "last.pt") for run in ("parts", "whole")
        )
        assert_equal(ours["method"], theirs["method"])
        assert ours["identity"] == theirs["identity"]


def test_a_folder_of_a_run_from_another_encoder_is_refused(tmp_path, data):
    """The starting weights are an input: an old run in the folder must not pass for this one."""
    options = {"device": "cpu", "output_dir": tmp_path}
    train_head(make_encoder(), data, tiny(), **options)
    with pytest.raises(ValueError, match=r"other settings.*\(method "):
        train_head(make_encoder(seed=1), data, tiny(), **options)
    again = train_head(make_encoder(), data, tiny(), **options)
    assert again.result.started_at == 5


def test_both_steps_run_in_bfloat16_and_the_queue_stays_in_full_precision(data):
    config = tiny(precision="bf16-mixed", symmetric=True, k=3)
    head = train_head(make_encoder(), data, config, device="cpu")
    tuned = tune(head, data, config, device="cpu")
    assert all(value.dtype != torch.bfloat16 for value in tuned.method.state_dict().values())
    norms = tuned.method.queue.vectors.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert 0 < tuned.result.history[-1]["loss"] < 10
