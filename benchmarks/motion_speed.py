"""Steps per CPU second of the motion labellers and action tokenizers: `python -m benchmarks.motion_speed`.

CPU time on one core (set OMP_NUM_THREADS=1), the best of several repeats: the machine may be busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from vla.actions import ActionTokenizer, normalize_affine
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, RawLabeller
from vla.statistics import statistics_of

LONG_EPISODE_STEPS = 200_000
TRAJECTORIES = 12_000
TRAJECTORY_STEPS = 100
"""The paper pretrains on 12,000 trajectories of Open X-Embodiment; a hundred steps is their usual length."""


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the fastest of several calls."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(LONG_EPISODE_STEPS, 7))
    actions[:, 6] = np.arange(LONG_EPISODE_STEPS) // 40 % 2
    statistics = statistics_of("speed", [actions])
    sample = 600
    short = [
        actions[start : start + TRAJECTORY_STEPS] for start in range(0, sample * TRAJECTORY_STEPS, TRAJECTORY_STEPS)
    ]
    named = {str(number): episode for number, episode in enumerate(short)}
    hmm = HmmLabeller()
    print(f"{'':24}{'one long episode':>20}{f'{TRAJECTORIES:,} trajectories':>24}")
    for labeller in (RawLabeller(), AdaptiveLabeller()):
        long = cpu_seconds(lambda labeller=labeller: labeller.label(actions, statistics))
        many = cpu_seconds(lambda labeller=labeller: [labeller.label(one, statistics) for one in short])
        _report(type(labeller).__name__, long, many * TRAJECTORIES / sample)
    many = cpu_seconds(lambda: hmm.slots_of_episodes(named, statistics))
    _report(
        "HmmLabeller", cpu_seconds(lambda: hmm.label(actions[:20_000], statistics)) * 10, many * TRAJECTORIES / sample
    )
    tokenizer = ActionTokenizer()
    tokens = cpu_seconds(lambda: tokenizer.encode(normalize_affine(actions, statistics)))
    print(f"{'normalise and tokenize':24}{LONG_EPISODE_STEPS / tokens:14,.0f} steps/s")


def _report(name: str, long_seconds: float, trajectories_seconds: float) -> None:
    speed = f"{LONG_EPISODE_STEPS / long_seconds:,.0f} steps/s"
    print(f"{name:24}{speed:>20}{f'{trajectories_seconds:.1f} s':>24}")


if __name__ == "__main__":
    main()
