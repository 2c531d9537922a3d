"""The command `pretrain`: what it refuses in a line, and what it says of files and of what is not kept."""

from __future__ import annotations

import json

import pytest

from audiossl_lite.experiments import jobs
from audiossl_lite.experiments.pretrain import main
from audiossl_lite.pretrained import shipped
from tests.data.sounds import hum, put
from tests.experiments.test_jobs import FEW, FEW_TUNING


@pytest.fixture
def asked(tmp_path):
    """A job file of two steps, with or without an output_dir, and other overrides."""

    def write(output_dir: str = "out", **overrides) -> str:
        place = f"output_dir: {tmp_path / output_dir}\n" if output_dir else ""
        few = FEW_TUNING if overrides.get("job") == "uamix_head" else FEW
        settings = json.dumps(few | {"job": "byola"} | overrides)
        (tmp_path / "a.yaml").write_text(f"device: cpu\n{place}overrides: {settings}\n")
        return str(tmp_path / "a.yaml")

    return write


@pytest.mark.parametrize(
    ("overrides", "status", "message"),
    [
        ({"frontend": "mel"}, 1, "unknown frontend 'mel'; known: "),
        ({"method": "byoll"}, 1, "unknown method 'byoll'; known: "),
        ({"encoder": "ATSTEncoder"}, 1, "missing 3 required positional arguments"),
        ({"job": "audiomae", "n_mels": 1}, 1, "Must have at least 3 mel bins"),
        ({"start": "somewhere"}, 2, "byola starts from nothing, got start='somewhere'"),
        ({"job": "uamix_head", "start": "a" * 300}, 2, "File name too long"),
        ({"job": "\x1b[2J"}, 2, r"unknown job '\x1b[2J'"),
    ],
)
def test_settings_that_cannot_be_are_one_line(overrides, status, message, asked, capsys):
    assert main([asked(**overrides), "--no-estimate"]) == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a.yaml: " in line and message in line and "\x1b" not in line


def test_files_that_cannot_be_used_are_told(tmp_path, asked):
    for i in range(6):
        put(tmp_path / "sounds" / "a" / f"{i}.wav", hum(1.0, hertz=200.0 + 50 * i))
    (tmp_path / "sounds" / "a" / "b.wav").write_text("no sound")
    (tmp_path / "sounds" / "a" / "c.m4a").write_text("no sound")
    with pytest.warns(UserWarning, match=r"(?s)sounds: 2 left out.*1 x unreadable .*a/b\.wav"):
        assert main([asked(), "--no-estimate", "-p", f"data_root={tmp_path / 'sounds'}"]) == 0


def test_a_run_that_is_not_kept_says_so_first(asked, capsys):
    assert main([asked(output_dir=""), "--no-estimate"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("without an output_dir nothing") and last.startswith("byola: 2 steps")


def test_the_encoder_of_another_run_is_not_replaced(tmp_path, asked, capsys, monkeypatch):
    assert main([asked(), "--no-estimate"]) == 0
    assert main([asked(), "--no-estimate"]) == 0
    left = tmp_path / "out" / jobs.ENCODER_FILE
    content = left.read_bytes()
    (tmp_path / "out" / "last.pt").unlink()
    (tmp_path / "out" / "previous.pt").unlink(missing_ok=True)
    monkeypatch.setattr(jobs, "open_source", None)  # refused before the data are read
    assert main([asked(learning_rate=0.01), "--no-estimate"]) == 1
    assert "encoder.safetensors of a run without its checkpoint" in capsys.readouterr().err
    assert left.read_bytes() == content and shipped.is_ours(left)
