"""Demonstrations: successful episodes of an expert, recorded as traces; their images are rendered afterwards.

A demonstration folder holds `demos.json` (the manifest that `vla.data.demos` reads), `run/` (the recorded run with its
traces) and `images/`. Demonstrations never start from an initial state on which policies are evaluated.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from evals.config import RunConfig, task_ids
from evals.demos.drawn import cameras_of, height_of
from evals.demos.exports import bring_up_to_date
from evals.demos.manifest import FORMAT, MANIFEST, read_manifest, require_no_merged
from evals.demos.pictures import ImageFormat
from evals.demos.rendering import RenderConfig, render, run_shown
from evals.errors import RunIncompleteError, UsageError
from evals.record import read_run
from evals.registry import EXPORTERS, load_all, load_suite
from evals.setup import prepare
from evals.types import Episode, EpisodeResult, Status, Suite

PERTURBATION = ("noise", "slowest", "fastest", "push_fraction", "consistent_grasp")
TRIES = 3  # initial states tried for each wanted demonstration before recording stops with an error


@dataclass(frozen=True)
class RecordConfig:
    """Record demonstrations: successful episodes of a suite's expert, from new initial states.

    Attributes:
        suite: Suite to record in; `vla-eval list` names all suites.
        out: Demonstration folder; the same command continues a recording that was stopped.
        trials: Number of successful episodes to record of each task.
        tasks: Ids or names of the tasks to record; all tasks by default.
        seed: Seed of the object placements and of the perturbations.
        workers: Number of worker processes; one per physical core by default.
        noise: Standard deviation, in metres, of the noise that is added to the expert's movements.
        slowest: Smallest factor on the expert's speed; each episode draws its factor between smallest and largest.
        fastest: Largest factor on the expert's speed.
        push_fraction: Expected fraction of the steps in which the arm is pushed off its path.
        consistent_grasp: Grasp an object in the same way in nearly all scenes of a task, instead of choosing the grasp
            with the most clearance.
        takeover: Policy that acts first in every episode, as POLICY or POLICY:option=value,option=value, for example
            vla:checkpoint=runs/one/checkpoint,unnorm_key=libero_spatial; then the expert takes over and finishes. Only
            the expert's steps are to be imitated.
        takeover_steps: Largest number of steps that this policy acts for; each episode draws its own number from 1 on.
        every: Number of control steps between rendered images; 0 renders none, and `vla-eval render` can do it later.
        cameras: Names of the cameras to render; all cameras of the suite by default.
        size: Height of the rendered images in pixels; the protocol's height by default.
        image_format: How images are stored: "webp" and "png" are lossless, "jpeg" (quality 95) is less than half as
            large as "webp".
        gates: Test the conventions of the suite with gates before the first episode.
    """

    suite: str
    out: Path
    trials: int = 50
    tasks: tuple[str, ...] = ()
    seed: int = 0
    workers: int | None = None
    noise: float = 0.0
    slowest: float = 1.0
    fastest: float = 1.0
    push_fraction: float = 0.0
    consistent_grasp: bool = False
    takeover: str = ""
    takeover_steps: int = 0
    every: int = 1
    cameras: tuple[str, ...] = ()
    size: int | None = None
    image_format: ImageFormat = "webp"
    gates: bool = True


def record_command(arguments: list[str]) -> int:
    """Run `vla-eval record`."""
    config = tyro.cli(RecordConfig, args=arguments, prog="vla-eval record")
    if config.trials < 1 or config.every < 0:
        raise UsageError(f"--trials {config.trials} --every {config.every}: at least 1 and 0 are expected.")
    exporters = load_all(EXPORTERS)  # before hours of recording, not after
    suite = load_suite(config.suite)
    cameras_of(suite, config.cameras)
    height_of(suite, config.size)
    record(config)
    if config.every:
        drawn = RenderConfig(config.out, config.every, config.cameras, config.size)
        render(replace(drawn, workers=config.workers, image_format=config.image_format))
    bring_up_to_date(config.out, read_manifest(config.out), exporters)
    return 0


def record(config: RecordConfig) -> None:
    """Record traces until every task has the wanted number of successful episodes, and write the manifest.

    Raises:
        UsageError: the suite has no initial states besides those of its protocol.
        RunIncompleteError: the expert fails too often at a task.
    """
    require_no_merged(config.out)
    suite = load_suite(config.suite)
    if not suite.extra_states:
        raise UsageError(f"{suite.name} has no initial states besides those that policies are evaluated on.")
    first = suite.protocol.initial_states
    wanted = dict.fromkeys(task_ids(suite, config.tasks), config.trials)
    states = dict(wanted)
    while True:
        episodes = [
            Episode(suite.name, task, state, config.seed, suite.protocol.hash)
            for task, count in states.items()
            for state in range(first, first + count)
        ]
        run_shown(replace(prepare(_run_config(config)), episodes=episodes))
        successes = Counter(result.task for result in _successes(config.out / "run"))
        short = {task: count - successes[task] for task, count in wanted.items() if successes[task] < count}
        if not short:
            break
        given_up = [task for task in short if states[task] >= TRIES * wanted[task]]
        if given_up:
            task = given_up[0]
            raise RunIncompleteError(
                f"The expert solved {successes[task]} of {states[task]} scenes of {suite.name} task {task}, too few "
                f"for {wanted[task]} demonstrations. Everything recorded stays in {config.out}."
            )
        states.update({task: states[task] + missing for task, missing in short.items()})
    _write_manifest(config, suite, wanted)


def _run_config(config: RecordConfig) -> RunConfig:
    return RunConfig(
        suite=config.suite,
        policy="demonstrator",
        policy_args=tuple(f"{name}={_text(value)}" for name, value in _perturbation(config).items()),
        seed=config.seed,
        workers=config.workers,
        out=config.out / "run",
        traces=True,
        gates=config.gates,
    )


def _perturbation(config: RecordConfig) -> dict[str, Any]:
    """Return what demonstrations differ in from the plain expert; a takeover is named where there is one."""
    names = (*PERTURBATION, *(("takeover", "takeover_steps") if config.takeover or config.takeover_steps else ()))
    return {name: getattr(config, name) for name in names}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _successes(folder: Path) -> list[EpisodeResult]:
    results = [result for result in read_run(folder).results if result.status is Status.SUCCESS]
    return sorted(results, key=lambda result: (result.task, result.initial_state))


def _write_manifest(config: RecordConfig, suite: Suite, wanted: Mapping[int, int]) -> None:
    taken: Counter[int] = Counter()
    entries = []
    sha = hashlib.sha256()
    for result in _successes(config.out / "run"):
        if result.task not in wanted or taken[result.task] >= wanted[result.task]:
            continue
        taken[result.task] += 1
        sha.update(result.trajectory_hash.encode())
        entries.append(
            {
                "task": result.task,
                "instruction": suite.tasks[result.task].instruction,
                "initial_state": result.initial_state,
                "seed": result.seed,
                "steps": result.steps,
                "trajectory_hash": result.trajectory_hash,
                "trace": f"run/traces/{result.episode_id}.npz",
            }
        )
    space = suite.action_space
    manifest = {
        "format": FORMAT,
        "suite": suite.name,
        "protocol": suite.protocol.hash,
        "robot": suite.state_space.source,
        "control_hz": space.control_hz,
        "gripper": {"open": space.gripper_open, "closed": space.gripper_closed},
        "state_names": suite.state_space.names,
        "placements": f"initial states from {suite.protocol.initial_states} on: none that policies are evaluated on",
        "perturbation": _perturbation(config),
        "states_hash": sha.hexdigest()[:16],
        "episodes": entries,
    }
    partial = config.out / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    partial.replace(config.out / MANIFEST)
