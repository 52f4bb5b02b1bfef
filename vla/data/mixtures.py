"""Which data sets are mixed, with what weights: named on the command line, in a file, or as a published mixture.

A weight says how often a step of a data set is drawn, relative to a step of one with weight 1. The published mixtures
are those of Octo and OpenVLA, whose weights mean the same: they multiply the sizes of the data sets.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vla.data.errors import DataError, Where, reading

_PUBLISHED = Path(__file__).with_name("published_mixtures.json")
_ENDINGS = (".toml", ".json")


class Chosen(NamedTuple):
    """Folders of data sets, and a weight for each, or no weights where nobody gave any."""

    folders: tuple[Path, ...]
    weights: tuple[float, ...]


def published_mixtures() -> dict[str, dict[str, float]]:
    """Return name of a published mixture -> name of a data set -> weight."""
    mixtures: dict[str, dict[str, float]] = json.loads(_PUBLISHED.read_text())["mixtures"]
    return mixtures


def choose(
    data: Sequence[Path], weights: Sequence[float] = (), mixture: str | None = None, root: Path | None = None
) -> Chosen:
    """Return the folders to train on, and their weights.

    Args:
        data: folders; one that is called FOLDER@WEIGHT has that weight, and the others have weight 1.
        weights: a weight for each of `data`, or none.
        mixture: name of a published mixture, or a TOML or JSON file of `name = weight` (also below `[weights]`, beside
            `root = "FOLDER"`). Instead of `data`.
        root: the folder in which the data sets of the mixture lie by their names; that of the file by default.

    Raises:
        DataError: the options contradict each other; no such mixture; a weight is not positive; folders are missing,
            all of which are listed.
    """
    if mixture is None:
        if root is not None:
            raise DataError(Where(root), "--root says where the data sets of --mixture lie; name a mixture too.")
        return _split(data, weights)
    if data or weights:
        raise DataError(
            Where(Path(mixture)), "--mixture says which data sets are mixed and how; leave --data and --weights out."
        )
    if mixture.endswith(_ENDINGS):
        named, told_root = _read(Path(mixture))
        root = root or told_root
    else:
        named = _published(mixture)
        if root is None:
            raise DataError(Where(Path(mixture)), "is a published mixture; say with --root where its data sets lie.")
    _check(named, Path(mixture))
    return Chosen(_found(named, root, mixture), tuple(named.values()))


def _split(data: Sequence[Path], weights: Sequence[float]) -> Chosen:
    """Take the weights off the names of folders."""
    named: list[tuple[Path, float | None]] = []
    for path in data:
        before, at, after = str(path).rpartition("@")
        weight = _number(after) if at and before and not path.exists() else None
        named.append((path, None) if weight is None else (Path(before), weight))
    given = {str(path): weight for path, weight in named if weight is not None}
    if not given:
        return Chosen(tuple(data), tuple(weights))
    if weights:
        raise DataError(Where(data[0]), "weights are given twice: behind @ in --data, and in --weights.")
    _check(given, Path("--data"))
    return Chosen(tuple(path for path, _ in named), tuple(1.0 if weight is None else weight for _, weight in named))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read(path: Path) -> tuple[dict[str, float], Path]:
    """Read a file of weights and return them, with the folder in which the data sets lie."""
    with reading(Where(path), "cannot be read"):
        content = path.read_text()
        told: Any = json.loads(content) if path.suffix == ".json" else tomllib.loads(content)
        if not isinstance(told, dict):
            raise DataError(
                Where(path), f"holds a {type(told).__name__}; name = weight, one for each set, is expected."
            )
        root = path.parent / str(told.get("root", ""))
        weights = told.get("weights", {name: value for name, value in told.items() if name != "root"})
        if not isinstance(weights, dict) or not weights:
            raise DataError(Where(path, field="weights"), "names no data set; lines of name = weight are expected.")
        return weights, root


def _published(name: str) -> dict[str, float]:
    mixtures = published_mixtures()
    if name in mixtures:
        return mixtures[name]
    close = difflib.get_close_matches(name, mixtures, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(
        Where(Path(name)),
        f"is no published mixture.{hint} Known: {', '.join(mixtures)}; or name a .toml or .json file.",
    )


def _check(weights: Mapping[str, object], where: Path) -> None:
    for name, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:  # type: ignore[operator]  # it is a number
            raise DataError(Where(where, field=name), f"has weight {weight!r}; a positive number is expected.")


def _found(named: Mapping[str, float], root: Path, mixture: str) -> tuple[Path, ...]:
    """Return the folders of data sets, all of which must be there."""
    if not root.is_dir():
        raise DataError(Where(root), f"is no folder; the data sets of {mixture} are looked for in it.")
    missing = [name for name in named if not (root / name).is_dir()]
    if missing:
        there = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name not in named)
        lines = []
        for name in missing:
            close = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
            lines.append(f"\n  {name}" + (f" (did you mean {close[0]!r}, which is there?)" if close else ""))
        raise DataError(
            Where(root),
            f"lacks {len(missing)} of the {len(named)} data sets of {mixture}:{''.join(lines)}\nFetch them, link them "
            "to these names, or write a file of those that you have, with their weights.",
        )
    return tuple(root / name for name in named)
