"""`few-shot`: a table from a folder of classes, baselines beside, groups kept apart, and a warning without them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import soundfile

from audiossl_lite.evaluation import few_shot_accuracy
from audiossl_lite.pretrained import (
    embed_beside_baselines,
    embed_folder,
    few_shot,
    load_any,
    score_embedded,
    shared_rows,
)
from audiossl_lite.pretrained.foreign import adapt


@pytest.fixture
def folder(tmp_path):
    """Three classes of tones, eight clips each from four recordings."""
    root, rng = tmp_path / "tones", np.random.default_rng(0)
    for label, hertz in (("low", 200.0), ("middle", 500.0), ("high", 1500.0)):
        (root / label).mkdir(parents=True)
        for i in range(8):
            tone = np.sin(2 * np.pi * hertz * rng.uniform(0.7, 1.4) * np.arange(8_000) / 16_000)
            soundfile.write(
                root / label / f"{i}.wav", 0.2 * tone + 0.05 * rng.standard_normal(8_000), 16_000
            )
    return root


def write_manifest(root) -> None:
    rows = [
        f"{label}/{i}.wav,{label},{label}-{i // 2}"
        for label in ("low", "middle", "high")
        for i in range(8)
    ]
    (root / "manifest.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")


def test_the_numbers_are_those_of_the_library_on_the_same_episodes(folder):
    write_manifest(folder)
    embedded = embed_beside_baselines(folder, [load_any("cnn_events")])
    result = score_embedded(embedded, n_episodes=50)
    assert list(result.scores) == ["log-mel", "mfcc", "cnn_events"]
    ((key, head),) = result.heads.items()
    assert head == "tones, classes, 3-way 1-shot"
    for name, rows in embedded.items():
        assert np.array_equal(rows.vectors, embed_folder(folder, load_any(name)).vectors)
        labels = [sound.values["label"] for sound in rows.sounds]
        groups = [sound.values["group"] for sound in rows.sounds]
        expected = few_shot_accuracy(rows.vectors, labels, 3, n_episodes=50, groups=groups)
        assert result.scores[name][key].mean() == pytest.approx(expected.mean)
    assert not [note for note in result.notes if "WARNING" in note]


def test_without_groups_there_is_a_warning_and_bad_files_are_left_out(folder, capsys):
    (folder / "low" / "bad.wav").write_bytes(b"nothing")
    assert (
        few_shot.main([str(folder), "--model", "cnn_events", "--model", "mfcc", "--episodes", "20"])
        == 1
    )
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "| features | tones, classes, 3-way 1-shot | over log-mel |"
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| log-mel", "| mfcc", "| cnn_events"]
    assert all("±" in line for line in lines[2:5])
    assert "WARNING: tones, classes names no groups" in said.out
    assert "cnn_events was trained on: ESC-50" in said.out
    assert "left out: low/bad.wav: unreadable" in said.err
    (folder / "low" / "bad.wav").unlink()
    assert (
        few_shot.main(
            [str(folder), "--model", "mfcc", "--episodes", "20", "--ways", "2", "--shots", "2"]
        )
        == 0
    )
    assert "2-way 2-shot" in capsys.readouterr().out


def test_a_sound_that_one_encoder_cannot_take_is_left_out_of_all_rows(folder):
    write_manifest(folder)
    embedded = embed_beside_baselines(folder, [load_any("cnn_events")])
    whole = embedded["mfcc"]
    part = {field: getattr(whole, field)[1:] for field in ("sounds", "places", "files", "vectors")}
    sounds, features = shared_rows(embedded | {"mfcc": dataclasses.replace(whole, **part)})
    assert [sound.name for sound in sounds] == [sound.name for sound in whole.sounds[1:]]
    for name, rows in embedded.items():
        np.testing.assert_array_equal(features[name].numpy(), rows.vectors[1:])


def test_wrong_requests_say_why(folder, tmp_path, capsys):
    for arguments, message in (
        (["--ways", "4"], "4-way 1-shot needs 4 classes with more than 1 clips"),
        (["--shots", "8"], "no episodes of 24 sounds"),
        (["--device", "gpu"], "did you mean 'cpu'?"),
    ):
        assert few_shot.main([str(folder), "--model", "mfcc", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert few_shot.main([str(folder / "low"), "--model", "mfcc"]) == 2
    assert "give folders of class/clip.wav" in capsys.readouterr().err
    with pytest.raises(ValueError, match="two encoders are called 'mfcc'"):
        embed_beside_baselines(folder, [load_any("mfcc")])
    assert few_shot.main([str(folder), "--model", "mfc"]) == 2
    assert "did you mean 'mfcc'?" in capsys.readouterr().err


def test_what_cannot_be_scored_is_refused_before_anything_is_embedded(folder, monkeypatch, capsys):
    def embedded(*_, **__):
        raise AssertionError("nothing may be embedded")

    monkeypatch.setattr(few_shot, "embed_folder", embedded)
    monkeypatch.setattr(few_shot, "load_any", lambda name: adapt(lambda w: w, name="one"))
    for arguments, message in (
        (["--ways", "50"], "50-way 1-shot needs 50 classes"),
        (["--shots", "9"], "-way 9-shot needs"),
        (["--seed", "-1"], "seed must be 0 or more, got -1"),
        (["--model", "x:y"], "two encoders are called 'one'; give one file another name"),
    ):
        assert few_shot.main([str(folder), "--model", "mine:it", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert few_shot.main([str(folder / "low"), "--model", "mine:it"]) == 2
    assert "no classes to tell apart among 8 sounds" in capsys.readouterr().err
    rows = [f"{c}/{i}.wav,{c},studio" for c in ("low", "high") for i in range(8)]
    (folder / "one.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    assert few_shot.main([str(folder / "one.csv"), "--model", "mine:it"]) == 2
    said = capsys.readouterr().err
    assert "one: all 16 clips with a label have one group, 'studio'" in said


def test_a_name_does_not_break_the_table_and_unread_formats_are_counted(folder, capsys):
    odd = folder.rename(folder.with_name("pi|pe\x1b[2J"))
    (odd / "low" / "9.m4a").write_bytes(b"sound of another kind")
    assert few_shot.main([str(odd), "--model", "mfcc", "--episodes", "20"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].startswith(
        r"| features | pi\|pe\x1b[2J, classes, 3-way 1-shot | over log-mel |"
    )
    assert "\x1b" not in said.out
    assert said.err == "  left out: low/9.m4a: format that is not read (.m4a)\n"


@pytest.mark.parametrize(
    "request_",
    [
        ["few-shot", "sounds", "--model", "mfcc", "--shots", "0"],
        ["few-shot", "sounds", "--model", "mfcc", "--ways", "1"],
        ["few-shot", "sounds", "--model", "mfcc", "--episodes", "-3"],
        ["embed", "sounds", "--model", "mfcc", "--out", "x.npz", "--chunk-s", "nan"],
        ["embed", "sounds", "--model", "mfcc", "--out", "x.npz", "--chunk-s", "0"],
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_read(request_, capsys):
    from audiossl_lite.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(request_)
    assert ended.value.code == 2 and "must be between" in capsys.readouterr().err
