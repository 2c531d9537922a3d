"""What a server sends is looked into and limited before anything is kept."""

from __future__ import annotations

from tests.data_scripts.faulty_server import serving
from tests.data_scripts.fetched import CONTENT, NAME, QUICK, fetch
from tests.data_scripts.script import module, script

PAGE = b"<!DOCTYPE html>\n<html><body>Please come back later.</body></html>\n"
# Files without a published checksum: script, name, content, and where it is cut off.
UNSUMMED = (
    ("esc50", NAME, CONTENT, 50_000),
    ("audioset", "eval_segments.csv", b"# YTID\nabc, 0.0, 10.0, x\n", 15),
    ("audioset", "ontology.json", b'[{"id": "/m/a", "name": "Speech"}]\n', 15),
    ("voxceleb1", "iden_split.txt", b"1 a/b/c.wav\n2 d/e/f.wav\n", 15),
)


def test_what_is_not_the_whole_file_is_never_recorded(tmp_path):
    """A web page, nothing, and a cut-off body of a server that does not say the length; then the server recovers."""
    faults = []
    for name, file, content, cut_at in UNSUMMED:
        with serving({}, length=False) as server:
            given = ("fetch", "--to", tmp_path / file, "--mirror", server.url, "--only", file)
            for what, body in (("page", PAGE), ("nothing", b""), ("cut", content[:cut_at])):
                server.files[file] = body
                done = script(name, *given, *QUICK)
                if done.returncode != 2 or "is not the whole file" not in done.stderr:
                    faults.append(f"{file}, {what}: {done.stderr or done.stdout}")
                faults += [f"{file}, {what}: {left}" for left in (tmp_path / file).iterdir()]
            server.files[file] = content
            assert script(name, *given, *QUICK).returncode == 0
            assert (tmp_path / file / file).read_bytes() == content
            # One that was put there by hand is looked into as well before its checksum is recorded.
            (tmp_path / file / f"{file}.sha256").unlink()
            (tmp_path / file / file).write_bytes(content[:cut_at])
            if script(name, *given, *QUICK).returncode != 1:
                faults.append(f"{file}: a damaged copy is taken")
            if (tmp_path / file / f"{file}.sha256").exists():
                faults.append(f"{file}: the checksum of a damaged copy is recorded")
    assert not faults


def test_a_body_without_end_is_left(tmp_path, monkeypatch):
    download = module("download")
    monkeypatch.setattr(download, "MOST_BYTES", {True: 2**20, False: 2**20})
    with serving({NAME: CONTENT}, endless=True, length=False) as server:
        done = fetch(server, tmp_path / "a")
        assert (done.returncode, len(server.asked)) == (2, 1)
        assert "more than the 1048576 bytes" in done.stderr
    with serving({NAME: CONTENT}) as server:  # or says at once that it is too long
        monkeypatch.setattr(download, "MOST_BYTES", {True: 1000, False: 1000})
        assert "more than the 1000 bytes" in fetch(server, tmp_path / "a").stderr
    assert list((tmp_path / "a").iterdir()) == []


def test_a_body_that_comes_byte_by_byte_is_left(tmp_path):
    with serving({NAME: CONTENT}, trickle=True) as server:
        done = fetch(server, tmp_path, "--timeout", "0.2")
        assert (done.returncode, len(server.asked)) == (2, 3)
        assert "gave up after 3 attempts without progress (too slow" in done.stderr


def test_a_server_that_sends_on_to_another_protocol_is_not_followed(tmp_path):
    for moved in ("ftp://127.0.0.1/x.zip", "file:///etc/hostname"):
        with serving({NAME: CONTENT}, moved=moved) as server:
            done = fetch(server, tmp_path)
            assert (done.returncode, len(server.asked)) == (2, 1)
            assert "not http" in done.stderr and moved in done.stderr
    assert list(tmp_path.iterdir()) == []
