"""Recorded runs are promises: an episode that is run again has the trajectory that was recorded, on any processor."""

import subprocess
import sys
from pathlib import Path

import pytest

from evals.engine.child import BLAS_KERNEL, worker_variables
from evals.record import read_run

RUNS = Path(__file__).resolve().parents[2] / "results" / "reference" / "runs"
WHERE_IT_HOLDS = "recorded trajectories are those of x86-64 processors with AVX2; others have sums of their own"


@pytest.mark.usefixtures("bridge_assets")
@pytest.mark.skipif(BLAS_KERNEL not in worker_variables(), reason=WHERE_IT_HOLDS)
@pytest.mark.parametrize(
    ("suite", "policy"),
    [
        *(("libero_spatial", policy) for policy in ("noop", "random", "expert")),
        *(("simpler_bridge", policy) for policy in ("noop", "expert")),
    ],
)
def test_an_episode_has_the_trajectory_that_was_recorded(tmp_path, monkeypatch, suite, policy):
    monkeypatch.delenv(BLAS_KERNEL, raising=False)
    told = ["--suite", suite, "--policy", policy, "--tasks", "1", "--trials", "1", "--no-gates", "--out", "again"]
    done = subprocess.run([sys.executable, "-m", "evals.cli", *told], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (again,) = read_run(tmp_path / "again").results
    recorded = {result.episode_id: result for result in read_run(RUNS / suite / policy / "seed0").results}
    first = recorded[again.episode_id]
    assert (again.trajectory_hash, again.scene_hash) == (first.trajectory_hash, first.scene_hash)
