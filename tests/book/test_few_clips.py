"""Pin: a chapter that needs more data than it gets says so at once, and the book is built from the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from audiossl_lite.book.build import make_book
from audiossl_lite.book.chapters import this_project
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from audiossl_lite.data.enough import MIN_CLASSES, MIN_CLIPS, TooFewClips, check_enough
from tests.chapters import CHAPTERS, NAMES
from tests.data.sounds import hum, put
from tests.tiny import tiny_project, write_notebook

OPENS = (
    "from audiossl_lite.book.notebook import open_chapter\n\n"
    "parameters = open_chapter(globals(), classes={classes}, clips={clips})"
)


def sounds(folder: Path, *counts: int) -> Path:
    """A folder of so many clips in each class."""
    for number, count in enumerate(counts):
        for clip in range(count):
            put(folder / f"class{number}" / f"{clip}.wav", hum(0.1, hertz=200.0 + clip))
    return folder


@pytest.mark.parametrize(
    ("counts", "classes", "clips", "message"),
    [
        ((8, 8), 2, 16, ""),
        ((8, 8, 1), 2, 17, ""),
        ((30,), 1, 30, ""),
        ((30,), 2, 16, "holds 30 clips that can be read, and 1 of its classes have 8 or more"),
        ((8, 7), 2, 10, "holds 15 clips that can be read, and 1 of its classes have 8 or more"),
        ((8, 8), 2, 17, "this chapter needs 17 and 2: add clips, or leave data_root out"),
        ((), 2, 16, "holds 0 clips that can be read, and 0 of its classes have 8 or more"),
    ],
)
def test_classes_and_clips_are_counted(tmp_path: Path, counts, classes, clips, message) -> None:
    folder = sounds(tmp_path / "sounds", *counts)
    folder.mkdir(exist_ok=True)
    if not message:
        return check_enough(str(folder), classes, clips)
    with pytest.raises(TooFewClips) as caught:
        check_enough(str(folder), classes, clips)
    assert message in str(caught.value) and str(folder) in str(caught.value)
    return None


def test_clips_that_cannot_be_read_do_not_count(tmp_path: Path) -> None:
    folder = sounds(tmp_path, 8, 8)
    check_enough(str(folder), 2, 16)
    (folder / "class1" / "3.wav").write_bytes(b"no sound")
    with pytest.raises(TooFewClips, match="holds 15 clips .* 1 of its classes"):
        check_enough(str(folder), 2, 16)


def test_no_more_is_read_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = sounds(tmp_path, 40, 40), []
    monkeypatch.setattr("audiossl_lite.data.enough.read_audio", read.append)
    check_enough(str(folder), 2, 20)
    assert len(read) == 20


def test_embedded_sounds_are_enough_for_everything() -> None:
    check_enough("", 1000, 1000)


def test_every_chapter_asks_in_the_cell_after_its_parameters() -> None:
    for path in CHAPTERS:
        assert "open_chapter(globals()" in cell_source(code_cells(read_notebook(path))[1]), path


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_every_chapter_refuses_too_few_clips_in_that_cell(tmp_path: Path, path: Path) -> None:
    parameters, opens = map(cell_source, code_cells(read_notebook(path))[:2])
    chapter: dict[str, object] = {}
    exec(parameters, chapter)
    for counts in ((8, 7), (15,)):
        chapter["data_root"] = str(sounds(tmp_path / str(len(counts)), *counts))
        with pytest.raises(TooFewClips, match=f"holds {sum(counts)} clips .* this chapter needs"):
            exec(opens, chapter)


def test_the_guide_says_what_a_chapter_needs() -> None:
    guide = (this_project().book / "appendix_data.md").read_text()
    assert f"at least {MIN_CLASSES} classes" in guide and f"{MIN_CLIPS} clips" in guide


@pytest.mark.book
@pytest.mark.notebook
def test_a_chapter_that_refuses_its_data_does_not_stop_the_book(tmp_path: Path, capsys) -> None:
    check = OPENS.format(classes=2, clips=16)
    project = tiny_project(tmp_path / "project", ["print('it', 'ran')"], check=check)
    check = OPENS.format(classes=2, clips=20)
    write_notebook(
        project.notebooks / "02_hungry.ipynb", ["print('it', 'ran')"], title="Hungry", check=check
    )
    folder = sounds(tmp_path / "<b>my</b> sounds", 8, 8)
    index = make_book(project, data_root=os.fspath(folder))
    assert "02_hungry: refused: data_root" in capsys.readouterr().out
    pages = {
        name: BeautifulSoup(
            (index.parent / "notebooks" / f"{name}.html").read_text(), "html.parser"
        )
        for name in ("01_tiny", "02_hungry")
    }
    assert "it ran" in pages["01_tiny"].article.get_text()
    said = pages["02_hungry"].article.get_text()
    assert "This page was not run: data_root" in said and "<b>my</b> sounds holds 16 clips" in said
    assert "needs 20 and 2" in said and "it ran" not in said
    assert "Traceback" not in said
