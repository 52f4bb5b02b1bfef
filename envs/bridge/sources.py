"""Gathers the files of a Bridge asset pack from folders, archives and URLs into an empty folder."""

from __future__ import annotations

import http.client
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from envs.bridge.manifest import LAYOUT, Archive, Manifest, sha256_of
from evals.errors import UnknownNameError, UsageError

ARCHIVE_BYTES = 4 << 30
FILE_BYTES = 256 << 20
"""Several times what the largest archive and the largest file of a pack have: more is no pack."""

_BLOCK = 1 << 20
_SILENT_SECONDS = 60.0


def gather(sources: list[str], folder: Path, listed: Manifest) -> None:
    """Copy what a pack needs out of sources; later ones win.

    Args:
        sources: folders in ManiSkill's layout, upstream's zip archives or their URLs, or "upstream" for all of these.
        folder: an empty folder to fill; downloads lie beside it for as long as they are read.
        listed: what a pack needs.

    Raises:
        UsageError: a source is none of these, or cannot be read.
    """
    urls = [archive.url for archive in listed.archives]
    for source in [part for name in sources for part in (urls if name == "upstream" else [name])]:
        before = _written(folder)
        path = Path(source).expanduser()
        if source.lower().startswith(("http://", "https://")):
            archive = _archive_named(source, listed)
            downloaded = _download(source, folder.with_name(folder.name + ".zip"))
            _unpack(downloaded, source, archive, folder, listed)
            downloaded.unlink()
        elif path.is_dir():
            _copy(path, folder, listed)
        elif path.is_file() and zipfile.is_zipfile(path):
            _unpack(path, source, _archive_named(source, listed), folder, listed)
        else:
            raise UsageError(f"--from {source!r} is no folder, no zip archive and no URL.")
        if _written(folder) == before:
            raise UsageError(f"--from {source!r} holds no file of the pack: {LAYOUT} are looked for.")


def files_in(root: Path) -> Iterator[Path]:
    """Yield the files under a folder, without what is neither file nor link to one."""
    return (file for file in root.rglob("*") if file.is_file())


def _written(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files_in(folder)}


def _copy(source: Path, folder: Path, listed: Manifest) -> None:
    base = next(
        (base for base in (source, source / "data") if (base / "tasks").is_dir() or (base / "robots").is_dir()), None
    )
    if base is None:
        raise UsageError(f"--from {str(source)!r} does not hold {LAYOUT}.")
    for file in files_in(base):
        path = file.relative_to(base).as_posix()
        if listed.wants(path):
            with file.open("rb") as stream:
                _write(stream, folder / path, FILE_BYTES, str(file))


def _unpack(file: Path, source: str, archive: Archive, folder: Path, listed: Manifest) -> None:
    if archive.sha256 and sha256_of(file) != archive.sha256:
        raise UsageError(f"{source} is not upstream's archive: its SHA-256 should be {archive.sha256}.")
    try:
        with zipfile.ZipFile(file) as opened:
            for member in opened.namelist():
                if ".." in PurePosixPath(member).parts:
                    raise UsageError(f"{source} holds {member!r}, which leads out of its folder.")
                path = archive.outside + member.removeprefix(archive.inside)
                if member.startswith(archive.inside) and listed.wants(path) and not member.endswith("/"):
                    with opened.open(member) as stream:
                        _write(stream, folder / path, FILE_BYTES, f"{member} in {source}")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise UsageError(f"{source} cannot be unpacked: {error}. Get it again.") from error


def _archive_named(source: str, listed: Manifest) -> Archive:
    name = source.rsplit("/", 1)[-1]
    for archive in listed.archives:
        if archive.url.rsplit("/", 1)[-1] == name:
            return archive
    raise UnknownNameError("upstream archive", name, (archive.url for archive in listed.archives))


def _download(url: str, file: Path) -> Path:
    sys.stderr.write(f"Downloading {url}\n")
    try:
        with urllib.request.urlopen(url, timeout=_SILENT_SECONDS) as response:
            announced = response.headers.get("Content-Length")
            got = _write(response, file, ARCHIVE_BYTES, url)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise UsageError(f"{url} could not be downloaded: {error}.") from error
    if announced is not None and announced != str(got):
        raise UsageError(f"{url} was cut off: {got} of {announced} bytes came. Try again, or name a downloaded file.")
    return file


def _write(stream: IO[bytes], target: Path, limit: int, called: str) -> int:
    """Copy a stream into a file and return its length, or refuse it once it is longer than the limit."""
    target.parent.mkdir(parents=True, exist_ok=True)
    length = 0
    with target.open("wb") as out:
        while block := stream.read(_BLOCK):
            length += len(block)
            if length > limit:
                raise UsageError(f"{called} is longer than {limit >> 20} MB: it is none of the pack's.")
            out.write(block)
    return length
