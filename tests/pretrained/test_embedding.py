"""`embed`: a folder of anything becomes a table; interrupted, it goes on; bad files are named."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import soundfile
import torch

from audiossl_lite import embed_folder, load_any
from audiossl_lite.data import audio
from audiossl_lite.data.audio import load_audio
from audiossl_lite.pretrained import embed, embedding, tables
from audiossl_lite.pretrained.embedding import BATCH_S, _batches
from audiossl_lite.pretrained.foreign import adapt


def write(path, seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "recordings"
    for i, (name, seconds, rate, channels) in enumerate((
        ("b/1.wav", 1.0, 16_000, 1), ("b/deep/1.flac", 0.4, 44_100, 2), ("a/1.ogg", 2.5, 48_000, 1),
        ("a/2.mp3", 1.7, 44_100, 2), ("loose.wav", 0.6, 8_000, 1),
    )):  # fmt: skip
        write(root / name, seconds, rate, channels, seed=i)
    return root


def spoil(root) -> dict[str, str]:
    """Ten files that cannot be used, and the reason for each."""
    bad = root / "bad"
    bad.mkdir()
    (bad / "empty.wav").write_bytes(b"")
    (bad / "text.wav").write_bytes(b"no sound" * 99)
    (bad / "page.mp3").write_bytes(b"<html>not found</html>")
    (bad / "zeros.flac").write_bytes(bytes(4096))
    (bad / "cut.ogg").write_bytes((root / "a" / "1.ogg").read_bytes()[:40])
    (bad / "cut.flac").write_bytes((root / "b" / "deep" / "1.flac").read_bytes()[:20])
    (bad / "folder.wav").mkdir()
    soundfile.write(bad / "silent.wav", np.zeros(9_000), 16_000)
    soundfile.write(bad / "short.wav", np.full(100, 0.1), 16_000)
    samples = np.full(9_000, 0.1, dtype=np.float32)
    samples[7] = np.nan
    soundfile.write(bad / "nan.wav", samples, 16_000, subtype="FLOAT")
    reasons = dict.fromkeys(
        ("empty.wav", "text.wav", "page.mp3", "zeros.flac", "cut.ogg", "cut.flac"), "unreadable"
    )
    return reasons | {
        "folder.wav": "not a file", "silent.wav": "silent", "short.wav": "too short", "nan.wav": "not finite",
    }  # fmt: skip


def test_any_mix_of_rates_formats_and_lengths_gives_what_each_file_gives_alone(folder):
    model = load_any("cnn_events")
    rows = embed_folder(folder, model)
    assert rows.files == ("loose.wav", "a/1.ogg", "a/2.mp3", "b/1.wav", "b/deep/1.flac")
    assert not rows.skipped and rows.start_s.tolist() == [0.0] * 5
    for file, end_s, vector in zip(rows.files, rows.end_s, rows.vectors, strict=True):
        wave = load_audio(folder / file)
        assert end_s == len(wave) / 16_000
        expected = model.embed(wave[None])[0]
        torch.testing.assert_close(torch.from_numpy(vector), expected, atol=1e-4, rtol=1e-3)


def test_long_files_are_cut_and_averaged_by_length_or_kept_with_their_seconds(folder):
    model = load_any("log-mel")
    write(folder / "long.wav", 2.55)  # two chunks of a second, and a rest
    write(folder / "rest.wav", 1.07)  # 70 ms do not count
    rows = embed_folder(folder, model, chunk_s=1.0, keep_chunks=True)
    at = [i for i, file in enumerate(rows.files) if file == "long.wav"]
    assert rows.start_s[at].tolist() == [0.0, 1.0, 2.0] and rows.end_s[at].tolist() == [
        1.0,
        2.0,
        2.55,
    ]
    whole = embed_folder(folder, model, chunk_s=1.0)
    assert len(whole) == 7
    row = whole.files.index("long.wav")
    expected = (rows.vectors[at] * np.array([[1.0], [1.0], [0.55]])).sum(0) / 2.55
    np.testing.assert_allclose(whole.vectors[row], expected, rtol=1e-5)
    assert (whole.start_s[row], whole.end_s[row]) == (0.0, 2.55)
    assert rows.files.count("rest.wav") == 1 and whole.end_s[whole.files.index("rest.wav")] == 1.0
    wave = load_audio(folder / "long.wav")[16_000:32_000]
    torch.testing.assert_close(
        torch.from_numpy(rows.vectors[at[1]]), model.embed(wave[None])[0], atol=1e-3, rtol=1e-3
    )
    with pytest.raises(ValueError, match="chunk_s must be 0.08 or more, got 0.01"):
        embed_folder(folder, model, chunk_s=0.01)


def test_ten_damaged_files_are_named_and_the_others_are_as_before(folder, tmp_path, capsys):
    assert embed.main([str(folder), "--model", "mfcc", "--out", str(tmp_path / "a.npz")]) == 0
    assert "5 rows of 40 numbers, from 5 files, 0 left out" in capsys.readouterr().out
    reasons = spoil(folder)
    assert embed.main([str(folder), "--model", "mfcc", "--out", str(tmp_path / "b.npz")]) == 1
    said = capsys.readouterr()
    assert "5 rows of 40 numbers, from 5 files, 10 left out" in said.out
    assert len(reasons) == 10
    for name, reason in reasons.items():
        assert f"left out: bad/{name}: {reason}\n" in said.err
    before, after = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    np.testing.assert_allclose(before["embedding"], after["embedding"], atol=1e-3)
    assert after["file"].tolist() == before["file"].tolist()
    assert dict(zip(after["skipped"].tolist(), after["reason"].tolist())) == {
        f"bad/{name}": reason for name, reason in reasons.items()
    }


def test_files_that_lost_their_end_and_joined_streams_are_named(folder, tmp_path, capsys):
    whole = (folder / "b" / "1.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    for name in ("a/1.ogg", "a/2.mp3"):
        (folder / name).write_bytes((folder / name).read_bytes() * 2)
    assert embed.main([str(folder), "--model", "mfcc", "--out", str(tmp_path / "a.npz")]) == 1
    said = capsys.readouterr()
    assert "4 rows of 40 numbers, from 4 files, 2 left out" in said.out
    assert said.err.count("has lost its end") == 1
    assert "  has lost its end: cut.wav\n" in said.err
    for name in ("a/1.ogg", "a/2.mp3"):
        assert f"left out: {name}: more than its header says\n" in said.err
    assert np.load(tmp_path / "a.npz")["cut_off"].tolist() == ["cut.wav"]


def test_a_format_that_is_not_read_is_named_and_counted_like_any_other_file(
    folder, tmp_path, capsys
):
    for name in ("a/1.m4a", "a/2.m4a", "talk.opus"):
        (folder / name).write_bytes(b"sound of another kind")
    out = tmp_path / "a.npz"
    assert embed.main([str(folder), "--model", "mfcc", "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "5 rows of 40 numbers, from 5 files, 3 left out" in said.out
    for name in ("a/1.m4a", "a/2.m4a", "talk.opus"):
        suffix = name.partition(".")[2]
        assert f"left out: {name}: format that is not read (.{suffix})\n" in said.err
    assert sorted(np.load(out)["skipped"].tolist()) == ["a/1.m4a", "a/2.m4a", "talk.opus"]


def test_names_that_move_a_terminal_are_escaped_and_stay_as_they_are_in_the_table(
    folder, tmp_path, capsys
):
    name = "bad\n  left out: good.wav\x1b[2J.wav"
    (folder / name).write_bytes(b"junk")
    out = tmp_path / "a.npz"
    assert embed.main([str(folder), "--model", "mfcc", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert said == "  left out: bad\\n  left out: good.wav\\x1b[2J.wav: unreadable\n"
    assert np.load(out)["skipped"].tolist() == [name]


def test_a_file_that_is_too_long_says_so_and_one_far_above_full_scale_is_named(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(audio, "LONGEST_S", 2.2)
    soundfile.write(folder / "int16.wav", np.tile([2e4, -2e4], 8_000), 16_000, subtype="FLOAT")
    out = tmp_path / "a.npz"
    assert embed.main([str(folder), "--model", "mfcc", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "left out: a/1.ogg: too long (2.5 s by its header, more than 2.2 s); cut it" in said
    assert "  peak above 10 where full scale is 1: int16.wav\n" in said
    assert np.load(out)["loud"].tolist() == ["int16.wav"]


def test_when_no_file_is_left_that_is_an_error(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.wav").write_bytes(b"nothing")
    out = str(tmp_path / "a.npz")
    assert embed.main([str(tmp_path / "x"), "--model", "mfcc", "--out", out]) == 2
    assert "none of 1 files could be embedded: unreadable" in capsys.readouterr().err
    assert not (tmp_path / "a.npz").exists()


class Interrupted(KeyboardInterrupt):
    pass


def test_an_interrupted_call_goes_on_and_writes_the_same_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "BATCH_S", 2.0)
    spoil(folder)
    model, calls = load_any("mfcc"), []

    def embed_until(stop):
        def run(waveform, lengths):
            calls.append(len(waveform))
            if len(calls) == stop:
                raise Interrupted
            return model.embed(waveform, lengths)

        return adapt(run, name="mfcc", identity="1")

    parts = tmp_path / "parts"
    tables.write_table(tmp_path / "whole.npz", embed_folder(folder, embed_until(0)))
    n_calls = len(calls)
    assert n_calls > 3
    calls.clear()
    with pytest.raises(Interrupted):
        embed_folder(folder, embed_until(3), parts=parts)
    calls.clear()
    again = embed_folder(folder, embed_until(0), parts=parts)
    assert len(calls) == n_calls - 2
    tables.write_table(tmp_path / "again.npz", again)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_what_was_finished_is_done_again_when_file_model_or_settings_are_others(folder, tmp_path):
    calls = []

    def make(name):
        def run(waveform, lengths):
            calls.append(name)
            return waveform[:, :4]

        return adapt(run, name=name)

    def n_new(name, **options) -> int:
        calls.clear()
        embed_folder(folder, make(name), parts=tmp_path / "parts", **options)
        return len(calls)

    assert n_new("a") > 0 and n_new("a") == 0
    assert n_new("b") > 0 and n_new("a", keep_chunks=True) > 0 and n_new("a", chunk_s=0.5) > 0
    write(folder / "b/1.wav", 1.0, seed=9)  # of the same size
    assert n_new("a") > 0 and n_new("a") == 0


def test_an_embedding_that_is_not_finite_is_a_file_left_out(folder):
    def run(waveform, lengths):
        return torch.where(lengths[:, None] > 30_000, torch.nan, waveform[:, :4])

    rows = embed_folder(folder, adapt(run))
    assert [(skip.name, skip.reason) for skip in rows.skipped] == [
        ("a/1.ogg", "the embedding is not finite")
    ]
    assert len(rows) == 4


def test_a_clip_that_the_encoder_refuses_is_left_out_and_its_batch_is_not(folder):
    def run(waveform, lengths):
        if int(lengths.min()) < 7_000:
            raise RuntimeError("kernel larger than input\nand more")
        return waveform[:, :4]

    rows = embed_folder(folder, adapt(run))
    reason = "the encoder cannot take it: kernel larger than input"
    assert [(skip.name, skip.reason) for skip in rows.skipped] == [("b/deep/1.flac", reason)]
    assert len(rows) == 4


def test_few_files_are_read_at_once():
    seconds = [0.0, 3.0, 700.0, 0.2, 30.0] * 30
    batches = _batches(seconds)
    assert sorted(i for batch in batches for i in batch) == list(range(150))
    for batch in batches:
        padded = len(batch) * max(max(seconds[i] for i in batch), 1.0)
        assert padded <= BATCH_S or len(batch) == 1


def test_labels_and_groups_of_a_manifest_come_along_in_every_kind_of_table(folder, tmp_path):
    manifest = folder / "list.csv"
    manifest.write_text("path,label,group\nb/1.wav,dog,r1\na/1.ogg,cat,r2\n")
    rows = embed_folder(manifest, load_any("mfcc"))
    assert rows.files == ("b/1.wav", "a/1.ogg")
    content = np.load(tables.write_table(tmp_path / "t.npz", rows))
    assert content["label"].tolist() == ["dog", "cat"] and content["group"].tolist() == ["r1", "r2"]
    with open(tables.write_table(tmp_path / "t.csv", rows), newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["file"], first["label"], second["group"]) == ("b/1.wav", "dog", "r2")
    read = np.array([[float(row[f"e{i}"]) for i in range(40)] for row in (first, second)])
    np.testing.assert_array_equal(read.astype(np.float32), rows.vectors)
    assert float(first["end_s"]) == 1.0
    manifest.write_text("path\nb/1.wav\n")
    assert embed_folder(manifest, load_any("mfcc")).sounds[0].value("label") == ""


def test_parquet_needs_an_engine(tmp_path, folder, monkeypatch, capsys):
    out = str(tmp_path / "t.parquet")
    monkeypatch.setattr(tables, "_is_installed", lambda name: False)
    assert embed.main([str(folder), "--model", "mfcc", "--out", out]) == 2
    assert "parquet needs pyarrow or fastparquet" in capsys.readouterr().err


def test_a_parquet_table_is_read_back(tmp_path, folder):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = embed_folder(folder, load_any("mfcc"))
    frame = pandas.read_parquet(tables.write_table(tmp_path / "t.parquet", rows))
    assert frame["file"].tolist() == list(rows.files)
    np.testing.assert_array_equal(frame[[f"e{i}" for i in range(40)]].to_numpy(), rows.vectors)


def test_wrong_requests_are_refused_before_any_work(folder, tmp_path, capsys):
    out = str(tmp_path / "a.npz")
    for arguments, message in (
        ([str(folder), "--model", "cnn_event", "--out", out], "did you mean 'cnn_events'?"),
        ([str(folder), "--model", "mfcc", "--out", f"{out}z"], "did you mean '.npz'?"),
        ([str(folder), "--model", "mfcc", "--out", str(tmp_path / "no" / "a.csv")], "its folder is missing"),
        ([str(folder), "--model", "mfcc", "--out", str(tmp_path / f"{'a' * 245}.npz")], "File name too long"),
        ([str(folder), "--model", "mfcc", "--out", str(tmp_path / f"{'a' * 300}.npz")], "File name too long"),
        ([str(tmp_path / "none"), "--model", "mfcc", "--out", out], "no sounds at"),
        ([str(folder), "--model", "mfcc", "--out", out, "--device", "gpu"], "did you mean 'cpu'?"),
    ):  # fmt: skip
        assert embed.main(arguments) == 2
        assert message in capsys.readouterr().err
    for arguments in (
        [str(folder), "--modle", "mfcc", "--out", out],
        [str(folder), "--mod", "mfcc", "--out", out],
    ):
        with pytest.raises(SystemExit) as stopped:
            embed.main(arguments)
        assert stopped.value.code == 2
        assert f"unknown option {arguments[1]}; did you mean --model?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]


def test_the_package_offers_it_and_stays_light(monkeypatch):
    import audiossl_lite

    assert audiossl_lite.load_any is load_any and audiossl_lite.embed_folder is embed_folder
    with pytest.raises(AttributeError, match="no attribute 'load_all'"):
        _ = audiossl_lite.load_all
    for name in [name for name in sys.modules if name.split(".")[0] == "audiossl_lite"]:
        monkeypatch.delitem(sys.modules, name)
    import audiossl_lite as fresh

    assert fresh is not audiossl_lite
    assert "audiossl_lite.pretrained" not in sys.modules
