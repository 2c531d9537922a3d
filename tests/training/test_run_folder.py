"""A checkpoint with right checksums that no run of ours has left: it was written by something else, or by hand."""

from __future__ import annotations

import shutil

import pytest
import torch

from audiossl_lite.training import load_checkpoint, save_checkpoint
from tests.training.tiny_run import run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    run(folder, stop_after=5)
    return folder


def first_moments(state: dict) -> dict:
    return next(iter(state["optimizer"]["state"].values()))


def whole_numbers(state: dict) -> None:
    name = next(iter(state["method"]))
    state["method"][name] = state["method"][name].to(torch.int32)


IMPOSSIBLE = {
    "step is -5": lambda state: state.update(step=-5),
    "step is True": lambda state: state.update(step=True),
    "step is 24 of 23": lambda state: state.update(step=24),
    "seconds is nan": lambda state: state.update(seconds=float("nan")),
    "seconds is -1": lambda state: state.update(seconds=-1.0),
    "history has no loss": lambda state: state.update(history=[]),
    "no 'step'": lambda state: state.update(history=[{"loss": 1.0}]),
    "loss of a row of history is": lambda state: state.update(history=[{"step": 1, "loss": "x"}]),
    "exp_avg of a weight .* holds NaN": lambda state: first_moments(state)["exp_avg"].fill_(torch.nan),
    "holds torch.int32, not torch.float32": whole_numbers,
}  # fmt: skip


@pytest.mark.parametrize("words", IMPOSSIBLE)
def test_a_place_where_no_run_can_be_is_refused_and_left_alone(tmp_path, stopped, words):
    folder = shutil.copytree(stopped, tmp_path / "run")
    state = load_checkpoint(folder / "last.pt")
    IMPOSSIBLE[words](state)
    save_checkpoint(folder / "last.pt", state)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    with pytest.raises(ValueError, match=rf"last\.pt is no checkpoint .*{words}"):
        run(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"} == before


def test_a_file_has_no_word_in_the_optimiser_s_settings(tmp_path, stopped):
    folder = shutil.copytree(stopped, tmp_path / "run")
    state = load_checkpoint(folder / "last.pt")
    for group in state["optimizer"]["param_groups"]:
        group |= {"maximize": True, "amsgrad": True, "eps": 1.0, "betas": (0.0, 0.0)}
    save_checkpoint(folder / "last.pt", state)
    ours, whole = run(folder).method.state_dict(), run().method.state_dict()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
