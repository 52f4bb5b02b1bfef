"""What recorded runs say: read, compared, and set beside published tables.

From Python:

    from analysis import compare, episodes, load_runs

    frame = episodes("results/runs")  # a pandas DataFrame, one row an episode
    frame[frame.scored].groupby(["suite", "policy"], observed=True).success.mean()
    compare(load_runs("runs/a").runs, load_runs("runs/b").runs).mean.interval

Every other name is private.
"""

from analysis.recorded import find_runs, load_runs
from analysis.runs import episodes
from analysis.stats.paired import compare

__all__ = ["compare", "episodes", "find_runs", "load_runs"]
