"""Checkpoints: whole or absent, and never more than data."""

from __future__ import annotations

import os
import zipfile

import pytest
import torch

from audiossl_lite.training import forget_checkpoints, load_checkpoint, save_checkpoint
from audiossl_lite.training.checkpoint import check_free, impossible_values
from tests.common.limits import file_limit
from tests.faults.flips import flipped, zeroed

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
    with pytest.raises(
        OSError, match=r"last\.pt cannot be written: No space left on device; make room"
    ):
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


def test_a_disk_that_takes_no_more_is_said_in_one_line_and_the_old_file_stays(tmp_path):
    """torch alone says `unexpected pos 704 vs 598`. A limit on the size of files stands for the full disk."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    before = path.read_bytes()
    expected = pytest.raises(OSError, match=r"last\.pt cannot be written: File too large; raise")
    with file_limit(50_000), expected:
        save_checkpoint(path, {"weights": torch.zeros(100_000)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_the_file_before_is_kept_at_every_moment(tmp_path, monkeypatch):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for step in (1, 2, 3):
        save_checkpoint(last, {"step": step}, previous=previous)
    assert (load_checkpoint(last)["step"], load_checkpoint(previous)["step"]) == (3, 2)

    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    save_checkpoint(last, {"step": 4}, previous=previous)
    assert (load_checkpoint(last)["step"], load_checkpoint(previous)["step"]) == (4, 3)
    forget_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_damage_is_refused_and_the_checkpoint_before_it_is_named(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for step in (1, 2):
        save_checkpoint(last, STATE | {"step": step}, previous=previous)
    whole = last.read_bytes()
    last.write_bytes(flipped(whole, whole.index(STATE["weights"]["a"].numpy().tobytes()) * 8 + 3))
    with pytest.raises(ValueError, match=r"last\.pt is damaged .*checksum of its record .*data/0 is "
                       r"wrong.*delete it to go on from previous\.pt .*holds step 1"):  # fmt: skip
        load_checkpoint(last)
    previous.write_bytes(previous.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"previous\.pt beside it is damaged, too: delete both"):
        load_checkpoint(last)


@pytest.mark.parametrize("start", [0.2, 0.5, 0.8])
def test_a_zeroed_block_is_refused(tmp_path, start):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.randn(50_000)})
    path.write_bytes(zeroed(path.read_bytes(), start))
    with pytest.raises(ValueError, match=r"last\.pt is damaged .*checksum"):
        load_checkpoint(path)


def test_an_older_format_without_checksums_is_read_with_a_warning(tmp_path):
    path = tmp_path / "last.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    with pytest.warns(UserWarning, match=r"last\.pt has no checksums"):
        assert load_checkpoint(path)["step"] == STATE["step"]


def test_records_that_claim_more_than_the_file_holds_are_not_unpacked(tmp_path):
    """A small file that unpacks to a terabyte would be read for hours by who believes its records."""
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("last/data.pkl", bytes(10_000_000))
    with pytest.raises(ValueError, match="records claim more bytes than the file has"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e38])
def test_values_that_no_network_holds_are_named(value):
    state = {"a.weight": torch.zeros(3), "b": torch.tensor([0.0, value]), "n": torch.tensor(1)}
    (problem,) = impossible_values(state)
    assert problem.startswith("b holds values from")
    assert impossible_values({"n.running_var": torch.tensor([1.0, -0.1])}) == [
        "n.running_var holds a negative variance, -0.1"
    ]
    fine = {
        "empty": torch.zeros(0),
        "n.running_mean": torch.tensor([-1.0]),
        "half": torch.ones(2).half(),
    }
    assert not impossible_values(fine)


def test_a_result_whose_checkpoint_is_gone_is_not_replaced(tmp_path):
    check_free(None, "encoder.safetensors")
    check_free(tmp_path / "new", "encoder.safetensors")
    (tmp_path / "encoder.safetensors").write_text("")
    with pytest.raises(ValueError, match=r"holds encoder\.safetensors of a run without .*move it"):
        check_free(tmp_path, "encoder.safetensors")
    (tmp_path / "previous.pt").write_text("")
    check_free(tmp_path, "encoder.safetensors")
