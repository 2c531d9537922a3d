"""Make a data set with one bad row or name of every kind, and collect the reasons that the library counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audiossl_lite.data.datasets import load_clips
from tests.data.sounds import put


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def bad_rows(root: Path) -> Iterator[tuple[str, str]]:
    """Rows and names that contradict a data set's own layout: what is wrong, and the reason that is counted."""
    name = "1-100-A-0.wav"
    rows = [
        ("row whose target is not the one in the file name", "1-101-A-0.wav", 1, 9, 101),
        ("row whose fold or source is not the one in the file name", "1-102-A-0.wav", 2, 0, 102),
        ("file name of another pattern", "dog.wav", 1, 0, 103),
        ("second row of a file", name, 1, 0, 100),
    ]
    esc = root / "esc"
    lines = ["filename,fold,target,category,src_file", f"{name},1,0,dog,100"]
    for _, file, fold, target, source in rows:
        put(esc / "audio" / file)
        lines.append(f"{file},{fold},{target},dog,{source}")
    put(esc / "audio" / "1-999-A-0.wav")
    _text(esc / "meta" / "esc50.csv", "\n".join(lines) + "\n")
    what = {file: text for text, file, *_ in rows} | {"1-999-A-0.wav": "file without a row"}
    for skip in load_clips(esc).skipped:
        yield f"ESC-50: {what[skip.name]}", skip.reason

    put(root / "fsdd" / "recordings" / "3_ada_0.wav")
    put(root / "fsdd" / "recordings" / "three_ada.wav")
    for skip in load_clips(root / "fsdd", pool="voice").skipped:
        yield "FSDD: file name of another pattern", skip.reason

    put(root / "classes" / "bell" / "a.wav")
    put(root / "classes" / "stray.wav")
    put(root / "classes" / "_background_noise_" / "b.wav")
    (root / "classes" / "bell" / "b.m4a").touch()
    (root / "classes" / "bell" / "again").symlink_to(root / "classes")
    (root / "classes" / "bell" / "c.wav").symlink_to("a.wav")
    what = {
        "stray.wav": "sound beside the class folders",
        "_background_noise_/b.wav": "the noise of Speech Commands",
        "bell/b.m4a": "sound in a format that is not read",
        "bell/again": "link to a folder that is read already, or to one above",
        "bell/c.wav": "link to a file that is read already",
    }
    for skip in load_clips(root / "classes").skipped:
        yield f"class folders: {what[skip.name]}", skip.reason

    put(root / "list" / "a.wav")
    _text(root / "list" / "clips.csv", "path,label\na.wav,bell\n,bell\nb.wav,\na.wav,bell\n")
    kinds = {
        "empty path": "row without a path",
        "empty label": "row without a label",
        "listed twice": "second row of a file",
    }
    for skip in load_clips(root / "list" / "clips.csv").skipped:
        yield f"manifest: {kinds[skip.reason]}", skip.reason
