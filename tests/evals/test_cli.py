"""The command line: what it shows, what it refuses, and with which exit code."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from evals.cli import main
from evals.config import RunConfig
from evals.errors import RecordError
from evals.record import read_run
from evals.runner import run
from evals.setup import prepare

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
        (("--suite", "reach", "--trials", "1000000000000"), "--trials is 1000000000000; it must be at most 1000000."),
        (("--suite", "reach", "--seed", "9" * 30), "it must be at most 9223372036854775807."),
        (("--suite", "reach", "--deadlines.step", "nan"), "--deadlines.step is nan; seconds from more than 0"),
        (("--suite", "reach", "--deadlines.build", "inf"), "--deadlines.build is inf; seconds from more than 0"),
        (("--suite", "reach", "--deadlines.reset", "-1"), "--deadlines.reset is -1.0; seconds from more than 0"),
        (("--suite", "reach", "--minimum-difference", "0.2"), "is for --until-decided RUN, which is not given"),
        (("--suite", "reach", "--until-decided", "x", "--minimum-difference", "nan"), "--minimum-difference is nan;"),
        (("--suite", "reach", "--condition", "sise=0.5b"), "No condition named 'sise'. Did you mean 'size'?"),
        (("--suite", "reach", "--out", ""), "The argument after --out is empty: ''."),
        (("--suite", "reach", "--checkpoint="), "is empty: '--checkpoint='."),
        (("check", "--suite", "reach", "--seconds", "nan"), "--seconds is nan; seconds from more than 0"),
        (("check", "--suite", "reach", "--task", "99"), "No task of suite 'reach' named '99'."),
        (("list", "libero_lnog"), "Did you mean 'libero_long'?"),
        (("lst",), "No command named 'lst'. Did you mean 'list'?"),
        (("check", "--suite", "reach", "--gates", "griper"), "No gate named 'griper'. Did you mean 'gripper'?"),
    ],
)
def test_a_wrong_command_exits_with_2_and_names_the_culprit(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_the_process_of_a_wrong_command_exits_with_2_too():
    done = vla_eval("lst")
    assert done.returncode == 2
    assert "Did you mean 'list'?" in done.stderr


def test_check_prints_what_each_gate_found():
    done = vla_eval("check", "--suite", "reach", "--policy", "noop")
    assert done.returncode == 0
    found = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert {"spaces", "gripper", "rotation", "frame", "settle", "noop", "expert"} <= set(found)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_record_says_where_it_comes_from(tmp_path):
    vla_eval("--suite", "reach", "--policy", "noop", "--trials", "1", "--out", str(tmp_path))
    [session] = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert {"git", "packages", "cpu", "gpu", "renderer", "gates", "command", "config"} <= set(session)
    assert session["renderer"] == "NumPy"
    assert any(line.startswith("gripper: ok") for line in session["gates"])


@pytest.fixture
def with_plugins(tmp_path):
    """Return with_plugins(code, entry points): an environment in which another package offers plugins."""

    def install(code, points):
        site = tmp_path / "site"
        (site / "theirs-1.dist-info").mkdir(parents=True)
        (site / "theirs.py").write_text(code)
        (site / "theirs-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
        (site / "theirs-1.dist-info" / "entry_points.txt").write_text(points)
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    return install


@pytest.mark.parametrize(
    "code",
    [
        "def suite(): raise OSError('no disk')",
        "def suite(): return {}",
        "import nothing",
        "1 / 0",
        "import sys; sys.exit(0)",
    ],
)
def test_a_broken_plugin_is_listed_with_its_error_and_breaks_no_other(tmp_path, with_plugins, code):
    environment = with_plugins(code, "[vla_eval.suites]\ntheirs = theirs:suite\n")
    done = subprocess.run([*VLA_EVAL, "list"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert "  theirs: does not load. Suite " in done.stdout
    assert "libero_10 (or libero_long): 10 tasks" in done.stdout
    done = subprocess.run([*VLA_EVAL, "--suite", "theirs"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Suite ")


def test_a_policy_that_fails_while_it_is_built_is_named_with_the_place(tmp_path, with_plugins):
    code = "import sys\ndef worse(suite):\n    raise ValueError('no weights')\ndef leaves(suite):\n    sys.exit(0)\n"
    environment = with_plugins(code, "[vla_eval.policies]\nworse = theirs:worse\nleaves = theirs:leaves\n")
    for name, said in (("worse", "ValueError: no weights"), ("leaves", "SystemExit: 0")):
        command = [*VLA_EVAL, "--suite", "reach", "--policy", name, "--out", str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 1
        assert f"error: Policy plugin '{name}' failed: {said} (" in done.stderr
        assert "theirs.py, line" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_policy_may_change_the_working_directory_while_it_is_built(tmp_path, with_plugins):
    code = (
        "import os\nfrom evals.policies.simple import noop\n"
        "def wanders(suite):\n    os.chdir('/')\n    return noop(suite)\n"
    )
    environment = with_plugins(code, "[vla_eval.policies]\nwanders = theirs:wanders\n")
    arguments = [
        "--suite",
        "reach",
        "--policy",
        "wanders",
        "--tasks",
        "0",
        "--trials",
        "1",
        "--no-gates",
        "--out",
        "run",
    ]
    done = subprocess.run([*VLA_EVAL, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "episodes.jsonl").is_file()


def test_a_working_directory_that_is_gone_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os; from evals.cli import main; os.rmdir(os.getcwd()); main(['--suite', 'reach'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=gone)
    assert done.returncode == 2
    assert "The working directory no longer exists: cd to one that does" in done.stderr


def test_the_numbers_at_the_end_come_from_the_disk(tmp_path):
    """The record is lost when the last episode is over: no numbers, an error, and everything is on the disk again."""
    folder = tmp_path / "run"
    setup = prepare(RunConfig("reach", "noop", tasks=("0",), trials=2, workers=1, gates=False, out=folder))
    seen = []

    def finished(result):
        seen.append(result)
        if len(seen) == 2:
            shutil.rmtree(folder)

    watching = SimpleNamespace(start=lambda *given: None, say=lambda text: None, finished=finished)
    with pytest.raises(RecordError, match="was removed or changed by something else"):
        run(setup, watching)
    assert set(read_run(folder).results) == set(seen)
