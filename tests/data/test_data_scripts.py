"""Archives are unpacked whole or not at all, and never outside their folder."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import tarfile
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data.sounds import put
from tests.data.test_datasets import make_esc50, make_fsdd

SCRIPTS = Path(__file__).resolve().parents[2] / "data_scripts"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def script(name: str, *arguments) -> Done:
    """Run a script's command line in this process, found the way Python finds it: beside its helpers."""
    sys.path.insert(0, str(SCRIPTS))
    out, err = io.StringIO(), io.StringIO()
    try:
        main = importlib.import_module(name).main
        with redirect_stdout(out), redirect_stderr(err):
            status = main([str(argument) for argument in arguments])
    finally:
        sys.path.remove(str(SCRIPTS))
    return Done(status, out.getvalue(), err.getvalue())


def zip_of(archive: Path, folder: Path, extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(archive, "w") as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, f"top-master/{path.relative_to(folder)}")
        for name, content in (extra or {}).items():
            bundle.writestr(name, content)
    return archive


def tar_of(archive: Path, folder: Path, extra: tarfile.TarInfo | None = None) -> Path:
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.add(folder, "top-master")
        if extra is not None:
            bundle.addfile(extra, io.BytesIO(b""))
    return archive


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_prepare_unpacks_audio_and_reports_what_is_missing(tmp_path, pack):
    root = make_esc50(tmp_path / "made")
    (root / "tests").mkdir()
    (root / "tests" / "run.py").write_text("not wanted")
    archive = pack(tmp_path / "archive", root)
    done = script("esc50", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
    assert "9 files unpacked" in done.stdout
    assert "8 clips, the full set has 2000" in done.stderr
    assert done.returncode == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audio", "meta"]


def test_fsdd_prepare_and_verify(tmp_path):
    archive = zip_of(tmp_path / "f.zip", make_fsdd(tmp_path / "made"))
    done = script("fsdd", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
    assert "24 files unpacked" in done.stdout
    put(tmp_path / "out" / "recordings" / "wrong.wav")
    checked = script("fsdd", "verify", tmp_path / "out")
    assert checked.returncode == 1
    assert "wrong.wav: file name is not" in checked.stderr
    assert script("fsdd", "verify", tmp_path / "gone").returncode == 1


EVIL = ["../escape.wav", "/escape.wav", "top/../../escape.wav", "..\\escape.wav", "C:\\escape.wav"]


@pytest.mark.parametrize("name", EVIL)
def test_a_member_that_points_outside_stops_everything(tmp_path, name):
    root = make_esc50(tmp_path / "made")
    archive = zip_of(tmp_path / "evil.zip", root, {name: b"x"})
    done = script("esc50", "prepare", "--from-archive", archive, "--to", tmp_path / "a" / "out")
    assert done.returncode == 2
    assert "points outside" in done.stderr
    assert not list(tmp_path.rglob("*escape*"))
    assert not (tmp_path / "a" / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("top-master/audio/link.wav")
    info.type, info.linkname = kind, "/etc/hostname"
    archive = tar_of(tmp_path / "evil.tgz", make_esc50(tmp_path / "made"), info)
    done = script("esc50", "prepare", "--from-archive", archive, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "link or a device" in done.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_damaged_and_missing_archives_are_clear_errors(tmp_path):
    root = make_esc50(tmp_path / "made")
    whole = zip_of(tmp_path / "whole.zip", root).read_bytes()
    place = whole.find(b"RIFF") + 500
    (tmp_path / "damaged.zip").write_bytes(whole[:place] + b"\xff" * 50 + whole[place + 50 :])
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("hello")
    zip_of(tmp_path / "other.zip", make_fsdd(tmp_path / "digits"))
    for name, word in (
        ("damaged.zip", "cannot be unpacked"),
        ("cut.zip", "neither a zip nor a tar"),
        ("text.zip", "neither a zip nor a tar"),
        ("other.zip", "none of the expected files"),
        ("gone.zip", "no such file"),
    ):
        done = script(
            "esc50", "prepare", "--from-archive", tmp_path / name, "--to", tmp_path / "out"
        )
        assert done.returncode == 2, name
        assert word in done.stderr
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.partial").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    root = make_esc50(tmp_path / "made")
    archive = zip_of(tmp_path / "a.zip", root)
    before = sorted(path.name for path in root.rglob("*"))
    done = script("esc50", "prepare", "--from-archive", archive, "--to", root)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert sorted(path.name for path in root.rglob("*")) == before


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
