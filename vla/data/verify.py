"""Reading with a second look: episodes are passed on once their numbers agree with their layout."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from vla.data.demonstration import Demonstration
from vla.data.errors import ContradictedLayoutError, DataError, OnBad, UnknownLayoutError, Where
from vla.data.evidence import Evidence, contradictions, doubts, evidence_of
from vla.data.layout import Layout
from vla.data.oxe import LAYOUTS

Read = Callable[[Layout | None, OnBad], Iterator[Demonstration]]
"""Reads a dataset by a layout, or by the one that it says itself."""

_LOOKED_AT = 64
"""Episodes that are held against the layout before the first is passed on, and with each other ever after."""

_log = logging.getLogger("vla.data")


def verified(directory: Path, read: Read, layout: Layout | None, on_bad: OnBad) -> Iterator[Demonstration]:
    """Yield the episodes of a dataset; refuse it, or say a word, where its numbers are not what its layout says."""
    try:
        episodes = read(layout, on_bad)
        first = True
        while some := list(islice(episodes, _LOOKED_AT)):
            shown = evidence_of(some)
            _require(directory, shown, some[0])
            if first:
                for line in doubts(shown, some[0].convention):
                    _log.warning("warning: %s (layout %s): %s.", directory, some[0].convention.layout, line)
            first = False
            yield from some
    except UnknownLayoutError as error:
        raise with_fits(error, directory, read) from None


def with_fits(error: UnknownLayoutError, directory: Path, read: Read) -> UnknownLayoutError:
    """Return the error with the layouts that the dataset's numbers fit, whatever its name."""
    shown, fits = _fits(directory, read)
    if shown is None:
        return error
    words = ", ".join(fits) or "none of the known layouts"
    return UnknownLayoutError(error.where, f"its numbers ({shown.gripper}) fit: {words}. But {error.problem}")


def _fits(directory: Path, read: Read) -> tuple[Evidence | None, list[str]]:
    seen: Evidence | None = None
    fits: list[str] = []
    groups: dict[object, list[Layout]] = {}
    for layout in LAYOUTS:
        # What is read from states alone fits any data set that has some.
        if layout.gripper is not None and "observation/state" not in layout.inputs:
            groups.setdefault(layout.actions, []).append(layout)
    for layouts in groups.values():
        for layout in layouts:
            try:
                some = list(islice(read(layout, lambda error: None), _LOOKED_AT))
            except DataError:
                continue
            if not some:
                continue
            shown = evidence_of(some)
            seen = seen or shown
            code = layout.gripper.code if layout.gripper else None
            if not contradictions(shown, code, layout.convention) and not doubts(shown, layout.convention):
                names = [other.name for other in layouts]
                fits += difflib.get_close_matches(directory.name, names, n=1, cutoff=0) or names[:1]
            break
    return seen, fits


def _require(directory: Path, shown: Evidence, episode: Demonstration) -> None:
    layout = next((layout for layout in LAYOUTS if layout.name == episode.convention.layout), None)
    code = layout.gripper.code if layout and layout.gripper else None
    wrong = contradictions(shown, code, episode.convention)
    if wrong:
        raise ContradictedLayoutError(
            Where(directory, field="action"),
            f"is not what layout {episode.convention.layout!r} says: {'; '.join(wrong)}. Say which layout holds with "
            "--layout NAME (of several folders: FOLDER=NAME,FOLDER=NAME); 'standard' is changes and a gripper of "
            "0 closed to 1 open.",
        )
