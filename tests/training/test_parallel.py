"""Two processes on parts of a batch do what one does on the whole, for every method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from audiossl_lite.common.devices import total
from audiossl_lite.methods.distributed import (
    JointBatchNorm,
    gather,
    gather_labels,
    join_batch_norms,
)
from audiossl_lite.training import load_checkpoint, loop
from audiossl_lite.training.compute import LAUNCHER
from tests.training import tiny_run
from tests.training.parallel_run import METHODS, PROCESSES, STEPS, train_some

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
# Two processes that train nothing and never end; each leaves a file with its number.
ENDLESS = """
import os, sys, time
from pathlib import Path
from audiossl_lite.training.compute import make_fabric
make_fabric("cpu", "32-true")
Path(sys.argv[1], f"{os.getpid()}.worker").touch()
time.sleep(600)
"""


def environment(**more: str) -> dict[str, str]:
    """This process's, for one quiet thread without a GPU."""
    quiet = {"OMP_NUM_THREADS": "1", "AUDIOSSL_PROGRESS": "off", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | quiet | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What two processes left of every method."""
    folder = tmp_path_factory.mktemp("two")
    command = [
        *TORCHRUN,
        f"--nproc-per-node={PROCESSES}",
        "-m",
        "tests.training.parallel_run",
        str(folder),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module", params=list(METHODS))
def runs(request, folder) -> tuple[dict, dict, dict]:
    """One process with the joint batch, and the two processes."""
    number = list(METHODS).index(request.param)
    pair = [load_checkpoint(folder / f"{number}-{rank}.pt") for rank in range(PROCESSES)]
    return train_some(request.param, joint=True), *pair


def test_losses_equal_those_of_the_joint_batch(runs):
    one, first, second = runs
    assert len(one["losses"]) == STEPS
    torch.testing.assert_close(
        torch.tensor(first["losses"]), torch.tensor(one["losses"]), rtol=1e-4, atol=1e-5
    )
    assert first["losses"] == second["losses"]


def test_gradients_equal_those_of_the_joint_batch(runs):
    one, first, second = runs
    assert len(one["gradients"]) == len(first["gradients"]) > 0
    largest = max(float(g.abs().max()) for g in one["gradients"])
    for whole, shared, other in zip(
        one["gradients"], first["gradients"], second["gradients"], strict=True
    ):
        assert torch.equal(shared, other)
        torch.testing.assert_close(shared, whole, rtol=1e-3, atol=1e-4 * largest)
    assert largest > 0


def test_both_processes_hold_the_same_weights_teacher_statistics_and_queue(runs):
    one, first, second = runs
    assert first["state"].keys() == second["state"].keys() == one["state"].keys()
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name


def test_statistics_and_queue_equal_those_of_the_joint_batch(runs):
    one, first, _ = runs
    buffers = [
        n for n in one["state"] if "running" in n or n.startswith("queue.") or "tracked" in n
    ]
    for name in buffers:
        torch.testing.assert_close(
            first["state"][name],
            one["state"][name],
            rtol=2e-2,
            atol=2e-3,
            msg=lambda text, n=name: f"{n}: {text}",
        )


def test_weights_end_near_those_of_the_joint_batch(runs):
    """Adam's first steps have the size of the rate whatever the gradient: where it is rounding alone, signs differ."""
    one, first, _ = runs
    apart = torch.cat([
        (first["state"][n] - value).abs().flatten()
        for n, value in one["state"].items()
        if value.is_floating_point() and not n.startswith("queue.")
    ])  # fmt: skip
    assert (apart < 1e-5).float().mean() > 0.9


def test_process_0_alone_writes_the_history(folder):
    rows = [
        json.loads(line) for line in (folder / "run0" / "history.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    state = load_checkpoint(folder / "run0" / "last.pt")
    assert len(state["views_of_others"]) == PROCESSES - 1
    memory = [k for k in state["views"] if k in state["views_of_others"][0]]
    assert any(not torch.equal(state["views"][k], state["views_of_others"][0][k]) for k in memory)


def test_one_process_needs_no_group():
    x = torch.randn(4, 3, requires_grad=True)
    assert gather(x) is x
    labels = torch.eye(4)
    assert gather_labels(labels) is labels
    assert not total(x).requires_grad and torch.equal(total(x), x)


@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d(5), (6, 5)), (nn.BatchNorm2d(5), (6, 5, 4, 3))]
)
@pytest.mark.parametrize("training", [True, False])
def test_joint_batch_norm_alone_is_batch_norm(norm, shape, training):
    torch.manual_seed(0)
    mine = join_batch_norms(nn.Sequential(nn.Identity(), norm.__class__(5)))
    assert isinstance(mine[1], JointBatchNorm)
    other = norm.__class__(5)
    assert mine.state_dict().keys() == {f"1.{k}" for k in other.state_dict()}
    mine.train(training), other.train(training)
    x = torch.randn(shape)
    torch.testing.assert_close(mine(x), other(x))
    for a, b in zip(mine.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(loop, "make_fabric", lambda *_: SimpleNamespace(world_size=3))
    with pytest.raises(ValueError, match="a batch of 16 clips does not divide among 3 processes"):
        tiny_run.run()


@pytest.mark.parametrize("killed", ["torchrun", "what started torchrun"])
def test_processes_end_with_what_started_them(tmp_path, killed):
    """A closed terminal or a SIGKILL must not leave processes that wait for each other for ever."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    launcher = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    command = [*TORCHRUN, "--nproc-per-node=2", str(tmp_path / "endless.py"), str(tmp_path)]
    agent = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**{LAUNCHER: str(launcher.pid)}),
        stderr=subprocess.DEVNULL,
    )
    while len(workers := list(tmp_path.glob("*.worker"))) < 2:
        assert agent.poll() is None
        time.sleep(0.1)
    family = [psutil.Process(int(path.stem)) for path in workers]
    victim = agent if killed == "torchrun" else launcher
    victim.kill()
    victim.wait()
    try:
        assert psutil.wait_procs(family, timeout=60)[1] == []
        assert agent.wait(timeout=60) != 0
    finally:
        for process in (agent, launcher):
            process.kill()
            process.wait()
