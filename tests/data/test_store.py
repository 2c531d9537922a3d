"""Pin: a packed store gives back what was packed, in any batch and from any device memory, or says what is wrong."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from audiossl_lite.data import store
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.packing import pack
from audiossl_lite.data.recipes import make_recipe, recipe_frontend, to_int16
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import StoreError, sealed, verify_store
from audiossl_lite.training.sources import ClipSource, InMemory
from tests.data.sounds import put

LENGTHS = (4000, 6001, 5000, 1600, 6001, 900, 4000)


def noise(n_samples: int, seed: int) -> np.ndarray:
    """16-bit noise that uses all levels, the extremes too."""
    samples = np.random.default_rng(seed).integers(-32768, 32768, n_samples).astype(np.int16)
    samples[:2] = (-32768, 32767)
    return samples


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    for number, n_samples in enumerate(LENGTHS):
        put(root / f"class{number % 3}" / f"{number}.wav", noise(n_samples, number))
    return root


@pytest.fixture(scope="module")
def waveforms(data_root, tmp_path_factory):
    return pack(data_root, tmp_path_factory.mktemp("store"), workers=0, clips_per_part=3)


@pytest.fixture(scope="module")
def clips(data_root):
    return load_clips(data_root)


@pytest.fixture(scope="module", params=["atst", "atst_paper", "audiomae"])
def spectrograms(request, data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return pack(data_root, folder, kind=request.param, workers=0, clips_per_part=3)


def test_the_round_trip_is_exact(waveforms, clips):
    assert waveforms.kind == "waveform"
    assert len(waveforms) == len(clips) == len(LENGTHS)
    packed, lengths = waveforms.batch(torch.arange(len(clips)), "cpu")
    assert torch.equal(packed, clips.waveforms) and torch.equal(lengths, clips.lengths)
    assert tuple(waveforms.manifest["names"]) == clips.names
    assert waveforms.nbytes == 2 * sum(LENGTHS)
    assert waveforms.manifest["clipped"] == []


def test_every_sixteen_bit_level_survives():
    levels = torch.arange(-32768, 32768).to(torch.int16)
    back, clipped = to_int16(levels.float() / 32768)
    assert torch.equal(back, levels)
    assert not clipped
    loud, clipped = to_int16(torch.tensor([1.5, -1.5, 0.0]))
    assert loud.tolist() == [32767, -32768, 0]
    assert clipped


def test_read_gives_rows_padded_with_silence(waveforms, clips):
    indices = torch.tensor([5, 0, 5, 3])
    raw, lengths = waveforms.read(indices)
    assert raw.dtype == torch.int16
    assert raw.shape == (4, int(clips.lengths[indices].max()))
    assert torch.equal(lengths, clips.lengths[indices])
    for row, length, index in zip(raw, lengths, indices):
        assert torch.equal(waveforms.decoded(row[:length]), clips.waveforms[index, :length])
        assert not row[length:].any()


def test_read_with_a_size_pads_and_never_cuts(waveforms, clips):
    index = torch.arange(len(clips))
    wide, lengths = waveforms.read(index, 7000)
    assert wide.shape == (len(clips), 7000)
    assert torch.equal(lengths, clips.lengths)
    assert not wide[:, 6001:].any()
    with pytest.raises(ValueError, match="a clip has 6001 frames, size is 6000"):
        waveforms.read(index, 6000)


def test_batches_equal_those_from_memory(waveforms, clips, generator):
    memory = InMemory(clips.waveforms, clips.lengths)
    held = waveforms.resident("cpu")
    for source in (waveforms, held):
        assert isinstance(source, ClipSource)
        assert len(source) == len(memory)
        assert torch.equal(source.lengths, memory.lengths)
        for size in (1, 4, 30):
            indices = torch.randint(len(clips), (size,), generator=generator)
            for found, expected in zip(source.batch(indices, "cpu"), memory.batch(indices, "cpu")):
                assert found.dtype == expected.dtype
                assert torch.equal(found, expected)
    assert held.digest() == waveforms.digest()


def test_spectrograms_stay_within_half_precision(spectrograms, clips):
    frontend = recipe_frontend(spectrograms.made)
    pad_value = torch.tensor(spectrograms.made["pad_value"]).half().float()
    found, lengths = spectrograms.batch(torch.arange(len(clips)), "cpu")
    assert found.dtype == torch.float32
    for row, length, waveform, n in zip(found, lengths, clips.waveforms, clips.lengths):
        n_frames = frontend.n_frames(int(n))
        exact = frontend(waveform[None, :n])[0, :n_frames]
        assert length == n_frames
        # half a unit in the last of 11 significant bits
        assert ((row[:length] - exact).abs() <= exact.abs() / 2048 + 1e-7).all()
        assert (row[length:] == pad_value).all()


def test_resident_spectrograms_equal_those_from_disk(spectrograms, generator):
    held = spectrograms.resident("cpu")
    indices = torch.randint(len(spectrograms), (20,), generator=generator)
    for found, expected in zip(held.batch(indices), spectrograms.batch(indices, "cpu")):
        assert torch.equal(found, expected)


def test_audiomae_batches_have_the_frames_that_the_frontend_would_give(clips, data_root, tmp_path):
    made = pack(data_root, tmp_path, kind="audiomae", workers=0)
    found, _ = made.batch(torch.arange(len(clips)), "cpu")
    assert found.shape == (len(clips), 1024, 128)
    longest = int(clips.lengths.argmax())  # the only kind of clip that load_clips does not pad
    exact = recipe_frontend(made.made)(clips.waveforms[longest : longest + 1])[0]
    assert (found[longest] - exact).abs().max() < 2e-3


def test_the_padding_of_atst_is_what_silence_becomes():
    for kind in ("atst", "atst_paper"):
        made = make_recipe(kind)
        silent = recipe_frontend(made)(torch.zeros(1, 1600))
        assert torch.allclose(silent, torch.full_like(silent, made["pad_value"]), atol=1e-6)


def test_max_s_keeps_the_same_centre_as_load_clips(data_root, tmp_path):
    packed = pack(data_root, tmp_path, max_s=0.1, workers=0)
    clips = load_clips(data_root, max_s=0.1)
    assert torch.equal(packed.batch(torch.arange(len(clips)), "cpu")[0], clips.waveforms)
    assert torch.equal(packed.lengths, clips.lengths)


def test_too_much_for_a_device_is_refused_with_both_numbers(waveforms, monkeypatch):
    monkeypatch.setattr(store, "free_bytes", lambda device: 1 << 12)
    with pytest.raises(StoreError, match=r"need 0\.00 GiB on cpu, 0\.00 GiB are free"):
        waveforms.resident("cpu")


def test_a_device_is_filled_in_pieces(waveforms, monkeypatch):
    whole = waveforms.resident("cpu").batch(torch.arange(len(LENGTHS)))
    monkeypatch.setattr(store, "CHUNK_BYTES", 9000)
    for ours, expected in zip(waveforms.resident("cpu").batch(torch.arange(len(LENGTHS))), whole):
        assert torch.equal(ours, expected)


def test_a_clip_that_is_not_there_is_named(waveforms):
    for index in (-1, 7):
        with pytest.raises(IndexError, match=f"no clip {index} in a store of 7"):
            waveforms.read(torch.tensor([0, index]))


def test_a_store_can_be_sent_to_another_process(waveforms):
    sent = pickle.dumps(waveforms)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent).read([3])[0], waveforms.read([3])[0])


def test_the_digest_changes_with_content_labels_and_recipe(data_root, waveforms, tmp_path):
    def packed(name, change=None, **options):
        root = tmp_path / name
        for number, n_samples in enumerate(LENGTHS):
            put(root / f"class{number % 3}" / f"{number}.wav", noise(n_samples, number))
        if change:
            change(root)
        return pack(root, tmp_path / f"{name}-store", workers=0, clips_per_part=3, **options)

    same = packed("same").digest()
    assert same == waveforms.digest()
    assert len(same) == 8
    samples = noise(4000, 0)
    samples[2000] ^= 1
    others = [
        packed("sample", lambda root: put(root / "class0" / "0.wav", samples)).digest(),
        packed("label", lambda root: (root / "class2").rename(root / "classX")).digest(),
        packed("short", max_s=0.1).digest(),
    ]
    assert len({same, *others}) == 4


def copy_of(waveforms, folder):
    for path in waveforms.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_damage_is_named(waveforms, tmp_path):
    folder = copy_of(waveforms, tmp_path)
    assert verify_store(folder) == []
    data = folder / "part-00001.bin"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    (problem,) = verify_store(folder)
    assert problem.startswith(f"{data}: class1/1.wav has a wrong checksum")
    store = PackedStore(folder)
    store.read([0, 4, 5, 6])
    with pytest.raises(StoreError, match=r"part-00001\.bin: clip 3 is not what was packed"):
        store.read([3])
    data.write_bytes(content[:-2])
    assert "bytes, not" in verify_store(folder)[0]
    with pytest.raises(StoreError, match=r"part-00001\.bin has \d+ bytes"):
        PackedStore(folder)
    data.unlink()
    (folder / "part-00002.json").write_text("{}")
    first, second = verify_store(folder)
    assert "part-00001.bin is missing" in first and "part-00002.json: damaged" in second
    with pytest.raises(StoreError, match=r"part-00001\.bin is missing"):
        PackedStore(folder)


def test_a_foreign_or_corrupt_header_is_an_error(tmp_path):
    for content, word in (
        (None, "no store.json"),
        (b"{", "damaged, or written by something else"),
        (b'{"format": "audiossl_lite packed store", "version": 1}', "written by something else"),
        (sealed({"version": 99}), "version 99, this library reads 2"),
    ):
        if content is not None:
            (tmp_path / "store.json").write_bytes(content)
        with pytest.raises(StoreError, match=word):
            PackedStore(tmp_path)
        assert word in verify_store(tmp_path)[0]


def test_a_part_of_another_store_is_an_error(waveforms, data_root, tmp_path):
    folder = copy_of(waveforms, tmp_path)
    other = pack(data_root, tmp_path / "other", workers=0, clips_per_part=2)
    for suffix in (".bin", ".json"):
        content = (other.folder / f"part-00000{suffix}").read_bytes()
        (folder / f"part-00000{suffix}").write_bytes(content)
    with pytest.raises(StoreError, match=r"part-00000\.json: not the one that store\.json lists"):
        PackedStore(folder)


def test_the_header_says_how_the_store_was_made(data_root, tmp_path):
    store = pack(data_root, tmp_path / "store", kind="atst", workers=0)
    made = json.loads((store.folder / "store.json").read_text())["content"]["made"]
    assert store.made == made and store.kind == "spectrogram"
    assert made["frontend"] == "ATSTFrontend"
    assert made["constants"] == {"variant": "official", "min_db": -79.6482, "max_db": 50.6842}
    assert (made["hop_s"], made["n_mels"]) == (0.01, 64)
