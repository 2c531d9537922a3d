"""Archives are read whole or not at all, and nothing of them is written outside the folder."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.data.sounds import put
from tests.data.test_datasets import make_esc50, make_fsdd
from tests.data_scripts.script import SCRIPTS, module, script, tar_of, zip_of

EVIL = ["../escape.wav", "/escape.wav", "top/../../escape.wav", "..\\escape.wav", "C:\\escape.wav"]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_only_audio_tables_and_licence_are_taken(tmp_path, pack):
    root = make_esc50(tmp_path / "made")
    (root / "tests").mkdir()
    (root / "tests" / "run.py").write_text("not wanted")
    (root / "LICENSE").write_text("credits")
    archive = pack(tmp_path / "archive", root)
    done = script("esc50", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
    assert "8 clips" in done.stdout
    assert done.returncode == 1
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["LICENSE", "audio", "manifest.csv", "meta", "prepare.json", "skipped.csv"]


def test_a_member_that_points_outside_or_is_no_file_stops_everything(tmp_path):
    root = make_esc50(tmp_path / "made")
    link = zipfile.ZipInfo("top-master/audio/link.wav")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archives = [(zip_of(tmp_path / "link.zip", root), "is a link")]
    with zipfile.ZipFile(archives[0][0], "a") as bundle:
        bundle.writestr(link, "/etc/hostname")
    for number, name in enumerate(EVIL):
        info = tarfile.TarInfo(name)
        archives += [
            (zip_of(tmp_path / f"{number}.zip", root, {name: b"x"}), "points outside"),
            (tar_of(tmp_path / f"{number}.tgz", root, info), "points outside"),
        ]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("top-master/audio/link.wav")
        info.type, info.linkname = kind, "/etc/hostname"
        number = kind.decode()
        archives.append((tar_of(tmp_path / f"kind{number}.tgz", root, info), "link or a device"))
    faults = []
    for archive, word in archives:
        done = script("esc50", "prepare", "--from-archive", archive, "--to", tmp_path / "a" / "out")
        if done.returncode != 2 or word not in done.stderr or (tmp_path / "a").exists():
            faults.append(f"{archive.name}: {done}")
    assert not faults
    assert not list(tmp_path.rglob("*escape*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_occurs_twice_is_refused(tmp_path):
    root = make_esc50(tmp_path / "made")
    name = next((root / "audio").iterdir()).name
    archive = zip_of(tmp_path / "a.zip", root, {f"top-master/audio/{name}": b"other"})
    done = script("esc50", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "occurs twice" in done.stderr


def test_wrong_damaged_and_missing_archives_are_clear_errors(tmp_path):
    root = make_esc50(tmp_path / "made")
    whole = zip_of(tmp_path / "whole.zip", root).read_bytes()
    place = whole.find(b"RIFF") + 500
    (tmp_path / "damaged.zip").write_bytes(whole[:place] + b"\xff" * 50 + whole[place + 50 :])
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("hello")
    zip_of(tmp_path / "other.zip", make_fsdd(tmp_path / "digits"))
    packed = tar_of(tmp_path / "whole.tgz", root).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(packed[: len(packed) // 2])
    os.mkfifo(tmp_path / "pipe.zip")
    for name, word in (
        ("pipe.zip", "no such file"),
        ("damaged.zip", "cannot be unpacked"),
        ("cut.tgz", "cannot be unpacked"),
        ("cut.zip", "neither a zip nor a tar"),
        ("text.zip", "neither a zip nor a tar"),
        ("other.zip", "no esc50.csv in the given archives"),
        ("gone.zip", "no such file"),
    ):
        done = script(
            "esc50", "prepare", "--from-archive", tmp_path / name, "--to", tmp_path / "out"
        )
        assert done.returncode == 2, name
        assert word in done.stderr
        assert name in done.stderr or name == "other.zip"
        assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    root = make_esc50(tmp_path / "made")
    archive = zip_of(tmp_path / "a.zip", root)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for place in (root, tmp_path / "out"):
        done = script("esc50", "prepare", "--from-archive", archive, "--to", place)
        assert done.returncode == 2
        assert "not empty" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_another_data_set_is_left_alone(tmp_path):
    esc50 = zip_of(tmp_path / "a.zip", make_esc50(tmp_path / "made"))
    digits = zip_of(tmp_path / "b.zip", make_fsdd(tmp_path / "digits"))
    script("esc50", "prepare", "--from-archive", esc50, "--to", tmp_path / "out")
    done = script("fsdd", "prepare", "--from-archive", digits, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "not empty" in done.stderr


def test_a_folder_of_files_is_read_like_an_archive(tmp_path):
    root = make_fsdd(tmp_path / "made")
    put(root / ".hidden" / "recordings" / "0_ann_9.wav")
    put(root / "recordings" / "._0_ann_0.wav")
    put(root / "__MACOSX" / "recordings" / "0_ann_0.wav")
    (root / "notes.txt").write_text("not wanted")
    done = script("fsdd", "prepare", "--from-archive", root, "--to", tmp_path / "out")
    assert "24 clips" in done.stdout
    assert "0 left out" in done.stdout


def test_two_clips_of_one_name_are_refused(tmp_path):
    """The archive and what was unpacked of it, given together."""
    root = make_fsdd(tmp_path / "made")
    archive = zip_of(tmp_path / "a.zip", root)
    done = script("fsdd", "prepare", "--from-archive", archive, root, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "two clips would become recordings/0_ann_0.wav" in done.stderr
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("places", [(0, 1, 1, 2, 50), (0, 10, 99, 100, 100)])
def test_pieces_read_as_one_file(tmp_path, places):
    content = bytes(range(100))
    pieces = []
    for number, (start, end) in enumerate(zip((0, *places), (*places, 100))):
        pieces.append(tmp_path / f"{number}")
        pieces[-1].write_bytes(content[start:end])
    with io.BufferedReader(module("archives").JoinedFile(pieces), 7) as joined:
        assert joined.read() == content
        assert joined.seek(-3, io.SEEK_END) == 97
        assert joined.read(10) == content[97:]
        for start in range(0, 100, 9):
            joined.seek(start)
            assert joined.read(20) == content[start : start + 20]
        assert joined.seek(200) == 200
        assert joined.read(1) == b""


def test_a_member_above_the_limit_or_longer_than_its_header_is_refused(tmp_path):
    archives = module("archives")
    source = (tmp_path / "a.zip",)
    large = archives.Member("a.wav", 1000, lambda: io.BytesIO(b"x" * 1000))
    with pytest.raises(archives.ArchiveError, match="too large"):
        archives.read_member(source, large, 999)
    assert archives.read_member(source, large, 1000) == b"x" * 1000
    for length in (9, 11):
        liar = archives.Member("a.wav", 10, lambda length=length: io.BytesIO(b"x" * length))
        with pytest.raises(archives.ArchiveError, match="as long as its header"):
            archives.read_member(source, liar, 1000)


def test_the_command_line_works_from_any_folder(tmp_path):
    archive = zip_of(tmp_path / "cut.zip", make_esc50(tmp_path / "made"))
    archive.write_bytes(archive.read_bytes()[:-100])
    command = [sys.executable, SCRIPTS / "esc50.py", "prepare", "--from-archive", archive]
    done = subprocess.run(
        [*command, "--to", "out"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def contents(archive) -> dict[str, bytes]:
    """What is read of an archive, by the path of the member."""
    archives = module("archives")
    with archives.members((archive,)) as files:
        return {
            member.path: archives.read_member((archive,), member, 2**20)
            for member in files
            if member.size
        }


def test_a_damaged_tar_is_refused_or_read_as_it_was(tmp_path):
    """One bit at each of 120 places, and 120 ends: tarfile alone takes most of them for the end of the archive."""
    archives = module("archives")
    whole = tar_of(tmp_path / "whole.tar.gz", make_esc50(tmp_path / "made"))
    before, packed = contents(whole), whole.read_bytes()
    assert len(before) == 9
    faults, refused = [], 0
    places = range(0, len(packed), len(packed) // 120)
    for place in places:
        flipped = bytearray(packed)
        flipped[place] ^= 1 << (place % 8)
        for how, body in (("bit", flipped), ("end", packed[:place])):
            (tmp_path / "damaged.tar.gz").write_bytes(body)
            try:
                after = contents(tmp_path / "damaged.tar.gz")
            except archives.ArchiveError:
                refused += 1
                continue
            if how == "end" or after != before:
                faults.append(f"{how} at {place}: {len(after)} members")
    assert not faults
    assert refused > 2 * len(places) - 8  # the time and the name in gzip's header are no content


def test_a_tar_that_ends_too_early_is_refused(tmp_path):
    """Not compressed, no checksum tells: cut between two members, a damaged header, something after the end."""
    archives = module("archives")
    root = make_esc50(tmp_path / "made")
    with tarfile.open(tmp_path / "whole.tar", "w") as bundle:
        bundle.add(root, "top")
        second = bundle.getmembers()[4].offset
    whole = (tmp_path / "whole.tar").read_bytes()
    damaged = bytearray(whole)
    damaged[second + 150] ^= 1
    for name, body in (
        ("cut", whole[:second]),
        ("header", damaged),
        ("more", whole + whole),
        ("half a block", whole[: second + 100]),
    ):
        (tmp_path / "a.tar").write_bytes(body)
        with pytest.raises(archives.ArchiveError, match="download it again"):
            contents(tmp_path / "a.tar")
            pytest.fail(name)
    assert len(contents(tmp_path / "whole.tar")) == 9


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a fault")])
def test_what_the_caller_does_wrong_is_not_blamed_on_the_archive(tmp_path, error):
    """A full disk is no reason to download the archive again."""
    archives, root = module("archives"), make_esc50(tmp_path / "made")
    table = root / "meta" / "esc50.csv"
    packed = zip_of(tmp_path / "a.zip", root), tar_of(tmp_path / "a.tgz", root), root, table
    for source in packed:
        with pytest.raises(type(error)) as raised, archives.members((source,)) as files:
            next(files)
            raise error
        assert raised.value is error
