"""The fixed list of classes that training never hears."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.data.held_out import HELD_OUT, held_out_classes, split_heard
from audiossl_lite.data.sounds import synthetic_clips

ESC_10 = ("dog", "rain", "sea_waves", "crying_baby", "clock_tick", "sneezing", "helicopter",
          "chainsaw", "rooster", "crackling_fire")  # fmt: skip


def test_the_list_is_the_one_that_was_drawn():
    assert len(HELD_OUT["ESC-50"]) == 15 and len(HELD_OUT["FSDD"]) == 3
    assert {"pig", "rain", "sneezing", "engine", "glass_breaking"} < HELD_OUT["ESC-50"]


def test_known_names_use_the_list_and_part_of_a_data_set_its_part():
    assert held_out_classes(ESC_10) == ("rain", "sneezing")
    assert held_out_classes(("jackson", "lucas", "nicolas", "theo", "yweweler")) == (
        "nicolas", "yweweler",
    )  # fmt: skip


def test_other_names_hold_out_every_fourth():
    for names, held in (
        (("a", "b", "c", "d", "e", "f", "g", "h", "i"), ("d", "h")),
        (("b", "a"), ("b",)),
        (("rain", "b", "c", "d", "e"), ("e",)),  # one shared name is chance
        (("rain", "engine"), ("rain",)),  # something must be left to hear
    ):
        assert held_out_classes(names) == held_out_classes(names[::-1]) == held


def test_one_class_cannot_be_divided():
    with pytest.raises(ValueError, match="two or more"):
        held_out_classes(("rain", "rain"))


@pytest.mark.parametrize("pool", ["event", "voice", "note"])
def test_embedded_sounds_are_divided_by_the_list_and_the_same_for_every_seed(pool):
    parts = []
    for seed in (0, 1):
        clips = synthetic_clips(pool, clips_per_class=1, seed=seed, duration_s=0.5)
        heard, never = split_heard(clips)
        label, names = clips.labels[clips.task], clips.class_names[clips.task]
        assert set(heard.tolist()) | set(never.tolist()) == set(range(len(clips)))
        parts.append({names[i] for i in label[never].tolist()})
        assert parts[-1].isdisjoint({names[i] for i in label[heard].tolist()})
    assert parts[0] == parts[1] and any(parts[0] == listed for listed in HELD_OUT.values())


def test_clips_without_a_label_are_in_neither_part():
    clips = synthetic_clips("event", clips_per_class=1, duration_s=0.5)
    clips.labels["event"][0] = -1
    heard, never = split_heard(clips)
    assert 0 not in torch.cat([heard, never]).tolist()
