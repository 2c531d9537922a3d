"""Words on a page: names from data that are never markup, sentences made from numbers, two results side by side."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from audiossl_lite.evaluation.statistics import (
    Scores,
    as_text,
    difference,
    judged,
    mean_interval,
)
from audiossl_lite.evaluation.statistics import verdict as word_for

WORDS = ("better", "worse", "unclear")
# MathJax reads a page after everything else and skips what stands in these.
NO_FORMULA = '<span class="tex2jax_ignore mathjax_ignore">&#{};</span>'
# Every other tag in a sentence is text: a name that was not put through `plain` is ugly, and never script.
TAGS = ('span class="tex2jax_ignore mathjax_ignore"', "/span")
HIDDEN_TAGS = (*TAGS, "b", "/b", "em", "/em")


def printable(name: object) -> str:
    """A name without what is not seen: control characters, marks that turn the direction, broken bytes."""
    text = unicodedata.normalize("NFC", str(name))
    seen = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join("".join(seen).split())


def escaped(name: object) -> str:
    """A name from data as text of HTML, in an attribute too; for sentences see `plain`."""
    return html.escape(printable(name), quote=True)


def plain(name: object) -> str:
    """A name from data (class, file, folder, task) as text for `say` and for HTML, of which nothing is markup.

    Every sign but letters, digits, commas and blanks becomes a character reference, which neither HTML nor Markdown
    takes for markup; what MathJax looks for stands where it does not look.
    """

    def reference(c: str) -> str:
        if c.isalnum() or c in " ,":
            return c
        return NO_FORMULA.format(ord(c)) if c in "$\\" else f"&#{ord(c)};"

    return "".join(reference(c) for c in printable(name))


def legend_name(name: object) -> str:
    """A name from data as a label of a figure: matplotlib leaves one that begins with `_` out of the legend."""
    text = printable(name)
    return f" {text}" if text.startswith("_") else text


def _joined(sentences: tuple[Any, ...]) -> str:
    """Sentences as one text: those that are empty or false left out, items of a list on lines of their own."""
    text, in_list = "", False
    for line in "\0".join(str(x) for x in sentences if x).replace("\n", "\0\n\0").split("\0"):
        words = " ".join(line.split())
        if line == "\n" or not words:
            text = text.rstrip(" ") + line.strip(" ")
            continue
        is_item = words.startswith("- ")
        if text and is_item != in_list and not text.endswith("\n\n"):
            text = text.rstrip("\n") + "\n\n"
        elif is_item and text:
            text = text.rstrip("\n") + "\n"
        joint = "" if not text or text.endswith("\n") or words[0] in ".,;:)" else " "
        text, in_list = text + joint + words, is_item
    return text


def _with_tags(text: str, tags: tuple[str, ...]) -> str:
    """A text whose tags, comments and declarations of HTML are these, all others being shown as they are written."""
    ours = "|".join(map(re.escape, tags))
    return re.sub(rf"<(?=[A-Za-z/!?])(?!(?:{ours})>)", "&lt;", text)


def show_html(page: str, text: str) -> None:
    """Show HTML on a page, and a text where there is none."""
    from IPython.display import display

    display({"text/html": page, "text/plain": text}, raw=True)


def say(*sentences: Any) -> None:
    """Show sentences as Markdown; one that is empty or false is left out, one that begins with a hyphen is a list item.

    `say(f"The gain is {gain:.1f}.", gain < 0 and "So training hurt.")`. Names from data go in through `plain`.
    """
    from IPython.display import Markdown, display

    if text := _joined(sentences):
        display(Markdown(_with_tags(text, TAGS)))


def reveal(*sentences: Any, title: str = "Answer") -> None:
    """Show sentences under a line to click; tags are `b` and `em`. Names from data go in through `plain`."""
    from IPython.display import HTML, display

    title, text = (_with_tags(part, HIDDEN_TAGS) for part in (title, _joined(sentences)))
    display(HTML(f"<details><summary>{title}</summary>{text}</details>"))


def verdict(
    a: str,
    b: str,
    gap: float,
    half_width: float,
    *,
    words: tuple[str, str] = ("above", "below"),
) -> str:
    """One sentence on a difference `a - b` with its 95 % interval; empty where there is no interval.

    words: what `a` is to `b` when it has the greater number, and when it has the smaller one.
    """
    if not math.isfinite(half_width):
        return ""
    size = f"{as_text(gap, half_width, signed=True)} points"
    if word_for(gap, half_width) == "unclear":
        return f"{a} and {b} cannot be told apart ({size})."
    return f"{a} is {words[gap < 0]} {b} ({size})."


def paired(a: Any, b: Any) -> tuple[float, float]:
    """Mean and half width of the difference of two few-shot results on the same episodes, in points."""
    return mean_interval((a.per_episode - b.per_episode)[None])


def ordered(a: float, b: float, digits: int = 2, *, unit: str = "") -> str:
    """What number `a` is to `b` as both are printed, with the two: `lower (0.86 against 0.89)`.

    For numbers without an interval, of which nothing but their order can be said.
    """
    left, right = f"{a:.{digits}f}", f"{b:.{digits}f}"
    order = "higher" if float(left) > float(right) else "lower"
    word = "the same" if left == right else order
    return f"{word} ({left}{unit} against {right}{unit})"


def differences(
    scores: Scores, pairs: Sequence[tuple[str, ...]], columns: Sequence[str]
) -> list[dict[str, str]]:
    """One row a pair `(a, b)` or `(question, a, b)`: the paired difference by column, and what it allows to say."""
    rows = []
    for *question, a, b in pairs:
        row = {"question": question[0]} if question else {}
        row["a minus b"] = f"{a} − {b}"
        rows.append(row | {c: judged(difference(scores, a, b, c)) for c in columns})
    return rows


def counted(rows: Sequence[Mapping[str, str]]) -> str:
    """How often each word stands in a table of judged differences: `3 better, 0 worse, 2 unclear`."""
    said = [text.rpartition(": ")[2] for row in rows for text in row.values()]
    return ", ".join(f"{said.count(word)} {word}" for word in WORDS)


def means_moved(scores: Scores, a: str, b: str, columns: Sequence[str]) -> str:
    """On how many columns the mean of `a` is above that of `b`, and by how much: all that one seed allows to say."""
    gaps = {column: float(difference(scores, a, b, column).mean()) for column in columns}
    least, most = (choose(gaps, key=gaps.__getitem__) for choose in (min, max))
    return (
        f"{a} has a higher mean than {b} on {sum(gap > 0 for gap in gaps.values())} of {len(gaps)} tasks: "
        f"from {gaps[least]:+.1f} ({plain(least)}) to {gaps[most]:+.1f} points ({plain(most)})."
    )


def side_by_side(
    a: Any, b: Any, names: tuple[str, str] = ("this run", "paper")
) -> list[dict[str, Any]]:
    """Two settings or two results side by side, as rows of a table.

    Of settings (the same dataclass) those that differ; of results (accuracies by column, paired) every column with
    intervals, the difference and what it allows to say.
    """
    if not isinstance(a, Mapping):
        changed = [name for name in vars(a) if getattr(a, name) != getattr(b, name)]
        rows = [
            {"setting": name}
            | {who: str(getattr(x, name)) for who, x in zip(names, (a, b), strict=True)}
            for name in changed
        ]
        return rows or [{"setting": "none"} | dict.fromkeys(names)]
    gaps = differences(dict(zip(names, (a, b), strict=True)), [names], list(a))[0]
    return [
        {"score": column}
        | {who: as_text(*mean_interval(x[column])) for who, x in zip(names, (a, b), strict=True)}
        | {gaps["a minus b"]: gaps[column]}
        for column in a
    ]
