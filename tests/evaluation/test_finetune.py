"""Fine-tuning as a whole: it learns, it resumes exactly, it chooses on validation data, it refuses bad data."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from audiossl_lite.common.ranges import RANGES
from audiossl_lite.encoders import ATSTEncoder, AudioMAEEncoder, BYOLAEncoder
from audiossl_lite.evaluation import fine_tune, linear_evaluation
from audiossl_lite.evaluation.finetune import BestWeights, predict
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from audiossl_lite.training import NotFiniteError, load_checkpoint, step
from tests.evaluation.toys import seeded, spectrograms

QUICK = preset(
    "finetune_atst", "lite",
    {"epochs": 8, "warmup_epochs": 1, "batch_size": 16, "learning_rate": 2.0, "layer_decay": 1.0,
     "mixup_probability": 1.0, "resized_crop": True, "drop_path": 0.1},
)  # fmt: skip
QUICK_MAE = preset(
    "finetune_audiomae", "lite",
    {"epochs": 3, "batch_size": 16, "spec_frames": 8, "spec_bands": 4, "mixup_probability": 0.5,
     "drop_path": 0.1, "head": "audiomae", "mask_time": 0.2, "mask_freq": 0.2, "gain_db": 2.0},
)  # fmt: skip


def encoder(seed=0):
    return seeded(lambda: ATSTEncoder(24, 2, 2), seed)


def tune(train=None, test=None, config=QUICK, *, network=None, frontend=None, **options):
    return fine_tune(
        network or encoder(),
        frontend or ATSTFrontend(),
        train or spectrograms(48),
        test or spectrograms(24, seed=1),
        config,
        device="cpu",
        **options,
    )


def test_it_changes_a_copy_of_the_encoder_and_beats_the_linear_head():
    network = encoder()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    train, validation, test = (
        spectrograms(n, seed=seed) for n, seed in ((96, 10), (32, 20), (64, 30))
    )
    plain = {"mixup_probability": 0.0, "resized_crop": False, "drop_path": 0.0}
    config = dataclasses.replace(QUICK, **plain, epochs=20)
    result = tune(train, test, config, network=network, validation=validation)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    changed = [
        name for name, v in result.model.encoder.state_dict().items()
        if not torch.equal(v, before[name])
    ]  # fmt: skip
    assert set(changed) == set(before) - {"mask_embed"}, "what ATST does not use has no gradient"

    def features(data):
        with torch.no_grad():
            return dataclasses.replace(
                data, inputs=network.eval().linear_features(data.inputs, last=1)
            )

    parts = [features(data) for data in (train, test, validation)]
    frozen = linear_evaluation(*parts[:2], preset("linear", "lite"), validation=parts[2])
    assert result.score > 0.7 and result.score > frozen.score + 0.1
    assert not result.model.training
    assert torch.equal(result.outputs, predict(result.model, test))


def test_a_cnn_is_tuned_on_clips_of_all_lengths():
    train, test = (spectrograms(32, seed=seed) for seed in (0, 1))
    train = dataclasses.replace(train, lengths=torch.tensor([48, 40] * 16))
    changes = {"head": "embedding", "drop_path": 0.0, "layer_decay": 0.75, "epochs": 2}
    network = seeded(lambda: BYOLAEncoder(16, channels=4))
    config = dataclasses.replace(QUICK, **changes)
    result = tune(train, test, config, network=network, frontend=BYOLAFrontend())
    assert result.outputs.shape == (32, 4) and result.outputs.isfinite().all()
    assert [row["epoch"] for row in result.history] == [1, 2]


@pytest.mark.parametrize("config", [QUICK, QUICK_MAE], ids=["sgd", "adamw"])
def test_a_resumed_run_ends_bit_identical(tmp_path, config):
    is_mae = config is QUICK_MAE
    config = dataclasses.replace(config, epochs=4)
    options = {
        "config": config,
        "network": seeded(
            lambda: (
                AudioMAEEncoder(24, 2, 2, n_frames=48, n_mels=32)
                if is_mae
                else ATSTEncoder(24, 2, 2)
            )
        ),
        "frontend": AudioMAEFrontend(48, n_mels=32) if is_mae else ATSTFrontend(),
        "train": spectrograms(40, n_mels=32 if is_mae else 64),
        "test": spectrograms(16, n_mels=32 if is_mae else 64, seed=1),
    }
    state = torch.get_rng_state()
    whole = tune(**options, output_dir=tmp_path / "whole")
    tune(**options, output_dir=tmp_path / "parts", stop_after=2)
    torch.manual_seed(17)  # what else the process draws must not matter
    resumed = tune(**options, output_dir=tmp_path / "parts")
    torch.set_rng_state(state)
    last = [load_checkpoint(tmp_path / run / "last.pt") for run in ("whole", "parts")]
    for name, value in last[0]["method"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, last[1]["method"][name]), name
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]
        for run in (whole, resumed)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 4
    assert torch.equal(whole.outputs, resumed.outputs) and whole.epoch == resumed.epoch
    written = (tmp_path / "parts" / "history.jsonl").read_text().splitlines()
    looks = [json.loads(line) for line in written if "accuracy" in line]
    assert [look["epoch"] for look in looks] == [1, 2, 3, 4]
    again = tune(**options, output_dir=tmp_path / "parts")
    assert torch.equal(again.outputs, resumed.outputs), "a finished run is read, not repeated"


# Loss, learning rate, accuracy and loss on validation data by epoch, then chosen epoch and score: what the loop gave
# that fine-tuning had of its own, before `train` took its place.
OLD_LOOP = {
    "sgd": (
        [(1.387974, 0.125, 0.5, 1.007536), (1.200659, 0.116627, 0.6, 0.740521),
         (1.029266, 0.062501, 0.5, 0.929933), (1.058527, 0.008374, 0.5, 0.961914)], 2, 0.5,
    ),
    "adamw": (
        [(1.386316, 0.001, 0.4, 1.385641), (1.387455, 0.000854, 0.4, 1.38328),
         (1.38818, 0.000147, 0.4, 1.382457)], 3, 1 / 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", OLD_LOOP)
def test_train_gives_the_losses_and_scores_of_the_loop_that_it_replaced(optimizer, monkeypatch):
    # That loop drew what the network skips by the seed of the views.
    as_there = step.step_generator
    monkeypatch.setattr(step, "step_generator", lambda *place, of="": as_there(*place))
    rows, epoch, value = OLD_LOOP[optimizer]
    options, n_mels = {"config": dataclasses.replace(QUICK, epochs=4)}, 64
    if optimizer == "adamw":
        network = seeded(lambda: AudioMAEEncoder(24, 2, 2, n_frames=48, n_mels=32))
        options = {"network": network, "frontend": AudioMAEFrontend(48, n_mels=32)}
        options, n_mels = options | {"config": QUICK_MAE}, 32
    train, test = (spectrograms(n, n_mels=n_mels, seed=s) for s, n in ((0, 48), (1, 24)))
    train = dataclasses.replace(train, lengths=torch.tensor([48, 40] * 24))
    result = tune(train, test, **options)
    names = ("loss", "learning_rate", "accuracy", "validation_loss")
    for row, expected in zip(result.history, rows, strict=True):
        assert [row[name] for name in names] == pytest.approx(expected, abs=1e-4)
    assert (result.epoch, result.score, result.last_score) == (epoch, value, value)


def test_a_folder_with_another_run_is_refused(tmp_path):
    config = dataclasses.replace(QUICK, epochs=2)
    tune(config=config, output_dir=tmp_path, stop_after=1)
    for options, word in (
        ({"config": dataclasses.replace(config, learning_rate=0.7)}, "learning_rate 0.125 there"),
        ({"config": config, "seed": 1}, "seed 0 there, 1 now"),
        ({"config": config, "train": spectrograms(48, seed=5)}, "data "),
        ({"config": config, "network": encoder(seed=1)}, "method "),
        ({"config": config, "select_on": "test"}, "method "),
    ):
        with pytest.raises(ValueError, match=f"a run with other settings.*{word}"):
            tune(output_dir=tmp_path, **options)


def test_runs_repeat_with_their_seed_and_leave_the_global_state_alone():
    config = dataclasses.replace(QUICK, epochs=2)
    state = torch.get_rng_state()
    a, b, c = (tune(config=config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.outputs, b.outputs) and not torch.equal(a.outputs, c.outputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_validation_data_choose_the_epoch():
    train, validation, test = (spectrograms(32, seed=seed) for seed in range(3))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    other = dataclasses.replace(test, targets=test.targets[order])
    one, two = (tune(train, data, validation=validation) for data in (test, other))
    assert one.epoch == two.epoch and torch.equal(one.outputs, two.outputs)
    scores = [(row["accuracy"], -row["validation_loss"]) for row in one.history]
    assert one.selection_score == max(scores)[0] and one.epoch == scores.index(max(scores)) + 1
    assert one.n_train == 32
    peeked = tune(train, test, select_on="test")
    assert peeked.score == peeked.selection_score == max(r["accuracy"] for r in peeked.history)
    assert peeked.last_score == peeked.history[-1]["accuracy"]
    assert tune(train, test).n_train < 32, "some clips were held out"
    with pytest.raises(ValueError, match="nothing is to be chosen on test data"):
        tune(train, test, validation=validation, select_on="test")


def test_the_best_epoch_has_the_best_score_and_then_the_least_loss():
    best, model = BestWeights(), torch.nn.Linear(1, 1)
    offers = ((0.2, 0.1), (0.5, 0.7), (0.5, 0.6), (0.5, 0.6), (0.4, 0.0))
    for epoch, (value, loss) in enumerate(offers, start=1):
        torch.nn.init.constant_(model.weight, float(epoch))
        best.offer(value, loss, epoch, model)
    assert (best.epoch, best.score, float(best.weights["weight"])) == (3, 0.5, 3.0)


def test_a_multi_label_task_is_tuned_with_binary_cross_entropy():
    def several(seed):
        data = spectrograms(32, seed=seed)
        shares = torch.nn.functional.one_hot(data.targets, 4).float()
        shares[::5, 0] = 1.0
        return dataclasses.replace(data, targets=shares)

    config = dataclasses.replace(QUICK, loss="bce", epochs=2)
    result = tune(several(0), several(1), config)
    assert 0 < result.score <= 1 and "mAP" in result.history[0]
    with pytest.raises(ValueError, match="use 'bce' for a multi-label task"):
        tune(several(0), several(1), QUICK)


def test_bad_data_and_settings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"no training clip has the classes \['wind'\]"):
        data = spectrograms(32)
        tune(data.subset(data.targets < 3))
    grouped = dataclasses.replace(spectrograms(32), groups=torch.arange(32))
    with pytest.raises(ValueError, match=r"groups \[0, 1.*training and the test data"):
        tune(grouped, grouped)
    for changes, message in (
        ({"warmup_epochs": 8}, "got warmup_epochs=8 of epochs=8"),
        ({"mixup_probability": 1.5}, "mixup_probability must be between 0 and 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            tune(config=dataclasses.replace(QUICK, **changes))


def test_a_run_that_diverges_says_so_and_keeps_its_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setitem(RANGES, "learning_rate", (0, 1e38))
    wild = dataclasses.replace(QUICK, learning_rate=1e38, clip_norm=0.0, warmup_epochs=0)
    with pytest.raises(NotFiniteError, match="lower the learning rate"):
        tune(config=wild, output_dir=tmp_path)
    assert not (tmp_path / "last.pt").exists()
