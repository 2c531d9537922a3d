"""From archives to 16 kHz files with a manifest, for each data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiossl_lite.data.datasets import load_clips
from tests.data.sounds import hum, put
from tests.data_scripts import layouts
from tests.data_scripts.faulty_server import serving
from tests.data_scripts.prepared import N_CLIPS, by_path, files, prepared, table
from tests.data_scripts.script import module, script, zip_of

# Data set, manifest, path of a clip, and what its row says of it.
ROWS = (
    ("esc50", "", "audio/1-100-A-0.wav", {"label": "dog", "group": "100", "split": "1"}),
    ("fsdd", "", "recordings/7_ann_5.wav", {"label": "seven", "group": "ann", "split": "train"}),
    ("fsdd", "_speakers", "recordings/7_ann_4.wav", {"label": "ann", "group": "seven", "split": "test"}),
    ("urbansound8k", "", "audio/fold2/202-3-0-0.flac", {"label": "siren", "group": "202", "fold": "2", "split": "2"}),
    ("speech_commands", "", "bed/aa_nohash_0.flac", {"label": "bed", "split": "train"}),
    ("speech_commands", "", "cat/aa_nohash_0.flac", {"label": "cat", "split": "train"}),
    ("speech_commands", "", "cat/bb_nohash_0.flac", {"split": "valid"}),
    ("speech_commands", "", "bed/cc_nohash_0.flac", {"split": "test"}),
    ("speech_commands", "", "bed/cc_nohash_1.flac", {"group": "cc", "split": "test"}),
    ("voxceleb1", "", "wav/id10002/2cD_-2/00001.flac", {"label": "id10002", "group": "2cD_-2", "split": "valid"}),
    ("voxceleb1", "", "wav/id10270/0eF_-3/00001.flac", {"split": "test"}),
    ("nsynth", "", "train/reed_b-072-100.flac", {"label": "reed", "group": "reed_b", "split": "train"}),
    ("nsynth", "_instruments", "train/reed_b-072-100.flac", {"label": "reed_b", "group": "72", "split": "train"}),
    ("fsdkaggle2018", "", "train/00.flac", {"label": "Cough", "manually_verified": "1"}),
    ("fsdkaggle2018", "", "train/01.flac", {"manually_verified": "0"}),
    ("fsdkaggle2018", "", "test/00.flac", {"label": "Bark", "group": "13", "manually_verified": ""}),
)  # fmt: skip


@pytest.fixture(scope="module")
def outs(tmp_path_factory) -> dict[str, Path]:
    """The folder that `prepare` has filled, by data set."""
    return {name: prepared(name, tmp_path_factory.mktemp(name)) for name in N_CLIPS}


def test_every_data_set_becomes_16_khz_mono_with_a_manifest(outs):
    faults = []
    for name, out in outs.items():
        rows = by_path(out)
        for path, row in rows.items():
            info = soundfile.info(out / path)
            form = (info.samplerate, info.channels, info.subtype, str(info.frames))
            named = all(row[column] for column in ("label", "group", "split"))
            if form != (16_000, 1, "PCM_16", row["n_samples"]) or not info.frames or not named:
                faults.append(f"{name}: {path} {form} {row}")
        clips = load_clips(out / "manifest.csv")
        seen = (len(rows), len(clips), clips.task, clips.skipped, table(out / "skipped.csv"))
        if seen != (N_CLIPS[name], N_CLIPS[name], "class", (), []) or len(set(clips.splits)) < 2:
            faults.append(f"{name}: {seen}")
        if sorted(clips.names) != sorted(rows) or out.with_name("out.partial").exists():
            faults.append(f"{name}: {clips.names}")
    for name, view, path, expected in ROWS:
        row = by_path(outs[name], f"manifest{view}.csv")[path]
        faults += [f"{name}: {path} {k} {row[k]}" for k, v in expected.items() if row[k] != v]
    assert not faults


def test_a_repeated_run_changes_nothing(outs):
    for name, out in outs.items():
        before = files(out)
        given = [
            path
            for path in sorted(out.with_name("made").iterdir())
            if (path.suffix in (".zip", ".gz", ".txt") or "_part" in path.name)
            and path.name != "dev.zip"
        ]
        done = script(name, "prepare", "--from-archive", *given, "--to", out)
        assert "0 of them new" in done.stdout, name
        assert files(out) == before, name


def test_the_sound_survives(outs):
    """44.1 kHz, 24 bit stereo becomes the same tone at 16 kHz, at the same level."""
    out = outs["urbansound8k"]
    samples, _ = soundfile.read(out / "audio" / "fold1" / "101-3-0-0.flac")
    expected = hum(0.1)
    inner = slice(200, -200)  # the resampling filter has not settled at the ends
    assert len(samples) == len(expected)
    assert np.abs(samples[inner] - expected[inner]).max() < 5e-3


def test_the_makers_files_and_layouts_are_kept(outs):
    clips = load_clips(outs["esc50"])
    assert clips.source.startswith("ESC-50: 8 clips") and set(clips.splits) == {"1", "2"}
    assert (outs["esc50"] / "LICENSE").read_text() == "credits"
    assert load_clips(outs["fsdd"], pool="voice").class_names["speaker"] == ("ann", "bob")
    assert (outs["urbansound8k"] / "FREESOUNDCREDITS.txt").exists()
    instruments = load_clips(outs["nsynth"] / "manifest_instruments.csv")
    assert instruments.class_names["class"] == ("bass_a", "bass_c", "reed_b")
    assert len(instruments.groups["class"].unique()) == 2


def test_speech_commands_keeps_equal_names_of_different_words(outs):
    out = outs["speech_commands"]
    first, second = (soundfile.read(out / w / "aa_nohash_0.flac")[0] for w in ("bed", "cat"))
    assert not np.array_equal(first, second)
    assert not (out / "_background_noise_").exists()


def audioset(folder: Path, subset: str):
    given = layouts.audioset(folder / "made")
    return script(
        "audioset", "prepare", "--subset", subset, "--from-archive", *given, "--to", folder / "out"
    )


def test_audioset_finds_clips_under_each_name_and_names_the_missing(tmp_path):
    done = audioset(tmp_path, "balanced")
    assert done.returncode == 1
    assert "2 clips" in done.stdout
    rows = {row["group"]: row for row in by_path(tmp_path / "out").values()}
    assert set(rows) == {"-0RWZT-miFs", "Yabcdefghi1"}
    assert rows["-0RWZT-miFs"]["label"] == "Speech;Outside, urban or manmade"
    assert rows["-0RWZT-miFs"]["codes"] == "/m/a;/m/b"
    skipped = {
        row["name"].split("/")[-1]: row["reason"] for row in table(tmp_path / "out" / "skipped.csv")
    }
    assert "not in the given archives" in skipped.pop("zzzzzzzzzz_.flac")
    assert list(skipped.values()) == ["second file for the id Yabcdefghi1"]
    assert "subset balanced: 2 clips, the full set has 3" in done.stderr
    # Another subset in the same folder does not make that forgotten.
    assert "subset balanced: 2 clips, the full set has 3" in audioset(tmp_path, "eval").stderr


def test_audioset_subsets_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module("audioset").draw, "__defaults__", (4, 0))
    out = tmp_path / "out"
    assert "4 clips" in audioset(tmp_path, "200k").stdout
    drawn = set(by_path(out, "manifest_200k.csv"))
    assert not (out / "manifest_balanced.csv").exists()
    assert "9 clips" not in audioset(tmp_path, "eval").stdout
    done = audioset(tmp_path, "2m")
    assert "9 clips" in done.stdout and "4 of them new" in done.stdout
    counts = {path.name: len(table(path)) for path in out.glob("manifest*.csv")}
    assert counts == {
        "manifest.csv": 9,
        "manifest_200k.csv": 4,
        "manifest_2m.csv": 8,
        "manifest_balanced.csv": 2,
        "manifest_eval.csv": 1,
    }
    assert set(by_path(out, "manifest_200k.csv")) == drawn
    assert {row["split"] for row in table(out / "manifest_eval.csv")} == {"eval"}


def test_the_draw_depends_on_the_ids_alone():
    draw = module("audioset").draw
    ids = [f"id{number}" for number in range(1000)]
    first = draw(ids, 100)
    assert len(first) == 100
    assert draw(reversed(ids), 100) == first
    assert draw(ids, 100, seed=1) != first
    # A longer draw holds the shorter one, and an id is drawn whatever the others are.
    assert first < draw(ids, 200)
    assert first & set(ids[:500]) <= draw(ids[:500], 100)
    assert sorted(draw(["a", "b", "c"], 2)) == ["a", "c"]  # pinned: it must never change


def test_a_cut_off_list_of_segments_is_refused(tmp_path):
    tables, clips = layouts.audioset(tmp_path)
    path = tables / "eval_segments.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    given = ("--subset", "eval", "--from-archive", tables, clips, "--to", tmp_path / "o")
    done = script("audioset", "prepare", *given)
    assert done.returncode == 2
    assert "0 segments, its header says 1" in done.stderr


def test_bad_files_are_counted_skips(tmp_path):
    (archive,) = layouts.fsdd(tmp_path)
    bad = {
        "0_ann_8": b"no audio",
        "0_ann_9": b"",
        "not a digit": (tmp_path / "fsdd/recordings/0_ann_0.wav").read_bytes(),
    }
    for samples, name in ((np.zeros(800), "7_bob_8"), (hum(0.01), "7_bob_9")):
        bad[name] = put(tmp_path / "x.wav", samples, 8000).read_bytes()
    archive = zip_of(
        tmp_path / "b.zip",
        tmp_path / "fsdd",
        {f"top-master/recordings/{name}.wav": content for name, content in bad.items()},
    )
    done = script("fsdd", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
    assert "26 clips" in done.stdout and "3 left out" in done.stdout
    skipped = {
        Path(row["name"]).stem: row["reason"] for row in table(tmp_path / "out" / "skipped.csv")
    }
    assert skipped == {
        "0_ann_8": "unreadable",
        "0_ann_9": "unreadable",
        "not a digit": "file name is not {digit}_{speaker}_{index}",
    }
    assert "left out: top-master/recordings/0_ann_8.wav (unreadable)" in done.stderr
    # Silent and short clips are of the set; the reader decides about them.
    assert "recordings/7_bob_8.wav" in by_path(tmp_path / "out")
    assert {skip.reason for skip in load_clips(tmp_path / "out" / "manifest.csv").skipped} == {
        "silent",
        "too short",
    }


def test_a_clip_above_full_scale_is_limited_and_counted(tmp_path):
    made = put(tmp_path / "made" / "0_ann_0.wav", 3 * hum(0.2, 8000), 8000, subtype="FLOAT").parent
    done = script("fsdd", "prepare", "--from-archive", made, "--to", tmp_path / "out")
    assert "1 limited to full scale" in done.stdout
    samples, _ = soundfile.read(tmp_path / "out" / "recordings" / "0_ann_0.wav")
    assert np.abs(samples).max() <= 1.0
    assert (np.abs(samples) > 0.999).mean() > 0.3  # limited, not turned down
    assert (np.diff(np.sign(samples)) != 0).sum() < 200  # limited, not wrapped around


def test_from_the_server_to_clips(tmp_path):
    """The whole way: fetch over HTTP with one cut, prepare from the folder it filled, verify, load."""
    (archive,) = layouts.esc50(tmp_path / "made")
    down, out = tmp_path / "down", tmp_path / "out"
    with serving({archive.name: archive.read_bytes()}, cut_at=[5000]) as server:
        fetched = script("esc50", "fetch", "--to", down, "--mirror", server.url, "--pause", 0.001)
    assert fetched.returncode == 0
    script("esc50", "prepare", "--from-archive", down, "--to", out)
    assert script("esc50", "verify", out).returncode == 1
    clips = load_clips(out)
    assert torch.bincount(clips.labels["event"]).tolist() == [4, 4]
