"""The numbers that the two papers print, as data: every table and figure, from JSON files under book/papers/."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from audiossl_lite.experiments.records import ROOT

PAPER_FILES = {"ATST": "atst.json", "uaMix-MAE": "uamix_mae.json"}
PAPERS = tuple(PAPER_FILES)
DASH = "–"
NOT_PRINTED = "not printed"

Number = tuple[float, float | None]
Cell = Number | str | None


@dataclass(frozen=True)
class PaperColumn:
    """One column: the key for programs, the name that is printed, and how its numbers are written."""

    key: str
    name: str
    metric: str = ""
    unit: str = ""
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
        """
        if self.column(column).is_text:
            raise ValueError(f"{column!r} in {self.paper} {self.id} holds words; use .text()")
        return self.row(row).values[column]  # type: ignore[return-value]

    def text(self, row: str, column: str) -> str:
        """One cell as it is printed: "66.3 ± 0.9", "23M", "–" for a dash, "not printed" in a figure."""
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

    Reads `folder`, by default book/papers of this checkout. Raises ValueError for an unknown paper.
    """
    return tuple(
        _table(name, item)
        for name in (PAPERS if paper is None else (paper,))
        for content in [_content(name, folder)]
        for item in content["tables"] + content["figures"]
    )


def _content(paper: str, folder: str | Path | None) -> dict[str, Any]:
    if paper not in PAPER_FILES:
        raise ValueError(f"unknown paper {paper!r}; known: {', '.join(PAPERS)}")
    path = Path(folder or ROOT / "book" / "papers") / PAPER_FILES[paper]
    return json.loads(path.read_text(encoding="utf-8"))


def _named(items: tuple, name: str, name_of: Callable[[Any], str], what: str) -> Any:
    """The item with that name, or a ValueError that lists the names."""
    for item in items:
        if name_of(item) == name:
            return item
    known = ", ".join(repr(name_of(item)) for item in items) or "none"
    raise ValueError(f"no {what} is called {name!r}; known: {known}")


def _table(paper: str, item: dict[str, Any]) -> PaperTable:
    columns = tuple(_column(column, item) for column in item["columns"])
    rows = tuple(_row(row) for row in item["rows"])
    conditions = MappingProxyType(item["conditions"])
    return PaperTable(paper, **item | {"columns": columns, "rows": rows, "conditions": conditions})


def _column(column: dict[str, Any], item: dict[str, Any]) -> PaperColumn:
    """A column of numbers has the metric and unit of its table unless it says otherwise."""
    settings = dict(column)
    is_text = settings.pop("kind", "number") == "text"
    common = {} if is_text else {"metric": item["metric"], "unit": item["unit"]}
    return PaperColumn(**common | settings, is_text=is_text)


def _row(row: dict[str, Any]) -> PaperRow:
    values = MappingProxyType({key: _cell(cell) for key, cell in row["values"].items()})
    return PaperRow(**row | {"values": values, "bold": tuple(row.get("bold", ()))})


def _cell(cell: dict[str, Any] | None) -> Cell:
    """A dash, the words of a text column, or a number with its interval."""
    if cell is None or "text" in cell:
        return cell and cell["text"]
    return float(cell["mean"]), None if cell.get("ci95") is None else float(cell["ci95"])
