"""Stage "sounds": decode the corpus once, draw the episodes of its tasks, and score what needs no training."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from audiossl_lite.data.corpus import embedded_sounds, held_out, list_sounds, tasks
from audiossl_lite.data.joined import (
    Corpus,
    Joined,
    decoded_in,
    listing_key,
    read_corpus,
    waveforms_of,
    write_corpus,
)
from audiossl_lite.data.sounds.synthetic import POOLS, synthetic_clips
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.conditioning import conditioned
from audiossl_lite.experiments.real_sounds.scores import (
    START,
    TaskScores,
    draw_scores,
    embed_all,
    load_scores,
)
from audiossl_lite.experiments.real_sounds.task import Task, refuse_other_sounds
from audiossl_lite.experiments.records import record_row

SHOWN_SKIPS = 20
STANDARDISED = ", standardised"


def run(task: Task) -> None:
    """Decode the sounds of a run into its folder, or take those that lie there, and record what there is."""
    began = time.monotonic()
    corpus, reused = decoded(task.out, task.data, toy=task.toy)
    seconds = time.monotonic() - began
    scores = scored(task, corpus)
    sounds = list(corpus.sounds)
    held = held_out(sounds)
    task.write(
        [
            record_row(name, by_column, scores.baselines[START])
            for name, by_column in scores.baselines.items()
        ],
        config={"ways": scores.ways(), "n_episodes": len(scores.columns[0].episodes)},
        data=described(corpus),
        data_fingerprint=corpus.key,
        headline=described(corpus),
        note="".join(f"Left out: {name}: {why}. " for name, why in scores.left_out.items()),
        sounds={
            "clips": len(sounds),
            "hours": round(corpus.hours, 3),
            "held_out": int(held.sum()),
            "by_set": dict(Counter(sound.source for sound in sounds)),
            "decoding_seconds": None if reused else round(seconds, 2),
            "skipped": len(corpus.skipped),
            "skipped_reasons": dict(Counter(reason for _, reason in corpus.skipped)),
            "skipped_names": [name for name, _ in corpus.skipped[:SHOWN_SKIPS]],
        },
        tasks=[
            {
                "task": part.name,
                "source": part.source,
                "clips": len(part.clips),
                "classes": len(part.class_names),
                "never_heard": int(part.never.sum()),
            }
            for part in tasks(sounds)
        ],
    )


def decoded(out: Path, data: Path | None, *, toy: bool = False) -> tuple[Corpus, bool]:
    """The decoded sounds of the run in `out`, and whether they lay there already.

    Raises ValueError when the run has recorded other sounds, and as `write_corpus`.
    """
    folder = Path(out) / "sounds"
    if data is None:
        size = {"clips_per_class": 3, "duration_s": 0.55} if toy else {"clips_per_class": 60}
        key = f"embedded {size}"
    else:
        sounds = list_sounds(data)
        key = listing_key(sounds)
    refuse_other_sounds(out, key, data)
    corpus = read_corpus(folder, key)
    if corpus is not None:
        return corpus, True
    if data is None:
        parts = [(pool, synthetic_clips(pool, **size)) for pool in POOLS]
        sounds = embedded_sounds(parts)
        waveforms = {name: w for _, part in parts for name, w in zip(part.names, part.waveforms)}
        return write_corpus(folder, sounds, key=key, read=lambda s: waveforms[s.name]), False
    return write_corpus(folder, sounds, key=key), False


def study_corpus(out: str | Path) -> Corpus:
    """The decoded sounds of a study's folder; ValueError says what makes them."""
    corpus = decoded_in(out)
    if corpus is None:
        raise ValueError(f"no sounds in {out}; make them with: audiossl_lite workshop --out {out}")
    return corpus


@torch.no_grad()
def scored(task: Task, corpus: Corpus) -> TaskScores:
    """Episodes and baselines of the run, kept beside its sounds."""
    path = Path(task.out) / "sounds" / "scores.pt"
    if path.is_file():
        return load_scores(path)
    # Where an hour is for training, only what is reported is scored.
    heard = task.scale != "workshop"
    scores = draw_scores(list(corpus.sounds), n_episodes=20 if task.toy else 600, heard=heard)
    if not scores.columns:
        raise ValueError(f"these sounds allow no few-shot task: {scores.left_out or 'no labels'}")
    waveforms = waveforms_of(corpus, task.device, torch.arange(len(corpus.sounds)))
    add_baselines(scores, waveforms, ~held_out(list(corpus.sounds)))
    scores.save(path)
    return scores


def add_baselines(scores: TaskScores, waveforms: Joined, heard: Tensor) -> None:
    """Score the baselines as they are, and standardised by the clips that training hears; `heard (n,)` of all clips."""
    features = {name: embed_all(waveforms, statistics) for name, statistics in BASELINES.items()}
    for name, x in features.items():
        scores.baselines[name] = scores.of(x[scores.used])
    for name, x in features.items():
        standardised = conditioned(x, "standardised", fit_on=x[heard])
        scores.baselines[f"{name}{STANDARDISED}"] = scores.of(standardised[scores.used])


def described(corpus: Corpus) -> str:
    """One line for a record: the data sets with their numbers of clips, and how much training hears."""
    counts = Counter(sound.source for sound in corpus.sounds)
    held = int(held_out(list(corpus.sounds)).sum())
    parts = ", ".join(f"{name} {n}" for name, n in counts.items())
    return f"{len(corpus.sounds)} clips, {corpus.hours:.2f} h ({parts}); training hears {len(corpus.sounds) - held}"
