"""Every example runs as a person would run it."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = {
    "own_policy.py": "80.0 % of 20 episodes, 95 % interval",
    "own_suite.py": "8 of 8 episodes succeed",
    "gymnasium_suite.py": "5 of 5 episodes end upright",
    "policy_over_http.py": "8 of 10 episodes succeed",
}


def python(tmp_path, *arguments):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tried():
    tried = {*EXAMPLES, "read_a_run.py"}
    assert {path.name for path in (REPOSITORY / "examples").glob("*.py")} == tried


@pytest.mark.parametrize(("name", "expected"), EXAMPLES.items())
def test_an_example_runs(name, expected, tmp_path):
    assert expected in python(tmp_path, REPOSITORY / "examples" / name)


def test_a_run_reads_into_pandas(tmp_path):
    python(tmp_path, "-m", "evals.cli", "--suite", "reach", "--policy", "noop", "--trials", "1", "--out", "run")
    told = python(tmp_path, REPOSITORY / "examples" / "read_a_run.py", "run")
    assert "noop in reach" in told
    assert "count" in told
