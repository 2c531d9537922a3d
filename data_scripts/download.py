"""Fetching one file over HTTP: resumed where it stopped, within limits, looked into, and named only when complete."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import urllib3
from archives import ArchiveError, read_whole
from lock import only_one

from audiossl_lite.common.progress import progress_bar
from audiossl_lite.common.writing import writing

CHUNK_BYTES = 2**20
SPARE_BYTES = 2**28  # stay free on the disk
MOST_BYTES = {
    True: 2**36,
    False: 2**32,
}  # by whether the server says the length; the largest has 22 GiB
HEADERS = {"User-Agent": "audiossl_lite-data-scripts/1", "Accept-Encoding": "identity"}
BUSY = (408, 425, 429)

pooch.get_logger().setLevel("WARNING")


@dataclass(frozen=True)
class Remote:
    """A file that a data set is published as.

    `checksum` is "sha256:..." or "md5:..." with `checksum_from` naming who published it; without one, the
    SHA-256 of the first download is recorded beside the file and compared from then on. `by_hand`: the maker
    asks for a registration first, so nothing is fetched, and a copy put into the folder is verified.
    """

    name: str
    url: str
    size_bytes: int | None = None
    checksum: str | None = None
    checksum_from: str = ""
    by_hand: bool = False


class DownloadError(RuntimeError):
    """A file could not be had; the message names the address, what happened and what to do."""


class RegistrationError(RuntimeError):
    """A file that only a person can get is not there yet; the message names it."""


class ChecksumError(RuntimeError):
    """A file is there but is not the published one; the message names both checksums."""


class Trouble(RuntimeError):
    """A request that brought less than the whole file; the next one may go better."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a silent server (s), how often to try without progress, the first pause (s), and the
    slowest rate (bytes/s, over `timeout_s`) that is not taken for silence."""

    timeout_s: float = 60.0
    attempts: int = 6
    pause_s: float = 2.0
    slowest: float = 1000.0


def fetch(remote: Remote, folder: Path, url: str = "", patience: Patience = Patience()) -> str:
    """Bring `remote` into the folder, from `url` if given, and return what was done in a few words.

    The bytes go to a folder NAME.part; the file takes its name only when complete and verified, so an interrupted
    run is continued at its last byte. A server without ranges, or with another version of the file, makes it
    start over. Raises DownloadError, ChecksumError, RegistrationError, or OSError for the disk.
    """
    target = folder / remote.name
    if target.exists():
        return f"already there, {check(remote, target)}"
    if remote.by_hand:
        remedy = "download it by hand and put it into this folder"
        raise RegistrationError(f"{remote.name}: its maker asks for a registration; {remedy}")
    url = url or remote.url
    if not url.startswith(("http://", "https://")):
        raise DownloadError(
            f"{url}: not an http address; give one that starts with http:// or https://"
        )
    with only_one(folder / f"{remote.name}.lock"):
        part = Part(remote, folder, url, patience)
        try:
            return _fetch(part, remote, target)
        finally:
            if not part.size:
                part.forget()


def _fetch(part: Part, remote: Remote, target: Path) -> str:
    known, source = expected(remote, target)
    started_at = part.size
    while True:
        try:
            arrived = Path(
                pooch.retrieve(part.url, known, remote.name, part.folder, downloader=part)
            )
            break
        except ValueError as error:  # pooch has compared the checksums, and names both
            part.forget()
            if not started_at:
                raise ChecksumError(
                    f"{remote.name}: {error}; {source} says so. {_remedy(remote)}"
                ) from error
            # What an earlier run had left may be of another version of the file: once more, from the start.
            started_at = 0
    if known is None:
        try:
            verdict = _record(arrived, target)
        except ArchiveError as error:
            part.forget()
            remedy = "nothing is kept; look at the address, or run the same command again"
            raise DownloadError(
                f"{part.url}: what came is not the whole file ({error}); {remedy}"
            ) from error
    else:
        verdict = _agrees(known, source)
    os.replace(arrived, target)
    part.forget()
    return f"continued at byte {started_at}, {verdict}" if started_at else f"fetched, {verdict}"


def expected(remote: Remote, target: Path) -> tuple[str | None, str]:
    """The published or the recorded checksum, None when there is neither, and who says so."""
    record = _record_path(target)
    if remote.checksum is not None or not record.exists():
        return remote.checksum, remote.checksum_from or "its maker"
    words = record.read_text(encoding="utf-8").split()
    return f"sha256:{words[0] if words else ''}", f"{record.name}, written at the first download"


def check(remote: Remote, path: Path) -> str:
    """Compare a file with its checksum, or look into it and record its checksum when none is known.

    Returns the verdict in words; raises ChecksumError naming both checksums, or what is wrong with the file.
    """
    known, source = expected(remote, path)
    if known is None:
        try:
            return _record(path, path)
        except ArchiveError as error:
            raise ChecksumError(f"{error}. {_remedy(remote)}") from error
    algorithm, digest = known.split(":")
    measured = pooch.file_hash(str(path), algorithm)
    if measured != digest:
        says = f"{algorithm}:{measured}, but {source} says {known}"
        raise ChecksumError(f"{path.name}: {says}. {_remedy(remote)}")
    return _agrees(known, source)


def _record(path: Path, target: Path) -> str:
    read_whole((path,))
    digest, record = pooch.file_hash(str(path), "sha256"), _record_path(target)
    with writing(record):
        record.write_text(f"{digest}  {target.name}\n", encoding="utf-8")
    return f"no published checksum, recorded sha256:{digest} in {record.name}"


def _record_path(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _agrees(known: str, source: str) -> str:
    return f"{known.split(':')[0]} agrees with {source}"


def _remedy(remote: Remote) -> str:
    renewed = f"; if the maker has published a new version, remove {remote.name}.sha256 too"
    return "Remove it and fetch again" + (renewed if remote.checksum is None else "")


class Part:
    """What there is of a file, and of which version of which address; pooch calls it to get the rest."""

    def __init__(self, remote: Remote, folder: Path, url: str, patience: Patience) -> None:
        self.remote, self.url, self.patience = remote, url, patience
        self.folder = folder / f"{remote.name}.part"
        self._bytes, self._note = self.folder / "bytes", self.folder / "note.json"
        self.validator, self.total = "", None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            self.validator, self.total = note["validator"], note["total"]
            known = note["url"] == url
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            self.forget()

    @property
    def size(self) -> int:
        """Bytes that are already there."""
        return self._bytes.stat().st_size if self._bytes.exists() else 0

    def forget(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.validator, self.total = "", None

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Ask again and again until all is there; gives up after `attempts` requests that brought nothing new."""
        best, failures, name = self.size, 0, self.remote.name
        with progress_bar(_mib(self.total or self.remote.size_bytes), f"{name} (MiB)") as bar:
            bar.update(_mib(self.size) or 0)
            while self.size != self.total or not self._bytes.exists():
                try:
                    self._request(bar)
                    break
                except requests.exceptions.InvalidSchema as error:
                    raise DownloadError(
                        f"{self.url}: sends on to an address that is not http ({error}); give another by --url"
                    ) from error
                except (requests.RequestException, urllib3.exceptions.HTTPError, Trouble) as error:
                    trouble = str(error) or type(error).__name__
                    brought = self.size > best and "too slow" not in trouble
                failures = 0 if brought else failures + 1
                best = max(best, self.size)
                if failures >= self.patience.attempts:
                    raise DownloadError(
                        f"{self.url}: gave up after {failures} attempts without progress ({trouble}); "
                        "run the same command later, it continues where it stopped"
                    )
                time.sleep(self.patience.pause_s * 2 ** min(failures, 6))
        Path(output_file).unlink(missing_ok=True)
        try:  # a second name: a run that is killed while the file is summed must not lose it
            os.link(self._bytes, output_file)
        except OSError:  # a disk without links
            os.replace(self._bytes, output_file)

    def _request(self, bar) -> None:
        """Ask for what is missing; raises Trouble unless the server says that this was all of it."""
        have = self.size
        headers = HEADERS | ({"Range": f"bytes={have}-"} if have else {})
        if have and self.validator:
            headers["If-Range"] = self.validator
        timeout = self.patience.timeout_s
        with requests.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            have, total = self._agree(response, have)
            limit = self.remote.size_bytes or MOST_BYTES[total is not None]
            self._check_space((total or 0) - have)
            since, before = time.monotonic(), have
            with writing(self._bytes), self._bytes.open("ab" if have else "wb") as sink:
                while block := response.raw.read1(CHUNK_BYTES, decode_content=False):
                    if max(have + len(block), total or 0) > limit:
                        self.forget()
                        raise DownloadError(
                            f"{self.url}: more than the {limit} bytes it may have; is it the right address?"
                        )
                    self._check_space(len(block))
                    sink.write(block)
                    bar.update(_mib(have + len(block)) - _mib(have))
                    have += len(block)
                    if time.monotonic() - since > timeout:
                        if have - before < self.patience.slowest * timeout:
                            raise Trouble(f"too slow: {have - before} bytes in {timeout} s")
                        since, before = time.monotonic(), have
        if total is not None and have != total:
            raise Trouble(f"cut off after {have} of {total} bytes")

    def _agree(self, response: requests.Response, have: int) -> tuple[int, int | None]:
        """Where the answer begins and how long the whole file is, noted before its first byte is written."""
        status, reason = response.status_code, response.reason
        if status == 416 and have:
            # Nothing beyond what we have, yet not known to be whole: this part belongs to something else.
            self.forget()
            raise Trouble("the server has no more than what is here")
        if status >= 500 or status in BUSY:
            raise Trouble(f"the server answers {status} {reason}")
        if status not in (200, 206):
            remedy = "look whether its maker has moved it, and give the new address by --url"
            raise DownloadError(f"{self.url}: the server answers {status} {reason}; {remedy}")
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if status == 206:
            span, _, whole = response.headers.get("Content-Range", "").partition("/")
            total = int(whole) if whole.isdigit() else None if total is None else have + total
            # Not the range we asked for, or of a file of another length: not a continuation of this part.
            if not span.startswith(f"bytes {have}-") or (self.total and total != self.total):
                self.forget()
                raise Trouble("an answer that does not continue what is here")
        else:
            have = 0
        tag = response.headers.get("ETag", "")
        # A weak tag promises the same meaning, not the same bytes.
        self.validator = tag if tag[:2] != "W/" else ""
        self.validator = self.validator or response.headers.get("Last-Modified", "")
        self.total = total
        self.folder.mkdir(parents=True, exist_ok=True)
        noted = {"url": self.url, "validator": self.validator, "total": total}
        with writing(self._note):
            self._note.write_text(json.dumps(noted), encoding="utf-8")
        return have, total

    def _check_space(self, missing: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if missing + SPARE_BYTES > free:
            needs = f"{missing / 2**30:.1f} GiB are missing, {free / 2**30:.1f} GiB are free"
            raise DownloadError(f"{self.folder}: not enough room for {self.remote.name} ({needs})")


def _mib(size_bytes: int | None) -> int | None:
    return None if size_bytes is None else size_bytes // 2**20
