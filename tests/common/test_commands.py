"""Commands: strict options, lists of names, and what a refused request says."""

import io
import sys

import pytest

from audiossl_lite.common.commands import CommandParser, listed, refused


def test_options_are_neither_guessed_nor_shortened(capsys):
    parser = CommandParser(prog="tool")
    parser.add_argument("-o", "--output")
    parser.add_argument("--steps", type=int, default=1)
    assert parser.parse_args(["--steps=3", "-o", "x"]).steps == 3
    for word, near in (("--step", "--steps"), ("--outptu=x", "--output")):
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args([word])
        assert stopped.value.code == 2
        option = word.partition("=")[0]
        assert f"unknown option {option}; did you mean {near}?" in capsys.readouterr().err


def test_names_may_hold_commas_and_stand_between_semicolons():
    assert listed(" T-CutMix, rule paper;ATST ; ;") == ["T-CutMix, rule paper", "ATST"]
    assert listed("") == []


@pytest.mark.parametrize(
    "error", [KeyError("no run is called 'x'"), ValueError("no run is called 'x'")]
)
def test_a_refusal_is_one_plain_line_and_status_2(error, capsys):
    assert refused("workshop", error) == 2
    assert capsys.readouterr().err == "workshop: no run is called 'x'\n"


def test_what_moves_a_terminal_is_escaped_in_a_refusal(capsys):
    """The words of an error may come from a file: names of weights, of clips, of folders."""
    assert refused("embed", ValueError("x: unexpected a\x1b[2J\n\x9b1mb")) == 2
    assert capsys.readouterr().err == "embed: x: unexpected a\\x1b[2J\\n\\x9b1mb\n"


def test_a_terminal_of_few_letters_gets_the_others_escaped(monkeypatch):
    """Else the table of a long command would be lost in its last line."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    CommandParser(prog="tool").parse_args([])
    print("41.2 ± 0.3 | 犬", flush=True)
    assert shown.getvalue() == b"41.2 \\xb1 0.3 | \\u72ac\n"
