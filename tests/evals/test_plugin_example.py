"""The example plugin is installed with pip and then found and run as a user's would be."""

import json
import subprocess
import sys
from pathlib import Path


def python(environment, code):
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_its_suites_and_policies_are_found_by_name(plugin_environment):
    listing = "from evals.registry import *; print(*names(SUITES), *names(POLICIES))"
    found = python(plugin_environment, listing)
    assert {"example_slide", "example_chase", "reach", "noop"} <= set(found)


def test_an_option_of_its_policy_is_parsed_by_annotation(plugin_environment):
    code = """
from evals.registry import load_policy, load_suite
print(load_policy("example_chase", load_suite("example_slide"), {"speed": "0.5"})._speed)
"""
    assert python(plugin_environment, code) == ["0.5"]


def vla_eval(environment, *arguments):
    command = [str(Path(sys.executable).parent / "vla-eval"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_list_shows_it_next_to_ours(plugin_environment):
    done = vla_eval(plugin_environment, "list")
    assert done.returncode == 0, done.stderr
    assert "example_slide: 2 tasks x 4 initial states" in done.stdout
    assert "example_chase" in done.stdout


def test_its_policy_is_evaluated_in_its_suite(plugin_environment, tmp_path):
    out = tmp_path / "run"
    given = ["--suite", "example_slide", "--policy", "example_chase", "--workers", "1", "--out", str(out)]
    done = vla_eval(plugin_environment, *given, "--format", "json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    results = [line for line in lines if "episode_id" in line]
    assert [result["status"] for result in results] == ["success"] * 8


def test_the_gates_run_on_it(plugin_environment):
    done = vla_eval(plugin_environment, "check", "--suite", "example_slide", "--policy", "example_chase")
    assert done.returncode == 0, done.stderr
    assert "spaces: ok" in done.stdout
    assert "noop: ok" in done.stdout
    assert "gripper: not probed" in done.stdout


def test_a_policy_for_another_suite_is_stopped_before_the_first_episode(plugin_environment, tmp_path):
    out = tmp_path / "run"
    done = vla_eval(plugin_environment, "--suite", "reach", "--policy", "example_chase", "--out", str(out))
    assert done.returncode == 2
    assert "metres_per_unit: policy 0.05, suite 0.02" in done.stderr
    assert not list(out.glob("episodes.jsonl"))


def test_a_suite_that_draws_in_another_size_than_it_says_is_stopped_before_the_first_episode(
    plugin_environment, tmp_path
):
    out = tmp_path / "run"
    given = ["--suite", "example_wrong_image", "--policy", "example_chase", "--workers", "1", "--out", str(out)]
    done = vla_eval(plugin_environment, *given)
    assert done.returncode == 1
    assert "image 'top' is uint8 (4, 32, 3), expected uint8 (8, 32, 3)" in done.stderr
    assert not [line for line in (out / "episodes.jsonl").read_text().splitlines() if "episode_id" in line]
