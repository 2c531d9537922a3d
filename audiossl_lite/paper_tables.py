"""The numbers that the two papers print, as data: every table and figure, from JSON files under book/papers/."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from audiossl_lite.results import ROOT

PAPER_FILES = {"ATST": "atst.json", "uaMix-MAE": "uamix_mae.json"}
PAPERS = tuple(PAPER_FILES)
KINDS = ("table", "plot", "diagram", "embedding")
READS = ("printed", "text", "not printed")
DASH = "–"
NOT_PRINTED = "not printed"

Number = tuple[float, float | None]
Cell = Number | str | None

# The keys of each JSON object: those that must be there, and those that may be.
FILE_KEYS = (("paper", "citation", "tables", "figures"), ("note",))
_ENTRY = ("id", "section", "title", "metric", "unit", "columns", "rows", "conditions", "note")
TABLE_KEYS = (_ENTRY, ())
FIGURE_KEYS = ((*_ENTRY, "kind"), ("x", "y"))
COLUMN_KEYS = (("key", "name"), ("metric", "unit", "decimals", "suffix", "kind"))
ROW_KEYS = (("name", "values"), ("note", "cited_from", "bold"))
FIGURE_ROW_KEYS = ((*ROW_KEYS[0], "read"), ROW_KEYS[1])
NUMBER_KEYS = (("mean",), ("ci95",))


@dataclass(frozen=True)
class PaperColumn:
    """One column: the key for programs, the name that is printed, and how its numbers are written."""

    key: str
    name: str
    metric: str
    unit: str
    decimals: int = 1
    suffix: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class PaperRow:
    """One row: a name and, for each column, (mean, ci95 or None), a text, or None for a dash.

    `read` tells a dash from a curve whose values no text prints; `bold` are the columns that stand in
    bold, as far as the text at hand shows it; `cited_from` is the work that the paper took the row from.
    """

    name: str
    values: Mapping[str, Cell]
    note: str = ""
    cited_from: str = ""
    read: str = "printed"
    bold: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """One table or figure of a paper, with the conditions that its numbers were measured under.

    `kind` is "table", or for a figure "plot", "diagram" or "embedding"; `x` and `y` are a figure's axes.
    """

    paper: str
    id: str
    title: str
    section: str
    metric: str
    unit: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]
    conditions: Mapping[str, str | int | float]
    note: str
    kind: str = "table"
    x: str = ""
    y: str = ""

    @property
    def has_numbers(self) -> bool:
        """Whether the paper prints at least one number in it."""
        return any(isinstance(cell, tuple) for row in self.rows for cell in row.values.values())

    def column(self, key: str) -> PaperColumn:
        """The column with this key; ValueError names those that exist."""
        return _named(self.columns, key, lambda c: c.key, f"column in {self.paper} {self.id}")

    def row(self, name: str) -> PaperRow:
        """The row with this name; ValueError names those that exist."""
        return _named(self.rows, name, lambda r: r.name, f"row in {self.paper} {self.id}")

    def value(self, row: str, column: str) -> Number | None:
        """Mean and half-width of its 95% interval (None where none is printed), or None for no number.

        In the unit of the column, as printed: ATST's mAP is a fraction, uaMix-MAE's a percentage.
        Raises ValueError for an unknown row or column and for a column of words (see `text`).

        Where: uaMix-MAE Table 2; chapter 10
        """
        if self.column(column).is_text:
            raise ValueError(f"{column!r} in {self.paper} {self.id} holds words; use .text()")
        return self.row(row).values[column]  # type: ignore[return-value]

    def text(self, row: str, column: str) -> str:
        """One cell as it is printed: "66.3 ± 0.9", "23M", "–" for a dash, "not printed" in a figure.

        Where: uaMix-MAE Table 2; chapter 10
        """
        shape, line = self.column(column), self.row(row)
        cell = line.values[column]
        if cell is None:
            return NOT_PRINTED if line.read == NOT_PRINTED else DASH
        if isinstance(cell, str):
            return cell
        mean, ci95 = (None if part is None else f"{part:,.{shape.decimals}f}" for part in cell)
        return f"{mean}{shape.suffix}" + (f" ± {ci95}" if ci95 else "")

    def rows_for_display(self) -> list[dict[str, str]]:
        """The rows as a page shows them: the name under "row", then each column under its printed name.

        A drawing has no rows; the maps of an embedding have names alone.
        """
        return [
            {"row": row.name} | {c.name: self.text(row.name, c.key) for c in self.columns}
            for row in self.rows
        ]


def paper_table(paper: str, id: str, folder: str | Path | None = None) -> PaperTable:
    """One table or figure, `paper_table("uaMix-MAE", "Table 2")`; "Fig. 3" and "Figure 3" are the same.

    Raises ValueError for an unknown paper or id, naming those that exist.
    """
    known = paper_tables(paper, folder)
    return _named(known, id.replace("Fig. ", "Figure "), lambda t: t.id, f"table of {paper}")


def paper_tables(
    paper: str | None = None, folder: str | Path | None = None
) -> tuple[PaperTable, ...]:
    """Every table and figure of one paper, or of both: tables first, in the order of the paper.

    Reads `folder`, by default book/papers of this checkout. Raises ValueError for an unknown paper, a
    missing file, and for whatever is wrong in a file, naming the file and the place.
    """
    chosen = PAPERS if paper is None else (paper,)
    return tuple(found for name in chosen for found in _entries(_path(name, folder), name))


def about_paper(paper: str, folder: str | Path | None = None) -> dict[str, str]:
    """The paper's citation and our note on it as a whole: where the numbers were read, what contradicts what.

    Raises ValueError as `paper_tables` does.
    """
    content = _content(_path(paper, folder), paper)
    return {"citation": content["citation"], "note": content.get("note", "")}


def _path(paper: str, folder: str | Path | None) -> Path:
    if paper not in PAPER_FILES:
        raise ValueError(f"unknown paper {paper!r}; known: {', '.join(PAPERS)}")
    return Path(folder or ROOT / "book" / "papers") / PAPER_FILES[paper]


def _named(items: tuple, name: str, name_of: Callable[[Any], str], what: str) -> Any:
    """The item with that name, or a ValueError that lists the names."""
    for item in items:
        if name_of(item) == name:
            return item
    known = ", ".join(repr(name_of(item)) for item in items) or "none"
    raise ValueError(f"no {what} is called {name!r}; known: {known}")


def _content(path: Path, paper: str) -> dict[str, Any]:
    """One file as it stands there, its outermost keys checked."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: the tables of {paper} are read from it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    _check_keys(content, FILE_KEYS, str(path))
    if content["paper"] != paper:
        raise ValueError(f"{path}: holds {content['paper']!r}, expected {paper!r}")
    return content


def _entries(path: Path, paper: str) -> list[PaperTable]:
    """All tables and figures of one file, checked."""
    content = _content(path, paper)
    entries = [_entry(paper, item, TABLE_KEYS, path) for item in content["tables"]]
    entries += [_entry(paper, item, FIGURE_KEYS, path) for item in content["figures"]]
    _check_unique([entry.id for entry in entries], str(path), "id")
    return entries


def _entry(paper: str, item: dict[str, Any], keys: tuple, path: Path) -> PaperTable:
    place = f"{path}: {item.get('id', 'an entry without id') if isinstance(item, dict) else item}"
    _check_keys(item, keys, place)
    if not isinstance(item["conditions"], dict):
        raise ValueError(f"{place}: conditions are an object, not {item['conditions']!r}")
    kind = item.get("kind", "table")
    if kind not in KINDS:
        raise ValueError(f"{place}: kind {kind!r} is none of {', '.join(KINDS)}")
    columns = tuple(
        _column(c, item, f"{place}, column {i + 1}") for i, c in enumerate(item["columns"])
    )
    _check_unique([column.key for column in columns], place, "column")
    row_keys = ROW_KEYS if kind == "table" else FIGURE_ROW_KEYS
    rows = tuple(
        _row(row, columns, row_keys, f"{place}, row {i + 1}") for i, row in enumerate(item["rows"])
    )
    _check_unique([row.name for row in rows], place, "row")
    fields = {name: item[name] for name in ("id", "title", "section", "metric", "unit", "note")}
    axes = {name: item.get(name, "") for name in ("x", "y")}
    conditions = MappingProxyType(dict(item["conditions"]))
    return PaperTable(
        paper, columns=columns, rows=rows, conditions=conditions, kind=kind, **fields, **axes
    )


def _column(item: dict[str, Any], entry: dict[str, Any], place: str) -> PaperColumn:
    _check_keys(item, COLUMN_KEYS, place)
    kind, decimals = item.get("kind", "number"), item.get("decimals", 1)
    if kind not in ("number", "text"):
        raise ValueError(f"{place}: kind {kind!r} is neither 'number' nor 'text'")
    if type(decimals) is not int or not 0 <= decimals <= 4:
        raise ValueError(f"{place}: decimals {decimals!r} is not a whole number from 0 to 4")
    is_text = kind == "text"
    metric, unit = ("", "") if is_text else (entry["metric"], entry["unit"])
    return PaperColumn(
        key=item["key"],
        name=item["name"],
        metric=item.get("metric", metric),
        unit=item.get("unit", unit),
        decimals=decimals,
        suffix=item.get("suffix", ""),
        is_text=is_text,
    )


def _row(item: dict[str, Any], columns: tuple, keys: tuple, place: str) -> PaperRow:
    _check_keys(item, keys, place)
    place = f"{place} ({item['name']})"
    names = tuple(column.key for column in columns)
    _check_keys(item["values"], (names, ()), place, what="column")
    read, bold = item.get("read", "printed"), tuple(item.get("bold", ()))
    if read not in READS:
        raise ValueError(f"{place}: read {read!r} is none of {', '.join(READS)}")
    if strange := sorted(set(bold) - set(names)):
        raise ValueError(f"{place}: bold names no column: {', '.join(strange)}")
    values = {
        column.key: _cell(item["values"][column.key], column, f"{place}, {column.key}")
        for column in columns
    }
    if read == NOT_PRINTED and any(cell is not None for cell in values.values()):
        raise ValueError(f"{place}: holds a value, and says that none is printed")
    return PaperRow(
        item["name"],
        MappingProxyType(values),
        note=item.get("note", ""),
        cited_from=item.get("cited_from", ""),
        read=read,
        bold=bold,
    )


def _cell(item: Any, column: PaperColumn, place: str) -> Cell:
    """A dash, the words of a text column, or a number with its interval."""
    if item is None:
        return None
    if column.is_text:
        _check_keys(item, (("text",), ()), place)
        return str(item["text"])
    if isinstance(item, dict) and "ci95" in item and item.get("mean") is None:
        raise ValueError(f"{place}: an interval (ci95) without a mean")
    _check_keys(item, NUMBER_KEYS, place)
    mean, ci95 = item["mean"], item.get("ci95")
    if not _is_number(mean):
        raise ValueError(f"{place}: the mean {mean!r} is not a number")
    if ci95 is not None and not (_is_number(ci95) and ci95 > 0):
        raise ValueError(f"{place}: the interval {ci95!r} is not a positive number")
    if any(round(part, column.decimals) != part for part in (mean, ci95 or 0)):
        raise ValueError(f"{place}: more than the column's {column.decimals} decimals")
    return float(mean), None if ci95 is None else float(ci95)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def _check_keys(item: Any, keys: tuple, place: str, what: str = "key") -> None:
    """Raise ValueError when `item` is no object, lacks a required key or has one that is not known."""
    if not isinstance(item, dict):
        raise ValueError(f"{place}: expected an object, found {item!r}")
    required, optional = keys
    if missing := [name for name in required if name not in item]:
        raise ValueError(f"{place}: lacks the {what} {', '.join(map(repr, missing))}")
    if unknown := [name for name in item if name not in (*required, *optional)]:
        known = ", ".join((*required, *optional))
        raise ValueError(f"{place}: unknown {what} {', '.join(map(repr, unknown))}; known: {known}")


def _check_unique(names: list[str], place: str, what: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{place}: {what} {', '.join(map(repr, twice))} stands there twice")
