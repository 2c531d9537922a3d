"""The report: every table and figure has a line, and a line says "not run" unless there is a record."""

from __future__ import annotations

import dataclasses

from audiossl_lite.book.gpu_report import gpu_entries, stage_rows
from audiossl_lite.book.paper_tables import paper_table, paper_tables
from audiossl_lite.book.report import (
    DRAWING,
    ITEMS,
    NOT_RUN,
    SCALES,
    Item,
    beside,
    circumstances,
    entries,
    headline,
    how_rows,
    item_of,
    recorded_rows,
    state,
    status_rows,
)  # fmt: skip
from audiossl_lite.experiments.gpu.stages import STAGES
from audiossl_lite.experiments.records import ROOT, load, record

ROW = {"name": "No Mixing", "mean": 50.0, "ci95": 1.5}
COLUMNS = {"events, heard": {"by_seed": [40.0, 42.0, 44.0], "mean": 42.0, "ci95": 5.0}}


def write(folder, name, values, **config):
    record(
        folder / f"{name}.json", experiment=name, scale="workshop", data="two clips",
        data_fingerprint="0", device="CPU", seeds=[0, 1], seconds=61.0,
        config={"ways": {"events, heard": 4}} | config, values=values,
    )  # fmt: skip


def test_every_table_and_figure_has_a_line_and_every_line_a_table(tmp_path):
    rows = status_rows(folder=tmp_path)
    assert [row["item"] for row in rows] == [f"{t.paper}, {t.id}" for t in paper_tables()]
    assert ITEMS.keys() <= {(t.paper, t.id) for t in paper_tables()}
    drawn = [row for row in rows if row["the paper"] == DRAWING]
    assert len(drawn) == 3 and all(row["workshop"] == "–" for row in drawn)
    rest = [row for row in rows if row not in drawn]
    assert all(row["workshop"] == NOT_RUN and row["about"] for row in rest)
    how = how_rows()
    assert [row["item"] for row in how] == [row["item"] for row in rest]
    assert all(row["chapter"] != "none yet" and len(row["what differs"]) > 20 for row in how)


def test_the_papers_number_that_stands_for_an_item_is_printed_there():
    for (paper, name), item in ITEMS.items():
        table = paper_table(paper, name)
        assert (item.paper is None) == (item.ours is None)
        if item.paper:
            assert table.value(*item.paper)[0] > 0
            (row,) = [r for r in status_rows(paper) if r["item"] == f"{paper}, {name}"]
            assert row["the paper"].startswith(table.text(*item.paper))


def test_the_number_of_ours_that_stands_for_an_item_comes_from_its_record(tmp_path):
    item = ITEMS["uaMix-MAE", "Table 3"]
    cell = {"by_seed": [31.0, 33.0], "mean": 32.0, "ci95": 2.5}
    row = {"name": item.ours[0], "mean": 1.0, "ci95": None, "columns": {item.ours[1]: cell}}
    assert headline(item, "workshop", tmp_path) == NOT_RUN
    write(tmp_path, "sounds_workshop", [ROW | {"columns": COLUMNS}, row])
    assert headline(item, "workshop", tmp_path) == "32.0 ± 2.5"
    assert headline(item, "paper", tmp_path) == NOT_RUN
    # A record without that row says that it exists, not a number of another row.
    write(tmp_path, "sounds_workshop", [ROW | {"columns": COLUMNS}])
    assert headline(item, "workshop", tmp_path).startswith("recorded 20")


def test_of_rows_that_begin_alike_the_longest_segment_stands_for_the_item(tmp_path):
    rows = [{"name": f"transformer, two, {s} s", "mean": s, "ci95": None} for s in (0.5, 3.0)]
    write(tmp_path, "atst_table1_lite", rows)
    item = dataclasses.replace(ITEMS["ATST", "Table 1"], ours=("transformer, two", ""))
    assert headline(item, "lite", tmp_path) == "3.0"


def test_a_row_of_that_very_name_goes_before_rows_that_begin_alike(tmp_path):
    item = ITEMS["uaMix-MAE", "Table 2"]
    rows = []
    for name, mean in (("uaMix-MAE", 39.0), ("uaMix-MAE, TF-CutMix", 41.0)):
        cell = {"by_seed": [mean], "mean": mean, "ci95": 2.0}
        rows.append({"name": name, "mean": mean, "ci95": 2.0, "columns": {item.ours[1]: cell}})
    write(tmp_path, "few_shot_workshop", rows)
    assert headline(item, "workshop", tmp_path) == "39.0 ± 2.0"


def test_of_many_columns_a_record_says_which_are_shown(tmp_path):
    columns = {k: {"by_seed": [1.0], "mean": 1.0, "ci95": None} for k in "ab"}
    write(tmp_path, "few_shot_workshop", [ROW | {"columns": columns}], shown=["b", "c"])
    (entry,) = entries(ITEMS["uaMix-MAE", "Table 2"], "workshop", tmp_path)
    assert recorded_rows(entry) == [{"features": "No Mixing", "seeds": 1, "b": "1.0"}]


def test_without_a_record_nothing_is_claimed_beyond_the_page(tmp_path):
    for table in paper_tables():
        item = item_of(table)
        for scale in SCALES:
            said = state(item, scale, tmp_path)
            assert said == (
                f"in chapter {item.chapter[:2]}" if scale == "lite" and item.chapter else NOT_RUN
            )


def test_a_record_is_found_shown_and_named_with_its_circumstances(tmp_path):
    write(tmp_path, "sounds_workshop", [ROW | {"columns": COLUMNS}])
    item = ITEMS["uaMix-MAE", "Table 3"]
    (entry,) = entries(item, "workshop", tmp_path)
    assert state(item, "workshop", tmp_path).startswith("recorded 20")
    assert "seeds 0, 1, CPU" in state(item, "workshop", tmp_path)
    assert state(item, "paper", tmp_path) == NOT_RUN
    assert recorded_rows(entry) == [
        {"features": "No Mixing", "seeds": 3, "events, heard": "42.0 ± 5.0"}
    ]
    assert "61 s" in circumstances(entry) and "seeds [0, 1]" in circumstances(entry)
    assert circumstances(entry).startswith("events, heard 4-way (chance 25 %); scale workshop")
    assert "; 9.7 h; " in circumstances(entry | {"seconds": 35014})
    alike = entry | {"config": {"ways": {"events": 5, "words": 5}}}
    assert circumstances(alike).startswith("every task 5-way (chance 20 %); scale workshop")


def test_the_sounds_of_a_study_stand_once_in_the_circumstances_of_a_record():
    """Records of chapters 10 and 11 repeat them with each task, and call all of them heard."""
    for name in ("few_shot_workshop", "linear_workshop", "finetune_workshop"):
        entry = load(ROOT / "book" / "results" / f"{name}.json")
        told = circumstances(entry)
        assert told.count("events of ESC-50; note families of FluidR3-notes; ") == 1, name
        assert told.count("kitchen scenes of Kitchen20; ") == 1, name
        repeated = "clips that training never heard" if "few_shot" in name else "the study holds"
        assert told.count(repeated) == 1 and "training heard" not in told, name


def test_a_record_of_single_numbers_is_a_plain_table(tmp_path):
    write(tmp_path, "atst_table1_lite", [ROW])
    (entry,) = entries(ITEMS["ATST", "Table 1"], "lite", tmp_path)
    assert recorded_rows(entry) == [{"features": "No Mixing", "accuracy": "50.0 ± 1.5"}]


def test_the_chapter_of_every_item_exists_and_its_command_runs_it():
    for key, item in ITEMS.items():
        name = f"notebooks/{item.chapter}.ipynb"
        regenerates = "audiossl_lite workshop" if item.study else name
        assert (regenerates in item.command) == bool(item.records), key
        code = (ROOT / name).read_text()
        missing = [s for s in item.records if s.removeprefix("atst_") not in code]
        assert not missing, (key, missing)


def test_the_recorded_runs_of_this_checkout_can_be_shown():
    files = sorted((ROOT / "book" / "results").glob("*.json"))
    known = {
        f"{stem}_{scale}" for item in ITEMS.values() for stem in item.records for scale in SCALES
    }
    known |= {f"differences_{scale}" for scale in SCALES}  # of the appendix
    known |= {f"shipped_{scale}" for scale in SCALES}  # of the model card
    known |= {"bench_paper", "plan_paper"}  # of chapter 13
    known |= {"faults"}  # of the appendix
    known |= {"shipped_sounds"}  # of chapter 10 and the model cards
    known |= {
        "sounds_workshop",
        "sounds_3000_workshop",
        "attempts_workshop",
        "speedrun_cpu",
        "speedrun_gpu",
    }  # of chapter 14
    known |= {"collapse_long", "queue_sizes", "poolings_workshop"}  # of chapters 04, 07 and 11
    known |= {f"gpu_{stage.name}" for stage in STAGES}
    assert files
    index = (ROOT / "book" / "results" / "README.md").read_text()
    missing = [
        f.stem for f in files if f"`{f.stem}`" not in index and not f.stem.startswith("gpu_")
    ]
    assert missing == []
    for path in files:
        entry = load(path)
        assert path.stem in known and entry["experiment"] == path.stem
        if path.stem.startswith("gpu_") and "learnt" not in path.stem:
            assert stage_rows(gpu_entries()) and entry["commit"]
            continue
        assert recorded_rows(entry) and entry["seeds"] and entry["commit"]


def test_the_start_and_a_baseline_stand_beside_a_number(tmp_path):
    rows = [
        ROW | {"name": name, "columns": COLUMNS} for name in ("No Mixing", "T-CutMix, rule paper")
    ]
    write(tmp_path, "sounds_workshop", rows)
    item = ITEMS["uaMix-MAE", "Table 3"]
    item = dataclasses.replace(item, ours=("T-CutMix, rule paper", "events, heard"))
    assert beside(item, "workshop", tmp_path) == "No Mixing 42.0 ± 5.0"
    assert beside(item, "paper", tmp_path) == "–"
    write(tmp_path, "atst_table1_lite", [ROW | {"name": "two, 3 s", "untrained": 44.9}])
    item = Item("05_atst", ("atst_table1",), ours=("two", ""), beside=("untrained",))
    assert beside(item, "lite", tmp_path) == "untrained 44.9"


def test_a_number_of_a_card_has_its_name_its_start_and_its_baselines_beside_it(tmp_path):
    def row(name, mean, **more):
        cell = {"by_seed": [mean], "mean": mean, "ci95": 1.0}
        return ROW | more | {"name": name, "columns": {"events, never heard": cell}}

    values = [
        row("log-mel statistics", 44.0), row("untrained encoder", 42.0), row("AudioMAE, as pretrained", 45.0),
        row("uaMix-MAE: No Mixing", 47.0, curve=[{"seconds": 1.0}]), row("a student", 46.0),
    ]  # fmt: skip
    write(tmp_path, "gpu_learnt_uamix", values, symmetric=True)
    assert {paper for (paper, _), i in ITEMS.items() if i.gpu} == {"ATST", "uaMix-MAE"}
    for name in "Table 2", "Table 3":
        item = ITEMS["uaMix-MAE", name]
        assert headline(item, "gpu", tmp_path) == "uaMix-MAE: No Mixing, both directions 47.0 ± 1.0"
        start, baseline = "AudioMAE, as pretrained 45.0 ± 1.0", "log-mel statistics 44.0 ± 1.0"
        assert beside(item, "gpu", tmp_path) == f"{start}; {baseline}"
    rows = status_rows(folder=tmp_path)
    assert all(r["beside it, at gpu"] == "–" for r in rows if r["gpu"] in (NOT_RUN, "–"))


def test_each_number_of_a_card_in_this_checkout_has_a_start_beside_it():
    for r in status_rows():
        assert r["gpu"] in (NOT_RUN, "–") or "; " in r["beside it, at gpu"], r["item"]
