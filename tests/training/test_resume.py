"""Resuming: interrupted anywhere, even killed, a run ends with bit-identical weights and history."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiossl_lite.encoders import atst_tiny
from audiossl_lite.training import load_checkpoint, save_checkpoint
from audiossl_lite.training.identity import module_digest
from audiossl_lite.training.run_folder import RunFolder
from tests.common.limits import file_limit
from tests.faults.flips import zeroed
from tests.training.tiny_run import STEPS, make_config, make_data, make_method, make_views, run

ROOT = Path(__file__).resolve().parents[2]


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def without_time(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def assert_same(ours: dict, theirs: dict, where: str = "") -> None:
    """Equal to the last bit, through nested dictionaries and lists."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = run(folder)
    return folder, result


def assert_same_end(folder: Path, uninterrupted: Path, extra_steps: tuple[int, ...] = ()) -> None:
    """`extra_steps`: where an interrupted call logged its last step although no logging was due."""
    ours, theirs = load_checkpoint(folder / "last.pt"), load_checkpoint(uninterrupted / "last.pt")
    for part in ("method", "views", "optimizer", "step", "identity"):
        assert_same(ours[part], theirs[part], part)
    logged = [row for row in rows(folder) if row["step"] not in extra_steps]
    assert without_time(logged) == without_time(rows(uninterrupted))
    steps = [row["step"] for row in rows(folder)]
    assert steps == sorted(set(steps)), "a step stands twice in the history"
    assert rows(folder) == ours["history"]


def test_the_uninterrupted_run_learns_and_logs(uninterrupted):
    folder, result = uninterrupted
    steps = [row["step"] for row in result.history]
    assert steps == [1, 3, 6, 9, 12, 15, 18, 21, 23]
    assert rows(folder) == result.history
    assert result.started_at == 0
    start = dict(make_method().named_parameters())
    moved = [n for n, p in result.method.named_parameters() if not torch.equal(p, start[n])]
    assert len(moved) == len(start)


@pytest.mark.parametrize("stops", [(1,), (4,), (5,), (7,), (22,), (3, 5, 17), (8, 9, 10)])
def test_a_run_stopped_and_resumed_ends_bit_identically(tmp_path, uninterrupted, stops):
    for stop in stops:
        assert run(tmp_path, stop_after=stop).history[-1]["step"] == stop
    torch.manual_seed(99)  # the state of the caller must not matter
    result = run(tmp_path)
    assert result.started_at == stops[-1]
    due = {1, STEPS, *range(3, STEPS, 3)}
    assert_same_end(tmp_path, uninterrupted[0], tuple(s for s in stops if s not in due))
    for name, p in result.method.named_parameters():
        assert torch.equal(p, dict(uninterrupted[1].method.named_parameters())[name]), name


@pytest.mark.parametrize("stops_at", [2, 6, 13, 20])
def test_an_exception_between_checkpoints_loses_only_steps_that_run_again(
    tmp_path, uninterrupted, stops_at
):
    method = make_method()
    calls = 0

    def fail(*_):
        nonlocal calls
        calls += 1
        if calls == stops_at:
            raise KeyboardInterrupt

    method.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, method=method)
    result = run(tmp_path)
    assert result.started_at == (stops_at - 1) // 5 * 5
    assert_same_end(tmp_path, uninterrupted[0])


KILLS = (4, 14)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders of runs whose processes were killed in the middle of a step."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.training.tiny_run", str(folder), *map(str, KILLS)]
    environment = os.environ | {"AUDIOSSL_PROGRESS": "off", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(KILLS), done.stderr
    return folder


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kill_at", KILLS)
def test_a_killed_process_can_be_resumed(killed, uninterrupted, kill_at):
    folder = killed / str(kill_at)
    left = [row["step"] for row in rows(folder)]
    assert left == [s for s in (1, 3, 6, 9, 12) if s < kill_at]
    assert (folder / "last.pt").exists() == (kill_at > 5)
    result = run(folder)
    assert result.started_at == (10 if kill_at > 5 else 0)
    assert_same_end(folder, uninterrupted[0])
    assert not list(folder.glob("*.part")) and not list(folder.glob(".*.part"))


def test_a_finished_run_is_returned_as_it_ended(tmp_path, uninterrupted):
    first = run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    again = run(tmp_path)
    assert again.started_at == STEPS
    assert again.history == first.history
    assert again.seconds == pytest.approx(first.seconds)
    assert again.summary() == first.summary()
    assert (tmp_path / "last.pt").read_bytes() == before
    for ours, theirs in zip(again.method.parameters(), first.method.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_stop_before_where_the_run_is_changes_nothing(tmp_path):
    run(tmp_path, stop_after=10)
    result = run(tmp_path, stop_after=6)
    assert result.started_at == 10
    assert rows(tmp_path)[-1]["step"] == 10
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 10


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-3}, {"seed": 4}, {"steps": STEPS + 1}, {"momentum": 0.5}]
)
def test_a_folder_with_other_settings_is_refused(tmp_path, changes):
    run(tmp_path, stop_after=5)
    before = (tmp_path / "history.jsonl").read_bytes()
    with pytest.raises(ValueError, match="other settings; choose another output_dir"):
        run(tmp_path, config=make_config(**changes))
    assert (tmp_path / "history.jsonl").read_bytes() == before
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 5


def test_a_folder_with_other_data_is_refused(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(ValueError, match=r"other settings.*n_clips 40 there, 41 now"):
        run(tmp_path, data=make_data(41))
    with pytest.raises(ValueError, match=r"other settings.*\(data "):
        run(tmp_path, data=make_data().flip(0))


def test_a_folder_with_other_lengths_is_refused(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(ValueError, match=r"other settings.*\(lengths "):
        run(tmp_path, lengths=torch.full((40,), 20))


def test_another_share_of_drop_path_is_another_run():
    digests = {module_digest(atst_tiny(drop_path=share)) for share in (0.0, 0.1, 0.4)}
    assert len(digests) == 3


def test_data_that_differ_by_rounding_are_the_same_data(tmp_path):
    run(tmp_path, stop_after=5)
    result = run(tmp_path, data=make_data() * (1 + 1e-6))
    assert result.started_at == 5
    assert load_checkpoint(tmp_path / "last.pt")["step"] == STEPS


def test_a_folder_with_another_method_is_refused(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(ValueError, match=r"other settings.*\(method "):
        run(tmp_path, method=make_method(reduction="mean"))
    with pytest.raises(ValueError, match="other settings"):
        run(tmp_path, method=make_method(predictor=False))


def test_a_folder_with_other_views_is_refused(tmp_path):
    run(tmp_path, stop_after=5)
    with pytest.raises(ValueError, match=r"other settings.*\(views "):
        run(tmp_path, views=make_views(segments="one"))


def test_a_finished_run_of_other_settings_is_not_returned_as_this_one(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        run(tmp_path, views=make_views(segments="one"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path, content):
    run(tmp_path, stop_after=5)
    history = (tmp_path / "history.jsonl").read_bytes()
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt is damaged .*delete it"):
        run(tmp_path)
    assert (tmp_path / "history.jsonl").read_bytes() == history
    (tmp_path / "last.pt").unlink()
    assert run(tmp_path).started_at == 0


def test_a_damaged_last_checkpoint_is_refused_and_the_one_before_ends_the_same(
    tmp_path, uninterrupted
):
    """Never other weights without a word: refused, then, once asked, from the one before to the same end."""
    run(tmp_path, stop_after=14)  # saved after 5, 10 and 14
    last = tmp_path / "last.pt"
    last.write_bytes(zeroed(last.read_bytes(), 0.5, n_bytes=64))
    history = (tmp_path / "history.jsonl").read_bytes()
    with pytest.raises(
        ValueError, match=r"last\.pt is damaged.*delete it to go on from previous\.pt .*step 10"
    ):
        run(tmp_path)
    assert (tmp_path / "history.jsonl").read_bytes() == history
    last.unlink()
    with pytest.warns(UserWarning, match=r"no last\.pt: going on from previous\.pt, after step 10"):
        result = run(tmp_path)
    assert result.started_at == 10
    assert_same_end(tmp_path, uninterrupted[0])


@pytest.mark.parametrize("value", [float("nan"), 1e38])
def test_spoiled_weights_are_not_taken_up(tmp_path, value):
    run(tmp_path, stop_after=5)
    state = load_checkpoint(tmp_path / "last.pt")
    name = next(iter(state["method"]))
    state["method"][name].view(-1)[0] = value
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(ValueError, match=rf"last\.pt holds spoiled weights: {name} holds values"):
        run(tmp_path)


def without(state: dict, *names: str) -> None:
    for name in names[:-1]:
        state = state[name]
    del state[names[-1]]


def wrong_moments(state: dict) -> None:
    next(iter(state["optimizer"]["state"].values()))["exp_avg"] = torch.zeros(3)


def wrong_weight(state: dict) -> None:
    state["method"][next(iter(state["method"]))] = torch.zeros(3)


MISSHAPEN = {
    "method": lambda state: without(state, "method"),
    "views": lambda state: without(state, "views"),
    "optimizer": lambda state: without(state, "optimizer"),
    "identity": lambda state: without(state, "identity"),
    "step": lambda state: without(state, "step"),
    "seconds": lambda state: without(state, "seconds"),
    "history": lambda state: without(state, "history"),
    "param_groups": lambda state: without(state, "optimizer", "param_groups"),
    "betas": lambda state: without(state, "optimizer", "param_groups", 0, "betas"),
    "size mismatch": wrong_weight,
    "exp_avg": wrong_moments,
    "step is": lambda state: state.update(step="five"),
    "seconds is": lambda state: state.update(seconds=None),
    "a row of history is 5": lambda state: state.update(history=[5]),
    "identity is": lambda state: state.update(identity="[]"),
    "Expecting value": lambda state: state.update(identity="five"),
    "method is": lambda state: state.update(method=[]),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run stopped after step 8: `last.pt` of step 8, `previous.pt` of step 5."""
    folder = tmp_path_factory.mktemp("stopped")
    run(folder, stop_after=8)
    return folder


@pytest.mark.parametrize("word", MISSHAPEN)
def test_a_checkpoint_that_lacks_a_key_or_is_misshapen_is_named_and_left_alone(
    tmp_path, stopped, word
):
    """Its checksums are right: it was written by something else, or by hand."""
    folder = shutil.copytree(stopped, tmp_path / "run")
    state = load_checkpoint(folder / "last.pt")
    MISSHAPEN[word](state)
    save_checkpoint(folder / "last.pt", state)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    with pytest.raises(ValueError, match=rf"last\.pt is no .*{word}.*choose another output_dir, or "
                       r"delete it to go on from previous\.pt .*step 5"):  # fmt: skip
        run(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"} == before
    (folder / "last.pt").unlink()
    with pytest.warns(UserWarning, match="going on from previous"):
        assert run(folder, stop_after=6).started_at == 5


def test_a_history_that_the_disk_does_not_take_is_named(tmp_path, monkeypatch):
    """In the middle of a run the system says `[Errno 28] No space left on device`, and of no file."""
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "x" * 100_000)
    log = RunFolder(tmp_path)
    with (
        file_limit(50_000),
        pytest.raises(OSError, match=r"history\.jsonl cannot be written: File"),
    ):
        log.write(step=1)
    log.close()


def test_a_lock_that_the_disk_does_not_take_is_named_and_given_back(tmp_path):
    with file_limit(0), pytest.raises(OSError, match=r"\.lock cannot be written: File too large"):
        RunFolder(tmp_path)
    RunFolder(tmp_path).close()
