"""Pin: the batched data path and the clip-by-clip pipeline of `make bench` make the same views."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.data_pairs import views_pair


@pytest.mark.parametrize("cut", ["waveform", "spectrogram"])
def test_both_sides_make_the_same_views_batch_after_batch(cut):
    pair = views_pair(cut, n_clips=3, clip_s=1.5, segment_s=0.8)
    for _ in range(3):  # the memories fill and overflow alike
        fast, obvious = torch.stack(pair.fast()), torch.stack(pair.obvious())
        assert fast.shape == obvious.shape == (2, 3, 81, 64)
        assert (fast - obvious).abs().max() <= pair.tolerance
    assert fast.std() > 0.1
    assert (fast[0] - fast[1]).abs().max() > 0.1  # two views, not one
