"""The command line: what it shows, what it refuses, and with which exit code."""

import json
import subprocess
import sys

import pytest

VLA_EVAL = [sys.executable, "-m", "evals.cli"]


def vla_eval(*arguments, cwd=None):
    return subprocess.run([*VLA_EVAL, *arguments], capture_output=True, text=True, timeout=120, cwd=cwd)


def test_list_shows_suites_policies_and_commands():
    shown = vla_eval("list").stdout
    for name in ("libero_spatial: 10 tasks x 50", "libero_90: 90 tasks", "simpler_bridge: 4 tasks x 24", "noop"):
        assert name in shown


def test_list_of_a_suite_shows_its_tasks():
    shown = vla_eval("list", "libero_spatial").stdout
    assert len(shown.splitlines()) == 10
    assert "pick up the black bowl between the plate and the ramekin and place it on the plate, 220 steps" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--suite", "libero_spacial"), "No suite named 'libero_spacial'. Did you mean 'libero_spatial'?"),
        (("--suite", "reach", "--policy", "exprt"), "No policy named 'exprt'. Did you mean 'expert'?"),
        (("--suite", "reach", "--tasks", "reach_lft"), "Did you mean 'reach_left'?"),
        (("--suite", "reach", "--workers", "0"), "--workers is 0; it must be at least 1."),
        (("--suite", "reach", "--checkpoint", "no/such"), "no file or folder 'no/such' exists"),
        (("--suite", "reach", "--wrokers", "2"), "--wrokers"),
        (("lst",), "No command named 'lst'. Did you mean 'list'?"),
        (("check", "--suite", "reach", "--gates", "griper"), "No gate named 'griper'. Did you mean 'gripper'?"),
    ],
)
def test_a_wrong_command_exits_with_2_and_names_the_culprit(tmp_path, arguments, complaint):
    done = vla_eval(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_check_prints_what_each_gate_found():
    done = vla_eval("check", "--suite", "reach", "--policy", "noop")
    assert done.returncode == 0
    found = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert {"spaces", "gripper", "rotation", "frame", "settle", "noop", "expert"} <= set(found)


@pytest.mark.parametrize("format", ["markdown", "csv", "json"])
def test_numbers_come_in_the_format_asked_for(tmp_path, format):
    run = ("--suite", "reach", "--policy", "noop", "--trials", "1", "--no-gates", "--format", format)
    done = vla_eval(*run, cwd=tmp_path)
    assert done.returncode == 0
    if format == "json":
        assert json.loads(done.stdout)["suite"] == "reach"
    else:
        assert done.stdout.startswith("| Task" if format == "markdown" else "task,")
    assert (tmp_path / "results/runs/reach/noop/seed0/episodes.jsonl").is_file()


def test_the_record_says_where_it_comes_from(tmp_path):
    vla_eval("--suite", "reach", "--policy", "noop", "--trials", "1", "--out", str(tmp_path))
    [session] = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert {"git", "packages", "cpu", "gpu", "renderer", "gates", "command", "config"} <= set(session)
    assert session["renderer"] == "NumPy"
    assert any(line.startswith("gripper: ok") for line in session["gates"])
