"""A run: exact for any number of workers, any order and after any kill; a crash is not a failure."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from evals.config import RunConfig
from evals.errors import RunFolderError, RunIncompleteError, SpaceMismatchError, UsageError
from evals.provenance import hash_path
from evals.record import read_header, read_run
from evals.runner import run
from evals.setup import prepare
from evals.types import Status

VLA_EVAL = [sys.executable, "-m", "evals.cli"]


class Watch:
    """A progress listener that can act after the k-th result."""

    def __init__(self, after=None, act=lambda: None):
        self.results, self.said, self._after, self._act = [], [], after, act

    def start(self, suite, episodes, done):
        self.done = done

    def say(self, text):
        self.said.append(text)

    def finished(self, result):
        self.results.append(result)
        if len(self.results) == self._after:
            self._act()


def workers_of(pid):
    """Worker processes of a driver; Python's own resource tracker is a child too."""
    children = psutil.Process(pid).children()
    return [child for child in children if child.is_running() and "spawn_main" in " ".join(child.cmdline())]


def config(folder, **changes):
    return RunConfig(**{"suite": "reach", "policy": "random", "trials": 3, "out": folder, "gates": False, **changes})


def trajectories(folder):
    return {r.episode_id: (r.status, r.steps, r.trajectory_hash, r.scene_hash) for r in read_run(folder).results}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Trajectories of 4 tasks x 3 states by one worker."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    run(prepare(config(folder, workers=1)), Watch())
    assert len(trajectories(folder)) == 12
    return trajectories(folder)


@pytest.mark.parametrize("workers", [2, 4])
def test_results_do_not_depend_on_the_number_of_workers(tmp_path, reference, workers):
    run(prepare(config(tmp_path, workers=workers)), Watch())
    assert trajectories(tmp_path) == reference


def test_results_do_not_depend_on_where_workers_live(tmp_path, reference):
    command = [*VLA_EVAL, "--suite", "reach", "--policy", "random", "--trials", "3", "--no-gates", "--engine", "ray"]
    done = subprocess.run([*command, "--workers", "2", "--out", str(tmp_path)], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert trajectories(tmp_path) == reference


def test_results_do_not_depend_on_order(tmp_path, reference):
    run(prepare(config(tmp_path, workers=1, tasks=("3", "1", "reach_left", "2"))), Watch())
    assert trajectories(tmp_path) == reference
    assert read_run(tmp_path).results[0].task == 3


def test_results_do_not_depend_on_when_a_run_was_cut(tmp_path, reference):
    run(prepare(config(tmp_path, workers=2, trials=1)), Watch())
    watch = Watch()
    run(prepare(config(tmp_path, workers=1)), watch)
    assert (len(watch.done), len(watch.results)) == (4, 8)
    assert trajectories(tmp_path) == reference


def test_an_episode_whose_worker_is_killed_runs_again_on_the_same_scene(tmp_path, reference):
    def kill_workers():
        for worker in workers_of(os.getpid()):
            worker.kill()

    watch = Watch(after=3, act=kill_workers)
    run(prepare(config(tmp_path, workers=2)), watch)
    lost = [r for r in watch.results if r.status is Status.SIM_ERROR]
    assert lost
    assert "died in phase" in lost[0].error
    assert "exit code -9" in lost[0].error
    assert trajectories(tmp_path) == reference


def test_a_driver_that_is_killed_leaves_a_record_that_the_same_command_continues(tmp_path):
    folder = tmp_path / "run"
    command = [*VLA_EVAL, "--suite", "reach", "--policy", "random", "--trials", "25", "--no-gates", "--workers", "2"]
    driver = subprocess.Popen([*command, "--out", str(folder)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    lines = folder / "episodes.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not lines.exists() or lines.read_bytes().count(b"\n") < 5):
        time.sleep(0.01)
    workers = workers_of(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    cut = len(read_run(folder).results)
    assert 5 <= cut < 100
    psutil.wait_procs(workers, timeout=20)
    assert not any(worker.is_running() for worker in workers), "workers outlived their driver"
    watch = Watch()
    run(prepare(config(folder, trials=25, workers=2)), watch)
    run(prepare(config(tmp_path / "whole", trials=25, workers=1)), Watch())
    assert trajectories(folder) == trajectories(tmp_path / "whole")


def test_the_same_command_twice_runs_nothing_twice(tmp_path):
    run(prepare(config(tmp_path)), Watch())
    watch = Watch()
    summary = run(prepare(config(tmp_path)), watch)
    assert watch.results == []
    assert summary.total("scored") == 12


def test_another_configuration_in_the_same_folder_is_refused(tmp_path):
    run(prepare(config(tmp_path)), Watch())
    with pytest.raises(RunFolderError, match="policy: recorded 'random', asked for 'noop'"):
        run(prepare(config(tmp_path, policy="noop")), Watch())


def test_the_expert_succeeds_and_leaves_traces(tmp_path):
    summary = run(prepare(config(tmp_path, policy="expert", traces=True)), Watch())
    assert summary.mean.value == 1.0
    assert len(list(Path(tmp_path, "traces").glob("*.npz"))) == 12


def test_a_run_stops_as_soon_as_a_comparison_is_decided(tmp_path):
    run(prepare(config(tmp_path / "noop", policy="noop", trials=10)), Watch())
    against = {"until_decided": tmp_path / "noop", "minimum_difference": 0.2, "trials": 10}
    watch = Watch()
    summary = run(prepare(config(tmp_path / "expert", policy="expert", **against)), watch)
    assert len(watch.results) < 40
    assert summary.total("missing") == 0
    assert watch.said[-1].startswith("A is better than B by more than 20.0 points")
    [session] = read_header(tmp_path / "expert").sessions
    told = {"text": watch.said[-1], "against": str(tmp_path / "noop"), "episodes": len(watch.results)}
    assert session["decided"] == told
    run(prepare(config(tmp_path / "expert", policy="expert", trials=10)), Watch())
    run(prepare(config(tmp_path / "expert", policy="expert", **against)), Watch())
    assert "decided" not in read_header(tmp_path / "expert").sessions[-1]


def test_a_run_to_compare_with_that_is_none_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "empty").mkdir()
    against = config(tmp_path / "expert", policy="expert", until_decided=tmp_path / "empty")
    with pytest.raises(RunFolderError, match="is no run folder"):
        run(prepare(against), Watch())
    assert not (tmp_path / "expert").exists()


def test_failures_can_be_filmed(tmp_path):
    av = pytest.importorskip("av")
    run(prepare(config(tmp_path, policy="noop", trials=1, tasks=("0",), video="failures")), Watch())
    [video] = Path(tmp_path, "videos").glob("*.mp4")
    with av.open(str(video)) as container:
        frames = list(itertools.chain(container.decode(video=0)))
    assert len(frames) == 41
    assert (frames[0].width, frames[0].height) == (64, 64)


def plugin_run(environment, folder, suite, policy, *options):
    command = [*VLA_EVAL, "--suite", suite, "--policy", policy, "--workers", "1", "--no-gates", "--out", str(folder)]
    return subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=120)


def outcomes(folder):
    return {(r.task, r.initial_state): r for r in read_run(folder).results}


def test_a_crash_is_not_a_failure(tmp_path, plugin_environment):
    done = plugin_run(plugin_environment, tmp_path, "example_raises", "noop")
    assert done.returncode == 1
    assert "INCOMPLETE" in done.stdout
    assert "have no score; the same command runs them" in done.stderr
    broken = [r for r in outcomes(tmp_path).values() if r.initial_state == 1]
    assert {r.status for r in broken} == {Status.SIM_ERROR}
    assert "ZeroDivisionError: the example's simulator diverged" in broken[0].error
    assert {r.attempt for r in broken} == {4}
    assert all(r.status.scored for r in outcomes(tmp_path).values() if r.initial_state != 1)


def test_a_worker_that_dies_once_costs_a_retry_and_no_score(tmp_path, plugin_environment):
    environment = {**plugin_environment, "EXAMPLE_DIED": str(tmp_path / "died")}
    done = plugin_run(environment, tmp_path / "run", "example_dies_once", "noop")
    assert done.returncode == 0, done.stderr
    assert {r.attempt for r in outcomes(tmp_path / "run").values()} == {1, 2}
    assert "exit code 139" in (tmp_path / "run" / "episodes.jsonl").read_text()


def test_a_worker_that_hangs_in_reset_is_killed_and_replaced(tmp_path, plugin_environment):
    done = plugin_run(plugin_environment, tmp_path, "example_hangs", "noop", "--deadlines.reset", "1", "--trials", "2")
    assert done.returncode == 1
    hung = [r for r in outcomes(tmp_path).values() if r.initial_state == 1]
    assert {r.status for r in hung} == {Status.TIMEOUT}
    assert "No sign of life in phase 'reset' for 1 s" in hung[0].error
    assert all(r.status.scored for r in outcomes(tmp_path).values() if r.initial_state == 0)


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ("example_nan", "is nan; it must be finite"),
        ("example_wrong_shape", "shape (2, 6), expected [K >= 1, 7]"),
        ("example_wrong_dtype", "dtype float16, expected a float64"),
        ("example_raising", "IndexError: the example's policy read past the end"),
    ],
)
def test_a_policy_that_breaks_its_contract_stops_the_run_unscored(tmp_path, plugin_environment, policy, complaint):
    done = plugin_run(plugin_environment, tmp_path, "reach", policy)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert {r.status for r in outcomes(tmp_path).values()} == {Status.POLICY_ERROR}
    assert len(outcomes(tmp_path)) == 3


def test_a_full_disk_stops_the_run_and_what_was_recorded_stays(tmp_path):
    resource = pytest.importorskip("resource")
    limit = 6000  # bytes a file; run.json fits, the episodes do not

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*VLA_EVAL, "--suite", "reach", "--policy", "noop", "--no-gates", "--out", str(tmp_path)]
    done = subprocess.run(command, preexec_fn=small_disk, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Cannot append to" in done.stderr
    assert "What was recorded stays" in done.stderr
    assert len(read_run(tmp_path).results) > 3
    run(prepare(config(tmp_path, policy="noop", trials=10)), Watch())
    assert len(read_run(tmp_path).results) == 40


def test_nothing_is_left_running_when_a_run_ends(tmp_path):
    run(prepare(config(tmp_path)), Watch())
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"workers": 0}, "--workers is 0; it must be at least 1"),
        ({"trials": 0}, "--trials is 0"),
        ({"suite": "reech"}, "Did you mean 'reach'"),
        ({"policy": "expart"}, "Did you mean 'expert'"),
        ({"tasks": ("reach_letf",)}, "Did you mean 'reach_left'"),
        ({"policy_args": ("sped=2",)}, "No option of policy 'random' named 'sped'"),
        ({"policy_args": ("speed",)}, "--policy-args takes key=value"),
        ({"checkpoint": Path("/nowhere/at/all")}, "no file or folder '/nowhere/at/all' exists"),
    ],
)
def test_a_wrong_command_names_the_culprit(tmp_path, changes, complaint):
    with pytest.raises(UsageError, match=complaint.replace("(", r"\(")):
        prepare(config(tmp_path, **changes))


def test_weights_that_only_the_policy_names_are_hashed_into_the_record(tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"1")
    setup = prepare(config(tmp_path / "run", tasks=("0",), trials=1))
    setup.policy.checkpoint = weights
    run(setup, Watch())
    assert read_run(tmp_path / "run").header.config["policy_args"] == {"checkpoint": hash_path(weights)}


def test_spaces_that_disagree_stop_the_run_with_one_line_a_difference(tmp_path, plugin_environment):
    done = plugin_run(plugin_environment, tmp_path, "reach", "example_chase")
    assert done.returncode == 2
    assert "do not speak the same numbers:\n  - ActionSpace." in done.stderr
    assert not (tmp_path / "run.json").exists()
    assert issubclass(SpaceMismatchError, UsageError)


def test_an_interrupted_run_says_so(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(config(tmp_path)), Watch(after=2, act=interrupt))
    assert len(read_run(tmp_path).results) == 2
    assert workers_of(os.getpid()) == []


def test_a_run_in_which_nothing_works_stops_early(tmp_path):
    with pytest.raises(RunIncompleteError, match="3 episodes in a row ended without a score"):
        run(prepare(config(tmp_path, policy="random", replan_every=2)), Watch())
