"""One run: plan, subtract what is done, probe, drive, summarise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.config import identity
from evals.driver import Driver, Progress
from evals.engine.isolated import in_fresh_process
from evals.engine.messages import Deadlines, WorkerSpec
from evals.engine.pool import WorkerPool
from evals.errors import ContractError, RecordError, UsageError
from evals.gates import before_run, require, sensitive
from evals.provenance import changes_between, provenance, require_same_simulator
from evals.record import Header, Recorder, read_run
from evals.registry import STOPPING, load_all, load_object
from evals.setup import Setup
from evals.summary import Summary, summarise
from evals.types import Episode, EpisodeResult

Stop = Callable[[Sequence[EpisodeResult], Progress], str]


def run(setup: Setup, progress: Progress) -> Summary:
    """Run what is missing from the run folder and return the numbers of the whole plan.

    Args:
        setup: what `prepare` returned.
        progress: shows the run to the user.

    Raises:
        RunFolderError: the folder belongs to another run, or the folder to compare with holds no run.
        UsageError: the run to compare with was made under another protocol.
        GateError: a gate failed.
        RunIncompleteError: too many episodes in a row have no score, or the policy hangs; what was recorded stays.
    """
    config, suite = setup.config, setup.suite
    identified = identity(config, setup.replan_every, setup.checkpoint_hash())
    identified["policy_args"] = dict(getattr(setup.policy, "identity", identified["policy_args"]))
    header = Header.of(suite, identified, config.named_conditions())
    stop = _stopping_rule(setup)
    with Recorder(setup.folder, header) as recorder:
        if recorder.repaired:
            progress.say("The record's last line was cut off by a crash; it was removed and its episode runs again.")
        for remark in recorder.remarks:
            progress.say(remark)
        planned = {episode.id for episode in setup.episodes}
        done = [r for r in recorder.done.values() if r.episode_id in planned and r.status.scored]
        progress.start(suite, setup.episodes, done)
        if len(done) < len(planned):
            origin = _origin(setup, recorder, progress)
            for remark in getattr(setup.policy, "remarks", ()):
                progress.say(f"warning: policy {config.policy}: {remark}")
            found = _pass_gates(setup, progress) if config.gates else "skipped"
            plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
            found = [*found, *_ask_policy(setup, progress)] if isinstance(found, list) else found
            recorder.start_session({**origin, "gates": found, "config": plain, "planned": len(planned)})
        try:
            ran = _drive(setup, recorder, progress, stop)
        finally:
            if len(done) < len(planned):
                _keep_report(setup, recorder)
        wanted = {episode.id for episode in ran}
        results = [result for result in recorder.results() if result.episode_id in wanted]
    return summarise(suite.name, suite.tasks, results, Counter(episode.task for episode in ran))


def _keep_report(setup: Setup, recorder: Recorder) -> None:
    """Add to the record what the policy says of this start; however the run ended, that must not hide why."""
    report = getattr(setup.policy, "report", None)
    if report is None:
        return
    try:
        recorder.amend_session({"policy": json.loads(json.dumps(report()))})
    except RecordError:
        pass  # said by whatever else is written to the same disk
    except (TypeError, ValueError) as error:
        raise ContractError(f"Policy {setup.config.policy!r}: report() is no JSON data: {error}.") from error


def _origin(setup: Setup, recorder: Recorder, progress: Progress) -> dict[str, Any]:
    """Return where this start's episodes come from, and say what is not as it was at the last start."""
    origin, earlier = provenance(), recorder.header.sessions
    require_same_simulator(earlier, origin, setup.suite.protocol.simulator, setup.config.other_versions)
    for change in changes_between([*earlier, origin])[len(changes_between(earlier)) :]:
        progress.say(change)
    return origin


def _drive(setup: Setup, recorder: Recorder, progress: Progress, stop: Stop | None) -> list[Episode]:
    """Run rounds of episodes, and return all that were planned until the run was over or decided."""
    scored = {result.episode_id for result in recorder.done.values() if result.status.scored}
    rounds = [(episodes, [e for e in episodes if e.id not in scored]) for episodes in _rounds(setup)]
    largest = max(len(remaining) for _, remaining in rounds)
    engine: WorkerPool | None = None
    ran: list[Episode] = []
    try:
        for episodes, remaining in rounds:
            ran += episodes
            if remaining and engine is None:
                engine = _start_engine(setup, largest)
                driver = Driver(setup, engine, recorder, progress)
            if remaining:
                driver.drive(remaining)
            reason = stop(list(recorder.done.values()), progress) if stop is not None else ""
            if reason:
                _record_decision(setup, recorder, reason, len(ran))
                break
    finally:
        if engine is not None:
            engine.close()
        if setup.caller is not None:
            setup.caller.close()
        getattr(setup.policy, "close", lambda: None)()
    return ran


def _record_decision(setup: Setup, recorder: Recorder, reason: str, episodes: int) -> None:
    """Write into the record that a run is complete with fewer episodes than were planned, and why."""
    scored = {result.episode_id for result in recorder.done.values() if result.status.scored}
    if any(episode.id not in scored for episode in setup.episodes):
        against = str(setup.config.until_decided)
        recorder.amend_session({"decided": {"text": reason, "against": against, "episodes": episodes}})


def _start_engine(setup: Setup, episodes: int) -> WorkerPool:
    start: Callable[[WorkerSpec, int, Deadlines], WorkerPool] = load_object(f"evals.engine.{setup.config.engine}:start")
    return start(setup.spec(), min(setup.config.worker_count(), episodes), setup.config.deadlines)


def _rounds(setup: Setup) -> list[list[Episode]]:
    """Return everything at once, or one trial of every task after the other where a test may end the run early."""
    if setup.config.until_decided is None:
        return [setup.episodes]
    states = dict.fromkeys(episode.initial_state for episode in setup.episodes)
    return [[episode for episode in setup.episodes if episode.initial_state == state] for state in states]


def _stopping_rule(setup: Setup) -> Stop | None:
    """Return the anytime-valid test, a plugin like all analysis, against the run to compare with; None without one."""
    config = setup.config
    if config.until_decided is None:
        return None
    other = read_run(setup.started_in / config.until_decided)
    if other.header.protocol_hash != setup.suite.protocol.hash:
        raise UsageError(
            f"--until-decided: {config.until_decided} was run under another protocol; they do not compare."
        )
    [decide] = load_all(STOPPING).values()
    difference = 0.1 if config.minimum_difference is None else config.minimum_difference

    def decided(results: Sequence[EpisodeResult], progress: Progress) -> str:
        decision = decide(results, other.results, difference)
        if decision.decided:
            progress.say(decision.text)
        return str(decision.text) if decision.decided else ""

    return decided


def _ask_policy(setup: Setup, progress: Progress) -> list[str]:
    """Find out which inputs change the policy's answers, if that is asked for."""
    config = setup.config
    if config.sensitivity == "off" or setup.caller is None:
        return []
    finding = sensitive(setup.caller, setup.suite, setup.policy, setup.episodes[0].task)
    if config.sensitivity == "refuse":
        require([finding])
    progress.say(str(finding))
    return [str(finding)]


def _pass_gates(setup: Setup, progress: Progress) -> list[str]:
    """Probe the first scene, with the cameras that the run draws, in a process that then ends."""
    config, suite, task = setup.config, setup.suite, setup.episodes[0].task
    progress.say(f"Probing the conventions of {suite.name} task {task} (skip with --no-gates)")
    limit = config.deadlines.build + config.deadlines.reset + config.deadlines.step
    findings = in_fresh_process(
        before_run,
        *(suite, task, setup.cameras),
        seconds=limit,
        what=f"Probing suite {suite.name!r}",
        surroundings=setup.surroundings,
    )
    require(findings)
    return [str(finding) for finding in findings]
