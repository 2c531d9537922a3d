"""Which files a folder or a table stands for: everything else is counted, and nothing is taken for a class."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from audiossl_lite.common.parameters import parameter_file
from audiossl_lite.data import corpus
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.layouts import list_folder
from tests.data.sounds import hum, put


def reasons(clips):
    return {skip.name: skip.reason for skip in clips.skipped}


def test_hidden_folders_are_ignored_at_any_depth(tmp_path):
    put(tmp_path / "dog" / "a.wav")
    for name in (
        ".ipynb_checkpoints/a-checkpoint.wav",
        ".Trash/old.wav",
        "._a.wav",
        "__MACOSX/a.wav",
    ):
        put(tmp_path / "dog" / name)
    clips = load_clips(tmp_path)
    assert clips.names == ("dog/a.wav",) and clips.skipped == ()


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    root = tmp_path / "set"
    put(root / "cat" / "a.wav")
    put(root / "dog" / "b.wav")
    put(tmp_path / "more" / "deep" / "c.wav")
    links = {"cat/batch2": tmp_path / "more", "cat/again": root / "dog", "dog/loop": root / "dog",
             "dog/up": tmp_path, "wolf": root / "dog", "dog/batch3": tmp_path / "more"}  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    clips = load_clips(root)
    assert clips.names == ("cat/a.wav", "cat/batch2/deep/c.wav", "dog/b.wav")
    assert set(reasons(clips)) == links.keys() - {"cat/batch2"}
    assert set(reasons(clips).values()) == {
        "link to a folder that is read elsewhere or holds this one"
    }


def test_a_file_is_read_once_whatever_names_it_has(tmp_path):
    put(tmp_path / "cat" / "a.wav")
    put(tmp_path / "far" / "b.wav")
    (tmp_path / "cat" / "b.wav").symlink_to("a.wav")
    (tmp_path / "dog").mkdir()
    for name in ("dog/c.wav", "dog/d.wav"):
        (tmp_path / name).symlink_to(tmp_path / "far" / "b.wav")
    clips = load_clips(tmp_path)
    assert clips.names == ("cat/a.wav", "dog/c.wav")
    assert reasons(clips) == dict.fromkeys(
        ("cat/b.wav", "dog/d.wav", "far/b.wav"), "file that is read under another name"
    )


def test_formats_that_are_not_read_are_counted_and_aiff_is_read(tmp_path):
    put(tmp_path / "dog" / "a.aiff")
    for name in ("b.m4a", "c.OPUS", "notes.txt"):
        (tmp_path / "dog" / name).write_bytes(bytes(10))
    clips = load_clips(tmp_path)
    assert clips.names == ("dog/a.aiff",)
    assert reasons(clips) == {
        "dog/b.m4a": "format that is not read (.m4a)",
        "dog/c.OPUS": "format that is not read (.opus)",
    }
    with pytest.warns(
        UserWarning, match=r"1 x format that is not read \(.m4a\) \(for example dog/b"
    ):
        assert len(corpus.list_sounds(tmp_path)) == 1


def test_a_folder_that_cannot_be_read_is_counted_and_the_rest_is_read(tmp_path, monkeypatch):
    put(tmp_path / "dog" / "a.wav")
    put(tmp_path / "locked" / "b.wav")
    real = Path.iterdir

    def refuse(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    clips = load_clips(tmp_path)
    assert clips.names == ("dog/a.wav",)
    assert reasons(clips) == {"locked": "folder that cannot be read"}


def test_rows_with_impossible_paths_are_counted(tmp_path):
    put(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    names = ["a.wav", "b\0.wav", "x" * 5000, "y " * 3000, "pipe.wav", "loop.wav", "zero.wav"]
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(f"{name},dog\n" for name in names))
    clips = load_clips(tmp_path / "m.csv")
    assert clips.names == ("a.wav",)
    assert sorted(reasons(clips).values()) == [
        *["cannot be opened"] * 3, "no such file", "not a file", "not a file",
    ]  # fmt: skip
    assert max(map(len, clips.report().splitlines())) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.wav,dog\n\nb.wav,Dog, barking\n", "line 4: 3 cells for 2 columns"),
        ('path,label\na.wav,dog\n"b.wav,dog\nc.wav,dog\n', "line 3: unexpected end of data"),
        ('path,label\n"a.wav,dog\n"b.wav,dog\n', "line 2: ',' expected after '\"'"),
        ('path,label\n"a.wav,dog\nb.wav",dog\n', "line 2: a quote that closes on a later line"),
        ("path,label,label\na.wav,dog,cat\n", "line 1: two columns 'label'"),
        (f"path,label\na.wav,{'x' * 140_000}\n", "line 2: field larger than field limit"),
    ],
)
def test_a_table_whose_cells_would_be_lost_is_refused_with_the_line(tmp_path, text, message):
    for name in ("a.wav", "b.wav", "c.wav"):
        put(tmp_path / name)
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match="m.csv: " + message.replace("'\"'", ".*")):
        load_clips(tmp_path / "m.csv")


def test_captions_of_several_lines_and_utf_16_are_read(tmp_path):
    put(tmp_path / "ä.wav")
    text = 'path,label,caption\nä.wav,"Dog, barking","two\nlines, ""quoted"""\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "m.csv").write_text(text, encoding=encoding)
        clips = load_clips(tmp_path / "m.csv")
        assert clips.names == ("ä.wav",) and clips.class_names["class"] == ("Dog, barking",)
        (tmp_path / "p.yaml").write_text("preset: lite\n", encoding=encoding)
        assert parameter_file(tmp_path / "p.yaml") == {"preset": "lite"}


def test_composed_and_decomposed_accents_are_the_same_name(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    put(tmp_path / composed / "a.wav")
    put(tmp_path / decomposed / "b.wav")
    assert load_clips(tmp_path).class_names["class"] == (composed,)
    put(tmp_path / f"{decomposed}.wav")
    (tmp_path / "m.csv").write_text(
        f"path,label\n{composed}.wav,{composed}\n{composed}/a.wav,{decomposed}\n", encoding="utf-8"
    )
    clips = load_clips(tmp_path / "m.csv")
    assert len(clips) == 2 and clips.class_names["class"] == (composed,)


def test_data_sets_as_downloaded_name_the_script_that_prepares_them(tmp_path):
    for sign, script in (
        ("metadata/UrbanSound8K.csv", "urbansound8k"), ("fold1/a.wav", "urbansound8k"),
        ("nsynth-test/audio/a.wav", "nsynth"), ("FSDKaggle2018.audio_train/a.wav", "fsdkaggle"),
    ):  # fmt: skip
        put(tmp_path / "set" / "audio" / "fold1" / "a.flac") if "8K" in sign else None
        (tmp_path / "set" / sign).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / sign).write_text("")
        with pytest.raises(ValueError, match=f"python data_scripts/{script}.* prepare"):
            load_clips(tmp_path / "set")
        shutil.rmtree(tmp_path / "set")


def test_splits_and_background_noise_are_no_classes(tmp_path):
    for name in (
        "train/dog/a.wav",
        "train/cat/b.wav",
        "test/dog/c.wav",
        "_background_noise_/n.wav",
    ):
        put(tmp_path / name)
    put(tmp_path / "train" / "stray.wav")
    clips = load_clips(tmp_path)
    assert clips.class_names["class"] == ("cat", "dog")
    assert dict(zip(clips.names, clips.splits)) == {
        "test/dog/c.wav": "test", "train/cat/b.wav": "train", "train/dog/a.wav": "train",
    }  # fmt: skip
    assert reasons(clips) == {
        "train/stray.wav": "lies in no class folder",
        "_background_noise_/n.wav": "_background_noise_ is no class",
    }
    put(tmp_path / "rain" / "d.wav")  # beside other classes, `train` is one
    assert {entry.labels["class"] for entry in list_folder(tmp_path).entries} >= {"rain", "train"}


def test_a_class_called_recordings_is_a_class(tmp_path):
    put(tmp_path / "recordings" / "3_ada_0.wav")
    assert load_clips(tmp_path, pool="voice").source.startswith("FSDD")
    put(tmp_path / "songs" / "b.wav", hum(0.6))
    assert load_clips(tmp_path).class_names["class"] == ("recordings", "songs")


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path):
    put(tmp_path / "audio" / "fold1" / "a.wav")
    (tmp_path / "manifest.csv").write_text("path,label\naudio/fold1/a.wav,dog\n")
    assert load_clips(tmp_path).class_names["class"] == ("dog",)
