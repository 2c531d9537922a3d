"""`check`: a sound encoder passes, each of eight planted faults is found by name, and the command says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from audiossl_lite.pretrained import check, load_any
from audiossl_lite.pretrained.checks import (
    CHECKS,
    a_minute,
    check_encoder,
    golden,
    what_it_is,
)
from audiossl_lite.pretrained.foreign import adapt
from audiossl_lite.pretrained.shipped import shipped_encoders
from tests.pretrained import toys


def failed(model) -> set[str]:
    return {finding.name for finding in check_encoder(model) if finding.passed is False}


def toy(kind: type) -> object:
    module = kind()
    return adapt(module, module, name=kind.__name__)


def test_the_toy_itself_passes():
    assert not failed(toy(toys.Toy))


@pytest.mark.parametrize("kind", toys.FAULTS, ids=lambda kind: kind.__name__)
def test_every_planted_fault_is_found_by_the_check_named_after_it(kind):
    assert toys.FAULTS[kind] in failed(toy(kind))


def test_the_faults_do_not_hide_in_one_check():
    """Each has a check of its own, so that the table says what is wrong and not only that something is."""
    assert len(set(toys.FAULTS.values())) == len(toys.FAULTS) == 8
    assert failed(toy(toys.PaddingLeaks)) == {"padded"}
    assert failed(toy(toys.HalfOverflows)) == {"float16"}
    assert "order of the batch" not in failed(toy(toys.BatchDependent))


@pytest.mark.parametrize("name", [*shipped_encoders(), "log-mel", "mfcc"])
def test_what_ships_passes(name):
    findings = check_encoder(load_any(name))
    assert [finding.name for finding in findings] == list(CHECKS)
    assert not [finding for finding in findings if finding.passed is False]


def test_shipped_encoders_have_a_golden_vector_and_another_is_noticed():
    model = load_any("cnn_events")
    assert golden(model, torch.zeros(0))[0] is True
    moved = [1.01 * value for value in model.about["golden"]]
    assert golden(replace(model, about={"golden": moved}), torch.zeros(0))[0] is False


def test_probabilities_are_no_embedding_and_a_model_without_lengths_gets_a_figure(capsys):
    assert check.main(["tests.pretrained.toys:probabilities"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (what,) = [line for line in lines if line.startswith("what it is")]
    assert "FAIL" in what and "rows sum to 1: probabilities" in what
    (padding,) = [line for line in lines if line.startswith("padded")]
    assert " -  " in padding and "never pad for it" in padding


def test_what_comes_out_of_a_relu_or_a_sigmoid_is_told_apart():
    wave, vectors = (
        torch.zeros(32, 99),
        torch.randn(32, 64, generator=torch.Generator().manual_seed(0)),
    )
    kinds = {
        "relu": vectors.relu() / 9,
        "sigmoid": vectors.sigmoid(),
        "log": vectors.log_softmax(1),
    }
    told = {name: what_it_is(adapt(lambda w, x=x: x), wave) for name, x in kinds.items()}
    assert told["relu"][0] is True and "50 % of them 0" in told["relu"][1]
    assert told["sigmoid"] == (False, "64 numbers between 0 and 1: probabilities")
    assert told["log"] == (False, "64 numbers whose exponentials sum to 1: log-probabilities")
    logits = what_it_is(adapt(lambda w: torch.randn(32, 527)), wave)
    assert logits == (None, "527 numbers, as many as classes of AudioSet: logits?")


def test_a_model_that_hears_ten_seconds_says_so():
    def first_second(waveform):
        return waveform[:, :16_000].unflatten(1, (-1, 2_000)).abs().mean(2)

    passed, detail = a_minute(adapt(first_second), torch.rand(4, 32_000))
    assert passed and "are NOT heard: cut long clips" in detail


def test_a_collapsed_encoder_is_named():
    found = failed(adapt(lambda waveform: torch.ones(len(waveform), 8) * 2.0 - waveform[:, :8] * 0))
    assert {"rank", "spread"} <= found


def test_the_status_says_what_happened(capsys):
    assert check.main(["tests.pretrained.toys:make_toy"]) == 0
    assert "19 checks, 0 failed" in capsys.readouterr().out
    assert check.main(["cnn_event"]) == 2
    assert "did you mean 'cnn_events'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        check.main(["cnn_events", "--deep"])
    assert stopped.value.code == 2
