"""Pin: clips in memory are handed out as a `ClipSource`, and are told apart by their content."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.frontends import ATSTFrontend
from audiossl_lite.training import identity
from audiossl_lite.training.sources import ClipSource, InMemory, data_digest, data_sums, same_sums


def test_batches_are_the_rows_asked_for(generator):
    data = torch.randn(7, 30, generator=generator)
    source = InMemory(data, torch.arange(24, 31))
    indices = torch.tensor([6, 0, 0, 3])
    clips, lengths = source.batch(indices, "cpu")
    assert isinstance(source, ClipSource)
    assert len(source) == 7
    assert torch.equal(clips, data[indices])
    assert lengths.tolist() == [30, 24, 24, 27]
    assert clips.dtype == torch.float32


def test_without_lengths_every_clip_is_whole_and_half_precision_comes_out_as_float32():
    source = InMemory(torch.ones(3, 5, 4, dtype=torch.float16))
    clips, lengths = source.batch(torch.arange(3), torch.device("cpu"))
    assert clips.shape == (3, 5, 4) and clips.dtype == torch.float32
    assert lengths.tolist() == [5, 5, 5]


def test_the_digest_is_that_of_the_run_identity_and_changes_with_the_content(generator):
    data = torch.randn(4, 100, generator=generator)
    assert InMemory(data).digest() == identity.data_digest(data) == data_digest(data)
    changed = data.clone()
    changed[2, 50] += 1
    assert InMemory(changed).digest() != InMemory(data).digest()
    assert InMemory(data[:, :99]).digest() != InMemory(data).digest()


def test_sums_forgive_rounding_and_notice_other_clips(generator):
    clips = 0.1 * torch.randn(300, 16_000, generator=generator)
    pictures = ATSTFrontend()(clips)
    for a in (clips, pictures, 1e-6 * clips):
        b = a * (1 + 1e-5 * torch.randn(a.shape, generator=generator))
        assert data_digest(a) != data_digest(b)
        assert same_sums(data_sums(a), data_sums(b)) and same_sums(data_sums(b), data_sums(a))
    other = clips.clone()
    other[123] = clips[124]
    assert not same_sums(data_sums(clips), data_sums(other))
    assert not same_sums(data_sums(clips), data_sums(clips.flip(0)))
    assert not same_sums(data_sums(clips), data_sums(clips[:, :-1]))
    assert not same_sums(data_sums(clips), data_sums(1.01 * clips))


def test_data_moves_once_for_each_device():
    source = InMemory(torch.randn(4, 6))
    source.batch(torch.arange(2), "cpu")
    source.batch(torch.arange(2), torch.device("cpu"))
    source.batch(torch.arange(2), "meta")
    assert len(source._on_device) == 2


def test_wrong_data_are_named():
    for data, lengths, word in (
        (torch.zeros(3), None, "floating-point data"),
        (torch.zeros(3, 4, dtype=torch.int16), None, "int16"),
        (torch.zeros(3, 4), torch.zeros(2), "lengths for 3 clips"),
    ):
        with pytest.raises(ValueError, match=word):
            InMemory(data, lengths)
