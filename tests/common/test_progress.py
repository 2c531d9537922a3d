"""Pin: what progress prints in each mode, and that iteration itself is never changed."""

from __future__ import annotations

import pytest

from audiossl_lite.common.progress import progress, progress_bar


@pytest.mark.parametrize("mode", ["auto", "log", "off"])
def test_every_item_comes_through(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", mode)
    assert list(progress(range(5), "items")) == [0, 1, 2, 3, 4]
    assert list(progress((letter for letter in "ab"), "letters")) == ["a", "b"]


def test_off_prints_nothing(monkeypatch, capsys) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "off")
    with progress_bar(3, "training") as bar:
        bar.update(1, loss=0.5)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_log_ends_with_one_line_that_has_count_and_values(monkeypatch, capsys) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "log")
    with progress_bar(3, "training") as bar:
        for step in range(3):
            bar.update(1, loss=0.25 / (step + 1), phase="warm-up")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("training 3/3 ")
    assert lines[0].endswith("loss=0.0833, phase=warm-up")


def test_log_writes_a_line_when_its_interval_has_passed(monkeypatch, capsys) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "log")
    bar = progress_bar(None, "counting")
    now = [bar.start_t]
    bar._time = lambda: now[0]
    for _ in range(25):
        now[0] += 1.0
        bar.update(1)
    bar.close()
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["counting", "10/?", "00:10"], ["counting", "20/?", "00:20"], ["counting", "25/?", "00:25"],
    ]  # fmt: skip


def test_the_bar_closes_when_the_body_fails(monkeypatch, capsys) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "log")
    with pytest.raises(RuntimeError, match="stop"), progress_bar(2, "x") as bar:
        bar.update(1)
        raise RuntimeError("stop")
    assert "x 1/2" in capsys.readouterr().err


def test_an_unknown_mode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "loud")
    with pytest.raises(ValueError, match="auto, log, off"):
        list(progress([1]))
