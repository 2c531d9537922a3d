"""Pin: packing loses nothing and repeats nothing, whatever happens to the packer and whatever lies in the folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import psutil
import pytest
import torch

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.pack import main
from audiossl_lite.data.pack_items import Item, estimate_bytes, find_clips
from audiossl_lite.data.packing import pack, writer_lock
from audiossl_lite.data.recipes import make_recipe
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import StoreError, verify_store
from tests.conftest import ROOT
from tests.data.sounds import hum, put
from tests.data.test_datasets import make_esc50, make_fsdd, write_csv


def class_folders(root, n_clips=7, **options):
    for number in range(n_clips):
        put(root / f"class{number % 3}" / f"{number:02d}.wav", hum(0.1, hertz=200.0 + 50 * number))
    return root


def items_of(root):
    return [Item(entry.name, entry.path, {}) for entry in find_clips(root).entries]


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def names_in(store):
    return tuple(store.manifest["names"])


def sound_of(store):
    """All clips as float32, `(n, longest)`."""
    return store.batch(torch.arange(len(store)), "cpu")[0]


def same_description(store, clips):
    assert names_in(store) == clips.names
    for row, about in enumerate(store.manifest["about"]):
        names = {t: clips.class_names[t][label[row]] for t, label in clips.labels.items()}
        assert about["labels"] == names
        assert (about["split"] or "") == (clips.splits[row] if clips.splits else "")
    for task, expected in clips.groups.items():
        groups = [
            about["groups"].get(task, name)
            for name, about in zip(names_in(store), store.manifest["about"])
        ]
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        assert [numbers[group] for group in groups] == expected.tolist()
    assert set(store.skipped) == set(clips.skipped)


def manifest(root):
    for name in "abc":
        put(root / f"{name}.wav")
    rows = [("a.wav", "x", "g", "train"), ("b.wav", "y", "", ""), ("c.wav", "x", "g", "")]
    return write_csv(root / "list.csv", ("path", "label", "group", "split"), rows)


@pytest.mark.parametrize(
    ("make", "pool"),
    [(make_esc50, "event"), (make_fsdd, "voice"), (class_folders, "event"), (manifest, "event")],
)
def test_labels_and_groups_are_those_of_load_clips(tmp_path, make, pool):
    root = make(tmp_path / "sounds")
    store = pack(root, tmp_path / "store", pool=pool, workers=0, clips_per_part=3)
    clips = load_clips(root, pool=pool)
    same_description(store, clips)
    kind, count = clips.source.split(", ")[0].split(": ")
    assert store.source.startswith(f"{kind}: {count}") and store.source.endswith("as waveform")


def test_only_its_own_unfinished_files_are_deleted(tmp_path):
    root, store = class_folders(tmp_path / "sounds", 2), tmp_path / "store"
    store.mkdir()
    for name in (".store.json.host-1.aside", ".part-00000.bin.host-1.aside", ".mine.aside"):
        (store / name).touch()
    pack(root, store, workers=0)
    assert [path.name for path in store.glob(".*.aside")] == [".mine.aside"]


def test_bad_files_are_skipped_with_their_reasons(tmp_path):
    root = tmp_path / "sounds"
    put(root / "dog" / "good.wav")
    put(root / "dog" / "stereo.flac", np.stack([hum(0.3), -0.5 * hum(0.3)], axis=1))
    put(root / "dog" / "rate.wav", hum(0.3, 44_100), 44_100)
    put(root / "dog" / "loud.wav", 3 * hum(0.3), subtype="FLOAT")
    put(root / "dog" / "silent.wav", np.zeros(4000))
    put(root / "dog" / "nan.wav", np.full(4000, np.nan), subtype="FLOAT")
    put(root / "dog" / "empty.wav", np.zeros(0))
    put(root / "dog" / "short.wav", hum(0.01))
    (root / "dog" / "nothing.wav").touch()
    (root / "dog" / "text.wav").write_text("no audio")
    (root / "dog" / "folder.wav").mkdir()
    put(root / "stray.wav")
    # A part of nothing but skips is a part like others.
    store = pack(root, tmp_path / "store", workers=0, clips_per_part=2)
    clips = load_clips(root)
    same_description(store, clips)
    assert len(store.skipped) == 8
    assert store.manifest["clipped"] == ["dog/loud.wav"]
    quiet = clips.waveforms.clamp(-1, 32767 / 32768)
    assert (sound_of(store) - quiet).abs().max() <= 1 / 65_536
    assert verify_store(store.folder) == []
    before = content_of(store.folder)
    pack(root, store.folder, workers=0)  # the skipped files are not tried again
    assert content_of(store.folder) == before
    (root / "dog" / "text.wav").unlink()
    put(root / "dog" / "text.wav")  # repaired
    mended = pack(root, store.folder, workers=0)
    assert names_in(mended) == (*names_in(store), "dog/text.wav")
    assert "dog/text.wav" not in {skip.name for skip in mended.skipped}


def test_a_frontend_that_fails_makes_a_skip(tmp_path, monkeypatch):
    class_folders(tmp_path / "sounds", 3)
    monkeypatch.setattr("audiossl_lite.data.recipes.AudioMAEFrontend.min_samples", 1600 * 9)
    with pytest.raises(ValueError, match="no clip left, 3 skipped: cannot be packed: a clip of"):
        pack(tmp_path / "sounds", tmp_path / "store", kind="audiomae", workers=0)


def test_nothing_to_pack_is_an_error_that_says_why(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no clip found"):
        pack(tmp_path / "none", tmp_path / "store")
    put(tmp_path / "bad" / "dog" / "silent.wav", np.zeros(4000))
    with pytest.raises(ValueError, match="no clip left, 1 skipped: silent"):
        pack(tmp_path / "bad", tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pack(tmp_path / "gone", tmp_path / "store")
    for name in ("", "synthetic"):
        with pytest.raises(ValueError, match="embedded sounds need no store"):
            pack(name, tmp_path / "store")
    make_esc50(tmp_path / "esc")
    with pytest.raises(ValueError, match="no clip found .no pool 'voice'"):
        pack(tmp_path / "esc", tmp_path / "store", pool="voice")


def test_threads_give_what_one_thread_gives(tmp_path):
    root = class_folders(tmp_path / "sounds", 30)
    alone = pack(root, tmp_path / "alone", workers=0, clips_per_part=8)
    together = pack(root, tmp_path / "together", workers=2, clips_per_part=8)
    assert content_of(together.folder) == content_of(alone.folder)


def test_new_files_are_appended(tmp_path):
    root = class_folders(tmp_path / "sounds", 5)
    first = pack(root, tmp_path / "store", workers=0, clips_per_part=2)
    kept = {name: data for name, data in content_of(first.folder).items() if "part" in name}
    put(root / "class0" / "00-new.wav", hum(0.2))
    put(root / "another" / "x.wav")
    second = pack(root, tmp_path / "store", workers=0, clips_per_part=2)
    assert names_in(second) == (*names_in(first), "another/x.wav", "class0/00-new.wav")
    assert second.manifest["about"][-2]["labels"] == {"class": "another"}
    assert second.digest() != first.digest()
    assert kept.items() <= content_of(second.folder).items()
    again = content_of(second.folder)
    assert pack(root, tmp_path / "store", workers=0).digest() == second.digest()
    assert content_of(second.folder) == again
    # What was open before still reads what it was.
    assert torch.equal(first.read([0])[0], second.read([0])[0])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"kind": "atst"}, "name 'waveform', asked for 'atst'"),
        ({"max_s": 1.0}, r"max_s None, asked for 1\.0"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, options, word):
    root = class_folders(tmp_path / "sounds", 2)
    pack(root, tmp_path / "store", workers=0)
    before = content_of(tmp_path / "store")
    with pytest.raises(StoreError, match=word):
        pack(root, tmp_path / "store", workers=0, **options)
    with pytest.raises(StoreError, match="2 clips are not as they were packed"):
        pack(make_esc50(tmp_path / "esc"), tmp_path / "store", workers=0)
    assert content_of(tmp_path / "store") == before


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    root = class_folders(tmp_path / "sounds", 2)
    with pytest.raises(StoreError, match="not empty"):
        pack(root, root, workers=0)
    (tmp_path / "store.json").write_text('{"format": "other", "version": 1}')
    with pytest.raises(StoreError, match="written by something else"):
        pack(root, tmp_path, workers=0)


def test_a_second_packer_is_refused(tmp_path):
    root = class_folders(tmp_path / "sounds", 2)
    (tmp_path / "store").mkdir()
    with (
        writer_lock(tmp_path / "store"),
        pytest.raises(StoreError, match=f"another process is at work here .process {os.getpid()}"),
    ):
        pack(root, tmp_path / "store", workers=0)
    assert len(pack(root, tmp_path / "store", workers=0)) == 2


def test_too_small_a_disk_is_said_before_the_start(tmp_path, monkeypatch):
    root = class_folders(tmp_path / "sounds", 30)
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StoreError, match=r"30 clips to pack, about 96\.0 kB; 50\.0 kB free"):
        pack(root, tmp_path / "store", workers=0)
    assert not list((tmp_path / "store").glob("part*"))
    with pytest.raises(StoreError, match="interrupted"):
        PackedStore(tmp_path / "store")


@pytest.mark.parametrize("kind", ["waveform", "atst", "audiomae"])
def test_the_estimate_is_near_what_is_needed(tmp_path, kind):
    root = class_folders(tmp_path / "sounds", 20)
    for number in range(20):
        put(root / "class0" / f"long{number}.wav", hum(3.0))
    store = pack(root, tmp_path / "store", kind=kind, max_s=2.0, workers=0)
    estimate = estimate_bytes(items_of(root), make_recipe(kind, 2.0))
    assert 0.9 * store.nbytes < estimate < 1.1 * store.nbytes


def test_an_error_while_writing_leaves_whole_parts_only(tmp_path, monkeypatch):
    root = class_folders(tmp_path / "sounds", 7)
    whole = pack(root, tmp_path / "whole", workers=0, clips_per_part=2)
    moves, move = [], os.replace

    def full_disk(aside, path):
        moves.append(path.name)
        if path.name == "part-00002.json":  # the data are in place, the manifest is not
            raise OSError(28, "No space left on device")
        move(aside, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        with pytest.raises(OSError, match="No space"):
            pack(root, tmp_path / "store", workers=0, clips_per_part=2)
    assert moves[-2:] == ["part-00002.bin", "part-00002.json"]
    assert not list((tmp_path / "store").glob(".*aside"))
    pack(root, tmp_path / "store", workers=0, clips_per_part=2)
    assert content_of(tmp_path / "store") == content_of(whole.folder)


def test_a_part_that_was_deleted_is_made_again_and_one_without_data_is_named(tmp_path):
    root = class_folders(tmp_path / "sounds", 6)
    store = pack(root, tmp_path / "store", workers=0, clips_per_part=2)
    before = content_of(store.folder)
    (store.folder / "part-00001.bin").unlink()
    with pytest.raises(StoreError, match=r"delete part-00001\.json and pack again"):
        pack(root, store.folder, workers=0)
    (store.folder / "part-00001.json").unlink()
    pack(root, store.folder, workers=0, clips_per_part=2)
    assert content_of(store.folder) == before


def start_packing(root, folder, workers):
    command = [sys.executable, "-m", "audiossl_lite.data.pack", str(root), str(folder)]
    command += ["--clips-per-part", "3", "--workers", str(workers)]
    environment = os.environ | {"AUDIOSSL_PROGRESS": "off", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def kill_when(process, reached):
    """Kill a packer without warning once `reached()`, and wait until its workers are gone too."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, "the packer ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(tmp_path):
    root, folder = tmp_path / "sounds", tmp_path / "store"
    samples = np.random.default_rng(0).standard_normal((4 * 44_100, 2)) * 0.1
    for number in range(36):
        put(root / f"class{number % 3}" / f"{number:02d}.wav", np.roll(samples, number), 44_100)

    def n_parts():
        return len(list(folder.glob("part-*.json")))

    kill_when(
        start_packing(root, folder, 0), lambda: n_parts() >= 2 and list(folder.glob(".*.aside"))
    )
    assert 2 <= n_parts() < 12
    with pytest.raises(StoreError, match="interrupted"):
        PackedStore(folder)
    done = n_parts()
    kill_when(start_packing(root, folder, 1), lambda: n_parts() > done)
    assert n_parts() < 12

    resumed = pack(root, folder, workers=0, clips_per_part=3)
    assert len(resumed) == len(set(names_in(resumed))) == 36
    whole = pack(root, tmp_path / "whole", workers=0, clips_per_part=3)
    assert content_of(folder) == content_of(whole.folder)
    assert not list(folder.glob(".*.aside"))


def test_the_command_packs_verifies_and_says_what_it_did(tmp_path, capsys):
    root = class_folders(tmp_path / "sounds", 4)
    put(root / "class0" / "silent.wav", np.zeros(4000))
    arguments = [str(root), str(tmp_path / "store"), "--workers", "0", "--verify"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "5 clips to pack" in said
    assert "4 clips, 1 skipped, packed as waveform" in said
    assert "1 x silent" in said
    assert "verified" in said
    content = (tmp_path / "store" / "part-00000.bin").read_bytes()
    (tmp_path / "store" / "part-00000.bin").write_bytes(content[::-1])
    assert main(arguments) == 1
    assert "wrong checksum" in capsys.readouterr().out
    assert main([*arguments, "--max-s", "1"]) == 2
    assert "max_s" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(root), str(tmp_path / "store"), "--kind", "opus"])
