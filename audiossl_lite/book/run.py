"""Strict runner: `python -m audiossl_lite.run notebooks/05_atst.ipynb --preset lite -p seed=1`.

It does what papermill does and refuses what papermill lets pass: unknown parameters, wrong types,
notebooks that stop half-way. Exit status: 0 all complete, 1 a notebook failed, 2 a wrong request.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiossl_lite.book.execute import RunRecord, exit_on_terminate, run_notebook
from audiossl_lite.book.gate import cell_source, cell_tags, read_notebook
from audiossl_lite.common.commands import CommandParser
from audiossl_lite.common.parameters import (
    DEFAULTS,
    ParameterError,
    make_parameters,
    merged_overrides,
    nearest,
    parameter_file,
    split_assignments,
    typed_value,
    usable_folder,
)
from audiossl_lite.common.ranges import ranged

LITE_CELL_TIMEOUT_S = 600.0
LITE_TIMEOUT_S = 1200.0


def declared_parameters(path: Path) -> dict[str, Any]:
    """Return names and default values from the cell tagged `parameters`.

    Errors: ParameterError when there is not exactly one such cell or a default is not a plain value.
    """
    from papermill import inspect_notebook

    tagged = [cell for cell in read_notebook(path)["cells"] if "parameters" in cell_tags(cell)]
    if len(tagged) != 1:
        raise ParameterError(f"{path} has {len(tagged)} cells tagged `parameters`; it needs one.")
    try:
        ast.parse(cell_source(tagged[0]))
    except (SyntaxError, ValueError, RecursionError) as error:
        reason = f"{getattr(error, 'msg', error)}, line {getattr(error, 'lineno', '?')}"
        raise ParameterError(
            f"{path}: the cell tagged `parameters` is no Python: {reason}."
        ) from error
    declared = {}
    for name, item in inspect_notebook(str(path)).items():
        try:
            declared[name] = ast.literal_eval(item["default"])
        except (ValueError, SyntaxError) as error:
            raise ParameterError(
                f"{path}: the default of {name!r} must be a plain value."
            ) from error
    return declared


def collect_parameters(
    notebook: Path, typed: dict[str, Any], texts: dict[str, str]
) -> dict[str, Any]:
    """Merge parameters for one notebook and check their names, types and values.

    typed: from a file; texts: from the command line, which win, in `overrides` key by key. Returns only what was set.
    Errors: ParameterError, for an unknown name with the nearest known one.
    """
    declared = declared_parameters(notebook)
    for name in (*typed, *texts):
        if name not in declared:
            raise ParameterError(
                f"unknown parameter {name!r}; did you mean {nearest(name, declared)!r}? "
                f"Parameters of {notebook.name}: {', '.join(declared)}."
            )
    values = dict(typed)
    try:
        values |= {name: typed_value(name, text, declared[name]) for name, text in texts.items()}
        for name in set(typed) - set(DEFAULTS):
            values[name] = typed_value(name, typed[name], declared[name])
    except TypeError as error:
        raise ParameterError(f"parameter {error}") from error
    values |= merged_overrides(typed, texts)
    checked = make_parameters({name: values[name] for name in values if name in DEFAULTS})
    paths = {name for name in ("data_root", "output_dir") if name in values}
    return values | {name: getattr(checked, name) for name in paths}


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
            partial = record.output if Path(record.output).exists() else "none was written"
            lines.append(f"  partial output: {partial}")
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


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m audiossl_lite.run", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, help="chapters to run, in order")
    parser.add_argument("--preset", help="lite, workshop or paper; the same as -p preset=...")
    parser.add_argument("--data-root", help="folder of audio; the same as -p data_root=...")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="change one; of `overrides` in a file, only the keys given here change",
    )  # fmt: skip
    parser.add_argument("-f", "--file", type=Path, metavar="YAML", help="parameters from a file")
    parser.add_argument("-o", "--output", type=Path, help="output notebook, or a folder")
    parser.add_argument(
        "--cell-timeout", type=ranged("cell_timeout", float), metavar="S", help="seconds per cell"
    )
    parser.add_argument(
        "--timeout", type=ranged("timeout", float), metavar="S", help="seconds per notebook"
    )
    parser.add_argument(
        "--threads", type=ranged("threads", int), help="threads of the numerical libraries"
    )
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
            output = _output_path(notebook, options.output, len(options.notebooks))
            usable_folder(output.parent)
            jobs.append((notebook, output, collect_parameters(notebook, typed, texts)))
        for _, output, _ in jobs:
            output.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    records = []
    for notebook, output, parameters in jobs:
        preset = parameters.get("preset", declared_parameters(notebook).get("preset", "lite"))
        cell_s, total_s = default_limits(preset, options.cell_timeout, options.timeout)
        print(f"running {notebook} ...", file=sys.stderr, flush=True)
        records.append(
            run_notebook(
                notebook,
                output,
                parameters,
                cell_timeout_s=cell_s,
                timeout_s=total_s,
                n_threads=options.threads,
            )
        )
    print(summary(records))
    return 0 if all(record.ok for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
