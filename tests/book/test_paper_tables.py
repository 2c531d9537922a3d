"""The papers' own numbers: typed a second time here, checked against each other, and read strictly."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from audiossl_lite.book.paper_tables import (
    DASH,
    NOT_PRINTED,
    PAPER_FILES,
    PAPERS,
    PaperTable,
    paper_table,
    paper_tables,
)
from audiossl_lite.experiments.records import ROOT

UAMIX, ATST = "uaMix-MAE", "ATST"
TASKS = ("spcv2", "vox1", "nsynth", "us8k")

# Typed from the papers a second time, row by row, as they stand there; "-" is a dash.
TYPED = {
    (ATST, "Table 1"): """
        single 1 - 92.2 40.1 74.1 79.1 71.4
        single 1 0.210 94.3 52.3 73.8 79.3 74.9
        two 1 0.191 91.3 50.0 74.3 76.6 73.1
        single 6 0.257 94.0 57.3 73.8 80.9 76.5
        two 6 0.279 93.6 61.9 75.3 82.0 78.2""",
    (ATST, "Table 2"): """
        - - 17.9 - -
        - 62.4 29.9 63.4 -
        - 92.2 40.1 74.1 79.1
        0.279 93.6 61.9 75.3 82.0
        0.338 95.1 72.0 75.6 84.1""",
    (ATST, "Table 3"): """
        - - 95.5 37.7
        23M 0.308 97.7 60.9
        89M 0.310 98.0 64.2
        89M 0.292 98.1 80.8
        88M 0.276 - -
        22M 0.315 97.6 88.3
        86M 0.374 98.0 94.3""",
    (UAMIX, "Table 1"): """
        SSL&FT 527 20,550 10s
        FT&FS 50 2,000 5s
        FT&FS 1,251 153,516 3s-180s
        FT&FS 35 105,829 1s
        FS 1,006 305,978 4s
        FS 41 11,073 0.3s-30s""",
    (UAMIX, "Table 2"): """
        99M 49.3±0.9 25.6±0.5 48.7±0.9 26.6±0.5 38.4±0.8
        86M 43.0±0.7 - - 21.1±0.4 -
        90M 48.6±0.8 25.9±0.5 68.8±0.9 26.9±0.5 35.0±0.8
        86M 53.3±0.9 28.4±0.6 43.8±0.9 30.1±0.5 37.8±0.8
        86M 61.1±0.9 28.9±0.5 70.6±0.9 30.4±0.5 41.3±0.8
        50M 66.3±0.9 30.3±0.5 75.9±0.9 29.6±0.5 43.6±0.8""",
    (UAMIX, "Table 3"): """
        48.7±0.8 23.8±0.4 73.2±0.9 29.9±0.5 37.2±0.8
        62.6±0.9 29.1±0.5 73.9±0.9 29.6±0.5 41.8±0.8
        66.3±0.9 30.3±0.5 75.9±0.9 29.6±0.5 43.6±1.8""",
    (UAMIX, "Table 4"): """
        90M 36.0 94.0 - 98.3
        99M 30.6 90.0 63.3 97.9
        86M 32.3 89.6 - 97.7
        86M 36.7 94.0 93.5 97.9
        86M 37.0 94.1 93.6 98.0""",
}


def printed(table: PaperTable) -> list[list[str]]:
    """The cells of a table as the papers write them: "66.3±0.9", "-"."""
    rows = [[table.text(row.name, c.key) for c in table.columns] for row in table.rows]
    return [[cell.replace(" ", "").replace(DASH, "-") for cell in row] for row in rows]


def means(table: PaperTable, column: str) -> dict[str, float]:
    found = {row.name: table.value(row.name, column) for row in table.rows}
    return {name: value[0] for name, value in found.items() if value is not None}


def best(table: PaperTable, column: str) -> str:
    scores = means(table, column)
    return max(scores, key=scores.__getitem__)


def source_text(shared: Path, paper: str) -> str:
    source = shared / "papers" / PAPER_FILES[paper].replace(".json", ".txt")
    if not source.exists():
        pytest.skip(f"the shared folder has no {source.name}")
    return source.read_text()


def test_every_table_and_figure_is_there():
    ids = {paper: [t.id for t in paper_tables(paper)] for paper in PAPERS}
    assert ids == {
        ATST: ["Table 1", "Table 2", "Table 3", "Figure 1", "Figure 2"],
        UAMIX: [f"Table {n}" for n in (1, 2, 3, 4)] + [f"Figure {n}" for n in range(1, 7)],
    }
    assert [(t.paper, t.id) for t in paper_tables()] == [(p, i) for p in PAPERS for i in ids[p]]


def test_the_numbers_are_those_typed_a_second_time():
    typed = {place: [line.split() for line in TYPED[place].split("\n")[1:]] for place in TYPED}
    assert {place: printed(paper_table(*place)) for place in TYPED} == typed


@pytest.mark.shared
@pytest.mark.parametrize("paper", PAPERS)
def test_the_numbers_are_those_of_the_papers_text(paper, shared: Path):
    lines = [s.split("\t") for s in source_text(shared, paper).splitlines() if s.count("\t") >= 3]
    cells = [[re.sub(r"</?b>|\s", "", cell) for cell in line[1:]] for line in lines]
    rows = [line for line in cells if any(re.fullmatch(r"[\d.,]+(±[\d.]+)?", c) for c in line)]
    ours = [row for t in paper_tables(paper) if t.kind == "table" for row in printed(t)]
    if paper == ATST:  # the one row that the text runs together, and one blank for a dash
        merged = rows.index(["-", "62.4", "17.929.9", "63.4", "-"])
        assert sorted(ours[5] + ours[6])[6:] == ["17.9", "29.9", "62.4", "63.4"]
        rows[merged : merged + 1] = ours[5:7]
        blank = rows.index(["", "-", "95.5", "37.7"])
        rows[blank][0] = "-"
    assert ours == rows


@pytest.mark.shared
@pytest.mark.parametrize("paper", PAPERS)
def test_no_sentence_of_a_paper_is_repeated(paper, shared: Path):
    theirs = " ".join(re.findall(r"[a-z0-9]+", source_text(shared, paper).lower()))
    for table in paper_tables(paper):
        for text in (table.title, table.note, *(row.note for row in table.rows)):
            ours = re.findall(r"[a-z0-9]+", text.lower())
            runs = [" ".join(ours[i : i + 8]) for i in range(len(ours) - 7)]
            assert not [run for run in runs if run in theirs], f"{paper} {table.id}"


def test_a_value_is_its_mean_and_interval():
    assert paper_table(UAMIX, "Table 2").value("uaMix-MAE", "esc50") == (66.3, 0.9)
    assert paper_table(UAMIX, "Table 2").value("MaskSpec", "nsynth") is None
    assert paper_table(UAMIX, "Figure 3").value("uaMix-MAE", "grid") is None
    assert paper_table(ATST, "Table 3").value("Base", "as20k") == (0.374, None)


def test_a_page_shows_the_printed_names():
    rows = paper_table(UAMIX, "Table 2").rows_for_display()
    assert rows[-1] == {
        "row": "uaMix-MAE", "#TP": "50M", "ESC-50": "66.3 ± 0.9", "VoxCeleb1": "30.3 ± 0.5",
        "NSynth": "75.9 ± 0.9", "SCv2": "29.6 ± 0.5", "Kaggle18": "43.6 ± 0.8",
    }  # fmt: skip
    assert rows[1]["Kaggle18"] == DASH
    assert paper_table(UAMIX, "Fig. 4").rows_for_display()[0]["N-way K-shot"] == NOT_PRINTED
    assert paper_table(ATST, "Fig. 1").rows_for_display() == []


def test_tables_hold_numbers_and_no_figure_does():
    for table in paper_tables():
        assert table.has_numbers == (table.kind == "table") == table.id.startswith("Table")
        assert table.title and table.section.startswith("Sec. ") and table.note
        assert (table.kind == "plot") <= bool(table.x and table.y and table.rows)
        if table.kind != "table":
            assert all(row.read == NOT_PRINTED for row in table.rows)


def test_the_same_run_has_the_same_row_in_two_tables():
    one, two, three = (paper_table(ATST, f"Table {n}") for n in (1, 2, 3))
    for task in TASKS:
        assert one.value("BYOL-A", task) == two.value("BYOL-A", task)
    for task in (*TASKS, "as20k"):
        assert one.value("Small, two, 6 s", task) == two.value("Small", task)
    assert three.value("Small", "parameters") == (22, None)
    scored, mixed = paper_table(UAMIX, "Table 2"), paper_table(UAMIX, "Table 3")
    assert scored.conditions == mixed.conditions
    assert (scored.conditions["n_way"], scored.conditions["k_shot"]) == (5, 1)
    for column in ("esc50", "voxceleb1", "nsynth", "scv2"):
        assert scored.value("uaMix-MAE", column) == mixed.value("uaMix-MAE", column)
    assert scored.value("uaMix-MAE", "kaggle18") == (43.6, 0.8)
    assert mixed.value("uaMix-MAE", "kaggle18") == (43.6, 1.8), "as printed"
    assert "43.6 ± 1.8 here and 43.6 ± 0.8" in mixed.row("uaMix-MAE").note


def test_a_printed_average_is_the_mean_of_its_four_tasks():
    table = paper_table(ATST, "Table 1")
    for row in table.rows:
        mean = sum(table.value(row.name, task)[0] for task in TASKS) / 4
        assert abs(mean - table.value(row.name, "average")[0]) <= 0.05 + 1e-9, row.name
    assert "73.05" in table.row("Small, two, 1 s").note


def test_bold_is_the_best_of_its_column():
    bold = {(t.paper, t.id, r.name): r.bold for t in paper_tables() for r in t.rows if r.bold}
    assert list(bold) == [(ATST, "Table 2", "Base")]
    table = paper_table(ATST, "Table 2")
    assert bold[ATST, "Table 2", "Base"] == tuple(c.key for c in table.columns)
    assert all(best(table, column.key) == "Base" for column in table.columns)


def test_the_data_sets_agree_between_the_papers():
    """VoxCeleb1 and Speech Commands: the sum of the parts in ATST Sec. 3.2 is the total in uaMix-MAE."""
    samples = means(paper_table(UAMIX, "Table 1"), "samples")
    assert samples["VoxCeleb1"] == 138_361 + 6_904 + 8_251
    assert samples["SCv2"] == 84_843 + 9_981 + 11_005
    assert samples["NSynth"] == 289_205 + 12_678 + 4_096 - 1
    assert "305,979" in paper_table(UAMIX, "Table 1").row("NSynth").note


def test_what_the_notes_say_against_a_paper_is_in_its_numbers():
    views = paper_table(ATST, "Table 1")
    nsynth, spcv2 = means(views, "nsynth"), means(views, "spcv2")
    assert nsynth["Small, single, 1 s"] < nsynth["BYOL-A"]
    assert nsynth["Small, single, 1 s"] < nsynth["Small, two, 1 s"]
    assert spcv2["Small, two, 6 s"] < spcv2["Small, single, 6 s"]
    assert best(paper_table(ATST, "Table 3"), "spcv2") == "SSAST-FRAME"
    scored, mixed = paper_table(UAMIX, "Table 2"), paper_table(UAMIX, "Table 3")
    winners = {column.key: best(scored, column.key) for column in scored.columns[1:]}
    assert {key for key, name in winners.items() if name != "uaMix-MAE"} == {"scv2"}
    assert sorted(means(scored, "scv2").values())[-3:] == [29.6, 30.1, 30.4]
    assert best(mixed, "scv2") == "No Mixing"
    for key in winners:  # tuning without mixing against no tuning
        worse = means(mixed, key)["No Mixing"] < means(scored, key)["AudioMAE"]
        assert worse == (key != "nsynth")
    assert best(paper_table(UAMIX, "Table 4"), "scv2") == "BEATs"


def test_the_gains_that_the_text_claims_are_not_those_of_the_table():
    table = paper_table(UAMIX, "Table 2")
    columns = ("esc50", "voxceleb1", "nsynth", "kaggle18")
    pairs = [(means(table, c)["uaMix-MAE"], means(table, c)["AudioMAE"]) for c in columns]
    points = [round(ours - theirs, 1) for ours, theirs in pairs]
    relative = [round(100 * (ours / theirs - 1), 1) for ours, theirs in pairs]
    assert (points, relative) == ([5.2, 1.4, 5.3, 2.3], [8.5, 4.8, 7.5, 5.6])
    for numbers in (points, relative):
        assert not all(4.90 <= number <= 7.44 for number in numbers)
        assert ", ".join(map(str, numbers[:3])) + f" and {numbers[3]}" in table.note


def test_rows_taken_from_other_work_say_so():
    for name in ("Table 2", "Table 3"):
        own = [row.name for row in paper_table(ATST, name).rows if not row.cited_from]
        assert own == ["Small", "Base"]
    for row in ("TRILL", "COLA"):
        assert "text at hand" in paper_table(ATST, "Table 2").row(row).note


def test_what_is_unknown_is_answered_with_what_is_known():
    with pytest.raises(ValueError, match=r"unknown paper 'BYOL'; known: ATST, uaMix-MAE"):
        paper_tables("BYOL")
    with pytest.raises(ValueError, match=r"no table of ATST is called 'Table 4'; known: 'Table 1'"):
        paper_table(ATST, "Table 4")
    table = paper_table(UAMIX, "Table 3")
    with pytest.raises(ValueError, match=r"no row in uaMix-MAE Table 3 .*'BEATs'.*'No Mixing'"):
        table.value("BEATs", "esc50")
    with pytest.raises(ValueError, match=r"no column in uaMix-MAE Table 3 .*; known: 'esc50'"):
        table.value("uaMix-MAE", "ESC-50")
    with pytest.raises(ValueError, match=r"holds words; use \.text\(\)"):
        paper_table(UAMIX, "Table 1").value("SCv2", "length")


def test_a_paper_has_a_citation_and_its_contradictions():
    for paper, number, said in ((ATST, "2204.12076", "138,361"), (UAMIX, "2403.09579", "7.44 %")):
        about = json.loads((ROOT / "book" / "papers" / PAPER_FILES[paper]).read_text("utf-8"))
        assert f"arXiv:{number}" in about["citation"] and said in about["note"]


def test_a_table_cannot_be_changed():
    table = paper_table(UAMIX, "Table 2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.note = ""
    with pytest.raises(TypeError):
        table.row("AudioMAE").values["esc50"] = (99.9, None)
