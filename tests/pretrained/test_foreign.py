"""Anyone's encoder: it must give a row for each clip, else nothing it gives can be told apart."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from audiossl_lite.pretrained import WeightsError, embed_folder
from audiossl_lite.pretrained.foreign import adapt, load_foreign

WRONG = {
    "the mean of the batch": (lambda w: w.mean(0, keepdim=True)[:, :8], r"\(1, 8\) for 4 clips"),
    "frames": (lambda w: w[:, :40].unflatten(1, (5, 8)), r"\(4, 5, 8\) for 4 clips"),
    "one axis": (lambda w: w[:, 0], r"\(4,\) for 4 clips"),
    "no numbers": (lambda w: w[:, :0], r"\(4, 0\) for 4 clips"),
    "numpy": (lambda w: w[:, :8].numpy(), "a ndarray for 4 clips"),
    "a pair": (lambda w: (w[:, :8], None), "a tuple for 4 clips"),
}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(8_000), 16_000)
    return tmp_path


@pytest.mark.parametrize("lengths", [True, False], ids=["with lengths", "without"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_row_for_each_clip_stops_the_work_and_names_the_encoder(folder, case, lengths):
    give, message = WRONG[case]
    takes = (lambda waveform, lengths: give(waveform)) if lengths else (lambda wave: give(wave))
    with pytest.raises(WeightsError, match=rf"mine:it gave {message}"):
        embed_folder(folder, adapt(takes, name="mine:it"))


def test_other_widths_for_other_clips_stop_the_work_too(folder):
    soundfile.write(folder / "long.wav", np.full(16_000, 0.1), 16_000)
    widths = adapt(lambda waveform: waveform[:, ::1000], name="mine:it")
    with pytest.raises(WeightsError, match="mine:it gave 7 numbers for one clip and 8 for another"):
        embed_folder(folder, widths, chunk_s=0.6, keep_chunks=True)


@pytest.mark.parametrize("error", [IndexError("inner detail"), KeyError(), RuntimeError()])
def test_a_clip_on_which_the_code_fails_is_left_out_with_its_words(folder, error):
    soundfile.write(folder / "long.wav", np.full(16_000, 0.1), 16_000)

    def run(waveform, lengths):
        if waveform.shape[1] > 10_000:
            raise error
        return torch.zeros(len(waveform), 4)

    rows = embed_folder(folder, adapt(run))
    said = str(error) or type(error).__name__
    assert len(rows) == 4
    assert [(skip.name, skip.reason) for skip in rows.skipped] == [
        ("long.wav", f"the encoder cannot take it: {said}")
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no card')", "fails when it is imported: RuntimeError: no card"),
        ("no python", "fails when it is imported: SyntaxError: "),
        ("class It:\n  def __init__(self): 1 / 0", "cannot be made without arguments: ZeroDiv"),
    ],
)
def test_code_that_fails_before_it_embeds_is_named(code, message, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"theirs_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(WeightsError, match=rf"{name}:It.* {message}"):
        load_foreign(f"{name}:It")
