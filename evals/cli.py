"""`vla-eval`: the only place that reads the command line and turns errors into exit codes."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

import tyro

from evals.config import RunConfig, key_values, task_ids, working_directory
from evals.engine.messages import LONGEST_SECONDS
from evals.errors import RunIncompleteError, UnknownNameError, UsageError, VlaEvalError
from evals.registry import COMMANDS, POLICIES, load_command, load_suite, load_suites, names
from evals.terminal.exit import end_for_sure
from evals.terminal.streams import own_stderr, prints_to_stderr
from evals.terminal.tables import PlainConsole, print_table
from evals.terminal.text import guarded_output, show

OK, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
FILE_WIDTH = 140  # columns of a table that goes into a file


class _TerminatedError(KeyboardInterrupt):
    """Somebody sent SIGTERM, as Slurm and Docker do: everything is cleaned up as after Ctrl-C."""


@guarded_output()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run `vla-eval` and exit.

    The exit code is 0 for done, 1 for a run that could not complete, 2 for a wrong command, 130 for interrupted and
    143 for terminated.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    stderr = PlainConsole(file=own_stderr(), soft_wrap=True)
    if arguments is None:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        working_directory()
        _refuse_empty(given)
        code = _dispatch(given)
    except VlaEvalError as error:
        stderr.print(f"error: {error}", style="red")
        code = USAGE if isinstance(error, UsageError) else FAILED
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EMFILE, errno.ENFILE):
            raise
        why = "a plugin closed file descriptors that are not its own, or there are none left"
        stderr.print(f"error: {error}: {why}. What was recorded stays.", style="red")
        code = FAILED
    except KeyboardInterrupt as stop:
        stderr.print("Interrupted. What was recorded stays; the same command continues.")
        code = TERMINATED if isinstance(stop, _TerminatedError) else INTERRUPTED
    if arguments is None:
        end_for_sure(code)
    sys.exit(code)


def _refuse_empty(given: list[str]) -> None:
    """Refuse an empty argument: as a path it would mean the working directory.

    Raises:
        UsageError: there is one.
    """
    for before, argument in zip(["vla-eval", *given], given, strict=False):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            raise UsageError(f"The argument after {before} is empty: {argument!r}. Is a variable of the shell not set?")


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the cleaning short
    raise _TerminatedError


def _dispatch(given: list[str]) -> int:
    builtin: dict[str, Callable[[list[str]], int]] = {"list": _list, "check": _check}
    if given and not given[0].startswith("-"):
        name, rest = given[0], given[1:]
        if name not in builtin and name not in names(COMMANDS):
            raise UnknownNameError("command", name, [*builtin, *names(COMMANDS)])
        return builtin[name](rest) if name in builtin else load_command(name)(rest)
    commands = ", ".join([*builtin, *names(COMMANDS)])
    config = tyro.cli(
        RunConfig,
        args=given,
        prog="vla-eval",
        description=f"{str(RunConfig.__doc__).splitlines()[0]} Other commands: {commands}.",
    )
    return _run(config)


def _run(config: RunConfig) -> int:
    from evals.progress import ConsoleProgress
    from evals.runner import run
    from evals.setup import prepare
    from evals.summary_format import notes, render, rich_table

    stderr = PlainConsole(file=own_stderr())
    with prints_to_stderr() as shown:
        setup = prepare(config)
        with ConsoleProgress(stderr) as progress:
            summary = run(setup, progress)
        with shown():
            stdout = PlainConsole()
            if not stdout.is_terminal:
                stdout = PlainConsole(width=FILE_WIDTH)
            if config.format == "table":
                print_table(stdout, rich_table(summary))
                for note in notes(summary):
                    stdout.print(note)
            else:
                show(render(summary, config.format))
    stderr.print(f"Recorded in {setup.config.folder()}", soft_wrap=True)
    if summary.total("missing"):
        raise RunIncompleteError(f"{int(summary.total('missing'))} episodes have no score; the same command runs them.")
    return OK


def _list(arguments: list[str]) -> int:
    """Show suites with their tasks, policies and commands; no simulator is imported."""
    console = PlainConsole(soft_wrap=True)
    if arguments:
        for name in arguments:
            suite = load_suite(name)
            for task in suite.tasks:
                console.print(f"{task.id:3d}  {task.name}  {task.instruction}, {task.max_steps} steps")
        return OK
    console.print("Suites (vla-eval list SUITE shows its tasks):")
    suites, broken = load_suites()
    for name, suite in suites.items():
        states = f"{len(suite.tasks)} tasks x {suite.protocol.initial_states} initial states"
        also = f" (or {', '.join(suite.aliases)})" if suite.aliases else ""
        console.print(f"  {name}{also}: {states}; {suite.protocol.source}")
    for name, error in broken.items():
        console.print(f"  {name}: does not load. {error}", markup=False)
    console.print(f"Policies: {', '.join(names(POLICIES))}")
    console.print(f"Commands: list, check, {', '.join(names(COMMANDS))}")
    return OK


@dataclass(frozen=True)
class CheckConfig:
    """Test the conventions of a suite with gates, and compare the spaces of a policy with it.

    Attributes:
        suite: Suite to test; `vla-eval list` names all suites.
        policy: Policy whose spaces are compared with those of the suite; no policy by default.
        policy_args: Options of the policy, as key=value.
        gates: Names of the gates to run; all gates by default.
        task: Id of the task in whose scene the gates run.
        seconds: Seconds that all gates together may take.
    """

    suite: str
    policy: str | None = None
    policy_args: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    task: int = 0
    seconds: float = 1800.0


def _check(arguments: list[str]) -> int:
    """Run gates in a process of their own and print what each found."""
    from evals.engine.isolated import in_fresh_process
    from evals.gates import require, run_gates

    config = tyro.cli(CheckConfig, args=arguments, prog="vla-eval check")
    options = key_values("--policy-args", config.policy_args)
    if not 0 < config.seconds <= LONGEST_SECONDS:
        raise UsageError(f"--seconds is {config.seconds}; seconds from more than 0 to a year are expected.")
    task_ids(load_suite(config.suite), (str(config.task),))
    chosen = (config.suite, config.policy, options, config.gates or None, config.task)
    what = f"The gates of suite {config.suite!r}" + (f" with policy {config.policy!r}" if config.policy else "")
    findings = in_fresh_process(run_gates, *chosen, config.seconds / 2, seconds=config.seconds, what=what)
    for finding in findings:
        show(f"{finding}\n")
    require(findings)
    return OK


if __name__ == "__main__":
    main()
