"""Simulated experts: recorded actions whose intent the script that chose them knows at every step.

`python -m studies.motion.experts --tuning RUN_FOLDER ... --test RUN_FOLDER ...` packs the traces of run folders into
one small file, which is committed; the benchmark reads that file and needs no simulator.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evals.record import action_space_of, read_run
from evals.registry import load_suite
from evals.spaces import ActionSpace, gripper_level
from studies.motion.corpus import Corpus, LabelledEpisode
from vla.motion.language import all_motions, motion_index, parse, slots_from_motions

EXPERTS = Path("results/reference/motion/experts.npz")


class Scene(NamedTuple):
    """Where an episode starts."""

    suite: str
    task: int
    initial_state: int


class _Recorded(NamedTuple):
    """A trace's file, its scene, and what the numbers of its actions mean."""

    file: Path
    scene: Scene
    space: ActionSpace


class TraceError(ValueError):
    """A trace or a file of traces cannot be used; the message names it."""


def expert_corpora(split: Literal["tuning", "test"], path: Path = EXPERTS) -> list[Corpus]:
    """Read one split of the packed traces, a corpus for each suite; none if nothing was packed."""
    if not path.is_file():
        return []
    with np.load(path) as packed:
        suites = json.loads(str(packed["suites"]))
        lengths, suite_of, tests = packed["lengths"], packed["suite_of_episode"], packed["is_test"]
        ends = np.cumsum(lengths)
        actions = np.split(packed["actions"].astype(np.float64), ends[:-1])
        told = "rates" in packed  # older files leave it to the installed suites
        rates = packed["rates"].tolist() if told else [load_suite(name).action_space.control_hz for name in suites]
        slots = np.split(slots_from_motions([all_motions()[index] for index in packed["motions"]]), ends[:-1])
    corpora = []
    for number, suite in enumerate(suites):
        chosen = np.flatnonzero((suite_of == number) & (tests == (split == "test")))
        episodes = tuple(LabelledEpisode(actions[index], slots[index]) for index in chosen)
        if episodes:
            corpora.append(Corpus(suite, rates[number], episodes))
    return corpora


def pack(tuning: Iterable[Path], test: Iterable[Path], path: Path = EXPERTS) -> dict[str, int]:
    """Pack the traces of run folders into one file.

    Args:
        tuning: run folders of the tuning split, with `traces/<episode>.npz`: `actions [T, 7]` in the suite's convention
            and `said [T]`, the intents as motion sentences.
        test: run folders of the test split. An initial state that the tuning split has as well is left out, whatever
            else differs (seed, noise, protocol): the scene is known.
        path: file to write.

    Returns:
        Episodes packed, by split.

    Raises:
        TraceError: a trace has other contents, or no folder has any.
    """
    learned = _recorded(tuning)
    known = {trace.scene for trace in learned}
    fresh = [trace for trace in _recorded(test) if trace.scene not in known]
    suites = [trace.scene.suite for trace in learned + fresh]
    rates = {trace.scene.suite: trace.space.control_hz for trace in learned + fresh}
    traces = [read_trace(trace.file, trace.space) for trace in learned + fresh]
    if not traces:
        raise TraceError("None of the run folders has traces/*.npz; record them with `vla-eval --traces` first.")
    names = sorted(set(suites))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        suites=json.dumps(names),
        rates=np.array([rates[name] for name in names]),
        suite_of_episode=np.array([names.index(suite) for suite in suites], dtype=np.int16),
        is_test=np.arange(len(traces)) >= len(learned),
        lengths=np.array([len(actions) for actions, _ in traces], dtype=np.int32),
        actions=np.concatenate([actions for actions, _ in traces]).astype(np.float32),
        motions=np.concatenate([motions for _, motions in traces]).astype(np.int16),
    )
    return {"tuning": len(learned), "test": len(fresh)}


def read_trace(file: Path, space: ActionSpace) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Read one trace: actions `[T, 7]` with the gripper as a level (1 = open), and `[T]` motion numbers."""
    with np.load(file) as trace:
        said = "motion" if "motion" in trace.files else "said"  # as older traces call it
        missing = {"actions", said} - set(trace.files)
        if missing:
            raise TraceError(f"{file} lacks {' and '.join(sorted(missing))}; it holds {', '.join(trace.files)}.")
        actions = np.array(trace["actions"], dtype=np.float64)
        intents: Sequence[str] = [str(text) for text in trace[said]]
    if actions.ndim != 2 or actions.shape[1] != 7 or len(actions) != len(intents):
        raise TraceError(f"{file}: actions {actions.shape} and {len(intents)} intents; [T, 7] and T are expected.")
    actions[:, 6] = gripper_level(space, actions[:, 6])
    return actions, motion_index(slots_from_motions([parse(text) for text in intents]))


def _recorded(folders: Iterable[Path]) -> list[_Recorded]:
    """All traces of run folders, in the order of their episodes' names."""
    found = []
    for folder in folders:
        run = read_run(folder)
        space = action_space_of(run.header)
        if space is None:
            suite = run.header.suite["name"]
            raise TraceError(
                f"Suite {suite!r} has no gripper convention here: {folder} says none, and no package here offers it."
            )
        for result in sorted(run.results, key=lambda result: result.episode_id):
            file = folder / "traces" / f"{result.episode_id}.npz"
            if file.is_file():
                found.append(_Recorded(file, Scene(result.suite, result.task, result.initial_state), space))
    return found


def main() -> None:
    """Pack the run folders given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuning", type=Path, nargs="+", required=True, help="run folders")
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="run folders")
    parser.add_argument("--out", type=Path, default=EXPERTS)
    arguments = parser.parse_args()
    packed = pack(arguments.tuning, arguments.test, arguments.out)
    print(f"Packed {packed['tuning']} tuning and {packed['test']} test episodes into {arguments.out}.")


if __name__ == "__main__":
    main()
