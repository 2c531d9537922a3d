"""What the command `pack` prints and refuses."""

from __future__ import annotations

import os

from audiossl_lite.data import pack
from tests.data.sounds import hum, put


def test_names_that_move_a_terminal_are_escaped(tmp_path, capsys):
    cut = put(tmp_path / "in" / "a" / "cut\x1b[2J\nred.wav", hum(2.0))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    put(tmp_path / "in" / "a" / "b.wav")
    odd = tmp_path / "st\x1b[31more"
    assert pack.main([str(tmp_path / "in"), str(odd)]) == 0
    assert pack.main([str(tmp_path / "in"), str(odd), "--kind", "atst"]) == 2
    next(odd.glob("*.bin")).write_bytes(b"")
    assert pack.main([str(tmp_path / "in"), str(odd)]) == 2
    said = capsys.readouterr()
    assert "  has lost its end: a/cut\\x1b[2J\\nred.wav\n" in said.out
    assert "\x1b" not in said.out + said.err and len(said.err.splitlines()) == 2


def test_folders_whose_names_begin_with_a_tilde(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "~old" / "a" / "b.wav")
    assert pack.main(["~old", "~/store"]) == 0
    assert (tmp_path / "home" / "store" / "store.json").is_file() and not os.path.exists("~")
    assert pack.main(["~gone", "x"]) == 2
    assert "~gone: the path does not exist" in capsys.readouterr().err
