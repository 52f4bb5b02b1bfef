"""The names that other people's scripts may import, and what they cost."""

import subprocess
import sys

import pytest

import analysis


def test_the_public_names_are_these():
    assert analysis.__all__ == ["compare", "episodes", "find_runs", "load_runs"]
    assert all(callable(getattr(analysis, name)) for name in analysis.__all__)


def test_runs_are_read_and_compared_with_public_names_alone(write_run, tmp_path):
    for name, row in (("a", "+++-"), ("b", "+---")):
        write_run(tmp_path / name, [row], policy=name)
    frame = analysis.episodes(tmp_path)
    assert frame[frame.scored].groupby("policy", observed=True).success.mean().to_dict() == {"a": 0.75, "b": 0.25}
    assert analysis.find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    found = analysis.compare(analysis.load_runs(tmp_path / "a").runs, analysis.load_runs(tmp_path / "b").runs)
    assert found.mean.difference == 0.5


@pytest.mark.parametrize("command", ["analysis", "tables", "report", "compare"])
def test_help_and_the_import_load_no_heavy_library(command):
    code = f"""
import sys
from evals.cli import main
try:
    import analysis
    {command!r} == "analysis" or main([{command!r}, "--help"])
except SystemExit as end:
    assert end.code == 0, end.code
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert loaded & {"pandas", "scipy", "sklearn", "matplotlib", "torch"} == set()
