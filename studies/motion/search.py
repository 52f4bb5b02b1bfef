"""Chooses the labellers' settings on the tuning splits: `python -m studies.motion.search` writes them to a file.

Random draws, then random nudges of the best. The objective is exact-sentence accuracy alone: averaged over the
synthetic embodiments, averaged over the suites of the simulated experts, and then over these two. Raw thresholds are
searched on a grid, once for all and once per embodiment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from studies.motion.corpus import Corpus
from studies.motion.experts import expert_corpora
from studies.motion.scores import accuracy
from studies.motion.synthetic import TUNING_SEED, synthetic_corpora
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, Labeller, RawLabeller
from vla.motion.tuning import RAW_THRESHOLDS

SETTINGS = Path("results/reference/motion/settings.json")
RAW_WINDOWS = (1, 2, 3, 5, 8, 12, 20)

_SUBSET_EPISODES = 3
"""Number of episodes per embodiment on which a setting is tried before it is tried on all episodes."""
_SUBSET_SLACK = 0.01
"""A setting is tried on all episodes if its objective on the subset is at most this far below the best."""

Config = TypeVar("Config", AdaptiveLabeller, HmmLabeller)


@dataclass(frozen=True)
class Range:
    """Values of one field: `low` to `high`, log-uniform or, for integers, uniform."""

    low: float
    high: float
    integer: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a value."""
        if self.integer:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        return _three_digits(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))

    def nudge(self, value: float, rng: np.random.Generator) -> float:
        """Move a value a little, inside the range."""
        if self.integer:
            return int(np.clip(value + rng.integers(-2, 3), self.low, self.high))
        return _three_digits(np.clip(value * np.exp(rng.normal(0, 0.25)), self.low, self.high))


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    options: tuple[str, ...]

    def draw(self, rng: np.random.Generator) -> str:
        """Draw a value."""
        return self.options[rng.integers(len(self.options))]

    def nudge(self, value: str, rng: np.random.Generator) -> str:
        """Keep the value, mostly."""
        return value if rng.random() < 0.8 else self.draw(rng)


Space = Mapping[str, Range | Choice]

ADAPTIVE_SPACE: Space = {
    "base_translation": Range(0.03, 2.0),
    "base_rotation": Range(0.03, 2.0),
    "beta": Range(0.02, 3.0),
    "tau": Range(0, 20, integer=True),
    "fast": Range(1, 8, integer=True),
    "mid": Range(1, 14, integer=True),
    "slow": Range(1, 24, integer=True),
    "anchor": Choice(("future", "past", "centered")),
    "gripper_hold": Range(2, 4, integer=True),
    "smallest_scale": Range(0.02, 1.0),
    "smallest_turn": Range(0.05, 1.5),
}

HMM_SPACE: Space = {
    "slowest": Range(0.08, 0.3),
    "fastest": Range(0.3, 0.9),
    "speeds": Range(1, 4, integer=True),
    "rest_noise": Range(0.01, 0.15),
    "own_noise": Range(0.2, 2.0),
    "speed_noise": Range(0.05, 0.6),
    "local_speed_noise": Range(0.02, 0.6),
    "local_speed_span": Range(1, 25, integer=True),
    "switch_cost": Range(0.7, 6.0),
    "speed_cost": Range(0.2, 3.0),
    "event_steps": Range(3, 25, integer=True),
    "smallest_scale": Range(0.02, 1.0),
    "smallest_turn": Range(0.05, 1.5),
    "gripper_hold": Range(2, 4, integer=True),
}


def tuning_parts() -> list[list[Corpus]]:
    """Tuning splits of the synthetic embodiments and, where they were recorded, of the simulated experts."""
    return [part for part in (synthetic_corpora(TUNING_SEED), expert_corpora("tuning")) if part]


def mean_accuracy(labeller: Labeller, corpora: Sequence[Corpus]) -> float:
    """Exact-sentence accuracy, averaged over embodiments."""
    return float(np.mean([accuracy(labeller, corpus) for corpus in corpora]))


def objective(labeller: AdaptiveLabeller | HmmLabeller, parts: Sequence[Sequence[Corpus]]) -> float:
    """Mean accuracy of each part of the benchmark, averaged over the parts."""
    return float(np.mean([mean_accuracy(labeller, part) for part in parts]))


def search(start: Config, space: Space, parts: Sequence[Sequence[Corpus]], budget: int, seed: int = 0) -> Config:
    """Find the setting with the highest objective: half the budget in draws, half in nudges of the best.

    Args:
        start: its fields outside the space stay; it competes as well.
        space: fields to choose.
        parts: tuning splits, part by part.
        budget: settings tried.
        seed: of the search.
    """
    rng = np.random.default_rng(seed)
    subset = [[replace(one, episodes=one.episodes[:_SUBSET_EPISODES]) for one in part] for part in parts]
    best, highest = start, objective(start, parts)
    highest_on_subset = objective(start, subset)
    for trial in range(budget):
        if trial < budget // 2:
            values = {name: field.draw(rng) for name, field in space.items()}
        else:
            chosen = [name for name in space if rng.random() < 0.35]
            values = {name: space[name].nudge(getattr(best, name), rng) for name in chosen}
        try:
            candidate = replace(best, **values)  # type: ignore[arg-type]
        except ValueError:  # windows that do not nest
            continue
        if objective(candidate, subset) > highest_on_subset - _SUBSET_SLACK:
            reached = objective(candidate, parts)
            if reached > highest:
                best, highest = candidate, reached
                highest_on_subset = objective(best, subset)
    return best


def tuned_raw(corpora: Sequence[Corpus], windows: Sequence[int] = (RawLabeller.window,)) -> RawLabeller:
    """Return the raw labeller with the best threshold (and window, if several are given) for these corpora together."""
    candidates = [RawLabeller(threshold, window) for window in windows for threshold in RAW_THRESHOLDS]
    return max(candidates, key=lambda labeller: mean_accuracy(labeller, corpora))


def adaptive_variants(best: AdaptiveLabeller) -> dict[str, tuple[AdaptiveLabeller, Space]]:
    """Return the ablations: what is held fixed, and the space in which the rest is tuned anew."""
    without = {name: field for name, field in ADAPTIVE_SPACE.items() if name not in ("beta", "tau")}
    unanchored = {name: field for name, field in ADAPTIVE_SPACE.items() if name != "anchor"}
    unfloored = {name: field for name, field in ADAPTIVE_SPACE.items() if not name.startswith("smallest_")}
    return {
        "no adaptive threshold": (replace(best, beta=0.0), without),
        "fast window alone": (replace(best, detectors=("fast",)), ADAPTIVE_SPACE),
        "mid window alone": (replace(best, detectors=("mid",)), ADAPTIVE_SPACE),
        "slow window alone": (replace(best, detectors=("slow",)), ADAPTIVE_SPACE),
        "windows in the future": (replace(best, anchor="future"), unanchored),
        "windows in the past": (replace(best, anchor="past"), unanchored),
        "every axis its own scale": (replace(best, smallest_scale=0.0, smallest_turn=0.0), unfloored),
        "affine normalisation": (replace(best, normalization="affine"), ADAPTIVE_SPACE),
    }


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def main() -> None:
    """Search all settings and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=200, help="settings tried; two fifths for each ablation")
    parser.add_argument("--out", type=Path, default=SETTINGS)
    arguments = parser.parse_args()
    parts = tuning_parts()
    print("searching: adaptive", flush=True)
    adaptive = search(AdaptiveLabeller(), ADAPTIVE_SPACE, parts, arguments.budget)
    found: dict[str, object] = {"adaptive": asdict(adaptive)}
    for name, (start, space) in adaptive_variants(adaptive).items():
        print(f"searching: {name}", flush=True)
        found[name] = asdict(search(start, space, parts, arguments.budget * 2 // 5))
    print("searching: HMM", flush=True)
    found["hmm"] = asdict(search(HmmLabeller(), HMM_SPACE, parts, arguments.budget))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"Settings are in {arguments.out}; the defaults of vla.motion.labellers and vla.motion.hmm must equal them.")


if __name__ == "__main__":
    main()
