"""The runner of the GPU's stages: what fails or overruns costs its own share, and nothing is measured twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiossl_lite.data.corpus import list_sounds
from audiossl_lite.data.joined import listing_key
from audiossl_lite.experiments.gpu import command, runner
from audiossl_lite.experiments.gpu.runner import (
    GPURunError,
    allotment,
    allotment_together,
    choose_device,
    run_stages,
)
from audiossl_lite.experiments.gpu.stages import STAGES
from audiossl_lite.experiments.real_sounds.task import Stage, Task, record_path
from tests.data.sounds import put

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def stage(name: str, **options) -> Stage:
    return Stage(name, name.title(), f"tests.experiments.gpu.fake_stages:{name}", **options)


def gone(pid: int) -> bool:
    """Whether a process has ended (or is a zombie that nobody waits for)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_for(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


class TestAllotment:
    def test_without_caps_time_is_shared_by_share(self):
        stages = [stage("a", share=1.0), stage("b", share=3.0)]
        assert allotment(stages, 100.0) == 25.0
        assert allotment(stages[1:], 80.0) == 80.0  # what the first did not use

    def test_what_a_cap_cuts_off_goes_to_the_others(self):
        stages = [stage("a", share=1.0), stage("b", share=1.0, at_most_s=10.0), stage("c")]
        assert allotment(stages, 100.0) == 45.0
        assert allotment(stages[1:], 100.0) == 10.0

    def test_two_rounds_of_caps(self):
        stages = [stage("a"), stage("b", at_most_s=30.0), stage("c", at_most_s=5.0)]
        # Even thirds of 90 are 30 each; once c has given up 25, b exceeds its cap too.
        assert allotment(stages, 90.0) == 55.0

    def test_a_stage_that_needs_more_takes_it_from_those_behind(self):
        stages = [stage("a", at_least_s=40.0), stage("b", share=9.0)]
        assert allotment(stages, 100.0) == 40.0
        assert allotment(stages, 20.0) == 20.0  # never more than there is

    @pytest.mark.parametrize("minutes", [1.0, 4.0, 9.0, 60.0])
    def test_the_real_stages_never_share_out_more_than_there_is(self, minutes):
        left, waiting = 60.0 * minutes, list(STAGES)
        while waiting:
            seconds = allotment(waiting, left)
            assert 0.0 <= seconds <= left + 1e-9
            left -= seconds
            waiting.pop(0)
        assert left >= -1e-6


class TestTogether:
    CHAIN = (
        stage("a", share=8.0, beside=True),
        stage("b", share=8.0, beside=True, at_least_s=40.0),
        stage("c", share=2.0, beside=True, needs=("b",), at_least_s=30.0),
    )

    def test_a_group_has_the_share_of_all_of_its_stages(self):
        assert allotment_together([*self.CHAIN, stage("d", share=2.0)], 200.0) == 180.0

    def test_it_takes_what_would_be_too_little_for_the_others(self):
        late = stage("d", share=2.0, at_least_s=75.0)
        assert allotment_together([*self.CHAIN, late], 200.0) == 200.0

    def test_it_takes_what_its_longest_chain_needs(self):
        others = [stage("d", share=100.0, at_least_s=1.0)]
        assert allotment_together([*self.CHAIN, *others], 100.0) == 70.0


def test_stages_share_the_card_where_they_may_and_no_other_does(tmp_path):
    def meeting(name: str, whom: str, patience_s: float = 60.0, **more) -> Stage:
        options = {"whom": whom, "patience_s": patience_s}
        return replace(stage("meets"), name=name, beside=True, options=options, **more)

    stages = [
        meeting("a", "b", share=2.0),
        meeting(
            "needing", "late", 0.5, needs=("b",)
        ),  # waits for b, and does not hold up the others
        meeting("b", "a"),
        replace(stage("alone"), name="last"),
        meeting("late", "a"),  # stands behind a stage that runs alone
    ]
    asked = {"minutes": 5.0, "device": CPU, "toy": True}
    told = {o.stage: o for o in run_stages(stages, tmp_path / "two", **asked, together=2)}
    assert told["a"].message == told["b"].message == "met"
    assert told["needing"].message.startswith("RuntimeError: nobody came")
    assert told["last"].message == "gpu_a gpu_b"
    record = json.loads(record_path(tmp_path / "two", "a").read_text())
    assert record["config"] == {"together": 2}
    one = run_stages([meeting("a", "b", 0.5), meeting("b", "a")], tmp_path / "one", **asked)
    assert [o.message.split(";")[0] for o in one] == ["RuntimeError: nobody came", "met"]


def test_every_way_to_end_is_told_and_survived(tmp_path):
    stages = [
        stage("broken"),
        stage("half"),
        stage("endless", at_most_s=20.0),
        stage("silent"),
        replace(stage("good"), name="after", needs=("half",)),
        stage("good", at_least_s=1.0),
        replace(stage("good"), name="long", at_least_s=3600.0),
    ]
    outcomes = run_stages(stages, tmp_path, minutes=5.0, device=CPU, toy=True)
    told = {outcome.stage: (outcome.status, outcome.message) for outcome in outcomes}
    assert told["broken"][0] == runner.FAILED
    assert "RuntimeError: this stage is broken on purpose; log: " in told["broken"][1]
    assert "Traceback" in (tmp_path / "logs" / "broken.log").read_text()
    assert told["half"][0] == runner.FAILED
    assert "ValueError: after the first row; partly recorded" in told["half"][1]
    assert told["endless"][0] == runner.OVERRAN
    assert told["silent"][0] == runner.FAILED and "no record" in told["silent"][1]
    assert told["after"] == (runner.NOT_STARTED, "needs half, which has no complete record")
    assert told["good"] == (runner.RECORDED, "all is well")
    assert told["long"][0] == runner.NOT_STARTED and "it needs 3600" in told["long"][1]
    assert json.loads((tmp_path / "table.json").read_text())[0]["status"] == runner.FAILED
    entry = json.loads(record_path(tmp_path, "good").read_text())
    assert (entry["scale"], entry["complete"], entry["experiment"]) == ("toy", True, "gpu_good")
    child = tmp_path / "stages" / "endless" / "child"
    if child.exists():  # a slow machine may not have come so far in its time
        assert wait_for(lambda: gone(int(child.read_text()))), "what an overrun stage started lives"

    # A second call skips what is recorded and tries the rest again.
    again = run_stages([stages[0], stages[5]], tmp_path, minutes=2.0, device=CPU, toy=True)
    assert [outcome.status for outcome in again] == [runner.FAILED, runner.BEFORE]
    assert (tmp_path / "stages" / "good" / "calls").read_text() == "x"
    text = runner.table(again)
    assert "Good" in text and "recorded before" in text and "all is well" in text

    # Toy records are not mistaken for those of a card.
    with pytest.raises(GPURunError, match="recorded on .* at scale toy.*OUT="):
        run_stages([stages[5]], tmp_path, minutes=2.0, device=CPU, toy=False)


def test_other_sounds_than_those_recorded_are_refused(tmp_path, capsys):
    """A second call with another folder once said "recorded before" of the first."""
    for name in ("one", "two"):
        put(tmp_path / name / "a" / f"{name}.wav")
    key = listing_key(list_sounds(tmp_path / "one"))
    task = Task(Stage("sounds", "Sounds", ""), CPU, 9.0, 0.0, tmp_path / "out", toy=True)
    row = {"name": "a", "mean": 1.0, "ci95": None}
    task.write([row], config={}, data_fingerprint=key, headline="one clip")
    asked = ["--only", "sounds", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert command.main([*asked, "--data", str(tmp_path / "one")]) == 0
    for other in (["--data", str(tmp_path / "two")], []):
        assert command.main([*asked, *other]) == 2
        assert "out holds runs on other sounds than" in capsys.readouterr().err
    task.record_path.write_text("cut off")
    assert command.main([*asked, "--data", str(tmp_path / "one")]) == 2
    assert "gpu_sounds.json is not a recorded run" in capsys.readouterr().err


def test_stages_end_with_a_killed_runner(tmp_path):
    code = (
        "import torch\n"
        "from audiossl_lite.experiments.gpu.runner import run_stages\n"
        "from tests.experiments.gpu.test_runner import stage\n"
        f"run_stages([stage('endless'), stage('good')], {str(tmp_path)!r}, minutes=5.0, "
        "device=torch.device('cpu'), toy=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    child = tmp_path / "stages" / "endless" / "child"
    try:
        assert wait_for(lambda: child.exists() and child.read_text() != "", 300.0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert wait_for(lambda: gone(int(child.read_text()))), "the stage outlived the runner"


def test_without_a_gpu_it_says_so_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert command.main(["--out", "unused"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no CUDA device" in said and "DEVICE=cpu" in said
    assert choose_device("cpu") == CPU


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda") == torch.device("cuda", 0)
    for wrong in ("cuda:1", "cuda:x", "gpu", "mps"):
        with pytest.raises(GPURunError, match="GPU 1|device is auto"):
            choose_device(wrong)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "cards"], "no stage is called cards; there are card, right"),
        (["--data", "no/such/folder"], "no sounds at no/such/folder; --data names a folder"),
        (["--data", "/dev/null"], "no sounds at /dev/null; --data names a folder"),
    ],
)
def test_wrong_requests_are_refused_before_anything_runs(arguments, said, capsys):
    assert command.main([*arguments, "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err


def test_stages_have_names_of_their_own_and_need_earlier_ones():
    names = [item.name for item in STAGES]
    assert len(set(names)) == len(names)
    for index, item in enumerate(STAGES):
        assert set(item.needs) <= set(names[:index]), item.name


def test_a_task_tells_its_time_and_writes_over_its_record(tmp_path):
    task = Task(stage("good"), CPU, 5.0, time.monotonic() - 2.0, tmp_path)
    assert 2.0 < task.left() <= 3.0
    task.write([{"name": "a", "mean": 1.0, "ci95": None}], config={}, complete=False)
    assert task.record_of("good") is None  # not complete
    task.write([{"name": "a", "mean": 2.0, "ci95": None}], config={}, profile=[1])
    entry = task.record_of("good")
    assert entry["values"][0]["mean"] == 2.0 and entry["profile"] == [1]
    assert entry["scale"] == "gpu" and entry["seconds"] >= 2.0
