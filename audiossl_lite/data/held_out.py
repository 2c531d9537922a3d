"""Classes that no training run of the uaMix-MAE chapters hears: a fixed list, the same for every seed and method."""

from __future__ import annotations

import torch
from torch import Tensor

from audiossl_lite.data.clips import Clips

# Fixed before any run that is recorded: three of ten from each of ESC-50's five groups, by a seeded draw; three of
# FSDD's six speakers; a quarter of the embedded sounds. First trials of the settings had another division of ESC-50.
HELD_OUT: dict[str, frozenset[str]] = {
    "ESC-50": frozenset(
        {
            *("pig", "crow", "frog", "pouring_water", "thunderstorm", "rain"),
            *("sneezing", "coughing", "laughing", "glass_breaking", "keyboard_typing"),
            *("door_wood_creaks", "engine", "siren", "fireworks"),
        }
    ),
    "FSDD": frozenset(("george", "nicolas", "yweweler")),
    "embedded events": frozenset(
        ("clap", "typing", "two_tone", "rising", "rotor", "breath", "warble", "bark")
    ),
    "embedded speakers": frozenset(("dan", "ivo", "jun")),
    "embedded instruments": frozenset(("banjo", "steelpan", "cello", "clarinet")),
}


def held_out_classes(class_names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Those of the names that are never heard in training, in alphabetical order.

    They come from the list in `HELD_OUT` that shares most names with these, if it shares two or more. Of names
    that no list knows, every fourth in alphabetical order is held out. Raises ValueError for fewer than two names.
    """
    names = sorted(set(class_names))
    if len(names) < 2:
        raise ValueError(f"holding classes out needs two or more, found {names}")
    held = max((listed & set(names) for listed in HELD_OUT.values()), key=len)
    if len(held) < 2 or len(held) == len(names):
        held = set(names[min(3, len(names) - 1) :: 4])
    return tuple(sorted(held))


def split_heard(clips: Clips) -> tuple[Tensor, Tensor]:
    """Indices (heard, never heard) of the labelled clips: as `clips.held` says, or by the fixed list of classes.

    Raises ValueError for fewer than two classes.
    """
    label, names = clips.labels[clips.task], clips.class_names[clips.task]
    if clips.held is not None:
        labelled = label >= 0
        return tuple((labelled & part).nonzero().flatten() for part in (~clips.held, clips.held))
    present = label[label >= 0].unique().tolist()
    held = set(held_out_classes([names[i] for i in present]))
    never = torch.isin(label, torch.tensor([i for i in present if names[i] in held]))
    return ((label >= 0) & ~never).nonzero().flatten(), never.nonzero().flatten()
