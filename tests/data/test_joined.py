"""Clips one after the other: batches equal the clips, silence is cropped, the cache is whole or absent."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile
import torch

from audiossl_lite.data.audio import AudioError
from audiossl_lite.data.corpus import Sound, list_sounds
from audiossl_lite.data.joined import (
    decoded_in,
    listing_key,
    read_corpus,
    waveforms_of,
    write_corpus,
)
from audiossl_lite.data.pack_items import sounding_span
from audiossl_lite.data.packing import pack
from audiossl_lite.data.resident import Joined, spectrograms_of
from audiossl_lite.data.store_format import StoreError
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend
from audiossl_lite.training.sources import ClipSource
from tests.data.sounds import put

CPU = torch.device("cpu")


def noise(n: int, seed: int = 0, gain: float = 0.1) -> torch.Tensor:
    return gain * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def corpus_of(folder, waves):
    sounds = [Sound("made", f"{i}", {"label": "x"}) for i in range(len(waves))]
    return write_corpus(folder / "sounds", sounds, key="k", read=lambda s: waves[int(s.name)])


def test_a_batch_is_its_clips_padded_with_silence(tmp_path):
    waves = [noise(n, n) for n in (4000, 16_000, 9000)]
    corpus = corpus_of(tmp_path, waves)
    source = waveforms_of(corpus, CPU)
    assert isinstance(source, ClipSource) and len(source) == 3
    clips, lengths = source.batch(torch.tensor([2, 0]), CPU)
    assert clips.shape == (2, 16_000) and lengths.tolist() == [9000, 4000]
    step = 1 / 32_768  # half of one
    for row, i in ((0, 2), (1, 0)):
        torch.testing.assert_close(clips[row, : len(waves[i])], waves[i], atol=step, rtol=0)
        assert not clips[row, len(waves[i]) :].any()


def test_overshoots_are_kept(tmp_path):
    wave = noise(8000)
    wave[100] = 1.7
    clips, _ = waveforms_of(corpus_of(tmp_path, [wave]), CPU).batch(torch.tensor([0]))
    assert clips.max().item() == pytest.approx(1.7, abs=1e-4)


def test_views_get_the_part_that_sounds_but_no_less_than_they_need(tmp_path):
    loud_end = torch.cat([torch.zeros(32_000), noise(16_000), torch.zeros(16_000)])
    short = torch.cat([noise(3200), torch.zeros(1600)])
    corpus = corpus_of(tmp_path, [loud_end, short])
    assert corpus.spans.tolist() == [[32_000, 48_000], [0, 3200]]
    whole = waveforms_of(corpus, CPU)
    assert whole.lengths.tolist() == [64_000, 4800]
    tight = waveforms_of(corpus, CPU, at_least_s=0.1)
    assert tight.lengths.tolist() == [16_000, 3200]
    clips, _ = tight.batch(torch.tensor([0]))
    torch.testing.assert_close(clips[0], loud_end[32_000:48_000], atol=1e-4, rtol=0)
    wide = waveforms_of(corpus, CPU, at_least_s=2.0)
    assert wide.lengths.tolist() == [32_000, 4800]  # never more than there is


def test_a_quiet_clip_has_a_span_too():
    samples = np.zeros(1600, dtype=np.int16)
    samples[800:960] = 3
    assert sounding_span(samples) == (800, 960)
    assert sounding_span(samples[800:900]) == (0, 100)


@pytest.mark.parametrize("frontend", [ATSTFrontend("paper"), AudioMAEFrontend(1008, n_mels=64)])
def test_spectrograms_are_those_of_the_clips_alone(tmp_path, frontend):
    waves = [noise(n, n) for n in (4000, 16_000)]
    source = spectrograms_of(waveforms_of(corpus_of(tmp_path, waves), CPU), frontend)
    frames = [frontend.n_frames(len(w)) for w in waves]
    assert source.lengths.tolist() == frames
    clips, _ = source.batch(torch.tensor([0, 1]))
    for i, wave in enumerate(waves):
        torch.testing.assert_close(
            clips[i, : frames[i]], frontend(wave[None])[0, : frames[i]], atol=5e-3, rtol=5e-3
        )
    silence = frontend(torch.zeros(1, 4000))[0, -1, 0].item()
    assert clips[0, -1, 0].item() == pytest.approx(silence, abs=1e-3)


def test_the_digest_changes_with_the_clips():
    data = torch.arange(100, dtype=torch.int16)
    starts, lengths = torch.tensor([0, 50]), torch.tensor([50, 50])
    digest = Joined(data, starts, lengths, size=50).digest()
    assert digest == Joined(data.clone(), starts, lengths, size=50).digest()
    assert digest != Joined(data, starts, lengths, size=40).digest()
    assert digest != Joined(data + 1, starts, lengths, size=50).digest()
    assert digest != Joined(data, starts + 1, lengths, size=49).digest()


def test_the_digest_is_that_of_the_sounds_wherever_they_lie(tmp_path):
    waves = [noise(n, n) for n in (4000, 9000)]
    digests = [corpus_of(tmp_path / name, waves).store.digest() for name in "ab"]
    assert digests[0] == digests[1]
    assert corpus_of(tmp_path / "c", waves[::-1]).store.digest() != digests[0]


def test_long_files_become_clips_of_the_same_group(tmp_path):
    wave = noise(16_000 * 21)
    corpus = corpus_of(tmp_path, [wave, noise(16_000 * 10 + 100)])
    # A rest of 6 ms is left out.
    assert [s.name for s in corpus.sounds] == ["0#0", "0#1", "0#2", "1"]
    assert len({s.value("group") for s in corpus.sounds[:3]}) == 1
    assert corpus.lengths.tolist() == [160_000, 160_000, 16_000, 160_000]


def test_every_decoder_works_with_one_thread_and_the_number_of_threads_stays(tmp_path):
    before, seen = torch.get_num_threads(), []

    def read(sound):
        seen.append(torch.get_num_threads())
        if sound.name == "2":
            raise MemoryError("no memory")
        return noise(4000)

    sounds = [Sound("made", f"{i}", {"label": "x"}) for i in range(3)]
    torch.set_num_threads(2)
    try:
        write_corpus(tmp_path / "sounds", sounds[:2], key="k", read=read)
        assert torch.get_num_threads() == 2
        seen.remove(2)  # the estimate of the size
        seen.remove(2)
        with pytest.raises(MemoryError, match="no memory"):
            write_corpus(tmp_path / "sounds", sounds, key="other", read=read)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bad_files_are_named_and_another_key_begins_anew(tmp_path):
    def read(sound):
        if sound.name == "1":
            raise AudioError("x.wav", "unreadable", "cut", "replace it")
        if sound.name == "2":
            return torch.full((8000,), 1e-7)
        return noise(8000)

    sounds = [Sound("made", f"{i}", {}) for i in range(3)]
    folder = tmp_path / "sounds"
    corpus = write_corpus(folder, sounds, key="k", read=read)
    assert corpus.skipped == (("made/1", "unreadable"), ("made/2", "silent"))
    again = read_corpus(folder, "k")
    assert again.sounds == corpus.sounds and again.store.digest() == corpus.store.digest()
    assert read_corpus(folder, "other") is None
    assert read_corpus(tmp_path / "nothing") is None
    (folder / "scores.pt").touch()
    assert write_corpus(folder, sounds, key="new", read=read).key == "new"
    assert not (folder / "scores.pt").exists()
    with pytest.raises(ValueError, match="no clip left, 1 skipped: unreadable"):
        write_corpus(folder, sounds[1:2], key="bad", read=read)


def class_folders(folder):
    put(folder / "a" / "x.wav")


def other_store(folder):
    class_folders(folder.parent / "other")
    pack(folder.parent / "other", folder, kind="waveform", workers=0)


def corpus_beside_notes(folder):
    corpus_of(folder.parent, [noise(4000)])
    (folder / "notes.txt").write_text("mine")


def other_json(folder):
    folder.mkdir()
    (folder / "store.json").write_text('{"shop": "mine"}')


@pytest.mark.parametrize(
    ("fill", "named"),
    [
        (class_folders, "sounds: a is no part of a decoded corpus"),
        (other_store, "sounds: part-00000.bin is no part of a decoded corpus"),
        (corpus_beside_notes, "sounds: notes.txt is no part of a decoded corpus"),
        (other_json, "store.json: damaged, or written by something else"),
    ],
)
def test_nothing_that_is_not_ours_is_deleted(tmp_path, fill, named):
    """`speedrun --data X/sounds --out X` once deleted the recordings."""
    folder = tmp_path / "sounds"
    fill(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    sounds = [Sound("made", "0", {})]
    with pytest.raises(StoreError, match=named):
        write_corpus(folder, sounds, key="new", read=lambda s: noise(4000))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_packed_store_of_another_kind_is_no_corpus(tmp_path):
    path = tmp_path / "audio" / "a" / "x.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.full(16_000, 0.1), 16_000)
    pack(tmp_path / "audio", tmp_path / "data" / "sounds", kind="waveform", workers=0)
    assert decoded_in(tmp_path / "data") is None


def test_a_corpus_is_known_by_what_its_files_hold(tmp_path):
    """A copy elsewhere with other dates is the same; other sound of the same size and date is not."""
    for name, first in (("a", 0.1), ("b", 0.2)):
        path = tmp_path / "one" / name / "x.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.full(800, first), 16_000)
    key = listing_key(list_sounds(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "deep" / "one", copy_function=shutil.copyfile)
    assert listing_key(list_sounds(tmp_path / "deep" / "one")) == key
    path = tmp_path / "one" / "a" / "x.wav"
    before = path.stat()
    soundfile.write(path, np.full(800, 0.3), 16_000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert listing_key(list_sounds(tmp_path / "one")) != key
