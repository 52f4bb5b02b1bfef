"""JSON of datasets, checked where it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vla.data.errors import DataError, Where, printable, reading

Kind = TypeVar("Kind")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one object.

    Raises:
        DataError: it cannot be read, is no JSON, or holds something else.
    """
    with reading(Where(path), "cannot be read as JSON"):
        content = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(content, dict):
        raise DataError(Where(path), f"holds a {type(content).__name__}; an object is expected.")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one object a line; empty lines are passed over.

    Raises:
        DataError: it cannot be read, a line is no JSON, or holds something else.
    """
    with reading(Where(path), "cannot be read"):
        lines = path.read_text("utf-8-sig").split("\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        with reading(Where(path), f"line {number} cannot be read as JSON"):
            entry = json.loads(line)
        if not isinstance(entry, dict):
            raise DataError(Where(path), f"line {number} holds a {type(entry).__name__}; an object is expected.")
        entries.append(entry)
    return entries


def member(entry: Mapping[str, Any], key: str, kind: type[Kind], where: Where | Path) -> Kind:
    """Return what an object of a JSON file holds under a key; a whole number counts as a float.

    Raises:
        DataError: the key is missing, or holds something else.
    """
    place = Where(where, field=key) if isinstance(where, Path) else Where(where.file, where.episode, key)
    if key not in entry:
        raise DataError(place, f"is missing; there are {printable(', '.join(map(str, entry)))}.")
    value = entry[key]
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(place, f"is {printable(repr(value)[:80])}; a {kind.__name__} is expected.")
    return value
