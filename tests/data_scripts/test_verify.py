"""`verify` names what is missing, extra, damaged or left out, and is content with a full set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.data.sounds import put
from tests.data.test_datasets import make_esc50, make_fsdd
from tests.data_scripts import layouts
from tests.data_scripts.prepared import files
from tests.data_scripts.script import data_set, module, script

N_CLIPS = {
    "esc50": 2000,
    "fsdd": 3000,
    "fsdkaggle2018": 11_073,
    "nsynth": 305_979,
    "speech_commands": 105_829,
    "urbansound8k": 8732,
    "voxceleb1": 153_516,
}
SMALL = {"split": {"train": 2, "valid": 1, "test": 2}}


def test_expected_counts_add_up_to_the_size_that_info_states():
    faults = []
    for name, n_clips in N_CLIPS.items():
        declared = data_set(name)
        sums = {column: sum(counts.values()) for column, counts in declared.expected.items()}
        if set(sums.values()) != {n_clips} or f"{n_clips:,} " not in declared.size:
            faults.append(f"{name}: {sums}, {declared.size}")
    assert not faults


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A prepared folder of a data set whose full size is what the small archive holds."""
    scripts = module("speech_commands")
    small = replace(scripts.SPEECH_COMMANDS, expected=SMALL, n_values={"label": 2})
    monkeypatch.setattr(scripts, "SPEECH_COMMANDS", small)
    given = layouts.speech_commands(tmp_path / "made")
    done = script("speech_commands", "prepare", "--from-archive", *given, "--to", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete" in done.stdout
    return tmp_path / "out"


def faults(folder, *more) -> list[str]:
    done = script("speech_commands", "verify", folder, *more)
    lines = done.stderr.splitlines()
    assert done.returncode == (1 if lines else 0)
    assert all(line.startswith("problem: ") for line in lines)
    return [line.removeprefix("problem: ") for line in lines]


def test_a_full_set_is_complete_and_a_missing_an_extra_file_and_an_unfinished_folder_are_named(
    words,
):
    assert faults(words) == []
    extra = put(words / "bed" / "dd_nohash_0.wav")
    assert faults(words) == ["extra: bed/dd_nohash_0.wav is not in manifest.csv"]
    extra.unlink()
    marker = words / "prepare.json"
    finished = marker.read_text()
    marker.write_text(finished.replace("true", "false"))
    assert faults(words)[0].startswith("unfinished")
    marker.write_text(finished)
    (words / "bed" / "cc_nohash_1.flac").unlink()
    assert faults(words) == ["missing: bed/cc_nohash_1.flac"]


@pytest.mark.parametrize("how", ["one bit", "cut", "emptied"])
def test_a_damaged_file_is_named_and_can_be_replaced(words, how):
    path = words / "cat" / "bb_nohash_0.flac"
    content = bytearray(path.read_bytes())
    if how == "one bit":
        content[-20] ^= 1
    path.write_bytes(content if how == "one bit" else content[:100] if how == "cut" else b"")
    (fault,) = faults(words)
    assert fault.startswith("damaged: cat/bb_nohash_0.flac")
    path.unlink()
    archive = words.parent / "made" / "speech_commands_v0.02.tar.gz"
    done = script("speech_commands", "prepare", "--from-archive", archive, "--to", words)
    assert done.returncode == 0
    assert "1 of them new" in done.stdout
    assert faults(words) == []


def test_damage_is_not_blessed_by_a_second_run(words):
    path = words / "cat" / "bb_nohash_0.flac"
    path.write_bytes(path.read_bytes()[:100])
    archive = words.parent / "made" / "speech_commands_v0.02.tar.gz"
    done = script("speech_commands", "prepare", "--from-archive", archive, "--to", words)
    assert "damaged: cat/bb_nohash_0.flac" in done.stderr


def test_a_row_lost_from_the_manifest_is_noticed(words):
    lines = (words / "manifest.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if "bb_nohash_0" not in line]
    (words / "manifest.csv").write_text("".join(kept))
    assert faults(words) == [
        "extra: cat/bb_nohash_0.flac is not in manifest.csv",
        "split valid: 0 clips, the full set has 1",
    ]
    (words / "manifest.csv").write_text("".join([*lines, lines[1]]))
    assert faults(words)[0].startswith("listed twice: bed/aa_nohash_0.flac")


def test_a_long_list_is_shortened_and_says_so(words):
    for number in range(5):
        put(words / "bed" / f"dd_nohash_{number}.wav")
    assert len(faults(words, "--show", 2)) == 3
    assert faults(words, "--show", 2)[-1] == "3 more; --show names them"
    assert len(faults(words)) == 5


def test_a_folder_that_is_not_prepared_cannot_be_verified(tmp_path):
    for place in (tmp_path, tmp_path / "gone"):
        done = script("nsynth", "verify", place)
        assert done.returncode == 2
        assert str(place) in done.stderr


def test_the_makers_layout_is_checked_without_a_manifest(tmp_path):
    esc50 = script("esc50", "verify", make_esc50(tmp_path / "esc50"))
    assert esc50.returncode == 1
    assert "8 clips, the full set has 2000" in esc50.stderr
    digits = make_fsdd(tmp_path / "digits")
    put(digits / "recordings" / "wrong.wav")
    fsdd = script("fsdd", "verify", digits)
    assert fsdd.returncode == 1
    assert "wrong.wav: file name is not" in fsdd.stderr
    assert "2 speakers, the full set has 6" in fsdd.stderr
    assert "give the folder that holds both" in script("esc50", "verify", digits).stderr
    assert "give the folder above" in script("fsdd", "verify", tmp_path / "esc50").stderr


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("manifest.csv", b"path,label\nbed/a.wav,bed\n", "no column crc32"),
        ("manifest.csv", b"path,label,crc32\nbed/a.wav\n", "line 2 has not as many cells"),
        ("manifest.csv", b"path,crc32\nbed/a.wav,0,0\n", "line 2 has not as many cells"),
        ("manifest.csv", b"path,crc32\n\xff,0\n", "utf-8"),
        ("manifest.csv", b"path,crc32\n" + b"a" * 200_000 + b",0\n", "field larger"),
        ("skipped.csv", b"file\na.wav\n", "no column name, reason"),
    ],
)
def test_a_table_that_prepare_has_not_written_is_named(words, name, content, expected):
    (words / name).write_bytes(content)
    before = files(words)
    archive = words.parent / "made" / "speech_commands_v0.02.tar.gz"
    for asked in (
        ("verify", words),
        ("prepare", "--from-archive", archive, "--to", words),
    ):
        done = script("speech_commands", *asked)
        assert done.returncode == 2
        assert f"error: {words / name}: " in done.stderr
        assert expected in done.stderr and "move it away and prepare again" in done.stderr
    assert files(words) == before


@pytest.mark.parametrize(
    "content",
    [b"5", b"[]", b"{}", b'{"data_set": "esc50"}', b'{"data_set": "speech_commands", "listed": [5]}',
     b'{"data_set": "speech_commands", "listed": {"label": 5}}', b"[" * 100_000],
)  # fmt: skip
def test_a_marker_that_prepare_has_not_written_is_named(words, content):
    (words / "prepare.json").write_bytes(content)
    (fault,) = faults(words)
    assert fault.startswith("prepare.json: not what `prepare` writes for Speech Commands")
    archive = words.parent / "made" / "speech_commands_v0.02.tar.gz"
    done = script("speech_commands", "prepare", "--from-archive", archive, "--to", words)
    assert done.returncode == 2 and "not empty" in done.stderr
    assert (words / "prepare.json").read_bytes() == content


@pytest.mark.shared
def test_real_audio_in_the_makers_layout(shared):
    done = script("esc50", "verify", shared / "data" / "ESC-50-fold4")
    assert done.stderr.splitlines() == [
        "problem: 320 clips, the full set has 2000",
        "problem: 40 classes, the full set has 50",
    ]
