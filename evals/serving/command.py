"""`vla-eval serve`: a policy of the harness behind a port, for other people's loops."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from evals.batching import Batcher
from evals.caller import Caller, build_policy
from evals.checks import checked_chunk
from evals.config import key_values
from evals.contract import PrivilegedPolicy
from evals.engine.messages import Deadlines
from evals.errors import SpaceMismatchError, UsageError
from evals.gates import space_differences
from evals.registry import load_suite

if TYPE_CHECKING:
    from evals.serving.served import ServedPolicy


@dataclass(frozen=True)
class ServeConfig:
    """Serve a policy to other people's evaluation loops: clients of openpi, or of PyPI's vla-eval.

    Attributes:
        suite: Suite in whose spaces the policy speaks; `vla-eval list` names all suites.
        policy: Policy to serve; `vla-eval list` names all policies. One that reads the simulator cannot be served.
        policy_args: Options of the policy, as key=value.
        checkpoint: File or folder with the policy's weights.
        wire: What the clients speak: openpi, or vla-server for PyPI's vla-eval.
        host: Address to listen at; only this machine by default.
        port: Port to listen at; 0 takes a free one.
        batch: Most observations that the policy is asked about at once.
        wait_ms: Milliseconds that the first observation of a batch waits for others.
        exact: Ask the policy about one observation at a time, so that no answer can depend on the rest of a batch.
        replan_every: Number of actions of an answer; the policy's own number by default.
        any_size: Take pictures of another size than the suite's cameras have, as openpi's LIBERO client sends them.
        token_variable: Name of an environment variable whose value clients have to send as a bearer token.
        seconds: Seconds that the policy may take for one call.
    """

    suite: str
    policy: str = "motion_tiny"
    policy_args: tuple[str, ...] = ()
    checkpoint: Path | None = None
    wire: Literal["openpi", "vla-server"] = "openpi"
    host: str = "127.0.0.1"
    port: int = 8000
    batch: int = 1
    wait_ms: float = 0.0
    exact: bool = False
    replan_every: int | None = None
    any_size: bool = False
    token_variable: str = ""
    seconds: float = Deadlines().policy_seconds


def command(arguments: list[str]) -> int:
    """Serve until interrupted."""
    config = tyro.cli(ServeConfig, args=arguments, prog="vla-eval serve")
    lacking = [name for name in ("msgpack", "websockets") if importlib.util.find_spec(name) is None]
    if lacking:
        raise UsageError(f"vla-eval serve needs the packages {', '.join(lacking)}: pip install 'motion-vla[remote]'.")
    from evals.serving.motion_vla_serve import Options, serve_model

    try:
        options = Options(
            wire=config.wire,
            host=config.host,
            port=config.port,
            batch=config.batch,
            wait_ms=config.wait_ms,
            token_variable=config.token_variable,
        )
    except ValueError as error:
        raise UsageError(f"vla-eval serve: {error}") from error
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = served(config)
    try:
        serve_model(model, options)
    except OSError as error:
        where = f"{config.host}:{config.port}"
        raise UsageError(f"Cannot listen at {where}: {error.strerror or error}. Choose another --port.") from error
    return 0


def served(config: ServeConfig) -> ServedPolicy:
    """Build the policy, check that it fits the suite, and return it as a model that can be served.

    Raises:
        UsageError: a name or option is wrong, or the policy reads the simulator, which no client has.
        SpaceMismatchError: the policy does not speak the suite's numbers.
    """
    from evals.serving.served import ServedPolicy

    suite = load_suite(config.suite)
    options = key_values("--policy-args", config.policy_args)
    if config.checkpoint is not None:
        options["checkpoint"] = str(config.checkpoint)
    caller = Caller(config.policy, config.seconds)
    policy = build_policy(caller, config.policy, suite, options)
    if isinstance(policy, PrivilegedPolicy):
        raise UsageError(
            f"Policy {config.policy!r} reads the simulator, which a client does not send: serve another one."
        )
    unlike = space_differences(suite, policy)
    if unlike:
        raise SpaceMismatchError(config.policy, suite.name, unlike)
    replan_every = _replan(config, policy.replan_every)
    check = partial(checked_chunk, replan_every=replan_every, suite=suite)
    batcher = Batcher(policy, config.exact, check, caller)
    return ServedPolicy(suite, policy, batcher, caller, replan_every, config.any_size)


def _replan(config: ServeConfig, own: int) -> int:
    replan_every = own if config.replan_every is None else config.replan_every
    if replan_every < 1:
        raise UsageError(f"--replan-every is {replan_every}; it must be at least 1.")
    return replan_every
