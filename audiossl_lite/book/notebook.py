"""Everything a chapter shows with: one import for parameters, progress, sounds, figures, code."""

from __future__ import annotations

import html
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audiossl_lite.book.figures import (
    figure_style,
    frames_slider,
    interval_bars,
    show_figure,
    show_spectrogram,
)
from audiossl_lite.book.players import levelled, play, play_grid
from audiossl_lite.book.report import circumstances
from audiossl_lite.experiments.records import (
    current_commit,
    device_name,
    recorded,
    recorded_scores,
    table_rows,
)
from audiossl_lite.parameters import (
    DEFAULTS,
    ParameterError,
    Parameters,
    make_parameters,
    unknown_parameter,
)
from audiossl_lite.progress import progress, progress_bar

__all__ = [
    "ParameterError",
    "Parameters",
    "check_parameters",
    "figure_style",
    "frames_slider",
    "interval_bars",
    "levelled",
    "open_chapter",
    "play",
    "play_grid",
    "progress",
    "progress_bar",
    "provenance",
    "show_changes",
    "show_figure",
    "show_record",
    "show_source",
    "show_spectrogram",
    "show_table",
]

LIBRARY_FOLDER = Path(__file__).resolve().parents[1]
IPYTHON_NAMES = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})
PLAIN_TYPES = (str, int, float, bool, list, dict, tuple, type(None))


def check_parameters(namespace: Mapping[str, Any]) -> Parameters:
    """Check the parameters of a running notebook; call it in the cell after the parameters.

    namespace: `globals()` of the notebook. Papermill accepts a misspelt `-p` name and assigns it: at this point of a
    notebook it is the only unexpected plain value. When the cell is run again (`parameters` exists), the chapter's own
    variables do too, and names are not looked at. Errors: ParameterError for an unknown name (naming the nearest), a
    missing one or a bad value.
    """
    is_first_run = not isinstance(namespace.get("parameters"), Parameters)
    for name in sorted(namespace) if is_first_run else ():
        is_ours = name in DEFAULTS or name in IPYTHON_NAMES or name.startswith("_")
        if isinstance(namespace[name], PLAIN_TYPES) and not is_ours:
            raise unknown_parameter(name)
    for name in DEFAULTS:
        if name not in namespace:
            raise ParameterError(
                f"parameter {name!r} is not set; run the cell tagged `parameters` first."
            )
    return make_parameters({name: namespace[name] for name in DEFAULTS})


def open_chapter(namespace: Mapping[str, Any]) -> Parameters:
    """Check a chapter's parameters and set the look of its figures: the first line of every chapter.

    namespace: `globals()` of the notebook. Errors: ParameterError, as `check_parameters`.
    """
    parameters = check_parameters(namespace)
    figure_style()
    return parameters


def _display_html(page: str, plain: str) -> None:
    from IPython.display import display

    display({"text/html": page, "text/plain": plain}, raw=True)


def source_location(obj: Any) -> str:
    """Say where an object is defined, as `audiossl_lite/losses.py, line 12`."""
    file = Path(inspect.getsourcefile(inspect.unwrap(obj)) or "")
    _, line = inspect.getsourcelines(inspect.unwrap(obj))
    if file.is_relative_to(LIBRARY_FOLDER.parent):
        return f"{file.relative_to(LIBRARY_FOLDER.parent).as_posix()}, line {line}"
    return f"line {line}"


def show_source(obj: Any) -> None:
    """Show the source of a function, class or module with colours, and where it stands."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    source = inspect.getsource(inspect.unwrap(obj))
    formatter = HtmlFormatter(
        noclasses=True,
        style="default",
        cssstyles="background:#f8f8f8;color:#1a1a1a;padding:0.6em;overflow-x:auto;font-size:0.85em",
        prestyles="background:transparent;color:inherit;border:none;margin:0",
    )
    location = source_location(obj)
    caption = f'<div style="font-family:monospace;font-size:0.85em">{html.escape(location)}</div>'
    _display_html(caption + highlight(source, PythonLexer(), formatter), source)


def provenance_html(
    parameters: Parameters,
    *,
    seconds: float | None = None,
    data: str = "",
    seeds: Sequence[int] | None = None,
    note: str = "",
) -> str:
    """Return the strip under a number: scale | device | seconds | seed | data | commit."""
    seeds = list(seeds) if seeds is not None else [parameters.seed]
    parts = [parameters.preset, device_name(parameters.torch_device)]
    if seconds is not None:
        parts.append(f"{seconds:.0f} s" if seconds >= 1 else "under 1 s")
    parts.append(("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds)))
    parts.append(data or parameters.data_name)
    parts.append(current_commit())
    if parameters.overrides:
        parts.append(" ".join(f"{key}={value}" for key, value in parameters.overrides.items()))
    if note:
        parts.append(note)
    line = " | ".join(html.escape(part) for part in parts)
    return f'<div class="provenance" style="font-size:0.8em;opacity:0.85">{line}</div>'


def provenance(
    parameters: Parameters,
    *,
    seconds: float | None = None,
    data: str = "",
    seeds: Sequence[int] | None = None,
    note: str = "",
) -> None:
    """Show under a result where it comes from, so that a lite number is never read as a paper's.

    seconds: how long it took. data: usually `clips.source`. seeds: when there are several.
    """
    page = provenance_html(parameters, seconds=seconds, data=data, seeds=seeds, note=note)
    plain = page[page.index(">") + 1 : page.rindex("<")]
    _display_html(page, html.unescape(plain))


def _cell_text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return str(value)


def table_html(rows: Any, caption: str = "", *, digits: int = 1) -> str:
    """Return a table as HTML; numbers are right-aligned, missing values become a dash.

    rows: a list of dicts with the same keys, or a pandas DataFrame (whose index is not shown).
    Errors: ValueError for no rows or rows with other keys.
    """
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict(orient="records")
    rows = [dict(row) for row in rows]
    if not rows:
        raise ValueError("show_table got no rows.")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"rows differ in their columns: {columns} and {list(row)}.")
    numeric = {
        name: all(row[name] is None or isinstance(row[name], (int, float)) for row in rows)
        for name in columns
    }

    def cell(tag: str, name: str, text: str) -> str:
        side = "right" if numeric[name] else "left"
        scope = ' scope="col"' if tag == "th" else ""
        style = f"text-align:{side};padding:0.2em 0.8em"
        return f'<{tag}{scope} style="{style}">{html.escape(text)}</{tag}>'

    head = "".join(cell("th", name, str(name)) for name in columns)
    body = "".join(
        "<tr>"
        + "".join(cell("td", name, _cell_text(row[name], digits)) for name in columns)
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return (
        f'<table class="dataframe table">{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def show_table(
    rows: Sequence[Mapping[str, Any]] | Any, caption: str = "", *, digits: int = 1
) -> None:
    """Show rows (a list of dicts, or a DataFrame) as a table with a caption.

    digits: how many follow the point in floating numbers.
    """
    page = table_html(rows, caption, digits=digits)
    records = rows.to_dict(orient="records") if hasattr(rows, "to_dict") else rows
    lines = [" | ".join(_cell_text(value, digits) for value in row.values()) for row in records]
    header = " | ".join(str(name) for name in records[0])
    _display_html(page, "\n".join([caption, header, *lines]).strip())


def show_changes(
    config: Any, paper: Any, caption: str = "Settings of this run that differ from the paper's"
) -> None:
    """Show which settings of a run have another value in the paper's; both are the same dataclass."""
    rows = [
        {"setting": name, "paper": str(getattr(paper, name)), "this run": str(value)}
        for name, value in vars(config).items()
        if getattr(paper, name) != value
    ]
    show_table(rows or [{"setting": "none", "paper": None, "this run": None}], caption)


def show_record(
    name: str,
    caption: str = "Recorded: accuracy (%), ±: 95 % over seeds",
    rows: Callable[[dict[str, Any]], Sequence[Mapping[str, Any]]] = table_rows,
) -> dict[str, Any] | None:
    """Show the scores of a record with its circumstances, or that it was not run; return the record or None.

    name: stem of the record's file. rows: from `recorded_scores` to the rows of the table.
    """
    entry = recorded(name)
    if entry is None:
        text = f"Record {name}: not run in this checkout."
        _display_html(
            f"<p>Record <code>{name}</code>: <strong>not run</strong> in this checkout.</p>", text
        )
    else:
        show_table(rows(recorded_scores(entry)), f"{caption}; {circumstances(entry)}")
    return entry
