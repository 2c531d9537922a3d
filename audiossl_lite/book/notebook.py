"""Everything a chapter shows with: one import for parameters, progress, sounds, figures, code."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audiossl_lite.book.exercises import attempt
from audiossl_lite.book.figures import (
    curve_bands,
    figure_style,
    frames_slider,
    interval_bars,
    method_colour,
    show_figure,
    show_spectrogram,
)
from audiossl_lite.book.players import levelled, play_grid
from audiossl_lite.book.report import circumstances
from audiossl_lite.book.words import (
    counted,
    differences,
    escaped,
    judged,
    legend_name,
    means_moved,
    ordered,
    paired,
    plain,
    printable,
    reveal,
    say,
    show_html,
    side_by_side,
    verdict,
)
from audiossl_lite.common.parameters import (
    DEFAULTS,
    ParameterError,
    Parameters,
    make_parameters,
    unknown_parameter,
)
from audiossl_lite.common.progress import progress, progress_bar
from audiossl_lite.data.enough import MIN_CLASSES, MIN_CLIPS, check_enough
from audiossl_lite.experiments.records import (
    current_commit,
    device_name,
    recorded,
    recorded_scores,
    table_rows,
)

__all__ = [
    "ParameterError", "Parameters", "attempt", "check_parameters", "compare", "counted", "curve_bands",
    "differences", "figure_style", "frames_slider", "interval_bars", "judged", "legend_name",
    "levelled", "means_moved", "method_colour", "open_chapter", "ordered", "paired", "plain", "play_grid", "progress",
    "progress_bar", "provenance", "reveal", "say", "show_entry", "show_figure", "show_record", "show_source",
    "show_spectrogram", "show_table", "verdict",
]  # fmt: skip

LIBRARY_FOLDER = Path(__file__).resolve().parents[1]
SOURCE_STYLE = Path(__file__).with_name("lab_source.css")
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


def open_chapter(
    namespace: Mapping[str, Any], *, classes: int = MIN_CLASSES, clips: int = MIN_CLIPS
) -> Parameters:
    """Check a chapter's parameters and data, and set the look of its figures: the first line of every chapter.

    namespace: `globals()` of the notebook. Of data of one's own the chapter needs so many `classes`, and `clips` in
    all. Errors: ParameterError, as `check_parameters`; TooFewClips.
    """
    parameters = check_parameters(namespace)
    check_enough(parameters.data_root, classes, clips)
    figure_style()
    return parameters


def source_location(obj: Any) -> str:
    """Say where an object is defined, as `audiossl_lite/losses.py, line 12`."""
    file = Path(inspect.getsourcefile(inspect.unwrap(obj)) or "")
    _, line = inspect.getsourcelines(inspect.unwrap(obj))
    if file.is_relative_to(LIBRARY_FOLDER.parent):
        return f"{file.relative_to(LIBRARY_FOLDER.parent).as_posix()}, line {line}"
    return f"line {line}"


def show_source(obj: Any) -> None:
    """Show the source of a function, class or module with colours, and where it stands.

    A page of the book has the colours in its own style, light and dark; JupyterLab's are handed in.
    """
    source = inspect.getsource(inspect.unwrap(obj))
    style = SOURCE_STYLE.read_text(encoding="utf-8")
    place = f'<div class="source-place">{escaped(source_location(obj))}</div>'
    show_html(f"<style>{style}</style>{place}{source_html(source)}", source)


def source_html(source: str) -> str:
    """Python code as HTML whose long lines go on below, indented; what is copied has the lines of the source."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    lines = source.rstrip().split("\n")
    coloured = highlight("\n".join(lines), PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))
    code = "".join(
        f'<span class="line" style="--indent:{len(line) - len(line.lstrip())}">{shown}\n</span>'
        for line, shown in zip(lines, coloured.rstrip("\n").split("\n"), strict=True)
    )
    return f'<div class="highlight"><pre class="wrapped">{code}</pre></div>'


def provenance(
    parameters: Parameters,
    *,
    seconds: float | None = None,
    data: str = "",
    seeds: Sequence[int] | None = None,
    note: str = "",
) -> None:
    """Show under a result a fold with the strip scale | device | seconds | seed | data | commit.

    Its title says scale and seed, so that no lite number is taken for a paper's. seconds: how long it took. data:
    usually `clips.source`. seeds: when there are several.
    """
    seeds = [parameters.seed] if seeds is None else list(seeds)
    which = ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))
    parts = [
        parameters.preset,
        device_name(parameters.torch_device),
        "" if seconds is None else f"{seconds:.0f} s" if seconds >= 1 else "under 1 s",
        which,
        data or parameters.data_name,
        current_commit(),
        " ".join(f"{key}={value}" for key, value in parameters.overrides.items()),
        note,
    ]
    line = printable(" | ".join(filter(None, parts)))
    show_html(_provenance_html(f"{parameters.preset}, {which}: how this was made", line), line)


def _provenance_html(title: str, line: str) -> str:
    return (
        '<details class="provenance" style="font-size:0.8em">'
        f"<summary>{escaped(title)}</summary>{escaped(line)}</details>"
    )


def _caption_html(caption: str) -> str:
    """A caption that begins with a capital, a name like uaMix-MAE apart."""
    lower = caption.split(" ")[0].islower()
    return escaped(caption[:1].upper() + caption[1:] if lower else caption)


def _cell_text(value: Any, digits: int | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and digits is not None:
        text = f"{value:.{digits}f}"
        # A small setting is not nothing (1e-8); a score that is printed as 0.0 stays so.
        is_lost = digits > 2 and value != 0 and float(text) == 0
        return f"{value:.1g}".replace("e-0", "e-") if is_lost else text
    return printable(value)


def show_table(rows: Any, caption: str = "", *, digits: int | None = 1) -> None:
    """Show rows as a table with a caption: numbers to the right, a dash for what is missing.

    rows: dicts with the same keys, or a pandas DataFrame (whose index is not shown). digits: how many follow the point;
    with three or more, what would be printed as zero keeps one digit; None: numbers as Python writes them (settings).
    Errors: ValueError for no rows or rows with other keys.
    """
    rows = rows.to_dict(orient="records") if hasattr(rows, "to_dict") else [dict(r) for r in rows]
    if not rows:
        raise ValueError("show_table got no rows.")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"rows differ in their columns: {columns} and {list(row)}.")
    lines = [
        list(map(printable, columns)),
        *([_cell_text(x, digits) for x in r.values()] for r in rows),
    ]
    sides = [
        "right" if all(isinstance(row[c], (int, float, type(None))) for row in rows) else "left"
        for c in columns
    ]

    longest = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths = [
        min(n, 28 if n > 60 else 10) for n in longest
    ]  # a phone scrolls; it makes no columns of letters

    def line_html(tag: str, line: list[str]) -> str:
        cells = (
            f'<{tag} style="text-align:{side};padding:0.2em 0.6em;min-width:calc({width}ch + 1.2em)'
            f'{";overflow-wrap:anywhere" * (width > 10)}">'
            + escaped(text).replace(" ± ", "&nbsp;±&nbsp;").replace(" %", "&nbsp;%")
            for side, width, text in zip(sides, widths, line, strict=True)
        )
        end = f"</{tag.split()[0]}>"
        return f"<tr>{end.join(cells)}{end}</tr>"

    title = f"<caption>{_caption_html(caption)}</caption>" if caption else ""
    head = line_html('th scope="col"', lines[0])
    body = "".join(line_html("td", line) for line in lines[1:])
    table = f"{title}<thead>{head}</thead><tbody>{body}</tbody>"
    page = f'<div class="wide"><table class="dataframe table">{table}</table></div>'
    show_html(page, "\n".join([printable(caption), *map(" | ".join, lines)]).strip())


def compare(
    a: Any, b: Any, caption: str = "", names: tuple[str, str] = ("this run", "paper")
) -> None:
    """Show two settings or two results side by side: what differs in settings, what differs in scores.

    Settings are of the same dataclass; results are accuracies by column, compared on the same seeds or episodes.
    """
    show_table(side_by_side(a, b, names), caption)


def show_record(
    name: str,
    caption: str = "Recorded: accuracy (%)",
    rows: Callable[[dict[str, Any]], Sequence[Mapping[str, Any]]] = table_rows,
) -> dict[str, Any] | None:
    """Show the scores of a record with its circumstances, or that it was not run; return the record or None.

    name: stem of the record's file. rows: from `recorded_scores` to the rows of the table. Of many columns
    those are shown that the record's settings name as `shown`.
    """
    entry = recorded(name)
    if entry is None:
        say(f"Record `{name}`: **not run** in this checkout.")
        return None
    scores = recorded_scores(entry)
    if shown := entry.get("config", {}).get("shown"):
        scores = {n: {c: x[c] for c in shown if c in x} for n, x in scores.items()}
    show_entry(entry, rows(scores), caption)
    return entry


def show_entry(entry: dict[str, Any], rows: Any, caption: str) -> None:
    """Show a table of a recorded run, and in a fold below how it was recorded."""
    show_table(rows, caption)
    seeds = len(entry.get("seeds", []))
    title = f"{entry.get('scale', '')}, {seeds} seed{'s' * (seeds != 1)}: how this was recorded"
    line = circumstances(entry)
    show_html(_provenance_html(title, line), printable(line))
