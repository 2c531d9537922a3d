"""Runs of `prepare` that are interrupted, repeated, doubled, or given the archives one by one."""

from __future__ import annotations

import pytest

from tests.common.limits import file_limit
from tests.data_scripts import layouts
from tests.data_scripts.prepared import by_path, files, prepared, table
from tests.data_scripts.script import module, script


@pytest.mark.parametrize("killed_after", [0, 1, 4])
def test_an_interrupted_run_is_continued_and_loses_nothing(tmp_path, monkeypatch, killed_after):
    whole = prepared("speech_commands", tmp_path / "a")
    archives = layouts.speech_commands(tmp_path / "b")
    given = ("prepare", "--from-archive", *archives, "--to", tmp_path / "out", "--workers", 1)
    prepare = module("prepare")
    convert, calls = prepare._convert, []

    def killed(*arguments):
        if len(calls) == killed_after:
            raise KeyboardInterrupt
        calls.append(arguments)
        return convert(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_convert", killed)
        done = script("speech_commands", *given)
    assert done.returncode == 2
    assert "goes on where it stopped" in done.stderr
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "out.partial").rglob("*.flac"))) == killed_after
    done = script("speech_commands", *given)
    assert f"{5 - killed_after} of them new" in done.stdout
    assert files(tmp_path / "out") == files(whole)


def test_two_runs_do_not_fill_one_folder(tmp_path):
    given = layouts.fsdd(tmp_path)
    with module("lock").only_one(tmp_path / "out.lock"):
        done = script("fsdd", "prepare", "--from-archive", *given, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "another run is at work" in done.stderr
    assert not (tmp_path / "out.partial").exists()


def test_unpacked_audio_beside_the_fetched_tables(tmp_path):
    """VoxCeleb1 unpacked by hand into the folder that `fetch` has filled; the list alone is no archive."""
    layouts.voxceleb1(tmp_path / "made")
    for path in [*(tmp_path / "made").glob("*.zip"), *(tmp_path / "made").glob("*_part*")]:
        path.unlink()
    done = script(
        "voxceleb1", "prepare", "--from-archive", tmp_path / "made", "--to", tmp_path / "o"
    )
    assert "9 clips" in done.stdout


def test_parts_given_one_after_another_are_put_together(tmp_path):
    train, valid = layouts.nsynth(tmp_path)
    for archive, n_clips in ((train, 4), (valid, 6), (train, 6)):
        done = script("nsynth", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
        assert f"{n_clips} clips" in done.stdout
        assert len(by_path(tmp_path / "out")) == n_clips


def test_what_was_missing_is_settled_by_a_later_archive(tmp_path):
    meta, train, test = layouts.fsdkaggle2018(tmp_path)
    out = tmp_path / "out"
    done = script("fsdkaggle2018", "prepare", "--from-archive", meta, train, "--to", out)
    assert "left out: test/00.flac" in done.stderr
    script("fsdkaggle2018", "prepare", "--from-archive", meta, test, "--to", out)
    assert len(by_path(out)) == 3
    assert table(out / "skipped.csv") == []
    done = script("fsdkaggle2018", "prepare", "--from-archive", train, "--to", tmp_path / "o")
    assert done.returncode == 2
    assert "no train_post_competition.csv" in done.stderr


def test_a_clip_that_can_no_longer_be_read_leaves_the_manifest(tmp_path):
    (archive,) = layouts.fsdd(tmp_path)
    out, path = tmp_path / "out", "recordings/0_ann_0.wav"
    script("fsdd", "prepare", "--from-archive", archive, "--to", out)
    (out / path).unlink()
    (tmp_path / "fsdd" / path).write_bytes(b"no audio")
    done = script("fsdd", "prepare", "--from-archive", tmp_path / "fsdd", "--to", out)
    assert "23 clips" in done.stdout
    assert path not in by_path(out)
    assert table(out / "skipped.csv") == [{"name": path, "reason": "unreadable"}]


@pytest.mark.parametrize(("name", "share"), [("fsdd", 0.9), ("speech_commands", 0.3)])
def test_a_disk_that_takes_no_more_is_named_and_the_same_command_goes_on(tmp_path, name, share):
    """The limit lies below what a clip becomes (8 kHz, so half of it arrives), and below what arrives."""
    whole = prepared(name, tmp_path / "a")
    archives = getattr(layouts, name)(tmp_path / "b")
    clips = [path for path in whole.rglob("*") if path.suffix in (".wav", ".flac")]
    limit = int(share * max(path.stat().st_size for path in clips))
    given = ("prepare", "--from-archive", *archives, "--to", tmp_path / "out", "--workers", 1)
    with file_limit(limit):
        done = script(name, *given)
    assert done.returncode == 2
    assert "cannot be written: File too large; raise the limit" in done.stderr
    assert f"{tmp_path / 'out.partial'}/" in done.stderr
    assert "download" not in done.stderr and not (tmp_path / "out").exists()
    script(name, *given)
    assert files(tmp_path / "out") == files(whole)


def test_a_clip_that_a_power_cut_has_emptied_is_converted_again(tmp_path):
    whole = prepared("fsdd", tmp_path / "a")
    archives = layouts.fsdd(tmp_path / "b")
    given = ("fsdd", "prepare", "--from-archive", *archives, "--to", tmp_path / "out")
    script(*given)
    (tmp_path / "out").rename(tmp_path / "out.partial")
    for name in ("manifest.csv", "manifest_speakers.csv", "skipped.csv"):
        (tmp_path / "out.partial" / name).unlink()
    (tmp_path / "out.partial" / "recordings" / "0_ann_0.wav").write_bytes(b"")
    assert "1 of them new" in script(*given).stdout
    assert files(tmp_path / "out") == files(whole)


def test_a_table_that_the_disk_does_not_take_is_named_and_stays_as_it_was(tmp_path):
    manifests = module("manifests")
    manifests.write_skipped(tmp_path, [("a", "empty")])
    manifests.write_marker(tmp_path, {"data_set": "toy"})
    with file_limit(1000):
        with pytest.raises(OSError, match=r"skipped\.csv cannot be written: File too large"):
            manifests.write_skipped(tmp_path, [("a" * 100_000, "empty")])
        with pytest.raises(OSError, match=r"prepare\.json cannot be written: File too large"):
            manifests.write_marker(tmp_path, {"data_set": "a" * 100_000})
    assert table(tmp_path / "skipped.csv") == [{"name": "a", "reason": "empty"}]
    assert manifests.read_marker(tmp_path) == {"data_set": "toy"}
