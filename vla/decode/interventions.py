"""What a policy is made to say instead of its own motion, so that it acts on other words.

An answer factors into a motion and the actions that follow it. Success with the expert's words against success with its
own says what better words could be worth; success with wrong words says whether the actions listen to them at all.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from vla.errors import ModelError
from vla.motion.language import Motion, MotionSyntaxError, describe, parse

OWN, OPPOSITE, SHUFFLED, EXPERT = "own", "opposite", "shuffled", "expert"
_SPAN = re.compile(r"(\d+)(?:-(\d+))?[ \t]+(.+)")


class InterventionError(ModelError):
    """An intervention cannot be read; the message names it, or the line of its file."""


@dataclass(frozen=True)
class Span:
    """Steps in which a sentence is said.

    Attributes:
        first: control step.
        last: control step, included.
        sentence: of the motion language.
    """

    first: int
    last: int
    sentence: str


@dataclass(frozen=True)
class Intervention:
    """Whose words are said.

    Attributes:
        kind: "own", "opposite", "shuffled", "expert" or "given".
        spans: what is given; the last span that holds a step decides, and where none does, the words are its own.
    """

    kind: str
    spans: tuple[Span, ...] = ()

    def given(self, step: int) -> str | None:
        """Return the sentence that is given for a control step, or None."""
        held = [span.sentence for span in self.spans if span.first <= step <= span.last]
        return held[-1] if held else None


def intervention(text: str) -> Intervention:
    """Read what `say=` asks for.

    Args:
        text: "own", "opposite" (every word turned round), "shuffled" (a sentence that the policy said at another moment
            of the episode), "expert" (what the suite's expert would do), a sentence of the motion language for every
            step, or "file:PATH": lines such as "0-19 move forward up", for control steps 0 to 19, or "20 stop".

    Raises:
        InterventionError: it is none of these; for a sentence, the position and what was expected there.
    """
    if text in (OWN, OPPOSITE, SHUFFLED, EXPERT):
        return Intervention(text)
    if text.startswith("file:"):
        return Intervention("given", _read(Path(text.removeprefix("file:"))))
    return Intervention("given", (Span(0, 10**9, _sentence(text, "say")),))


def opposite(sentence: str) -> str:
    """Turn every word of a motion sentence round; "stop" stays."""
    return describe(Motion(*(-value for value in astuple(parse(sentence)))))


def shuffled(own: str, said: list[str], rng: np.random.Generator) -> str:
    """Return a sentence of another moment: one drawn from what was said in the episode before, else the own one.

    Args:
        own: the sentence of this moment; it is added to `said`.
        said: the policy's own sentences so far, in order.
        rng: of the episode.
    """
    drawn = said[int(rng.integers(len(said)))] if said else own
    said.append(own)
    return drawn


def _read(path: Path) -> tuple[Span, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InterventionError(f"say=file:{path} cannot be read: {error}.") from error
    spans = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _SPAN.fullmatch(text)
        if match is None:
            raise InterventionError(
                f"{path}, line {number}: {text!r} is no span of steps and a sentence. Expected such as "
                "'0-19 move forward up' or '20 stop'."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InterventionError(f"{path}, line {number}: steps {first}-{last} end before they begin.")
        spans.append(Span(first, last, _sentence(match[3].strip(), f"{path}, line {number}")))
    if not spans:
        raise InterventionError(f"say=file:{path} gives no sentence. A line is such as '0-19 move forward up'.")
    return tuple(spans)


def _sentence(text: str, where: str) -> str:
    try:
        parse(text)
    except MotionSyntaxError as error:
        kinds = ", ".join((OWN, OPPOSITE, SHUFFLED, EXPERT))
        also = f" say= also takes {kinds} and file:PATH." if where == "say" else ""
        raise InterventionError(f"{where}: {error}{also}") from error
    return text
