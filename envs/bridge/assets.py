"""Where the meshes and photographs of `simpler_bridge` are, whether they are the right ones, and how they get there.

Nothing is downloaded unless a user says from where: `vla-eval assets simpler_bridge --from DIR|ZIP|URL`.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from envs.bridge.manifest import LAYOUT, Manifest, manifest, sha256_of
from envs.bridge.sources import files_in, gather
from evals.errors import MissingAssetsError, UnknownNameError, UsageError
from evals.types import digest

__all__ = ["Pack", "command", "default_root", "find_pack", "lay_out", "manifest", "verify"]

COMMAND = "vla-eval assets simpler_bridge --from DIR|ZIP|URL"


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


def default_root(environment: Mapping[str, str]) -> Path:
    """Return where a pack is laid out: under MS_ASSET_DIR (ManiSkill's) if set, else in the user's cache."""
    return _roots(environment)[0]


def find_pack() -> Pack:
    """Return the pack on this machine.

    Raises:
        MissingAssetsError: it is not there, or is not what it should be.
    """
    roots = _roots(os.environ)
    return _verified(next((root for root in roots if (root / "tasks").is_dir()), roots[0]))


def _roots(environment: Mapping[str, str]) -> list[Path]:
    """Return where a pack may lie, the usual place first.

    Without MS_ASSET_DIR, also in the cache of the home that the password file knows (a scheduler or container may set
    another HOME, or none).
    """
    if given := environment.get("MS_ASSET_DIR", "").strip():
        folder = Path(os.path.expanduser(given))
        return [folder / "data", folder]
    caches = [environment.get("XDG_CACHE_HOME", "")]
    caches += [f"{home}/.cache" for home in (environment.get("HOME", ""), _home_of_user()) if home]
    caches = [cache for cache in caches if cache] or ["/var/cache"]
    return [Path(os.path.expanduser(cache)) / "motion-vla" / "simpler_bridge" for cache in caches]


def _home_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


@lru_cache(maxsize=4)
def _verified(root: Path) -> Pack:
    return verify(root)


def verify(root: Path, called: str = "") -> Pack:
    """Check a folder against the manifest.

    Args:
        root: folder with `tasks` and `robots`.
        called: what errors call it; its path by default.

    Raises:
        MissingAssetsError: a file is missing or is another one than it should be.
    """
    listed, called = manifest(), called or _called(root)
    missing = [path for path in (*listed.files, *listed.stand_ins) if not (root / path).is_file()]
    # The original eggplant may come in files of other names.
    missing = [path for path in missing if not (path.startswith(listed.open_folders) and _has_visual(root / path))]
    if missing:
        raise MissingAssetsError(
            f"simpler_bridge needs {len(missing)} files that are not in {called}, the first is {missing[0]}.\n"
            f"Lay them out with: {COMMAND}\n"
            f"(DIR holds {LAYOUT}; `--from upstream` downloads the original archives.)"
        )
    changed = [path for path, sha256 in listed.files.items() if sha256_of(root / path) != sha256]
    if changed:
        raise MissingAssetsError(
            f"{len(changed)} asset files in {called} are not SimplerEnv's, the first is {changed[0]}: "
            f"scores would not be comparable. Take them from another source: {COMMAND}"
        )
    present = {path: sha256_of(root / path) for path in _wanted_in(root, listed)}
    loose = {path: sha256 for path, sha256 in present.items() if path not in listed.files}
    stand_ins = tuple(path for path, sha256 in loose.items() if listed.stand_ins.get(path) == sha256)
    return Pack(root, digest(present), stand_ins, tuple(path for path in loose if path not in stand_ins))


def command(arguments: list[str]) -> int:
    """Run `vla-eval assets`: lay a pack out and say what it is.

    Raises:
        MissingAssetsError: the source does not hold what is needed.
        UsageError: the source cannot be read, or the folder cannot be written.
    """
    parser = argparse.ArgumentParser(prog="vla-eval assets", description="Lay out the files that a suite needs.")
    parser.add_argument("suite", help="simpler_bridge (the other suites bring their files with their packages)")
    sources = "where the files are: a folder, a zip file or its URL, or upstream for the original downloads"
    parser.add_argument(
        "--from", dest="source", required=True, action="append", metavar="DIR|ZIP|URL|upstream", help=sources
    )
    parser.add_argument(
        "--to", type=Path, help="folder to write, for use as MS_ASSET_DIR (default: a folder in the user's cache)"
    )
    options = parser.parse_args(arguments)
    if options.suite != "simpler_bridge":
        raise UnknownNameError("suite with separate assets", options.suite, ["simpler_bridge"])
    to = options.to.expanduser().absolute() if options.to else None
    root = to / "data" if to else default_root(os.environ)
    pack = lay_out(options.source, root)
    sys.stdout.write(f"{root}: assets {pack.describe()}\n")
    if to:
        sys.stdout.write(f"Use it with: export MS_ASSET_DIR={to}\n")
    return 0


def lay_out(sources: list[str], root: Path) -> Pack:
    """Copy what the four tasks need from folders, archives or URLs, verify it, and only then put it into its place.

    Args:
        sources: folders in ManiSkill's layout, upstream's zip archives or their URLs, or "upstream" for all of these.
        root: folder to fill. Files of the pack that it holds and no source has stay; what else lies there is not
            touched. Until the whole is verified, nothing in it is changed.

    Raises:
        MissingAssetsError: sources and folder together do not hold what is needed.
        UsageError: a source cannot be read or is none of these, or the folder cannot be written.
    """
    listed = manifest()
    partial = root.with_name(root.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an earlier start that was killed
        pack = partial / "pack"
        pack.mkdir(parents=True)
        try:
            gather(sources, pack, listed)
            _keep(root, pack, listed)
            verify(pack, called=f"{', '.join(sources)} or in {root} (left as it was)")
            _move(pack, root, listed)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"{root} cannot be laid out: {error}. Choose another folder with --to.") from error
    _verified.cache_clear()
    return verify(root)


def _keep(root: Path, pack: Path, listed: Manifest) -> None:
    """Copy the files that the sources do not have; no stand-in where an original came in files of other names."""
    hashed = {*listed.files, *listed.stand_ins}
    original_came = any(path not in hashed for path in _wanted_in(pack, listed))
    for path in _wanted_in(root, listed):
        replaced = original_came and path.startswith(listed.open_folders) and path not in listed.files
        if not replaced and not (pack / path).exists():
            (pack / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, pack / path)


def _move(pack: Path, root: Path, listed: Manifest) -> None:
    """Move verified files into their place, one after the other, and drop what they replace."""
    files = _wanted_in(pack, listed)
    for path in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (pack / path).replace(root / path)
    for path in set(_wanted_in(root, listed)) - set(files):
        (root / path).unlink()


def _wanted_in(root: Path, listed: Manifest) -> list[str]:
    paths = (file.relative_to(root).as_posix() for file in files_in(root))
    return sorted(path for path in paths if listed.wants(path))


def _called(root: Path) -> str:
    given = os.environ.get("MS_ASSET_DIR")
    return f"{root} (MS_ASSET_DIR is {given})" if given and root in _roots(os.environ) else str(root)


def _has_visual(expected: Path) -> bool:
    return any((expected.parent / f"textured.{kind}").is_file() for kind in ("obj", "dae", "glb"))


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])
