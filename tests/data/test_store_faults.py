"""Pin: damage to a store and changes of its data never pass in silence, whenever they happen."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch

from audiossl_lite.data.pack_items import Item, estimate_bytes
from audiossl_lite.data.packing import pack
from audiossl_lite.data.recipes import make_recipe
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import StoreError, verify_store
from audiossl_lite.training import load_checkpoint
from audiossl_lite.training.step import batches
from audiossl_lite.views.segments import ViewMaker
from tests.data.sounds import hum, put
from tests.data.store_flips import FAULTS, flip_bits
from tests.data.test_datasets import make_esc50, write_csv
from tests.training.tiny_run import make_config, make_method, run

CPU = torch.device("cpu")


@pytest.fixture
def packed(tmp_path):
    """A folder of ten sounds of one length, and a store of two parts made of them."""
    noise = np.random.default_rng(0)
    for number in range(10):
        samples = noise.integers(-3000, 3000, 3000).astype(np.int16)
        put(tmp_path / "sounds" / f"class{number % 2}" / f"{number}.wav", samples)
    pack(tmp_path / "sounds", tmp_path / "store", workers=0, clips_per_part=5)
    return tmp_path / "sounds", tmp_path / "store"


def test_every_flipped_bit_is_noticed_by_name_and_none_is_blessed(tmp_path):
    counts = flip_bits(tmp_path, 45, seed=1)
    for count in counts.values():
        assert count["flips"] == count["refused"] == 15
        assert not any(count[fault] for fault in FAULTS)


def test_a_damaged_manifest_is_not_packed_over(packed):
    root, folder = packed
    manifest = folder / "part-00001.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b'"class":"class1"', b'"class":"class0"', 1))
    for _ in range(2):
        with pytest.raises(StoreError, match=r"part-00001\.json: damaged.*delete part-00001\.json"):
            pack(root, folder, workers=0)
    manifest.unlink()
    pack(root, folder, workers=0, clips_per_part=5)
    assert manifest.read_bytes() == content


def test_what_is_overwritten_while_it_is_read_is_noticed(packed):
    store = PackedStore(packed[1])
    everything = torch.arange(10)
    before, _ = store.read(everything)
    path = packed[1] / "part-00001.bin"
    with open(path, "r+b") as file:
        file.seek(7000)
        file.write(bytes(4096))
    os.utime(path, ns=(1, 1))  # a clock of coarse ticks may not have moved
    assert torch.equal(store.read(everything[:5])[0], before[:5])
    with pytest.raises(StoreError, match=r"part-00001\.bin: clip 6 is not what was packed"):
        store.read(everything)
    with pytest.raises(StoreError, match="clip 6"):
        store.resident("cpu")
    assert len(verify_store(packed[1])) == 1


def test_a_store_that_is_cut_off_ends_training_in_one_error_and_whole_again_the_run_goes_on(
    packed, tmp_path
):
    path = packed[1] / "part-00000.bin"
    content = path.read_bytes()
    calls = []

    def cut(*_):
        calls.append(1)
        if len(calls) == 6:
            os.truncate(path, 8192)

    def train_into(folder, hook=None, data=None):
        method, views = make_method(), ViewMaker(1000, crop_from="waveform", frontend=frames)
        if hook is not None:
            method.register_forward_pre_hook(hook)
        data = PackedStore(packed[1]) if data is None else data
        run(folder, method=method, views=views, data=data, config=make_config(batch_size=4))
        return load_checkpoint(folder / "last.pt")

    with pytest.raises(StoreError, match=r"part-00000\.bin: cut off, 8192 bytes are left of 30000"):
        train_into(tmp_path / "run", cut)
    with pytest.raises(StoreError, match=r"has 8192 bytes, not 30000"):
        PackedStore(packed[1])
    path.write_bytes(content)
    ends = [
        train_into(tmp_path / "run"),
        train_into(tmp_path / "whole"),
        train_into(tmp_path / "resident", data=PackedStore(packed[1]).resident("cpu")),
    ]
    for end in ends[1:]:
        assert end["identity"] == ends[0]["identity"]
        for name, value in end["method"].items():
            assert torch.equal(value, ends[0]["method"][name])


def frames(clips):
    """A stand-in for a frontend: eight samples of every hundred."""
    return clips.unfold(1, 100, 100)[..., :8]


def test_parts_that_vanish_are_read_to_the_end_and_named_at_the_next_start(packed):
    store = PackedStore(packed[1])
    before, _ = store.batch(torch.arange(10), CPU)
    shutil.rmtree(packed[1])
    feed = batches(store, CPU, range(3), lambda step: torch.arange(10))
    assert all(torch.equal(clips, before) for clips, *_ in feed)
    with pytest.raises(StoreError, match="no packed store"):
        PackedStore(packed[1])


def test_files_that_vanish_while_they_are_packed_stop_the_packer(packed, tmp_path):
    root = packed[0]
    with pytest.raises(StoreError, match=r"of 10 files 1 vanished .*class0/0\.wav.*start again"):
        pack(root, tmp_path / "new", workers=0, say=lambda line: shutil.rmtree(root / "class0"))
    assert [path.name for path in (tmp_path / "new").iterdir() if path.name[0] != "."] == [
        "store.json"
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a.wav", "cat"), ("b.wav", "dog")],
            r"a\.wav had labels \{'class': 'dog'\}, now .*'cat'",
        ),
        ([("a.wav", "dog")], r"b\.wav is no longer among the data"),
    ],
)
def test_packing_again_notices_labels_and_rows(tmp_path, rows, message):
    for name in "ab":
        put(tmp_path / f"{name}.wav")
    columns, before = ("path", "label"), [("a.wav", "dog"), ("b.wav", "dog")]
    path = write_csv(tmp_path / "list.csv", columns, before)
    digest = pack(path, tmp_path / "store", workers=0).digest()
    write_csv(path, columns, rows)
    with pytest.raises(StoreError, match=f"1 clips are not as they were packed: {message}"):
        pack(path, tmp_path / "store", workers=0)
    write_csv(path, columns, before)
    assert pack(path, tmp_path / "store", workers=0).digest() == digest


def test_packing_again_notices_other_sound_of_the_same_size_and_date(packed):
    root, folder = packed
    changed = root / "class0" / "4.wav"
    date, content = changed.stat().st_mtime_ns, changed.read_bytes()
    shutil.copyfile(root / "class0" / "2.wav", changed)
    os.utime(changed, ns=(date, date))
    with pytest.raises(StoreError, match=r"class0/4\.wav is gone, or has another content"):
        pack(root, folder, workers=0)
    changed.write_bytes(content)  # written again: another time of change, the same content
    pack(root, folder, workers=0)


def test_a_header_that_claims_the_age_of_the_universe_is_not_believed(tmp_path):
    path = put(tmp_path / "sounds" / "dog" / "live.flac", hum(2.0))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # STREAMINFO: 0 samples stand for an unknown number
    path.write_bytes(content)
    put(tmp_path / "sounds" / "dog" / "plain.wav", hum(2.0))
    items = [Item(file.name, file, {}) for file in (tmp_path / "sounds" / "dog").iterdir()]
    assert estimate_bytes(items, make_recipe("waveform")) < 2 * 32_000 * len(content) / 1000
    assert len(pack(tmp_path / "sounds", tmp_path / "store", workers=0)) >= 1


def test_a_prepared_folder_is_packed_by_one_of_its_manifests(tmp_path):
    for name in ("train", "eval"):
        put(tmp_path / "AudioSet" / "audio" / f"{name}.wav")
    columns = ("path", "label", "split")
    rows = [(f"audio/{name}.wav", "x", name) for name in ("train", "eval")]
    write_csv(tmp_path / "AudioSet" / "manifest.csv", columns, rows)
    whole = pack(tmp_path / "AudioSet", tmp_path / "one", workers=0)
    assert [about["labels"] for about in whole.manifest["about"]] == [{"class": "x"}] * 2
    write_csv(tmp_path / "AudioSet" / "manifest_2m.csv", columns, rows[:1])
    with pytest.raises(
        ValueError, match=r"manifest\.csv, manifest_2m\.csv.*give the path of the one"
    ):
        pack(tmp_path / "AudioSet", tmp_path / "two", workers=0)
    store = pack(tmp_path / "AudioSet" / "manifest_2m.csv", tmp_path / "two", workers=0)
    assert store.manifest["names"] == ["audio/train.wav"]
    esc50 = make_esc50(tmp_path / "esc")
    for name in ("manifest.csv", "manifest_more.csv"):  # a layout of its own comes first
        write_csv(esc50 / name, columns, [])
    assert pack(esc50, tmp_path / "esc-store", workers=0).data == "ESC-50"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_s": float("inf")}, "max_s must be a positive number of seconds, found inf"),
        ({"max_s": float("nan")}, "max_s must be a positive number of seconds, found nan"),
        ({"workers": -1}, "workers must be between 0 and 1,000, got -1"),
        ({"clips_per_part": 0}, "clips_per_part must be between .*, got 0"),
    ],
)
def test_values_that_cannot_be_used_are_refused_before_anything_is_written(
    packed, tmp_path, options, word
):
    with pytest.raises(ValueError, match=word):
        pack(packed[0], tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
