"""Conversations about images in LLaVA's format: a JSON list, or a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.errors import DataError, NothingToLearnError, Where, printable, reading
from vla.data.frames import FileFrames
from vla.data.inspection import INDEX, look_at
from vla.data.json_files import member
from vla.data.whole import LeftOut

_IMAGE = "<image>"
_ASKS, _ANSWERS = "human", "gpt"


@dataclass(frozen=True)
class Conversation:
    """One entry of the data file.

    Attributes:
        name: its id.
        image: path of its image, or None.
        turns: (question, answer) pairs, the image mark taken out.
    """

    name: str
    image: Path | None
    turns: tuple[tuple[str, str], ...]


def read_conversations(path: Path, images: Path, left: LeftOut, render: bool) -> list[Conversation]:
    """Read a file in LLaVA's format.

    As LLaVA does, an answer before the first question and a question after the last answer are passed over.

    Args:
        path: the file.
        images: folder that the images' paths begin in.
        left: notes the entries that are left out: of another layout, or whose image is missing or cannot be decoded.
        render: whether to decode every image that was not looked at before; they must all be there in any case.

    Raises:
        DataError: the file cannot be read, nothing in it can be used, or an entry is left out that must not be.
    """
    found = []
    for where, entry in _entries(path, left):
        try:
            with reading(where, "is no conversation in LLaVA's format"):
                found.append((where, _conversation(entry, where, images)))
        except DataError as error:
            left.note(error)
    problems = _problems(path, {one.image for _, one in found if one.image is not None}, render)
    kept = []
    for where, one in found:
        if one.image in problems:
            left.note(DataError(Where(path, where.episode, "image"), f"{one.image} {problems[one.image]}"))
        else:
            kept.append(one)
    if excess := left.excess(path, len(kept), len(kept)):
        raise excess
    if not kept:
        raise DataError(Where(path), f"holds no conversation to learn from. {left.summary()}")
    return kept


def _entries(path: Path, left: LeftOut) -> Iterator[tuple[Where, Any]]:
    """Yield place and content of each entry."""
    with reading(Where(path), "cannot be read as JSON"):
        text = path.read_text("utf-8-sig")
        if text.lstrip().startswith("["):
            entries = json.loads(text)
            yield from ((Where(path, f"number {number}"), entry) for number, entry in enumerate(entries))
            return
    for number, line in enumerate(text.split("\n"), start=1):
        where = Where(path, f"in line {number}")
        if line.strip():
            try:
                with reading(where, "cannot be read as JSON"):
                    entry = json.loads(line)
            except DataError as error:
                left.note(error)
            else:
                yield where, entry


def _conversation(entry: Any, where: Where, images: Path) -> Conversation:  # noqa: ANN401 - from a file
    if not isinstance(entry, dict):
        raise DataError(where, f"a {type(entry).__name__}.")
    texts = []
    for turn in member(entry, "conversations", list, where):
        texts.append((member(turn, "from", str, where), member(turn, "value", str, where)))
    unknown = {speaker for speaker, _ in texts} - {_ASKS, _ANSWERS}
    if unknown:
        raise DataError(where, f"{printable(sorted(unknown)[0])!r} speaks; {_ASKS} and {_ANSWERS} are expected.")
    if texts and texts[0][0] == _ANSWERS:
        texts = texts[1:]
    if texts and texts[-1][0] == _ASKS:
        texts = texts[:-1]
    if not texts:
        raise NothingToLearnError(where, "has no answer to a question.")
    if [speaker for speaker, _ in texts] != [_ASKS, _ANSWERS] * (len(texts) // 2):
        raise DataError(
            where, f"the turns are {[speaker for speaker, _ in texts]}; {_ASKS} and {_ANSWERS} must alternate."
        )
    said = [text.replace(_IMAGE, "").strip() for _, text in texts]
    named = entry.get("image") or []
    named = [named] if isinstance(named, str) else named
    if len(named) > 1:
        raise DataError(where, f"{len(named)} images; a conversation is about one.")
    name = str(entry.get("id", where.episode))
    return Conversation(name, images / named[0] if named else None, tuple(zip(said[::2], said[1::2], strict=True)))


def _problems(path: Path, images: set[Path], render: bool) -> dict[Path | None, str]:
    """Return what is wrong with images, by their paths."""
    sizes = {}
    problems: dict[Path | None, str] = {}
    for image in sorted(images):
        try:
            sizes[image] = image.stat().st_size
        except (OSError, ValueError):
            others = ", ".join(sorted(other.name for other in image.parent.glob(f"{image.stem}.*")))
            problems[image] = "is missing" + (f"; there is {others}." if others else ".")
    if render:
        frames = [FileFrames(Where(image), np.array([[0, size]])) for image, size in sizes.items()]
        errors = look_at(frames, path.with_name(f".{path.stem}{INDEX}"), f"{path.name}: looking at images")
        problems.update({image: error.problem for image, error in zip(sizes, errors, strict=True) if error})
    return problems
