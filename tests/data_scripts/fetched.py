"""Fetching ESC-50's archive from a server that fails, and what must have arrived."""

from __future__ import annotations

import io
import zipfile
from contextlib import contextmanager
from random import Random

from tests.data_scripts.faulty_server import serving
from tests.data_scripts.script import script

NAME = "ESC-50-master.zip"


def zipped(seed: int, n_bytes: int = 102_000) -> bytes:
    """A zip of one file of noise, the same for the same seed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as bundle:
        bundle.writestr(zipfile.ZipInfo("a.wav"), Random(seed).randbytes(n_bytes))
    return content.getvalue()


CONTENT, OTHER, LONGER = zipped(0), zipped(1), zipped(2, 110_000)
QUICK = ("--pause", "0.001", "--attempts", "3", "--timeout", "5")


def fetch(server, folder, *more):
    return script("esc50", "fetch", "--to", folder, "--mirror", server.url, *QUICK, *more)


@contextmanager
def interrupted(folder, **faults):
    """A server that has cut every answer of a first run at byte 30,000, and serves well from now on."""
    with serving({NAME: CONTENT}, cut_at=[30_000] * 9, **faults) as server:
        done = fetch(server, folder)
        assert done.returncode == 2
        assert "gave up after 3 attempts" in done.stderr
        assert not (folder / NAME).exists()
        assert (folder / f"{NAME}.part" / "bytes").read_bytes() == CONTENT[:30_000]
        server.cut_at.clear()
        server.asked.clear()
        yield server


def arrived(folder) -> bytes:
    assert sorted(path.name for path in folder.iterdir()) == [NAME, f"{NAME}.sha256"]
    return (folder / NAME).read_bytes()
