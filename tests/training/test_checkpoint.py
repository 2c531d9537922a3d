"""Checkpoints: whole or absent, and never more than data."""

from __future__ import annotations

import os

import pytest
import torch

from audiossl_lite.training import load_checkpoint, save_checkpoint

STATE = {
    "weights": {"a": torch.arange(6.0).view(2, 3)},
    "step": 4,
    "seconds": 1.5,
    "history": [{"loss": 0.5, "step": 1}],
    "identity": "{}",
}


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "deep" / "er" / "last.pt"
    save_checkpoint(path, STATE)
    back = load_checkpoint(path)
    assert torch.equal(back.pop("weights")["a"], STATE["weights"]["a"])
    assert back == {key: value for key, value in STATE.items() if key != "weights"}
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_a_failed_save_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"local|pickle"):
        save_checkpoint(path, {"bad": lambda: 0})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_save_that_breaks_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    before = path.read_bytes()

    def half(state, file):
        file.write(b"half a check")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, STATE | {"step": 5})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_checkpoint(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_cut_off_file_is_called_damaged(tmp_path, share):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"last\.pt is damaged.*delete it"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"hello, world", b"\x80\x02.", b"{}", b"\x00" * 100, b"PK\x03\x04"]
)
def test_another_kind_of_file_is_called_damaged(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt is damaged"):
        load_checkpoint(path)


class Bomb:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_pickled_code_is_refused_and_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"step": 1, "extra": Bomb(str(marker))}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    assert not marker.exists()
