"""A hash of a policy's weights: of all that decides its answers, wherever the files are and however they got there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from evals.errors import UsageError

# Beside the weights, but no part of them: what the Hub, git, Python, file managers and people add to a folder.
_BESIDE = ("__pycache__", "LICENSE", "LICENSE.txt", "Thumbs.db", "desktop.ini")
_TEXTS = (".md",)


def hash_path(path: str | Path) -> str:
    """Return 16 hex digits over the bytes of a file, or over names and bytes of every file of a folder.

    The file's or folder's own name does not count, hidden files and model cards do not either, and links count as
    what they lead to: a copied, renamed or downloaded checkpoint is the same policy.

    Raises:
        UsageError: there is no such file or folder, it holds no file, or something in it cannot be read.
    """
    path = Path(path)
    sha = hashlib.sha256()
    count = 0
    try:
        for name, file in _files(path):
            sha.update(os.fsencode(name) + b"\0" + _digest(file))
            count += 1
    except OSError as error:
        raise UsageError(f"The checkpoint's {error.filename or path} cannot be read: {error.strerror}.") from error
    if not count:
        raise UsageError(f"The checkpoint {path} holds no file: name the folder with the weights.")
    return sha.hexdigest()[:16]


def former_hash(path: str | Path) -> str:
    """Return the hash that earlier versions recorded, which the folder's own name and every file in it changed."""
    path = Path(path)
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        sha.update(str(file.relative_to(path.parent)).encode(errors="surrogateescape"))
        sha.update(_digest(file))
    return sha.hexdigest()[:16]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file that counts with its name below `path`, "" for `path` itself, in the order of the names."""
    if path.is_file():
        yield "", path
        return
    if not path.is_dir():
        what = "is no file or folder" if path.exists() else "does not exist"
        raise UsageError(f"The checkpoint {path} {what}: name a file or a folder with weights.")
    yield from _below(path, "", (os.path.realpath(path),))


def _below(folder: Path, prefix: str, ancestors: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or name in _BESIDE or name.endswith(_TEXTS):
            continue
        file = folder / name
        real = os.path.realpath(file)
        if file.is_dir():
            if real in ancestors:
                raise UsageError(f"The checkpoint's folder {file} is a link to a folder around it: remove the link.")
            yield from _below(file, f"{prefix}{name}/", (*ancestors, real))
        elif file.is_file():
            yield f"{prefix}{name}", file
        else:
            raise UsageError(f"The checkpoint's {file} is no file that can be read ({real}): restore or remove it.")


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
