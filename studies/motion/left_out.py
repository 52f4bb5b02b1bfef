"""How well a labeller does where nothing was tuned: `python -m studies.motion.left_out` prints the table.

Every family of generators is left out in turn. The setting that was best on the tuning splits of the others (and of the
simulated experts) is scored on the test split of the family left out. Raw thresholds get more: each is tuned on the
very robot that it is scored on. The pool of settings is drawn once (`--draw 240`, some minutes) and kept with its
scores; the table is made from it in a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from evals.terminal.tables import Sheet
from studies.motion.corpus import Corpus
from studies.motion.experts import expert_corpora
from studies.motion.families import family_corpora
from studies.motion.scores import labelled, tolerant_accuracy
from studies.motion.search import SETTINGS, Range, mean_accuracy, tuned_raw
from studies.motion.synthetic import TEST_SEED, TUNING_SEED, synthetic_corpora
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, Labeller, Slots
from vla.motion.segments import SegmentLabeller

POOL = SETTINGS.with_name("left_out_pool.csv")
EXPERTS = "experts"
SPACE = {
    "border_cost": Range(1.5, 12.0),
    "axis_cost": Range(0.5, 5.0),
    "evidence": Range(0.4, 1.0),
    "noise_floor": Range(0.003, 0.03),
    "own_noise": Range(0.5, 1.4),
    "prior_steps": Range(1.0, 10.0),
    "rest_speed": Range(0.004, 0.04),
    "rest_noise": Range(0.2, 1.5),
    "leak": Range(0.04, 0.16),
    "turn_leak": Range(0.06, 0.3),
    "overlap_part": Range(0.03, 0.15),
    "smallest_part": Range(0.003, 0.03),
    "event_steps": Range(12, 22, integer=True),
    "smallest_scale": Range(0.4, 1.0),
    "smallest_turn": Range(0.5, 1.5),
}
_EXPERTS_COUNT = 0.25
"""Share of the experts in what a setting is chosen by; the families share the rest."""
_EPISODES_A_ROBOT = 4
"""Episodes of each robot that a setting of the pool is scored on."""


def parts(seed: int, split: str) -> dict[str, list[Corpus]]:
    """Return the corpora of every family, of the recorded robots (a family too) and of the experts."""
    experts = expert_corpora("test" if split == "test" else "tuning")
    return {**family_corpora(seed), "recorded": synthetic_corpora(seed), EXPERTS: experts}


def drawn_pool(count: int, seed: int = 0) -> list[SegmentLabeller]:
    """Draw settings from the space; the defaults are none of them."""
    rng = np.random.default_rng(seed)
    drawn = [{name: field.draw(rng) for name, field in SPACE.items()} for _ in range(count)]
    return [SegmentLabeller(**setting) for setting in drawn]  # type: ignore[arg-type]


def score_pool(pool: Sequence[SegmentLabeller], tuning: dict[str, list[Corpus]], path: Path) -> None:
    """Score settings on the tuning splits and write them with their accuracies, a row each, as they are done."""
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    small = {
        name: [Corpus(one.name, one.rate_hz, one.episodes[:_EPISODES_A_ROBOT]) for one in corpora]
        for name, corpora in tuning.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for labeller in pool[len(rows) :]:
        setting = {name: getattr(labeller, name) for name in SPACE}
        rows.append(setting | {name: mean_accuracy(labeller, corpora) for name, corpora in small.items()})
        pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")


def best_without(pool: pd.DataFrame, left_out: str, names: Sequence[str]) -> SegmentLabeller:
    """Return the setting that is best on all families but one, and on the experts unless they are left out."""
    families = pool[[name for name in names if name not in (left_out, EXPERTS)]].mean(axis=1)
    judged = families if left_out == EXPERTS else families + _EXPERTS_COUNT * (pool[EXPERTS] - families)
    row = pool.loc[judged.idxmax()]
    setting = {name: int(row[name]) if SPACE[name].integer else float(row[name]) for name in SPACE}
    return replace(SegmentLabeller(), **setting)  # type: ignore[arg-type]


def table(pool: pd.DataFrame, tuning: dict[str, list[Corpus]], test: dict[str, list[Corpus]]) -> pd.DataFrame:
    """Exact sentences in percent, a row a labeller and a column a family; and the means within one and two steps."""
    columns: dict[str, dict[str, list[list[Slots]]]] = {}
    for name, corpora in test.items():
        raw = [tuned_raw([one]) for one in tuning[name]]
        columns[name] = {
            "raw, threshold tuned per robot": _labelled(raw, corpora),
            "adaptive, one setting": _labelled([AdaptiveLabeller()] * len(corpora), corpora),
            "HMM, one setting": _labelled([HmmLabeller()] * len(corpora), corpora),
            "segments, tuned on the others": _labelled([best_without(pool, name, list(test))] * len(corpora), corpora),
            "segments, one setting": _labelled([SegmentLabeller()] * len(corpora), corpora),
        }
    rows = []
    for labeller in next(iter(columns.values())):
        exact = {name: _accuracy(columns[name][labeller], test[name], 0) for name in test}
        row: dict[str, object] = {"labeller": labeller, **exact}
        for steps in (0, 1, 2):
            said = [_accuracy(columns[name][labeller], test[name], steps) for name in test if name != EXPERTS]
            row["mean of families" if steps == 0 else f"within {steps}"] = float(np.mean(said))
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Draw and score the pool if asked to, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", type=int, default=0, help="settings that the pool is to have")
    parser.add_argument("--pool", type=Path, default=POOL, help="settings with their scores")
    arguments = parser.parse_args()
    tuning = parts(TUNING_SEED, "tuning")
    if arguments.draw:
        score_pool(drawn_pool(arguments.draw), tuning, arguments.pool)
    frame = table(pd.read_csv(arguments.pool), tuning, parts(TEST_SEED, "test"))
    out = arguments.pool.with_name("left_out.csv")
    frame.to_csv(out, index=False, float_format="%.4f")
    cells = [[value if isinstance(value, str) else f"{value:.1f}" for value in row] for row in frame.to_numpy()]
    text = Sheet("", list(frame.columns), cells, labels=1).text("markdown")
    out.with_suffix(".md").write_text(f"Exact sentences, %, test splits\n\n{text}")
    print(text)


def _labelled(labellers: Sequence[Labeller], corpora: Sequence[Corpus]) -> list[list[Slots]]:
    return [labelled(labeller, corpus) for labeller, corpus in zip(labellers, corpora, strict=True)]


def _accuracy(labels: Sequence[list[Slots]], corpora: Sequence[Corpus], steps: int) -> float:
    shares = [tolerant_accuracy(got, corpus, steps) for got, corpus in zip(labels, corpora, strict=True)]
    return 100 * float(np.mean(shares))


if __name__ == "__main__":
    main()
