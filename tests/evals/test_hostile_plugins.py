"""Whatever a policy or a suite does, a run ends, with the same numbers or with an error that names what was wrong."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import psutil
import pytest

from evals.record import read_run
from evals.types import Status

VLA_EVAL = [sys.executable, "-m", "evals.cli"]
BRIEF = ("--deadlines.policy", "1")


def command(*arguments, suite="example_slide", policy="example_hostile", trials=1):
    asked = ("--suite", suite, "--policy", policy, "--trials", str(trials), "--workers", "1", "--no-gates")
    return [*VLA_EVAL, *asked, *arguments]


def evaluate(environment, *arguments, kind="", place="act", **changes):
    said = (() if not kind else ("--policy-args", f"kind={kind}", f"place={place}")) + arguments
    whole = command(*said, **changes)
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=100)


def trajectories(folder):
    return {r.episode_id: (r.status, r.steps, r.trajectory_hash, r.scene_hash) for r in read_run(folder).results}


def statuses(folder):
    return {result.status for result in read_run(folder).results}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, plugin_environment):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert evaluate(plugin_environment, "--out", str(folder)).returncode == 0
    assert statuses(folder) == {Status.SUCCESS}
    return trajectories(folder)


@pytest.mark.parametrize(
    "kind",
    [
        *("prints", "seeds", "changes the folder", "clears the environment", "patches time", "closes its streams"),
        *("closes descriptor 1", "forks", "leaves a thread", "writes on what it sees", "empties its list"),
        "rewrites the episode",
    ],
)
def test_what_a_policy_does_to_its_process_changes_no_number(tmp_path, plugin_environment, undisturbed, kind):
    done = evaluate(plugin_environment, "--format", "json", "--out", str(tmp_path), kind=kind)
    assert done.returncode == 0, done.stderr
    assert trajectories(tmp_path) == undisturbed
    assert json.loads(done.stdout)["suite"] == "example_slide"


def test_what_a_simulator_prints_is_not_among_the_results(tmp_path, plugin_environment):
    environment = {**plugin_environment, "EXAMPLE_KIND": "prints"}
    done = evaluate(environment, "--format", "csv", "--out", str(tmp_path), suite="example_misbehaves", policy="noop")
    assert done.stdout.startswith("task,")
    assert "noise" not in done.stdout
    assert "noise of C" in done.stderr


@pytest.mark.parametrize("policy", ["example_hostile", "example_hostile_inside"])
@pytest.mark.parametrize(
    ("kind", "place", "complaint"),
    [
        ("exits", "act", "SystemExit: 0"),
        ("exits", "begin", "SystemExit: 0"),
        ("exits", "end", "SystemExit: 0"),
        ("raises a BaseException", "act", "BaseException: no Exception"),
        ("raises KeyboardInterrupt", "act", "KeyboardInterrupt"),
        ("matrix", "act", "ActionChunk.actions is a matrix, expected a plain array"),
        ("masked", "act", "ActionChunk.actions is a MaskedArray, expected a plain array"),
        ("cannot be sent", "act", "ActionChunk.motion is function, expected text"),
        ("cannot be read", "act", "ActionChunk.motion is Unpicklable, expected text"),
        ("no chunk", "act", "returned ndarray, expected evals.types.ActionChunk"),
    ],
)
def test_a_policy_at_fault_is_a_policy_error(tmp_path, plugin_environment, policy, kind, place, complaint):
    done = evaluate(plugin_environment, "--out", str(tmp_path), kind=kind, place=place, policy=policy)
    assert done.returncode == 1
    assert statuses(tmp_path) == {Status.POLICY_ERROR}
    assert {result.attempt for result in read_run(tmp_path).results} == {1}
    assert complaint in done.stderr
    assert "\nTraceback" not in done.stderr


def test_a_policy_that_needs_the_main_thread_is_told_so(tmp_path, plugin_environment):
    done = evaluate(plugin_environment, "--out", str(tmp_path), kind="handles a signal")
    assert done.returncode == 1
    assert "signal only works in main thread" in done.stderr


@pytest.mark.parametrize("place", ["building", "begin", "act", "end"])
def test_a_policy_that_hangs_ends_the_run_with_its_name(tmp_path, plugin_environment, place):
    done = evaluate(plugin_environment, *BRIEF, "--out", str(tmp_path), kind="hangs", place=place)
    assert done.returncode == 1
    place = "its construction" if place == "building" else f"{place}()"
    assert f"Policy 'example_hostile' did not come back from {place} in 1 s" in done.stderr


def test_a_policy_that_hangs_with_the_interpreter_locked_ends_the_run(tmp_path, plugin_environment):
    done = evaluate(plugin_environment, *BRIEF, "--out", str(tmp_path), kind="hangs with the lock")
    assert done.returncode == 1
    assert "vla_eval_example/hostile.py" in done.stderr


def test_a_policy_that_hangs_inside_a_worker_has_the_deadline_of_a_step(tmp_path, plugin_environment):
    limits = ("--deadlines.step", "1", "--tasks", "0", "--out", str(tmp_path))
    done = evaluate(plugin_environment, *limits, kind="hangs", policy="example_hostile_inside")
    assert done.returncode == 1
    assert "No sign of life in phase 'step' for 1 s" in done.stderr


@pytest.mark.parametrize(("kind", "complaint"), [("exits", "SystemExit: 0"), ("hangs", "did not come back from its")])
def test_a_policy_that_cannot_be_built_fails_the_check(plugin_environment, kind, complaint):
    options = ("--policy", "example_hostile", "--policy-args", f"kind={kind}", "place=building", "--seconds", "6")
    whole = [*VLA_EVAL, "check", "--suite", "example_slide", *options]
    done = subprocess.run(whole, env=plugin_environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "'example_hostile'" in done.stderr
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("exits", "SystemExit: 0"),
        ("raises EOFError", "EOFError: the simulator's own"),
        ("counts success in NumPy", "Step.success is a bool"),
        ("times in float32", "Step.render_seconds is float32"),
        ("sees nothing", "Observation.state is not finite at [0]"),
        ("sees float16", "Observation.state is float16"),
        ("sees float images", "image 'top' is float64"),
        ("sees another episode", "Observation.episode is Episode("),
        ("sees another step", "Observation.step is 0 after 4 control steps"),
        ("cannot be read", "Observation.instruction is"),
        ("draws with no name", "renderer() is set, expected text"),
    ],
)
def test_a_suite_at_fault_is_a_simulator_error(tmp_path, plugin_environment, kind, complaint):
    environment = {**plugin_environment, "EXAMPLE_KIND": kind}
    one = ("--tasks", "0", "--out", str(tmp_path))
    done = evaluate(environment, *one, suite="example_misbehaves", policy="example_hostile")
    assert done.returncode == 1
    assert statuses(tmp_path) == {Status.SIM_ERROR}
    [result] = read_run(tmp_path).results
    assert result.attempt == 4
    assert complaint in result.error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_of_the_gates_ends_with_its_driver(tmp_path, plugin_environment, number):
    noted = tmp_path / "pid"
    environment = {**plugin_environment, "EXAMPLE_KIND": "hangs in reset", "EXAMPLE_PID": str(noted)}
    whole = command("--gates", "--out", str(tmp_path / "run"), suite="example_misbehaves", policy="noop")
    whole.remove("--no-gates")
    driver = subprocess.Popen(whole, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: noted.exists() and noted.read_text())
    gates = psutil.Process(int(noted.read_text()))
    driver.send_signal(number)
    assert driver.wait(timeout=30) == (143 if number == signal.SIGTERM else -9)
    assert psutil.wait_procs([gates], timeout=20)[1] == []


def test_a_terminated_run_gives_the_cursor_back_and_continues(tmp_path, plugin_environment):
    environment = {**plugin_environment, "EXAMPLE_KIND": "is slow", "TERM": "xterm"}
    whole = command("--out", str(tmp_path), suite="example_misbehaves", trials=4)
    ours, theirs = pty.openpty()
    driver = subprocess.Popen(whole, env=environment, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    wait_for(lambda: (tmp_path / "episodes.jsonl").exists() and (tmp_path / "episodes.jsonl").read_bytes())
    driver.send_signal(signal.SIGTERM)
    seen = read_all(ours)
    assert driver.wait(timeout=30) == 143
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l") >= 0
    assert evaluate(environment, "--out", str(tmp_path), suite="example_misbehaves", trials=4).returncode == 0
    assert len(read_run(tmp_path).results) == 8


def test_a_relative_run_folder_stays_where_the_command_was_given(tmp_path, plugin_environment):
    moving = ("--policy-args", "kind=changes the folder", "place=building")
    done = subprocess.run(
        command("--out", "here", *moving), env=plugin_environment, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(read_run(tmp_path / "here").results) == 2


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def read_all(descriptor):
    seen = b""
    try:
        while data := os.read(descriptor, 4096):
            seen += data
    except OSError:  # the other side of a terminal is closed
        return seen
    return seen
