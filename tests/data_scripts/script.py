"""Running a data script in this process, and packing small folders as its maker would."""

from __future__ import annotations

import importlib
import io
import sys
import tarfile
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "data_scripts"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def module(name: str):
    """A module of data_scripts, found the way Python finds it for a script: beside its helpers."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


def data_set(name: str):
    """What the script of this name declares."""
    (declared,) = [x for x in vars(module(name)).values() if type(x).__name__ == "DataSet"]
    return declared


def script(name: str, *arguments) -> Done:
    """The exit status and the output of a script's command line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = module("common").run(data_set(name), [str(argument) for argument in arguments])
    return Done(status, out.getvalue(), err.getvalue())


def zip_of(
    archive: Path, folder: Path, extra: dict[str, bytes] | None = None, top: str = "top-master"
) -> Path:
    """A zip of a folder below one top folder, with further members as they are named."""
    with zipfile.ZipFile(archive, "w") as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, f"{top}/{path.relative_to(folder)}")
        for name, content in (extra or {}).items():
            bundle.writestr(name, content)
    return archive


def tar_of(
    archive: Path, folder: Path, extra: tarfile.TarInfo | None = None, top: str = "top-master"
) -> Path:
    """A compressed tar of a folder below one top folder, with one further member."""
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.add(folder, top)
        if extra is not None:
            bundle.addfile(extra, io.BytesIO(b""))
    return archive
