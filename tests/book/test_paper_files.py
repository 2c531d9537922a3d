"""Pin: the two files of the papers' numbers have a form: known keys, a cell for each column, decimals as printed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from audiossl_lite.book.paper_tables import NOT_PRINTED, PAPER_FILES, PAPERS, paper_table
from audiossl_lite.experiments.records import ROOT

UAMIX = "uaMix-MAE"


def objects(required: dict, optional: dict | None = None, **more) -> dict:
    """A JSON object with these keys and no other."""
    return {
        "type": "object", "properties": required | (optional or {}), "required": list(required),
        "additionalProperties": False, **more,
    }  # fmt: skip


TEXT, WORDS = {"type": "string"}, {"type": "string", "minLength": 1}
NUMBER = objects(
    {"mean": {"type": "number", "exclusiveMaximum": 1e12}},
    {"ci95": {"type": "number", "exclusiveMinimum": 0}},
)
CELL = {"anyOf": [{"type": "null"}, objects({"text": TEXT}), NUMBER]}
COLUMN = objects(
    {"key": WORDS, "name": WORDS},
    {"metric": TEXT, "unit": TEXT, "suffix": TEXT, "kind": {"enum": ["number", "text"]}}
    | {"decimals": {"type": "integer", "minimum": 0, "maximum": 4}},
)
ROW = {"name": WORDS, "values": {"type": "object", "additionalProperties": CELL}}
ROW_TOO = {"note": TEXT, "cited_from": TEXT, "bold": {"type": "array", "items": WORDS}}
READ = {"read": {"enum": ["printed", "text", NOT_PRINTED]}}
ENTRY = dict.fromkeys(("id", "section", "title", "metric", "unit", "note"), TEXT) | {
    "columns": {"type": "array", "items": COLUMN},
    "conditions": {"type": "object"},
}
TABLE = objects(ENTRY | {"rows": {"type": "array", "items": objects(ROW, ROW_TOO)}})
FIGURE = objects(
    ENTRY
    | {"rows": {"type": "array", "items": objects(ROW | READ, ROW_TOO)}}
    | {"kind": {"enum": ["plot", "diagram", "embedding"]}},
    {"x": TEXT, "y": TEXT},
)
FILE = objects(
    {"paper": WORDS, "citation": WORDS}
    | {name: {"type": "array", "items": kind} for name, kind in (("tables", TABLE), ("figures", FIGURE))},
    {"note": TEXT},
)  # fmt: skip


def twice(names: list[str]) -> list[str]:
    return sorted({f"{name} stands twice" for name in names if names.count(name) > 1})


def faults(content: dict, paper: str) -> list[str]:
    """Everything that is wrong in a file of a paper: its form first, then what belongs together."""
    checker = jsonschema.Draft202012Validator(FILE)
    wrong = [f"{error.json_path}: {error.message}" for error in checker.iter_errors(content)]
    if wrong:
        return wrong
    wrong += [] if content["paper"] == paper else [f"of {content['paper']}"]
    entries = content["tables"] + content["figures"]
    wrong += twice([entry["id"] for entry in entries])
    for entry in entries:
        columns = {column["key"]: column for column in entry["columns"]}
        wrong += twice([column["key"] for column in entry["columns"]])
        wrong += twice([row["name"] for row in entry["rows"]])
        for row in entry["rows"]:
            place = f"{entry['id']}, {row['name']}"
            if columns.keys() != row["values"].keys() or not columns.keys() >= set(
                row.get("bold", ())
            ):
                wrong.append(f"{place}: other columns")
                continue
            for key, cell in row["values"].items():
                numbers = (
                    [] if cell is None or "text" in cell else [cell["mean"], cell.get("ci95", 0)]
                )
                if cell is not None and ("text" in cell) != (columns[key].get("kind") == "text"):
                    wrong.append(f"{place}, {key}: words for a number or a number for words")
                if any(round(x, columns[key].get("decimals", 1)) != x for x in numbers):
                    wrong.append(f"{place}, {key}: more decimals than printed")
                if cell is not None and row.get("read") == NOT_PRINTED:
                    wrong.append(f"{place}, {key}: a value, and none is printed")
    return wrong


def content_of(paper: str) -> dict:
    return json.loads((ROOT / "book" / "papers" / PAPER_FILES[paper]).read_text())


def test_the_files_have_their_form():
    assert {paper: faults(content_of(paper), paper) for paper in PAPERS} == {
        paper: [] for paper in PAPERS
    }


GONE, AGAIN = object(), object()
AT_ROW = ("tables", 1, "rows", 0)
AT_CELL = (*AT_ROW, "values", "esc50")
# Where in uaMix-MAE's file, what stands there instead (or GONE, or the last of a list AGAIN), what is said.
WRONG = [
    (AT_CELL, {"ci95": 1}, "esc50"),
    (AT_CELL, {"mean": 1.0, "ci95": 0}, "esc50"),
    (AT_CELL, {"mean": 1.0, "std": 1}, "esc50"),
    (AT_CELL, {"mean": 66.35}, "more decimals"),
    (AT_CELL, {"text": "66"}, "words for a number"),
    (AT_CELL, GONE, "other columns"),
    ((*AT_ROW, "values", "dcase"), None, "other columns"),
    ((*AT_ROW, "bold"), ["acc"], "other columns"),
    ((*AT_ROW, "rank"), 1, "'rank'"),
    (("tables", 1, "rows"), AGAIN, "uaMix-MAE stands twice"),
    (("tables", 1, "columns"), AGAIN, "kaggle18 stands twice"),
    (("figures", 2, "rows", 0, "values", "grid"), {"mean": 1.0}, "none is printed"),
    (("figures", 2, "rows", 0, "read"), GONE, "'read'"),
    (("figures",), AGAIN, "Figure 6 stands twice"),
    (("paper",), "ATST", "of ATST"),
]


def changed(place: tuple, new: object) -> dict:
    """uaMix-MAE's file with one place changed."""
    content = content_of(UAMIX)
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    if new is GONE:
        del inner[place[-1]]
    elif new is AGAIN:
        inner[place[-1]].append(inner[place[-1]][-1])
    else:
        inner[place[-1]] = new
    return content


def test_each_planted_fault_is_named():
    said = {(place, str(new)): faults(changed(place, new), UAMIX) for place, new, _ in WRONG}
    missed = [
        (place, said[place, str(new)])
        for place, new, words in WRONG
        if not any(words in fault for fault in said[place, str(new)])
    ]
    assert missed == []


def test_a_figure_may_hold_what_the_text_states(tmp_path: Path):
    stated = {"name": "ours", "values": {"grid": {"mean": 30.3, "ci95": 0.5}}, "read": "text"}
    content = changed(("figures", 2, "rows", 1), stated)
    assert faults(content, UAMIX) == []
    (tmp_path / PAPER_FILES[UAMIX]).write_text(json.dumps(content))
    figure = paper_table(UAMIX, "Figure 3", tmp_path)
    assert figure.has_numbers and figure.text("ours", "grid") == "30.3 ± 0.5"
