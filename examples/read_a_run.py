"""A run folder as a DataFrame, one row an episode.

vla-eval --suite reach --policy random --out results/runs/random
python examples/read_a_run.py results/runs/random
"""

from __future__ import annotations

import sys

import analysis
import evals

if __name__ == "__main__":
    folder = sys.argv[1]
    run = evals.read_run(folder)
    print(f"{run.header.config['policy']} in {run.header.suite['name']}, protocol {run.header.protocol_hash}")

    episodes = analysis.episodes(folder)
    scored = episodes[episodes["scored"]]  # a crash is missing, not failed
    print(scored.groupby("task")["success"].agg(["mean", "count"]))
