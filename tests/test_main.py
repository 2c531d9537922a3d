"""The front door: every command is there, has an example, and a misspelt one is refused."""

from __future__ import annotations

import importlib

from audiossl_lite.__main__ import COMMANDS, main, usage


def test_every_command_has_a_main_and_an_example(capsys):
    for name, (_, module, example) in COMMANDS.items():
        assert callable(importlib.import_module(module).main), name
        assert f"python -m audiossl_lite {example}" in usage() and example.startswith(name)
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.strip() == usage()


def test_without_a_command_the_usage_is_shown_and_the_status_says_so(capsys):
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_a_misspelt_command_names_the_nearest(capsys):
    assert main(["pakc"]) == 2
    assert "no command 'pakc'; did you mean 'pack'?" in capsys.readouterr().err
    assert main(["zzz"]) == 2
    assert "there are embed, few-shot, check, run, pack" in capsys.readouterr().err


def test_arguments_and_status_are_passed_on(monkeypatch):
    seen = []
    module = importlib.import_module("audiossl_lite.experiments.gpu.command")
    monkeypatch.setattr(module, "main", lambda rest: seen.append(rest) or 7)
    assert main(["gpu", "--minutes", "1"]) == 7
    assert seen == [["--minutes", "1"]]
