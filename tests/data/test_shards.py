"""Pin: shards hold what was written in WebDataset's layout, and whatever is wrong with them is named."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import warnings

import numpy as np
import pytest
import soundfile
import torch

from audiossl_lite.data import shard_index
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.shard_index import ShardError, index_path, index_shard
from audiossl_lite.data.shards import ShardStore, rank_shards, write_shards
from audiossl_lite.data.sources import ClipSource, InMemory
from tests.data.sounds import hum, put
from tests.data.test_datasets import make_esc50


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    for number, seconds in enumerate((0.3, 0.5, 0.2, 0.4, 0.5, 0.3, 0.1)):
        noise = 0.3 * np.random.default_rng(number).standard_normal(round(seconds * 16_000))
        put(root / f"class{number % 3}" / f"{number}.wav", noise.clip(-1, 0.99))
    put(root / "class0" / "silent.wav", np.zeros(4000))
    return root


@pytest.fixture(scope="module")
def folder(data_root, tmp_path_factory):
    made = tmp_path_factory.mktemp("shards")
    skipped = write_shards(data_root, made, clips_per_shard=3)
    assert [(skip.name, skip.reason) for skip in skipped] == [("class0/silent.wav", "silent")]
    return made


def flac(samples=None, rate_hz=16_000, form="FLAC") -> bytes:
    content = io.BytesIO()
    soundfile.write(content, hum() if samples is None else samples, rate_hz, format=form)
    return content.getvalue()


def make_tar(path, members, kinds=None):
    """A tar file of these names and contents; `kinds` gives a name another type than a file."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            header.type = (kinds or {}).get(name, tarfile.REGTYPE)
            header.linkname = "elsewhere"
            tar.addfile(header, io.BytesIO(content))
    return path


def test_batches_are_exactly_what_load_clips_reads(folder, data_root, generator):
    store, clips = ShardStore(folder), load_clips(data_root)
    memory = InMemory(clips.waveforms, clips.lengths)
    assert isinstance(store, ClipSource)
    assert len(store) == 7
    assert len(store.shards) == 3
    assert torch.equal(store.lengths, clips.lengths)
    for size in (1, 9):
        indices = torch.randint(7, (size,), generator=generator)
        for found, expected in zip(store.batch(indices, "cpu"), memory.batch(indices, "cpu")):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
    assert store.damaged == []


def test_labels_groups_and_splits_come_along(tmp_path):
    root = make_esc50(tmp_path / "esc")
    write_shards(root, tmp_path / "shards", clips_per_shard=5)
    store, clips = ShardStore(tmp_path / "shards"), load_clips(root)
    assert store.names == clips.names
    assert store.class_names == clips.class_names
    assert store.splits == clips.splits
    assert torch.equal(store.labels["event"], clips.labels["event"])
    assert torch.equal(store.groups["event"], clips.groups["event"])
    assert store.source == "ESC-50: 8 clips, 2 classes (event), in tar shards"


def test_the_layout_is_that_of_webdataset(folder):
    keys = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            assert all(member.isfile() and "/" not in member.name for member in members)
            for sound, about in zip(members[::2], members[1::2], strict=True):
                key, suffix = sound.name.split(".", 1)
                assert suffix == "flac"
                assert about.name == f"{key}.json"  # members of one key stand side by side
                assert set(json.load(tar.extractfile(about))) >= {"name", "labels", "groups"}
                keys.append(key)
    assert len(keys) == len(set(keys)) == 7


def test_the_same_data_give_the_same_bytes(folder, data_root, tmp_path):
    write_shards(data_root, tmp_path, clips_per_shard=3)
    for path in sorted(tmp_path.glob("*.tar")):
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_headers_are_read_once_and_again_when_the_shard_changes(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar", [("x.flac", flac())])
    reads = []
    read_headers = shard_index._read_headers
    monkeypatch.setattr(
        shard_index, "_read_headers", lambda shard: reads.append(shard) or read_headers(shard)
    )
    first = index_shard(path)
    assert index_shard(path) == first
    assert len(reads) == 1
    index_path(path).write_text("{}")
    assert index_shard(path) == first
    make_tar(path, [("x.flac", flac()), ("y.flac", flac(hum(0.2)))])
    assert [member.length for member in index_shard(path).members] == [8000, 3200]
    assert len(reads) == 3


def test_the_digest_changes_with_sound_json_and_order(tmp_path):
    loud = hum()
    loud[4000] += 1e-3
    about = b'{"labels": {"class": "dog"}}'
    contents = [
        [("x.flac", flac()), ("y.flac", flac(hum(0.2)))],
        [("x.flac", flac(loud)), ("y.flac", flac(hum(0.2)))],
        [("y.flac", flac(hum(0.2))), ("x.flac", flac())],
        [("x.flac", flac()), ("x.json", about), ("y.flac", flac(hum(0.2)))],
    ]
    digests = []
    for number, members in enumerate(contents):
        (tmp_path / str(number)).mkdir()
        make_tar(tmp_path / str(number) / "a.tar", members)
        digests.append(ShardStore(tmp_path / str(number)).digest())
    assert len(set(digests)) == 4
    assert all(len(digest) == 8 for digest in digests)


def test_foreign_shards_of_other_rates_channels_and_folders(tmp_path):
    stereo = np.stack([hum(0.3), np.zeros(4800)], axis=1)
    members = [
        ("./deep/a.b.wav", flac(stereo, form="WAV")),
        ("./deep/c.flac", flac(hum(0.5, 44_100), 44_100)),
        ("./deep/c.txt", b"words"),
        ("d.mp3", flac(hum(1.0), form="MP3")),
    ]
    make_tar(tmp_path / "a.tar", members)
    store = ShardStore(tmp_path)
    waveforms, lengths = store.batch(torch.arange(3), "cpu")
    assert lengths[:2].tolist() == [4800, 8000]
    assert torch.allclose(waveforms[0, :4800], torch.from_numpy(hum(0.3) / 2), atol=1e-4)
    assert (waveforms[1, 500:7500] - torch.from_numpy(hum())[500:7500]).abs().max() < 0.01
    assert abs(int(lengths[2]) - 16_000) < 3000
    assert store.damaged == []
    assert store.tasks == ()
    assert store.source == f"{tmp_path.name}: 3 clips, in tar shards"


@pytest.mark.parametrize("name", ["../x.flac", "/x.flac", "a/../../x.json", "a\\x.flac"])
def test_unsafe_names_are_refused(tmp_path, name):
    path = make_tar(tmp_path / "a.tar", [("good.flac", flac()), (name, flac())])
    with pytest.raises(ShardError, match="unsafe name"):
        index_shard(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = make_tar(tmp_path / "a.tar", [("x.flac", b"")], {"x.flac": kind})
    with pytest.raises(ShardError, match=r"'x\.flac' is a link or a device"):
        index_shard(path)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ([("x.flac", b"no sound")], r"x\.flac cannot be opened as audio"),
        ([("x.flac", b"")], r"x\.flac cannot be opened as audio"),
        ([("x.wav", flac(np.zeros(0), form="WAV"))], r"x\.wav holds no samples"),
        ([("x.flac", flac()), ("x.json", b"{")], r"x\.json is damaged JSON"),
        ([("x.flac", flac()), ("x.json", b"[1]")], r"x\.json holds a list"),
        ([("x.flac", flac()), ("x.wav", flac())], r"two members for 'x' \(x\.flac, x\.wav\)"),
        ([("x.flac", flac()), ("y.json", b"{}")], r"y\.json has no sound beside it"),
    ],
)
def test_damaged_members_are_named_when_the_index_is_made(tmp_path, members, word):
    path = make_tar(tmp_path / "a.tar", members)
    with pytest.raises(ShardError, match=word):
        index_shard(path)
    assert not index_path(path).exists()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_shard_that_was_cut_off_is_named(tmp_path, share):
    path = make_tar(tmp_path / "a.tar", [(f"{i}.flac", flac(hum(2.0))) for i in range(3)])
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ShardError, match=r"a\.tar: (damaged tar file|cut off)"):
        index_shard(path)


def test_a_damaged_header_in_the_middle_loses_no_clip_silently(tmp_path):
    path = make_tar(tmp_path / "a.tar", [(f"{i}.flac", flac()) for i in range(3)])
    content = bytearray(path.read_bytes())
    place = content.index(b"1.flac")
    content[place] = ord("7")  # the header's own checksum is wrong now
    path.write_bytes(content)
    with pytest.raises(ShardError, match="damaged header at byte"):
        index_shard(path)


def test_a_member_damaged_later_becomes_silence_and_is_counted(folder, tmp_path):
    for path in folder.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    store = ShardStore(tmp_path)
    for number in (0, 4):
        path, member = store._members[number]
        content = bytearray(path.read_bytes())
        for place in range(member.offset + 200, member.offset + member.size, 97):
            content[place] ^= 0xFF
        path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"shard-000000\.tar/000000000\.flac cannot be decoded"):
        waveforms, lengths = store.batch(torch.tensor([0, 1]), "cpu")
    assert not waveforms[0].any()
    assert waveforms[1].any()
    assert lengths[0] == store.lengths[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        store.batch(torch.tensor([0, 4, 4, 5]), "cpu")
    assert [skip.name for skip in store.damaged] == [
        "shard-000000.tar/000000000.flac",
        "shard-000001.tar/000000004.flac",
    ]
    assert all(skip.reason for skip in store.damaged)


def test_every_shard_belongs_to_exactly_one_process():
    for n_shards, world_size in ((8, 1), (8, 2), (7, 3), (5, 5)):
        shares = [rank_shards(n_shards, rank, world_size) for rank in range(world_size)]
        assert sorted(number for share in shares for number in share) == list(range(n_shards))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(ValueError, match="rank must lie in 0 .. 1, found 2"):
        rank_shards(4, 2, 2)
    with pytest.raises(ValueError, match="3 shards for 4 processes"):
        rank_shards(3, 0, 4)


def test_a_store_of_some_shards_can_be_sent_to_another_process(folder):
    whole, part = ShardStore(folder), ShardStore(folder, rank_shards(3, 1, 2), threads=2)
    assert part.names == whole.names[3:6]
    part.batch([0], "cpu")  # its threads are running
    sent = pickle.loads(pickle.dumps(part))
    assert sent.digest() == part.digest() != whole.digest()
    assert torch.equal(sent.batch([0, 2], "cpu")[0], part.batch([0, 2], "cpu")[0])


def test_wrong_uses_are_named(folder, data_root, tmp_path):
    with pytest.raises(ShardError, match="already holds shards"):
        write_shards(data_root, folder)
    with pytest.raises(ShardError, match=r"no \.tar file here"):
        ShardStore(tmp_path)
    with pytest.raises(ShardError, match="no shard 3, there are 3"):
        ShardStore(folder, [0, 3])
    with pytest.raises(IndexError, match="no clip 7 in shards of 7 clips"):
        ShardStore(folder).batch([7], "cpu")
    put(tmp_path / "dog" / "silent.wav", np.zeros(4000))
    with pytest.raises(ValueError, match="no clip left"):
        write_shards(tmp_path, tmp_path / "shards")
    with pytest.raises(ValueError, match="clips_per_shard"):
        write_shards(data_root, tmp_path / "new", clips_per_shard=0)
    make_tar(tmp_path / "empty.tar", [])
    with pytest.raises(ShardError, match="hold no sound"):
        ShardStore(tmp_path)
