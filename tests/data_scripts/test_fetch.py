"""Downloads over loopback: cut off, stalled, refused, changed and damaged on the way."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from tests.common.limits import file_limit
from tests.data.sounds import put
from tests.data_scripts.faulty_server import serving
from tests.data_scripts.fetched import (
    CONTENT,
    LONGER,
    NAME,
    OTHER,
    QUICK,
    arrived,
    fetch,
    interrupted,
)
from tests.data_scripts.prepared import N_CLIPS
from tests.data_scripts.script import data_set, module, script, zip_of


def test_a_whole_file_is_named_when_complete_and_its_checksum_recorded(tmp_path):
    with serving({NAME: CONTENT}) as server:
        done = fetch(server, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert arrived(tmp_path) == CONTENT
        digest = hashlib.sha256(CONTENT).hexdigest()
        assert (tmp_path / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"
        # Size, licence and source come before the first byte.
        assert done.stdout.index("licence") < done.stdout.index("recorded sha256")
        again = fetch(server, tmp_path)
        assert again.returncode == 0
        assert "already there" in again.stdout
        assert len(server.asked) == 1


def test_a_cut_off_download_goes_on_at_the_byte(tmp_path):
    with serving({NAME: CONTENT}, cut_at=[30_000, 70_000]) as server:
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == CONTENT
        assert [wanted for _, wanted in server.asked] == ["", "bytes=30000-", "bytes=70000-"]


def test_a_later_run_goes_on_at_the_byte(tmp_path):
    with interrupted(tmp_path) as server:
        done = fetch(server, tmp_path)
        assert "continued at byte 30000" in done.stdout
        assert server.asked == [(f"/{NAME}", "bytes=30000-")]
        assert arrived(tmp_path) == CONTENT


def test_a_server_without_ranges_makes_it_start_over(tmp_path):
    with serving({NAME: CONTENT}, cut_at=[30_000, 50_000], ranges=False) as server:
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == CONTENT
        assert len(server.asked) == 3


def test_another_version_on_the_server_is_not_glued_to_the_old_part(tmp_path):
    with interrupted(tmp_path) as server:
        server.files[NAME], server.etag = OTHER, '"two"'
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == OTHER


def test_another_length_on_a_server_without_versions_is_noticed(tmp_path):
    with interrupted(tmp_path, etag="") as server:
        server.files[NAME] = LONGER
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == LONGER


def test_a_part_of_another_address_is_not_continued(tmp_path):
    with interrupted(tmp_path) as server:
        server.files["other.zip"] = OTHER
        done = script(
            "esc50", "fetch", "--to", tmp_path, "--url", f"{server.url}/other.zip", *QUICK
        )
        assert done.returncode == 0
        assert arrived(tmp_path) == OTHER


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_already_long_enough(tmp_path, left):
    """Killed between the last byte and the final name; or the part is longer than the file."""
    with interrupted(tmp_path) as server:
        (tmp_path / f"{NAME}.part" / "bytes").write_bytes(left)
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == CONTENT
        assert len(server.asked) == (0 if left == CONTENT else 2)


def test_a_run_that_ends_while_the_file_is_summed_loses_nothing(tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with serving({NAME: CONTENT}) as server:
        with monkeypatch.context() as patch:
            patch.setattr("pooch.core.hash_matches", interrupt)
            assert "goes on where it stopped" in fetch(server, tmp_path).stderr
        server.asked.clear()
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == CONTENT
        assert server.asked == []


def test_a_range_that_was_not_asked_for_is_not_appended(tmp_path):
    with serving({NAME: CONTENT}, cut_at=[30_000], shift=1) as server:
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == CONTENT
        assert [wanted for _, wanted in server.asked] == ["", "bytes=30000-", ""]


def test_a_silent_server_is_left_and_asked_again(tmp_path):
    with serving({NAME: CONTENT}, stall=1) as server:
        done = fetch(server, tmp_path, "--timeout", "0.2")
        assert done.returncode == 0
        assert arrived(tmp_path) == CONTENT
        assert server.asked[1] == (f"/{NAME}", "bytes=1000-")


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path):
    with serving({NAME: CONTENT}, status=[503, 429]) as server:
        assert fetch(server, tmp_path / "a").returncode == 0
        assert len(server.asked) == 3
    with serving({}) as server:
        done = fetch(server, tmp_path / "b")
        assert done.returncode == 2
        assert f"{server.url}/{NAME}: the server answers 404" in done.stderr
        assert "--url" in done.stderr
        assert len(server.asked) == 1
        assert list((tmp_path / "b").iterdir()) == []
    done = fetch(server, tmp_path / "b")  # nobody listens any more
    assert done.returncode == 2
    assert "refused" in done.stderr


def test_a_server_that_does_not_say_the_length(tmp_path):
    """Without a length only the end of a zip tells that it is whole."""
    whole = zip_of(tmp_path / "whole.zip", put(tmp_path / "made" / "a.wav").parent).read_bytes()
    with serving({NAME: whole}, length=False, cut_at=[5000]) as server:
        done = fetch(server, tmp_path / "out")
        assert done.returncode == 2
        assert "is not the whole file" in done.stderr
        assert list((tmp_path / "out").iterdir()) == []
        assert fetch(server, tmp_path / "out").returncode == 0
        assert arrived(tmp_path / "out") == whole


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_in_chunks_is_whole_or_asked_for_again(tmp_path, ranges):
    """How GitHub sends archives that it packs on request."""
    whole = zip_of(tmp_path / "whole.zip", put(tmp_path / "made" / "a.wav").parent).read_bytes()
    with serving({NAME: whole}, chunked=True, cut_at=[5000], ranges=ranges) as server:
        assert fetch(server, tmp_path / "out").returncode == 0
        assert arrived(tmp_path / "out") == whole
        assert [wanted for _, wanted in server.asked] == ["", "bytes=5000-"]


def test_two_runs_do_not_write_into_one_file(tmp_path):
    with serving({NAME: CONTENT}) as server, module("lock").only_one(tmp_path / f"{NAME}.lock"):
        done = fetch(server, tmp_path)
        assert done.returncode == 2
        assert "another run is at work" in done.stderr
        assert server.asked == []
    with serving({NAME: CONTENT}) as server:
        assert fetch(server, tmp_path).returncode == 0
        assert arrived(tmp_path) == CONTENT


def test_a_published_checksum_that_differs_leaves_no_file(tmp_path):
    name = "speech_commands_v0.02.tar.gz"
    with serving({name: CONTENT}) as server:
        done = script("speech_commands", "fetch", "--to", tmp_path, "--mirror", server.url, *QUICK)
    assert done.returncode == 1
    assert "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58" in done.stderr
    assert hashlib.sha256(CONTENT).hexdigest() in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_beginning_is_fetched_once_more(tmp_path):
    """The checksum of a continued download differs because of what an earlier run had left."""
    download = module("download")
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    remote = download.Remote("a.zip", "", checksum=checksum)
    patience = download.Patience(5.0, 1, 0.001)
    with serving({"a.zip": CONTENT}, cut_at=[30_000, 0]) as server:
        with pytest.raises(download.DownloadError):
            download.fetch(remote, tmp_path, f"{server.url}/a.zip", patience)
        (tmp_path / "a.zip.part" / "bytes").write_bytes(b"x" * 30_000)
        download.fetch(remote, tmp_path, f"{server.url}/a.zip", patience)
        assert [wanted for _, wanted in server.asked][-2:] == ["bytes=30000-", ""]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_that_changed_since_its_first_download_is_named(tmp_path):
    with serving({NAME: CONTENT}) as server:
        fetch(server, tmp_path)
        (tmp_path / NAME).write_bytes(CONTENT[:-1])
        done = fetch(server, tmp_path)
        assert done.returncode == 1
        assert "written at the first download" in done.stderr
        (tmp_path / NAME).unlink()
        server.files[NAME] = OTHER
        done = fetch(server, tmp_path)
        assert done.returncode == 1
        assert "new version" in done.stderr
        assert not (tmp_path / NAME).exists()


def test_files_that_need_a_registration_are_checked_but_not_fetched(tmp_path):
    (tmp_path / "vox1_test_wav.zip").write_bytes(b"something else")
    with serving({"iden_split.txt": b"1 a/b/c.wav\n"}) as server:
        done = script("voxceleb1", "fetch", "--to", tmp_path, "--mirror", server.url, *QUICK)
        assert [path for path, _ in server.asked] == ["/iden_split.txt"]
    assert done.returncode == 1
    assert "problem: vox1_dev_wav_partaa: its maker asks for a registration" in done.stderr
    assert "problem: vox1_test_wav.zip: sha256:" in done.stderr


def test_a_full_disk_is_noticed_before(tmp_path, monkeypatch):
    download = module("download")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with serving({NAME: CONTENT}) as server:
        done = fetch(server, tmp_path)
    assert done.returncode == 2
    assert "not enough room" in done.stderr


def test_an_address_must_be_http_and_belong_to_one_file(tmp_path):
    done = script("esc50", "fetch", "--to", tmp_path, "--url", "file:///etc/hostname")
    assert done.returncode == 2
    assert "not an http address" in done.stderr
    done = script("nsynth", "fetch", "--to", tmp_path, "--url", "http://127.0.0.1/x")
    assert done.returncode == 2
    assert "--only" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_script_says_size_licence_and_source_and_who_published_a_checksum(tmp_path):
    faults = []
    for name in ("audioset", *N_CLIPS):
        declared, done = data_set(name), script(name, "info")
        lines = done.stdout.splitlines()
        for word in ("size", "licence", "source", "file"):
            if done.returncode or not any(line.startswith(f"  {word} ") for line in lines):
                faults.append(f"{name}: no {word}")
        if declared.name != name:
            faults.append(f"{name}: calls itself {declared.name}")
        for remote in declared.remotes:
            if not remote.url.startswith(("http://", "https://")):
                faults.append(f"{remote.name}: {remote.url}")
            algorithm, _, digest = (remote.checksum or "").partition(":")
            size = hashlib.new(algorithm).digest_size * 2 if algorithm else 0
            if len(digest) != size or (digest and not remote.checksum_from):
                faults.append(f"{remote.name}: {remote.checksum} from {remote.checksum_from!r}")
    assert not faults


def test_a_disk_that_takes_no_more_is_named_and_the_download_goes_on(tmp_path):
    with serving({NAME: CONTENT}) as server:
        with file_limit(50_000):
            done = fetch(server, tmp_path)
        assert done.returncode == 2
        assert "bytes cannot be written: File too large; raise the limit" in done.stderr
        assert "continued at byte 50000" in fetch(server, tmp_path).stdout
        assert arrived(tmp_path) == CONTENT
