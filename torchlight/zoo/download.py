"""Downloads that resume, are checked against a hash, and appear under their name only when they are complete."""

import errno
import http.client
import logging
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

from torchlight.system.command import NO_SPACE, RunError
from torchlight.system.files import sha256
from torchlight.system.text import quote
from torchlight.zoo.catalog import PREFIX, Entry, find

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes must not download the same file at once
    fcntl = None

log = logging.getLogger("torchlight")
ATTEMPTS, TIMEOUT, BLOCK = 3, 30, 1 << 18  # TIMEOUT: seconds without a byte
MOST_BYTES = 2**32


class Cut(Exception):
    """The connection ended before the file was complete."""


def local_file(weights: str) -> Path:
    """The file that `--weights` names: a path, or the downloaded file of `zoo:NAME`.

    Raises:
        ValueError: there is no such entry, or its file in weights/ has different content.
        RunError: it cannot be downloaded.
    """
    if not weights.startswith(PREFIX):
        return Path(weights)
    entry = find(weights)
    if entry.file.is_dir():
        raise ValueError(f"{entry.file}: expected a file, got a folder; move it away to download the file")
    if not entry.file.is_file():
        get(entry)
    elif entry.sha256 and not sha256(entry.file).startswith(entry.sha256):
        raise ValueError(
            f"{entry.file}: expected a file whose SHA-256 begins with {entry.sha256}, got another; "
            "remove it to download it again"
        )
    return entry.file


def get(entry: Entry) -> None:
    """Download the file of an entry."""
    by_hand = f"download it by hand and put it at {entry.file}"
    if not entry.is_direct:
        where = f"{entry.url} ({entry.note})" if entry.note else entry.url
        raise RunError(f"{PREFIX}{entry.name}: has no direct address: open {where}, {by_hand}")
    try:
        download(entry.url, entry.file, entry.sha256)
    except RunError as error:
        raise RunError(f"{error}; or {by_hand}") from error


def download(url: str, file: Path, digest: str = "") -> None:
    """Write the content of an HTTP address to `file`.

    If the connection is interrupted, the received part is kept in `<file>.part`. The next call continues from there if
    the server confirms that the content is unchanged. digest: first hexadecimal digits of the SHA-256.

    Raises:
        RunError: the server or the connection fails, or the content has another hash.
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    with writing(part) as out:
        if file.is_file():  # another process has finished the download meanwhile
            return
        receive_all(url, out)
        found = sha256(part)
        if not found.startswith(digest):
            remove(part)
            raise RunError(f"{url}: expected content whose SHA-256 begins with {digest}, got {found}; nothing is kept")
        os.replace(part, file)
        remove(part)
        log.info("wrote %s: %d bytes from %s, SHA-256 %s", file, file.stat().st_size, url, found)


@contextmanager
def writing(part: Path) -> Iterator[IO[bytes]]:
    """The partial file, opened for one process at a time; other processes wait."""
    try:
        with locked(part) as out:
            try:
                yield out
            finally:
                if not os.fstat(out.fileno()).st_size:
                    remove(part)
    except OSError as error:
        if error.errno in NO_SPACE:
            remove(part)
            raise OSError(error.errno, error.strerror, str(part.with_suffix(""))) from error
        raise


def locked(part: Path) -> IO[bytes]:
    """The partial file, opened and locked; opened again if another process has removed it meanwhile."""
    while True:
        out = open(part, "ab")
        if fcntl is None:
            return out
        fcntl.flock(out, fcntl.LOCK_EX)
        if part.exists() and os.path.samestat(os.fstat(out.fileno()), part.stat()):
            return out
        out.close()


def remove(part: Path) -> None:
    """Remove the files of an incomplete download."""
    for path in (part, tag_file(part)):
        path.unlink(missing_ok=True)


def tag_file(part: Path) -> Path:
    """The file with the version of the content: the ETag or date that the server sent."""
    return part.with_name(f"{part.name}.tag")


def receive_all(url: str, out: IO[bytes]) -> None:
    """Receive the content, in several attempts if the connection is cut.

    Raises:
        RunError: it could not be received.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            receive(url, out)
            return
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and out.tell():
                out.truncate(0)
                continue
            gone = "; the file may have moved" if error.code == http.client.NOT_FOUND else ""
            raise RunError(f"{url}: expected a file, got HTTP {error.code} {quote(error.reason)}{gone}") from error
        except (Cut, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            left = f"{out.tell()} bytes are kept in {out.name}, the next call continues there"
            reason = f"{url}: the connection was cut ({error or type(error).__name__}); {left}"
        except urllib.error.URLError as error:
            reason = f"{url}: no connection ({error.reason}); behind a proxy set http_proxy and https_proxy"
        log.warning("attempt %d of %d: %s", attempt, ATTEMPTS, reason)
    raise RunError(reason)


def receive(url: str, out: IO[bytes]) -> None:
    """Append the rest of the content to `out`, or all of it if the server now has another version.

    Raises:
        Cut: the connection ended early.
        OSError, HTTPException: the connection or the disk failed.
    """
    out.seek(0, os.SEEK_END)
    tag = tag_file(Path(out.name))
    headers = {"User-Agent": "torchlight", "Accept-Encoding": "identity"}
    if out.tell() and tag.is_file():
        headers |= {"Range": f"bytes={out.tell()}-", "If-Range": tag.read_text()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            out.seek(0)
            out.truncate()
        length = response.headers.get("Content-Length", "")
        total = out.tell() + int(length) if length.isdecimal() else None
        check_space(url, out, total)
        tag.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "-")
        copy(response, out, total)


def check_space(url: str, out: IO[bytes], total: int | None) -> None:
    """Raise an error for content that is too large before any of it is written."""
    if total is not None and total > MOST_BYTES:
        raise RunError(f"{url}: expected at most {MOST_BYTES} bytes, got {total}")
    if total is not None and total - out.tell() > shutil.disk_usage(Path(out.name).parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def copy(response: http.client.HTTPResponse, out: IO[bytes], total: int | None) -> None:
    """Append the data that a server sends, with a progress bar on a terminal; raises Cut if it is shorter than
    announced."""
    bar = tqdm(total=total, initial=out.tell(), unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False)
    with bar:
        try:
            while block := response.read(BLOCK):
                out.write(block)
                bar.update(len(block))
                if out.tell() > MOST_BYTES:
                    raise RunError(f"{response.url}: expected at most {MOST_BYTES} bytes, got more")
        finally:
            out.flush()
    if total is not None and out.tell() < total:
        raise Cut(f"{out.tell()} of {total} bytes")
