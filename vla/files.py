"""Files that are whole or not there: faults on reading are put in words, writing goes beside and is renamed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from vla.errors import ModelError


def read_object(path: Path, error: type[ModelError], way_out: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        error: what to raise.
        way_out: what to do about a damaged file; ends error messages.

    Raises:
        ModelError: of the given type: the file cannot be read, is cut, or holds something else.
    """
    try:
        content = path.read_bytes()
        data = json.loads(content)
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror}. {way_out}") from fault
    except (ValueError, RecursionError) as fault:
        what = f"is damaged: {fault}" if content else "is empty"
        raise error(f"{path} {what}. {way_out}") from fault
    if not isinstance(data, dict):
        raise error(f"{path} holds a {type(data).__name__}; an object is expected. {way_out}")
    return data


def write_text(path: Path, text: str) -> None:
    """Write a file so that, whenever the process or the machine stops, the old content or the new one is there."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def replace_folder(partial: Path, folder: Path) -> None:
    """Put a complete folder in the place of an older one, which is removed only when the new one stands."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)
