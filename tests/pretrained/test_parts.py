"""Finished batches of `embed`: kept while the work is not done, never more deleted than they are."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile

from audiossl_lite import embed_folder
from audiossl_lite.pretrained import embed, embedding
from audiossl_lite.pretrained.foreign import adapt
from audiossl_lite.pretrained.parts import kept_parts


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Eight sounds of a second, in batches of two."""
    monkeypatch.setattr(embedding, "BATCH_S", 2.0)
    root, rng = tmp_path / "recordings", np.random.default_rng(0)
    root.mkdir()
    for i in range(8):
        soundfile.write(root / f"{i}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    return root


class Encoder:
    """Four numbers a clip; before batch `at` something happens."""

    def __init__(self, at: int = 0, happens=lambda: None) -> None:
        self.n_calls, self.at, self.happens = 0, at, happens

    def __call__(self, waveform, lengths):
        self.n_calls += 1
        if self.n_calls == self.at:
            self.happens()
        return waveform[:, :4]


def stop() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """`embed` of the folder by an encoder: its status and what it says on standard error."""

    def command(encoder, out) -> tuple[int, str]:
        model = adapt(encoder, name="toy", identity="1")
        monkeypatch.setattr(embed, "load_any", lambda name: model)
        status = embed.main([str(folder), "--model", "toy", "--out", str(out)])
        return status, capsys.readouterr().err

    return command


def test_what_others_put_into_the_folder_of_parts_stays(run, tmp_path):
    parts = tmp_path / "u.npz.parts"
    parts.mkdir()
    (parts / "notes.txt").write_text("mine")
    (parts / "clips.npz").write_bytes(b"mine")
    assert run(Encoder(), tmp_path / "u.npz")[0] == 0
    assert sorted(path.name for path in parts.iterdir()) == ["clips.npz", "notes.txt"]
    assert run(Encoder(), tmp_path / "v.npz")[0] == 0
    assert not (tmp_path / "v.npz.parts").exists()


def test_a_folder_that_vanishes_stops_the_work_which_goes_on_when_it_is_back(run, folder, tmp_path):
    out, away = tmp_path / "u.npz", tmp_path / "away"
    out.write_bytes(b"the table before")
    status, said = run(Encoder(2, lambda: folder.rename(away)), out)
    assert status == 2 and "vanished" in said and "it goes on from the finished parts" in said
    assert out.read_bytes() == b"the table before"
    away.rename(folder)
    again = Encoder()
    assert run(again, out) == (0, "")
    assert again.n_calls == 3  # of four; the second batch was not sure to be whole
    assert len(np.load(out)["file"]) == 8


def test_a_table_of_what_is_left_is_no_table_when_half_of_the_files_vanish(run, folder, tmp_path):
    """Of a disk that is gone its mount point may stay."""

    def empty() -> None:
        for path in folder.iterdir():
            path.unlink()

    status, said = run(Encoder(2, empty), tmp_path / "u.npz")
    assert status == 2 and "of 8 files" in said and not (tmp_path / "u.npz").exists()


def test_one_file_that_vanishes_is_left_out_and_back_again_it_is_used(run, folder, tmp_path):
    parts, aside = tmp_path / "parts", tmp_path / "7.wav"
    encoder = Encoder(1, lambda: (folder / "7.wav").rename(aside))
    rows = embed_folder(folder, adapt(encoder, name="toy"), parts=parts)
    assert [(skip.name, skip.reason) for skip in rows.skipped] == [("7.wav", "no such file")]
    shutil.move(aside, folder / "7.wav")
    again = Encoder()
    rows = embed_folder(folder, adapt(again, name="toy"), parts=parts)
    assert len(rows) == 8 and not rows.skipped and again.n_calls == 1


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:-200] + bytes(255 - byte for byte in content[-200:])


def one_bit(content: bytes) -> bytes:
    at = content.index(b"NUMPY") + 200
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut, flipped, one_bit, lambda content: b"", lambda content: b"junk" * 99],
    ids=["cut", "flipped", "one bit", "empty", "junk"],
)
def test_a_damaged_part_is_done_again(run, tmp_path, damage):
    whole, out = tmp_path / "whole.npz", tmp_path / "u.npz"
    assert run(Encoder(), whole)[0] == 0
    with pytest.raises(KeyboardInterrupt):
        run(Encoder(4, stop), out)
    part = min((tmp_path / "u.npz.parts").glob("*.npz"))
    part.write_bytes(damage(part.read_bytes()))
    again = Encoder()
    assert run(again, out) == (0, "")
    assert again.n_calls == 2
    assert out.read_bytes() == whole.read_bytes()


def test_a_part_of_something_else_is_done_again(run, tmp_path):
    out = tmp_path / "u.npz"
    with pytest.raises(KeyboardInterrupt):
        run(Encoder(4, stop), out)
    for number, part in enumerate((tmp_path / "u.npz.parts").glob("*.npz")):
        content = dict(np.load(part))
        if number == 0:
            del content["reasons"]
        elif number == 1:
            content["place"] = content["place"] + 7
        else:
            content["end"] = content["end"][:1]
        np.savez(part, **content)
    again = Encoder()
    assert run(again, out)[0] == 0
    assert again.n_calls == 4


def test_a_second_process_is_refused_and_harms_nothing(run, tmp_path):
    out, parts = tmp_path / "u.npz", tmp_path / "u.npz.parts"
    encoder = Encoder()
    with kept_parts(parts):  # a lock that is held in this process refuses as one of another does
        status, said = run(encoder, out)
    assert (status, encoder.n_calls) == (2, 0)
    assert "at work here" in said and f"process {os.getpid()}" in said
    assert not parts.exists()
    assert run(encoder, out)[0] == 0


def test_a_request_that_is_refused_leaves_no_folder_of_parts(tmp_path):
    with pytest.raises(ValueError, match="refused"), kept_parts(tmp_path / "parts"):
        raise ValueError("refused")
    assert not [*tmp_path.iterdir()]
