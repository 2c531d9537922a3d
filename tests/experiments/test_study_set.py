"""The encoders of a study as the set that chapters 10 to 12 evaluate: clips, names, scores and starts are its own."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.data.corpus import held_out, tasks
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.data.joined import clips_of_tasks, read_corpus, waveforms_of
from audiossl_lite.experiments import workshop
from audiossl_lite.experiments.networks import UNTRAINED
from audiossl_lite.experiments.real_sounds.scores import load_scores
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.study_set import encoder_set, evaluation_pools
from audiossl_lite.training import load_checkpoint
from tests.experiments.test_workshop import NAMES, toy  # noqa: F401
from tests.experiments.tiny_sets import SHORT_CNN

RUNS = preset("encoders", "lite", {"n_seeds": 1, "variant": "No Mixing"})


@pytest.fixture
def study(tmp_path, toy, monkeypatch):  # noqa: F811
    monkeypatch.setitem(workshop.RUNS, "BYOL-A", workshop.RUNS["BYOL-A"] | SHORT_CNN)
    workshop.train_all(tmp_path, None, [*NAMES, "BYOL-A"], [0])
    return tmp_path


def test_each_task_has_its_clips_and_says_which_were_never_heard(study):
    corpus = read_corpus(study / "sounds")
    never = held_out(list(corpus.sounds))
    sets = clips_of_tasks(corpus)
    assert [clips.task for clips in sets] == [task.name for task in tasks(list(corpus.sounds))]
    for clips, task in zip(sets, tasks(list(corpus.sounds)), strict=True):
        heard, held = split_heard(clips)
        assert sorted([*heard.tolist(), *held.tolist()]) == list(range(len(clips)))
        assert held.tolist() == never[task.clips].nonzero().flatten().tolist()
        assert clips.groups[task.name].equal(task.groups)
        one = waveforms_of(corpus, torch.device("cpu"), task.clips[3:4]).batch([0])[0][0]
        assert clips.waveforms[3, : len(one)].equal(one)
        part = clips.subset(held)
        assert part.held.all() and part.fingerprint() != clips.fingerprint()


def test_encoders_and_their_scores_are_those_of_the_study(study):
    """An encoder embeds as it did when the study scored it; starts are those that training began from."""
    pools = evaluation_pools(str(study), RUNS)
    zoo = encoder_set(pools, RUNS, "workshop", data_root=str(study), device="cpu")
    assert zoo.names() == [
        f"BYOL-A{UNTRAINED}", "BYOL-A", f"ATST{UNTRAINED}", "ATST",
        f"AudioMAE{UNTRAINED}", "AudioMAE", "uaMix-MAE",
    ]  # fmt: skip
    scores = load_scores(study / "sounds" / "scores.pt")
    corpus = read_corpus(study / "sounds")
    for name, run, stage, step in (
        ("BYOL-A", "BYOL-A", "byol_a_0", 4),
        ("ATST", "ATST", "atst_0", 4),
        (f"ATST{UNTRAINED}", f"ATST{UNTRAINED}", "atst_0", 0),
        (f"AudioMAE{UNTRAINED}", f"AudioMAE{UNTRAINED}", "audiomae_0", 0),
        ("uaMix-MAE", "uaMix-MAE: No Mixing", "no_mixing_0", 4),
    ):
        network = zoo.network(name, 0)
        features = torch.zeros(len(corpus.sounds), network.encoder.embed_dim)
        for pool, task in zip(pools, tasks(list(corpus.sounds)), strict=True):
            features[task.clips] = network.embed(pool.test)
        recorded = load_checkpoint(study / "stages" / stage / f"scores_{step}.pt")[run]
        for column, values in scores.of(features[scores.used]).items():
            # Weights are stored in 16 bits: a few queries near a border may change sides.
            assert values.mean() == pytest.approx(recorded[column].mean().item(), abs=1.5), column
    assert zoo.seconds > 0
    assert all(
        text.startswith("the study holds ") and "; training hears " in text
        for text in zoo.about_training()
    )
    assert zoo.settings()["ATST"]["steps"] == 4


def test_what_a_study_lacks_is_named_with_the_command(study):
    pools = evaluation_pools(str(study), RUNS)
    zoo = encoder_set(pools, RUNS, "workshop", data_root=str(study), device="cpu")
    with pytest.raises(FileNotFoundError, match='--only "TF-CutMix" --seeds 1'):
        zoo.network("uaMix-MAE: TF-CutMix", 0)
    assert zoo.network(f"BYOL-A{UNTRAINED}", 5).chunk_frames == 0
    with pytest.raises(KeyError, match="unknown encoder 'ATSTT'"):
        zoo.network("ATSTT", 0)
    with pytest.raises(KeyError, match="read, not trained"):
        zoo.trained("ATST", 0)
    more = preset("encoders", "lite", {"n_seeds": 2})
    with pytest.raises(
        RuntimeError, match="lacks BYOL-A; ATST; AudioMAE; T-CutMix, rule paper with 2 seeds"
    ):
        encoder_set(pools, more, "workshop", data_root=str(study))


def test_other_folders_are_as_before(tmp_path):
    assert evaluation_pools("", RUNS)[0].test.held is None
    assert set(encoder_set([], RUNS).configs) == {"BYOL-A", "ATST", "AudioMAE", "uaMix-MAE"}
