"""`vla-eval`: the only place that reads the command line and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tyro

from evals.config import RunConfig, key_values
from evals.errors import RunIncompleteError, UnknownNameError, UsageError, VlaEvalError
from evals.plain import guarded_output, show
from evals.registry import COMMANDS, POLICIES, SUITES, load_command, load_suite, names
from evals.tabular import PlainConsole, print_table

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
FILE_WIDTH = 140  # columns of a table that goes into a file


@guarded_output()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run `vla-eval` and exit: 0 done, 1 a run that could not complete, 2 a wrong command, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    stderr = PlainConsole(stderr=True, soft_wrap=True)
    try:
        code = _dispatch(given)
    except VlaEvalError as error:
        stderr.print(f"error: {error}", style="red")
        code = USAGE if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        stderr.print("Interrupted. What was recorded stays; the same command continues.")
        code = INTERRUPTED
    sys.exit(code)


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

    stdout, stderr = PlainConsole(), PlainConsole(stderr=True)
    if not stdout.is_terminal:
        stdout = PlainConsole(width=FILE_WIDTH)
    setup = prepare(config)
    with ConsoleProgress(stderr) as progress:
        summary = run(setup, progress)
    if config.format == "table":
        print_table(stdout, rich_table(summary))
        for note in notes(summary):
            stdout.print(note)
    else:
        show(render(summary, config.format))
    stderr.print(f"Recorded in {config.folder()}", soft_wrap=True)
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
    for name in names(SUITES):
        suite = load_suite(name)
        states = f"{len(suite.tasks)} tasks x {suite.protocol.initial_states} initial states"
        console.print(f"  {name}: {states}; {suite.protocol.source}")
    console.print(f"Policies: {', '.join(names(POLICIES))}")
    console.print(f"Commands: list, check, {', '.join(names(COMMANDS))}")
    return OK


@dataclass(frozen=True)
class CheckConfig:
    """Probe the conventions of a suite, and of a policy in it, by running them.

    Attributes:
        suite: Suite to probe (`vla-eval list`).
        policy: Policy whose spaces are compared with the suite's.
        policy_args: Options of the policy, as key=value.
        gates: Names of the gates to run; all by default.
        task: Id of the task whose scene is probed.
        seconds: How long all gates together may take.
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
    chosen = (config.suite, config.policy, options, config.gates or None, config.task)
    findings = in_fresh_process(run_gates, *chosen, seconds=config.seconds)
    for finding in findings:
        show(f"{finding}\n")
    require(findings)
    return OK


if __name__ == "__main__":
    main()
