"""The motion benchmark: `python -m studies.motion.benchmark` prints how well each labeller knows what a robot is doing.

(a) Synthetic embodiments, (b) simulated experts, both with known intents; (c) real episodes, without. Settings come
from `studies.motion.search`, which saw the tuning splits only; every number here is of the test splits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evals.terminal.tables import Sheet
from studies.motion.corpus import Corpus
from studies.motion.experts import EXPERTS, expert_corpora
from studies.motion.robustness import (
    agreement,
    bridge_corpus,
    commonest,
    survival_of_half_rate,
    survival_of_rescaling,
)
from studies.motion.scores import LabellerOf, difference_interval, flicker, labelled, score, slot_table
from studies.motion.search import RAW_WINDOWS, SETTINGS, tuned_raw
from studies.motion.synthetic import TEST_SEED, TUNING_SEED, synthetic_corpora
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, Labeller, RawLabeller

BASELINE = "raw, threshold tuned per embodiment"
SHOWN_IN_DETAIL = (BASELINE, "adaptive, one setting", "HMM, one setting")
BRIDGE = Path("../shared/data/bridge_dataset")
_BOOTSTRAP_SEED = 0


class Contestant(NamedTuple):
    """A row of the tables: its name, and the labeller it uses on a corpus."""

    name: str
    labeller_of: LabellerOf


def contestants(tuning: Sequence[Corpus], settings: dict[str, Any]) -> list[Contestant]:
    """All rows: baselines tuned here on the tuning splits, the others with the settings that the search found."""
    best_raw = tuned_raw(tuning)
    tuned = {corpus.name: tuned_raw([corpus]) for corpus in tuning}
    windowed = {corpus.name: tuned_raw([corpus], RAW_WINDOWS) for corpus in tuning}
    rows = [
        Contestant("raw, ECoT's 0.03", lambda _: RawLabeller()),
        Contestant("raw, one threshold", lambda _: best_raw),
        Contestant(BASELINE, lambda corpus: tuned[corpus.name]),
        Contestant("raw, threshold and window tuned per embodiment", lambda corpus: windowed[corpus.name]),
    ]
    for name, setting in settings.items():
        row = {"adaptive": "adaptive, one setting", "hmm": "HMM, one setting"}.get(name, f"adaptive: {name}")
        rows.append(Contestant(row, _always(labeller_from_setting(name, setting))))
    return rows


_FORMER = {"word_cost": "switch_cost", "pace_noise": "local_speed_noise", "pace_span": "local_speed_span"}
"""Names that fields had when the settings were searched."""


def labeller_from_setting(name: str, setting: dict[str, Any]) -> Labeller:
    """Build the labeller of one entry of the settings file."""
    if name == "hmm":
        return HmmLabeller(**{_FORMER.get(field, field): value for field, value in setting.items()})
    return AdaptiveLabeller(**{**setting, "detectors": tuple(setting["detectors"])})


def accuracy_tables(rows: Sequence[Contestant], corpora: Sequence[Corpus]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores averaged over embodiments, a row a contestant; and accuracies, a row an embodiment."""
    scores = {}
    for name, labeller_of in rows:
        scores[name] = [score(labelled(labeller_of(corpus), corpus), corpus) for corpus in corpora]
    baseline = [one.accuracy for one in scores[BASELINE]]
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    summary = []
    for name, ones in scores.items():
        mean, low, high = difference_interval([one.accuracy for one in ones], baseline, rng)
        summary.append(
            {
                "labeller": name,
                "exact sentence %": 100 * np.mean([one.accuracy for one in ones]),
                "over tuned raw": f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
                "boundary error s": np.mean([one.boundary_seconds for one in ones]),
                "flicker Hz": np.mean([one.flicker_hz for one in ones]),
                "true changes Hz": np.mean([one.true_flicker_hz for one in ones]),
            }
        )
    embodiments = pd.DataFrame({name: [100 * one.accuracy for one in ones] for name, ones in scores.items()})
    embodiments.insert(0, "embodiment", [f"{corpus.name} ({corpus.rate_hz:g} Hz)" for corpus in corpora])
    return pd.DataFrame(summary), embodiments


def slot_tables(rows: Sequence[Contestant], corpora: Sequence[Corpus]) -> pd.DataFrame:
    """Precision, recall and F1 of each slot's words, in percent, over the steps of all embodiments together."""
    truth = [episode.slots for corpus in corpora for episode in corpus.episodes]
    tables = []
    for name, labeller_of in rows:
        if name in SHOWN_IN_DETAIL:
            labels = [slots for corpus in corpora for slots in labelled(labeller_of(corpus), corpus)]
            table = slot_table(labels, truth)
            table[["precision", "recall", "f1"]] *= 100
            table.insert(0, "labeller", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def robustness_table(rows: Sequence[Contestant], corpora: Sequence[Corpus]) -> pd.DataFrame:
    """How many sentences survive other units (0.1x to 10x) and half the control rate; how often sentences change."""
    table = []
    for name, labeller_of in rows:
        table.append(
            {
                "labeller": name,
                "same after rescaling %": 100
                * np.mean([survival_of_rescaling(labeller_of(one), one) for one in corpora]),
                "same at half rate %": 100 * np.mean([survival_of_half_rate(labeller_of(one), one) for one in corpora]),
                "flicker Hz": np.mean([flicker(labelled(labeller_of(one), one), one.rate_hz) for one in corpora]),
            }
        )
    return pd.DataFrame(table)


def real_tables(directory: Path, settings: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Bridge V2: robustness, agreement between labellers, and the commonest sentences of each."""
    corpus = bridge_corpus(directory)
    rows = [Contestant("raw, ECoT's 0.03", _always(RawLabeller()))] + [
        Contestant(name, _always(labeller_from_setting(name, settings[name]))) for name in ("adaptive", "hmm")
    ]
    labels = {name: labelled(labeller_of(corpus), corpus) for name, labeller_of in rows}
    agreements = [
        {"labeller": one, **{other: 100 * agreement(labels[one], labels[other]) for other in labels}} for one in labels
    ]
    sentences = [
        {"labeller": name, "sentence": sentence, "share %": 100 * share}
        for name, slots in labels.items()
        for sentence, share in commonest(slots)
    ]
    return {
        "bridge_robustness": robustness_table(rows, [corpus]),
        "bridge_agreement": pd.DataFrame(agreements),
        "bridge_sentences": pd.DataFrame(sentences),
    }


def markdown(title: str, frame: pd.DataFrame) -> str:
    """Return a table in Markdown, numbers with one decimal (two below 10)."""
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return f"{title}\n\n{Sheet('', list(frame.columns), rows, labels=len(frame.columns)).text('markdown')}"


def main() -> None:
    """Run the benchmark, print its tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bridge", type=Path, default=BRIDGE, help="RLDS folder of real episodes for part (c)")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="what studies.motion.search found")
    parser.add_argument("--out", type=Path, default=SETTINGS.parent)
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings.read_text())
    rows = contestants(synthetic_corpora(TUNING_SEED) + expert_corpora("tuning"), settings)
    synthetic, experts = synthetic_corpora(TEST_SEED), expert_corpora("test")
    parts = {"a. synthetic embodiments": ("synthetic", synthetic), "b. simulated experts": ("experts", experts)}
    for title, (stem, corpora) in parts.items():
        if not corpora:
            print(f"\n({title}: skipped, {EXPERTS} is not there; `python -m studies.motion.experts` builds it.)")
            continue
        summary, embodiments = accuracy_tables(rows, corpora)
        _show(f"{title}: test splits, mean over embodiments", f"{stem}_summary", summary, arguments.out)
        _show(f"{title}: exact sentence %, by embodiment", f"{stem}_embodiments", embodiments, arguments.out)
        _show(f"{title}: words by slot, %", f"{stem}_slots", slot_tables(rows, corpora), arguments.out)
        _show(f"{title}: robustness", f"{stem}_robustness", robustness_table(rows, corpora), arguments.out)
    if not arguments.bridge.is_dir():
        print(f"\n(c. real episodes: skipped, {arguments.bridge} is not there; see docs/shared-files.md.)")
        return
    for stem, frame in real_tables(arguments.bridge, settings).items():
        _show(f"c. real episodes (Bridge V2): {stem.removeprefix('bridge_')}", stem, frame, arguments.out)


def _always(labeller: Labeller) -> LabellerOf:
    return lambda _: labeller


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _show(title: str, stem: str, frame: pd.DataFrame, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / f"{stem}.csv", index=False, float_format="%.4f")
    (out / f"{stem}.md").write_text(markdown(title, frame))
    print(f"\n{markdown(title, frame)}", end="")


if __name__ == "__main__":
    main()
