"""Places to write for packages that insist on one, where neither the installation nor a home can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

NUMBA_CACHE = "NUMBA_CACHE_DIR"


def give_home(environment: MutableMapping[str, str]) -> None:
    """Set HOME where it is unset and the user has no entry in the password file: LIBERO asks for it at import."""
    if environment.get("HOME"):
        return
    try:
        Path.home()
    except RuntimeError:
        environment["HOME"] = str(_temporary() or os.sep)


def numba_can_cache(environment: MutableMapping[str, str], compiled: Path) -> bool:
    """See to it that numba can keep what it compiles; return whether it can (else it must compile at every start).

    Beside the code if that can be written; else in the user's cache, or in the folder for temporary files.

    Args:
        environment: gets `NUMBA_CACHE_DIR`, unless the user has set it to a folder that can be written.
        compiled: folder of the code that is compiled.
    """
    given = environment.get(NUMBA_CACHE, "").strip()
    if given:
        return _is_folder(Path(given))
    environment.pop(NUMBA_CACHE, None)  # numba takes an empty name for the folder it is started in
    beside = compiled / "__pycache__"
    if os.access(beside if beside.is_dir() else compiled, os.W_OK):
        return True
    cache = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    temporary = _temporary()
    folders = [Path(cache) / "motion-vla" / "numba"]
    folders += [temporary / f"motion-vla-numba-{os.getuid()}"] if temporary else []
    for folder in folders:
        if folder.is_absolute() and _is_own(folder):
            environment[NUMBA_CACHE] = str(folder)
            return True
    return False


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None


def _is_folder(folder: Path) -> bool:
    """Make the folder; return whether files can be written into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _is_own(folder: Path) -> bool:
    """Make the folder; return whether it can be written, and nobody else can put compiled code into it."""
    if not _is_folder(folder):
        return False
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
