"""Where the meshes and photographs of `simpler_bridge` are, whether they are the right ones, and how they get there.

Nothing is downloaded unless a user says from where: `vla-eval assets simpler_bridge --from DIR|ZIP|URL`.
`data/simpler_assets.json` lists every file with its hash, and the upstream archives that hold them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from evals.errors import MissingAssetsError, UnknownNameError, UsageError
from evals.types import digest

MANIFEST = Path(__file__).parent / "data" / "simpler_assets.json"
COMMAND = "vla-eval assets simpler_bridge --from DIR|ZIP|URL"
LAYOUT = "tasks/bridge_v2_real2sim_dataset and robots/widowx"


@dataclass(frozen=True)
class Archive:
    """An upstream archive.

    Attributes:
        url: where it is.
        sha256: its hash, or "" where only the hashes of its files are known.
        inside: folder inside the archive.
        outside: folder in the pack to which `inside` corresponds.
    """

    url: str
    sha256: str
    inside: str
    outside: str


@dataclass(frozen=True)
class Manifest:
    """What a pack holds.

    Attributes:
        files: path -> SHA-256 of every file that must be exactly this one.
        stand_ins: path -> SHA-256 of files known to be replacements for originals that we could not get.
        open_folders: folders of which every file is taken, since the originals' names are not known.
        archives: where upstream keeps the originals.
    """

    files: Mapping[str, str]
    stand_ins: Mapping[str, str]
    open_folders: tuple[str, ...]
    archives: tuple[Archive, ...]

    def wants(self, path: str) -> bool:
        """Return whether a file of that path belongs into the pack."""
        return path in self.files or path in self.stand_ins or path.startswith(self.open_folders)


@dataclass(frozen=True)
class Pack:
    """A verified pack.

    Attributes:
        root: folder with `tasks` and `robots`.
        hash: hash over the paths and contents of its files.
        stand_ins: files that are known replacements.
        unknown: files in the places of stand-ins that are neither the known replacement nor a known original.
    """

    root: Path
    hash: str
    stand_ins: tuple[str, ...] = ()
    unknown: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """Return the hash, and which files are not known originals."""
        parts = [self.hash]
        if self.stand_ins:
            parts.append("stand-ins for " + ", ".join(_short(path) for path in self.stand_ins))
        if self.unknown:
            parts.append("of unknown origin: " + ", ".join(_short(path) for path in self.unknown))
        return "; ".join(parts)


def manifest() -> Manifest:
    """Return the committed manifest."""
    data = json.loads(MANIFEST.read_text())
    archives = tuple(Archive(**archive) for archive in data["archives"])
    return Manifest(data["files"], data["stand_ins"], tuple(data["open_folders"]), archives)


def default_root(environment: Mapping[str, str]) -> Path:
    """Return where the pack is looked for: under MS_ASSET_DIR (ManiSkill's) if set, else in the user's cache."""
    if environment.get("MS_ASSET_DIR"):
        return Path(environment["MS_ASSET_DIR"]) / "data"
    cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".cache")
    return Path(cache) / "motion-vla" / "simpler_bridge"


def find_pack() -> Pack:
    """Return the pack on this machine.

    Raises:
        MissingAssetsError: it is not there, or is not what it should be.
    """
    return _verified(default_root(os.environ))


@lru_cache(maxsize=4)
def _verified(root: Path) -> Pack:
    return verify(root)


def verify(root: Path) -> Pack:
    """Check a folder against the manifest.

    Args:
        root: folder with `tasks` and `robots`.

    Raises:
        MissingAssetsError: a file is missing or is another one than it should be.
    """
    listed = manifest()
    missing = [path for path in (*listed.files, *listed.stand_ins) if not (root / path).is_file()]
    # The original eggplant may come in files of other names.
    missing = [path for path in missing if not (path.startswith(listed.open_folders) and _has_visual(root / path))]
    if missing:
        raise MissingAssetsError(
            f"simpler_bridge needs {len(missing)} files that are not in {root}, the first is {missing[0]}.\n"
            f"Lay them out with: {COMMAND}\n"
            f"(DIR holds {LAYOUT}; `--from upstream` downloads the original archives.)"
        )
    changed = [path for path, sha256 in listed.files.items() if _sha256(root / path) != sha256]
    if changed:
        raise MissingAssetsError(
            f"{len(changed)} asset files in {root} are not SimplerEnv's, the first is {changed[0]}: "
            f"scores would not be comparable. Delete the folder and run: {COMMAND}"
        )
    present = {
        str(file.relative_to(root)): _sha256(file) for file in sorted(_files(root)) if listed.wants(_posix(file, root))
    }
    loose = {path: sha256 for path, sha256 in present.items() if path not in listed.files}
    stand_ins = tuple(path for path, sha256 in loose.items() if listed.stand_ins.get(path) == sha256)
    return Pack(root, digest(present), stand_ins, tuple(path for path in loose if path not in stand_ins))


def command(arguments: list[str]) -> int:
    """Run `vla-eval assets`: lay a pack out and say what it is.

    Raises:
        MissingAssetsError: the source does not hold what is needed.
        UsageError: the source cannot be read.
    """
    parser = argparse.ArgumentParser(prog="vla-eval assets", description="Lay out the files that a suite needs.")
    parser.add_argument("suite", help="simpler_bridge (the other suites bring their files with their packages)")
    parser.add_argument("--from", dest="source", required=True, action="append", metavar="DIR|ZIP|URL|upstream")
    parser.add_argument(
        "--to", type=Path, help="folder to lay out, then named by MS_ASSET_DIR (default: the user's cache)"
    )
    options = parser.parse_args(arguments)
    if options.suite != "simpler_bridge":
        raise UnknownNameError("suite with separate assets", options.suite, ["simpler_bridge"])
    root = options.to / "data" if options.to else default_root(os.environ)
    pack = lay_out(options.source, root)
    sys.stdout.write(f"{root}: assets {pack.describe()}\n")
    if options.to:
        sys.stdout.write(f"Use it with: export MS_ASSET_DIR={options.to}\n")
    return 0


def lay_out(sources: list[str], root: Path) -> Pack:
    """Copy what the four tasks need from folders, archives or URLs, and verify it.

    Args:
        sources: folders in ManiSkill's layout, upstream's zip archives or their URLs, or "upstream" for all of these.
        root: folder to fill. Stand-ins in it are dropped, other files stay unless a source has them.

    Raises:
        MissingAssetsError: after copying, files are missing or wrong.
        UsageError: a source cannot be read or is none of these.
    """
    listed = manifest()
    urls = [archive.url for archive in listed.archives]
    for path, sha256 in listed.stand_ins.items():
        if (root / path).is_file() and _sha256(root / path) == sha256:
            (root / path).unlink()
    for source in [part for name in sources for part in (urls if name == "upstream" else [name])]:
        if source.startswith(("http://", "https://")):
            with tempfile.TemporaryDirectory() as folder:
                _unpack(_download(source, Path(folder), listed), source, root, listed)
        elif Path(source).is_dir():
            _copy(Path(source), root, listed)
        elif zipfile.is_zipfile(source):
            _unpack(Path(source), source, root, listed)
        else:
            raise UsageError(f"--from {source!r} is no folder, no zip archive and no URL.")
    _verified.cache_clear()
    return verify(root)


def _copy(source: Path, root: Path, listed: Manifest) -> None:
    base = next(
        (base for base in (source, source / "data") if (base / "tasks").is_dir() or (base / "robots").is_dir()), None
    )
    if base is None:
        raise UsageError(f"--from {str(source)!r} does not hold {LAYOUT}.")
    for file in _files(base):
        if listed.wants(_posix(file, base)):
            target = root / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _unpack(archive_file: Path, source: str, root: Path, listed: Manifest) -> None:
    archive = _archive_named(source, listed)
    if archive.sha256 and _sha256(archive_file) != archive.sha256:
        raise UsageError(f"{source} is not upstream's archive: its SHA-256 should be {archive.sha256}.")
    with zipfile.ZipFile(archive_file) as opened:
        for member in opened.namelist():
            path = archive.outside + member.removeprefix(archive.inside)
            if member.startswith(archive.inside) and listed.wants(path) and not member.endswith("/"):
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(member))


def _archive_named(source: str, listed: Manifest) -> Archive:
    name = source.rsplit("/", 1)[-1]
    for archive in listed.archives:
        if archive.url.rsplit("/", 1)[-1] == name:
            return archive
    raise UnknownNameError("upstream archive", name, (archive.url for archive in listed.archives))


def _download(url: str, folder: Path, listed: Manifest) -> Path:
    _archive_named(url, listed)
    file = folder / "archive.zip"
    sys.stderr.write(f"Downloading {url}\n")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, file.open("wb") as out:
            shutil.copyfileobj(response, out)
    except (urllib.error.URLError, TimeoutError) as error:
        raise UsageError(f"{url} could not be downloaded: {error}.") from error
    return file


def _files(root: Path) -> Iterator[Path]:
    return (file for file in root.rglob("*") if file.is_file())


def _posix(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _has_visual(expected: Path) -> bool:
    return any((expected.parent / f"textured.{kind}").is_file() for kind in ("obj", "dae", "glb"))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])
