"""One side of a comparison: a policy's runs of one suite, under every seed that it was run with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.paper.measured import refuse_duplicates
from analysis.recorded import decision_of, distinct, require_known_tasks
from evals.errors import UsageError
from evals.record import Header, Run
from evals.types import EpisodeResult

Key = tuple[int, int, int]


@dataclass(frozen=True)
class Side:
    """One policy's runs of one suite, which differ in their seed only."""

    runs: tuple[Run, ...]

    @property
    def header(self) -> Header:
        """The header of the first run; those of the others say the same of suite and protocol."""
        return self.runs[0].header

    @property
    def place(self) -> str:
        """The folders."""
        return ", ".join(str(run.path) for run in self.runs)

    @property
    def results(self) -> list[EpisodeResult]:
        """The results of all runs."""
        return [result for run in self.runs for result in run.results]

    @cached_property
    def folders(self) -> dict[Key, Path]:
        """The run folder of every episode."""
        return {key_of(result): run.path for run in self.runs for result in run.results}


def side_of(runs: Sequence[Run]) -> Side:
    """Put runs on one side.

    Raises:
        UsageError: they differ in more than their seed, or two of them do not differ in it.
        RunFolderError: a record has episodes of tasks that its header lacks.
    """
    for run in runs:
        require_known_tasks(run)
    suite = runs[0].header.suite["name"]
    refuse_duplicates(runs, f"stand on one side for {suite}", "One side holds one policy's runs: name those.")
    return Side(tuple(runs))


def protocol_note(a: Side, b: Side, mixed: bool) -> list[str]:
    """Say in what the protocols differ, or refuse to compare under different ones.

    Raises:
        UsageError: they differ, and `mixed` does not say that this is meant.
    """
    if a.header.protocol_hash == b.header.protocol_hash:
        return []
    fields = sorted({*a.header.protocol, *b.header.protocol})
    differing = ", ".join(name for name in fields if a.header.protocol.get(name) != b.header.protocol.get(name))
    if not mixed:
        raise UsageError(
            f"{a.place} and {b.place} ran under different protocols (they differ in: {differing}),"
            " so a difference may come from there. --mixed-protocols compares them all the same."
        )
    return [f"The protocols differ ({differing}): a difference may come from there."]


def run_notes(a: Side, b: Side) -> list[str]:
    """Say what is particular about the runs: copies on both sides, seeds of one side only, decided comparisons."""
    known = {id(run) for run in distinct([*a.runs, *b.runs]).runs}
    copies = [run for run in b.runs if id(run) not in known or run.path in {other.path for other in a.runs}]
    notes = ["A and B hold the same record."] if copies else []
    seeds = [sorted({result.seed for result in side.results}) for side in (a, b)]
    if any(len(found) > 1 for found in seeds) and seeds[0] != seeds[1]:
        told = " ".join(f"{name} ran seeds {', '.join(map(str, s))}." for name, s in zip("AB", seeds, strict=True))
        notes.append(f"{told} Pairs need the same seed.")
    for name, side in (("A", a), ("B", b)):
        notes += [f"{name}: {text}" for text in dict.fromkeys(map(decision_of, side.runs)) if text]
    return notes


def same_seeds(a: Side, b: Side) -> tuple[list[EpisodeResult], list[EpisodeResult]]:
    """Return the results of seeds that both ran: another seed's would never be paired, and end the sequence."""
    seeds = {result.seed for result in a.results} & {result.seed for result in b.results}
    first, second = ([r for r in side.results if r.seed in seeds or not seeds] for side in (a, b))
    return first, second


def key_of(result: EpisodeResult) -> Key:
    """Return what makes two episodes a pair: task, initial state and seed."""
    return result.task, result.initial_state, result.seed
