"""Names to plugins, through entry points; our own suites and policies are found the same way.

Listing reads package metadata only: nothing heavy is imported until a plugin is loaded.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from evals.contract import Env, Policy
from evals.errors import ContractError, UnknownNameError, UsageError, VlaEvalError
from evals.types import Suite, Task

SUITES = "vla_eval.suites"
POLICIES = "vla_eval.policies"
COMMANDS = "vla_eval.commands"
EXPORTERS = "vla_eval.exporters"
STOPPING = "vla_eval.stopping"
# Packages of ours that need more than the harness does, and the extra that brings it.
EXTRAS = {"analysis": "analysis", "vla": "train"}


def names(group: str) -> list[str]:
    """Return the sorted names of the plugins in an entry-point group."""
    return sorted(_points(group))


def load_suite(name: str) -> Suite:
    """Return the suite of that name or alias, as data; its simulator is not imported.

    Raises:
        UnknownNameError: no installed package offers it.
        ContractError: the plugin does not load, or returns something that is not a `Suite`.
    """
    if name not in _points(SUITES):
        aliased = {alias: suite for suite in load_suites()[0].values() for alias in suite.aliases}
        if name not in aliased:
            raise UnknownNameError("suite", name, [*_points(SUITES), *aliased])
        return aliased[name]
    suite = _call("suite", name, _load("suite", SUITES, name))
    if not isinstance(suite, Suite):
        raise ContractError(f"Suite plugin {name!r} returned {type(suite).__name__}, expected evals.types.Suite.")
    return suite


def load_suites() -> tuple[dict[str, Suite], dict[str, str]]:
    """Return name -> suite for those that load, and name -> why not for the others."""
    suites: dict[str, Suite] = {}
    broken: dict[str, str] = {}
    for name in names(SUITES):
        try:
            suites[name] = load_suite(name)
        except VlaEvalError as error:
            broken[name] = str(error)
    return suites, broken


def load_policy(name: str, suite: Suite, options: Mapping[str, str]) -> Policy:
    """Build the policy of that name for a suite.

    Args:
        name: entry-point name.
        suite: the suite it will act in.
        options: text values, parsed after the annotations of the plugin's function.

    Raises:
        UnknownNameError: no such policy, or it takes no option of that name.
        UsageError: an option's text does not parse, or a required one is missing.
        ContractError: the plugin does not load, fails, or returns something that is not a `Policy`.
    """
    factory = _load("policy", POLICIES, name)
    parsed = _parse_options(name, factory, options)
    policy = _call("policy", name, lambda: factory(suite, **parsed))
    if not isinstance(policy, Policy):
        raise ContractError(
            f"Policy plugin {name!r} returned {type(policy).__name__}, which does not keep evals.Policy."
        )
    return policy


def load_command(name: str) -> Callable[[list[str]], int]:
    """Return the function of a `vla-eval` subcommand: arguments -> exit code."""
    command: Callable[[list[str]], int] = _load("command", COMMANDS, name)
    point = _points(COMMANDS)[name]

    @functools.wraps(command)
    def run(arguments: list[str]) -> int:
        try:
            return command(arguments)
        except ModuleNotFoundError as error:  # imported where it is needed, after the arguments are read
            _refuse_without_extra("command", point, error)
            raise

    return run


def load_all(group: str) -> dict[str, Any]:
    """Return every plugin of a group, by name.

    Raises:
        UsageError: one of ours needs an extra that is not installed.
        ContractError: a plugin does not load.
    """
    return {name: _load(group.rpartition(".")[2].removesuffix("s"), group, name) for name in names(group)}


def make_env(suite: Suite, task: Task, cameras: tuple[str, ...]) -> Env:
    """Build the simulator of one task. Call it in a worker process only: one process, one rendered env."""
    build: Callable[[Suite, Task, tuple[str, ...]], Env] = load_object(suite.env)
    return build(suite, task, cameras)


def load_object(path: str) -> Any:  # noqa: ANN401 - whatever stands there
    """Import "module:attribute".

    Raises:
        ContractError: there is no such module or attribute.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ContractError(f"{path!r} names nothing: {error}.") from error


def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def _load(kind: str, group: str, name: str) -> Any:  # noqa: ANN401 - a plugin's function
    points = _points(group)
    if name not in points:
        raise UnknownNameError(kind, name, points)
    try:
        return points[name].load()
    except (Exception, SystemExit) as error:  # the border to a plugin's module
        _refuse_without_extra(kind, points[name], error)
        what = f"{kind.capitalize()} {name!r} ({points[name].value}) does not load"
        raise ContractError(f"{what}: {_in_words(error)}") from error


def _refuse_without_extra(kind: str, point: EntryPoint, error: BaseException) -> None:
    """Say which extra brings a package that one of our own plugins lacks.

    Raises:
        UsageError: the error is that, and the plugin is ours.
    """
    extra = EXTRAS.get(point.value.split(".")[0])
    if extra and isinstance(error, ModuleNotFoundError):
        needs = f"{kind.capitalize()} {point.name!r} needs the package {str(error.name).partition('.')[0]!r}"
        raise UsageError(f"{needs}: pip install 'motion-vla[{extra}]'.") from error


def _call(kind: str, name: str, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - a plugin's answer
    """Return what a plugin's function returns; what it raises on purpose in our or its own tree passes."""
    try:
        return function()
    except VlaEvalError:
        raise
    except (Exception, SystemExit) as error:  # the border to a plugin's function
        raise ContractError(f"{kind.capitalize()} plugin {name!r} failed: {_in_words(error)}") from error


def _in_words(error: BaseException) -> str:
    """Return an error as class, text and place, without the words that introduce a crash of ours."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a plugin's own __str__
        text = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})." if frames else f"{text}."


def _parse_options(policy: str, factory: Callable[..., Policy], options: Mapping[str, str]) -> dict[str, Any]:
    hints = typing.get_type_hints(factory)
    parameters = dict(list(inspect.signature(factory).parameters.items())[1:])
    parsed: dict[str, Any] = {}
    for name, text in options.items():
        if name not in parameters:
            raise UnknownNameError(f"option of policy {policy!r}", name, parameters)
        parsed[name] = _parse(f"Option {name!r} of policy {policy!r}", text, hints.get(name, str))
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in parsed]
    if missing:
        given = " ".join(f"{name}=..." for name in missing)
        raise UsageError(f"Policy {policy!r} needs {', '.join(missing)}: add --policy-args {given}.")
    return parsed


def _parse(what: str, text: str, hint: Any) -> Any:  # noqa: ANN401 - follows the annotation
    if isinstance(hint, types.UnionType):
        if text.lower() == "none" and type(None) in typing.get_args(hint):
            return None
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        if text not in typing.get_args(hint):
            raise UsageError(f"{what} is {text!r}; expected one of {', '.join(typing.get_args(hint))}.")
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{what} is {text!r}; expected true or false.")
        return text.lower() == "true"
    if hint is Path:
        if not Path(text).exists():
            raise UsageError(f"{what}: no file or folder {text!r} exists.")
        return Path(text)
    if hint not in (str, int, float):
        raise ContractError(f"{what} is declared as {hint}, which no text can give: use str and parse it there.")
    try:
        return hint(text)
    except ValueError as error:
        raise UsageError(f"{what} is {text[:80]!r}, which is not a {hint.__name__}.") from error
