"""Strict runner: `python -m audiossl_lite.run notebooks/05_atst.ipynb --preset lite -p seed=1`.

It does what papermill does and refuses what papermill lets pass: unknown parameters, wrong types,
notebooks that stop half-way. Exit status: 0 all complete, 1 a notebook failed, 2 a wrong request.
"""

from __future__ import annotations

import argparse
import ast
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiossl_lite.execution import RunRecord, run_notebook
from audiossl_lite.gate import cell_source, cell_tags, read_notebook
from audiossl_lite.parameters import (
    DEFAULTS,
    ParameterError,
    make_parameters,
    nearest,
    parse_overrides,
)

LITE_CELL_TIMEOUT_S = 600.0
LITE_TIMEOUT_S = 1200.0


def declared_parameters(path: Path) -> dict[str, Any]:
    """Return names and default values from the cell tagged `parameters`.

    Errors: ParameterError when there is not exactly one such cell or a default is not a literal.
    """
    cells = [cell for cell in read_notebook(path)["cells"] if "parameters" in cell_tags(cell)]
    if len(cells) != 1:
        raise ParameterError(f"{path} has {len(cells)} cells tagged `parameters`; it needs one.")
    declared: dict[str, Any] = {}
    for statement in ast.parse(cell_source(cells[0])).body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    declared[target.id] = ast.literal_eval(value)
                except ValueError as error:
                    raise ParameterError(
                        f"{path}: the default of {target.id!r} must be a plain value."
                    ) from error
    return declared


def typed_value(name: str, text: str, default: Any) -> Any:
    """Read a value from the command line as the type of its default.

    Errors: ParameterError naming the parameter, the text and the type that is needed.
    """
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            pass
    else:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            pass
    wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    kind = type(default).__name__
    raise ParameterError(f"parameter {name!r} must be {wanted.get(kind, kind)}, got {text!r}.")


def split_assignments(items: Sequence[str]) -> dict[str, str]:
    """Split `name=value` items at the first `=`; errors name the item that has none."""
    result: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ParameterError(f"-p {item}: write -p name=value, for example -p seed=1.")
        if name in result:
            raise ParameterError(f"parameter {name!r} is given twice.")
        result[name] = text
    return result


def parameter_file(path: Path) -> dict[str, Any]:
    """Read parameters from a YAML file of `name: value` lines."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ParameterError(f"parameter file {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ParameterError(f"parameter file {path} must hold `name: value` lines.")
    return {str(name): value for name, value in values.items()}


def merged_overrides(typed: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """`overrides` of a file with those of the command line put over them, key by key; empty when one has none."""
    if not (typed.get("overrides") and texts.get("overrides")):
        return {}
    return {"overrides": parse_overrides(typed["overrides"]) | parse_overrides(texts["overrides"])}


def collect_parameters(
    notebook: Path, typed: dict[str, Any], texts: dict[str, str]
) -> dict[str, Any]:
    """Merge parameters for one notebook and check their names, types and values.

    typed: from a file; texts: from the command line, which win, in `overrides` key by key. Returns only what was given.
    Errors: ParameterError, for an unknown name with the nearest known one.
    """
    declared = declared_parameters(notebook)
    for name in (*typed, *texts):
        if name not in declared:
            raise ParameterError(
                f"unknown parameter {name!r}; did you mean {nearest(name, tuple(declared))!r}? "
                f"Parameters of {notebook.name}: {', '.join(declared)}."
            )
    given = dict(typed)
    for name, text in texts.items():
        given[name] = typed_value(name, text, declared[name])
    given |= merged_overrides(typed, texts)
    standard = {name: value for name, value in given.items() if name in DEFAULTS}
    checked = make_parameters(standard)
    for name in ("data_root", "output_dir"):
        if name in standard:
            given[name] = getattr(checked, name)
    for name in set(given) - set(standard):
        if type(given[name]) is not type(declared[name]):
            raise ParameterError(
                f"parameter {name!r} must be {type(declared[name]).__name__}, got {given[name]!r}."
            )
    return given


def summary(records: Sequence[RunRecord]) -> str:
    """Return a table of how each notebook ended, and the reason and files of those that failed."""
    width = max([len("chapter"), *(len(record.name) for record in records)])
    lines = [f"{'chapter':<{width}}  {'status':<9}  {'seconds':>7}  {'peak MiB':>8}  warnings"]
    for record in records:
        peak = "-" if record.peak_mib is None else str(record.peak_mib)
        lines.append(
            f"{record.name:<{width}}  {record.status:<9}  {record.seconds:>7.1f}  {peak:>8}  "
            f"{record.n_warnings:>8}"
        )
    for record in records:
        if not record.ok:
            lines.append(f"{record.name}: {record.status}: {record.reason}")
            kept = record.output if Path(record.output).exists() else "none was written"
            lines.append(f"  partial output: {kept}")
            lines.append(f"  log: {record.log}")
    return "\n".join(lines)


def default_limits(
    preset: str, cell_timeout_s: float | None, timeout_s: float | None
) -> tuple[float | None, float | None]:
    """Return time limits (cell, whole): `lite` has them by default, and 0 means no limit."""
    if preset == "lite":
        cell_timeout_s = LITE_CELL_TIMEOUT_S if cell_timeout_s is None else cell_timeout_s
        timeout_s = LITE_TIMEOUT_S if timeout_s is None else timeout_s
    return cell_timeout_s or None, timeout_s or None


def exit_on_terminate() -> None:
    """Turn SIGTERM into an ordinary exit, so that running kernels are ended too."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m audiossl_lite.run", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, help="chapters to run, in order")
    parser.add_argument("--preset", help="lite, workshop or paper; the same as -p preset=...")
    parser.add_argument("--data-root", help="folder of audio; the same as -p data_root=...")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="change one; of `overrides` in a file, only the keys given here change",
    )  # fmt: skip
    parser.add_argument("-f", "--file", type=Path, metavar="YAML", help="parameters from a file")
    parser.add_argument("-o", "--output", type=Path, help="output notebook, or a folder")
    parser.add_argument("--cell-timeout", type=float, metavar="S", help="seconds per cell")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds per notebook")
    parser.add_argument("--threads", type=int, help="threads of the numerical libraries")
    return parser


def _output_path(notebook: Path, output: Path | None, n_notebooks: int) -> Path:
    if output is None:
        return Path("_build") / "runs" / notebook.name
    if output.suffix == ".ipynb":
        if n_notebooks > 1:
            raise ParameterError("-o names one file for several notebooks; give a folder.")
        if output.resolve() == notebook.resolve():
            raise ParameterError("-o is the notebook itself; give another name.")
        return output
    return output / notebook.name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    exit_on_terminate()
    try:
        texts = split_assignments(options.parameter)
        for name, text in (("preset", options.preset), ("data_root", options.data_root)):
            if text is not None:
                if name in texts:
                    raise ParameterError(f"parameter {name!r} is given twice.")
                texts[name] = text
        typed = parameter_file(options.file) if options.file else {}
        jobs = []
        for notebook in options.notebooks:
            if not notebook.is_file():
                raise ParameterError(f"there is no notebook {notebook}.")
            given = collect_parameters(notebook, typed, texts)
            jobs.append(
                (notebook, _output_path(notebook, options.output, len(options.notebooks)), given)
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    records = []
    for notebook, output, given in jobs:
        preset = given.get("preset", declared_parameters(notebook).get("preset", "lite"))
        cell_s, total_s = default_limits(preset, options.cell_timeout, options.timeout)
        print(f"running {notebook} ...", file=sys.stderr, flush=True)
        records.append(
            run_notebook(
                notebook,
                output,
                given,
                cell_timeout_s=cell_s,
                timeout_s=total_s,
                n_threads=options.threads,
            )
        )
    print(summary(records))
    return 0 if all(record.ok for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
