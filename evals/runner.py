"""One run: plan, subtract what is done, probe, dispatch, retry, record."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from evals.batching import Batcher
from evals.config import RunConfig, identity, plan
from evals.contract import Policy, PrivilegedPolicy
from evals.engine.isolated import in_fresh_process
from evals.engine.local import LocalEngine
from evals.engine.messages import Answer, Ask, Assignment, Built, Event, Lost, Report, WorkerSpec
from evals.errors import RunIncompleteError, SpaceMismatchError
from evals.gates import before_run, require, space_differences
from evals.provenance import hash_path, provenance
from evals.record import Header, Recorder
from evals.registry import load_policy, load_suite
from evals.rollout import Conduct
from evals.schedule import Schedule
from evals.summary import Summary, summarise
from evals.types import Episode, EpisodeResult, Status, Suite
from evals.video import require_video

RETRIES = 3
HOPELESS = 3  # episodes in a row without a score after which a run stops: something is wrong with all of them
POLL_SECONDS = 0.5
Stop = Callable[[list[EpisodeResult]], bool]


class Progress(Protocol):
    """Who is told what happens in a run."""

    def start(self, suite: Suite, episodes: list[Episode], done: list[EpisodeResult]) -> None:
        """Learn what is planned and what an earlier start of the run already recorded."""
        ...

    def say(self, text: str) -> None:
        """Learn something worth a line."""
        ...

    def finished(self, result: EpisodeResult) -> None:
        """Learn of one line of the record."""
        ...


class Engine(Protocol):
    """Where workers live. `poll` replaces a lost worker before it returns."""

    @property
    def workers(self) -> list[int]:
        """Numbers of the workers."""
        ...

    def assign(self, worker: int, assignment: Assignment) -> None:
        """Give an idle worker its next episode."""
        ...

    def answer(self, worker: int, answer: Answer) -> None:
        """Give a worker that asked the policy's answer."""
        ...

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Wait and return what happened."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Setup:
    """A run that has been checked and can start."""

    config: RunConfig
    suite: Suite
    policy: Policy
    replan_every: int
    episodes: list[Episode]

    @property
    def film(self) -> str:
        """Camera that is filmed, or ""."""
        seen = (*self.policy.cameras, self.suite.protocol.cameras[0].name)
        return "" if self.config.video == "none" else seen[0]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that are drawn: those that the policy needs, and the one that is filmed."""
        return tuple(dict.fromkeys((*self.policy.cameras, *filter(None, [self.film]))))


def prepare(config: RunConfig) -> Setup:
    """Load the plugins and check that they fit.

    Raises:
        UsageError: a name, option or number is wrong, or policy and suite disagree on what numbers mean.
    """
    suite = load_suite(config.suite)
    policy = load_policy(config.policy, suite, config.options())
    unlike = space_differences(suite, policy)
    if unlike:
        raise SpaceMismatchError(config.policy, suite.name, unlike)
    if config.video != "none":
        require_video()
    return Setup(config, suite, policy, config.replan_every or policy.replan_every, plan(config, suite))


def run(setup: Setup, progress: Progress, stop: Stop | None = None) -> Summary:
    """Run what is missing from the run folder and return the numbers of the whole plan.

    Args:
        setup: what `prepare` returned.
        progress: told what happens.
        stop: called with all scored results after each; True ends the run early.

    Raises:
        RunFolderError: the folder belongs to something else.
        GateError: a convention probe failed.
        RunIncompleteError: nothing works; what was recorded stays.
    """
    config, suite = setup.config, setup.suite
    checkpoint = hash_path(config.checkpoint) if config.checkpoint else ""
    conditions = dict(text.split("=", 1) for text in config.condition)
    header = Header.of(suite, identity(config, setup.replan_every, checkpoint), conditions)
    with Recorder(config.folder(), header) as recorder:
        if recorder.repaired:
            progress.say(
                "The last line of the record was cut off by a crash; it was removed and its episode runs again."
            )
        planned = {episode.id for episode in setup.episodes}
        done = [r for r in recorder.done.values() if r.episode_id in planned and r.status.scored]
        scored = {result.episode_id for result in done}
        todo = [episode for episode in setup.episodes if episode.id not in scored]
        progress.start(suite, setup.episodes, done)
        if todo:
            found = _pass_gates(setup, todo[0].task, progress) if config.gates else "skipped"
            plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
            recorder.start_session({**provenance(), "gates": found, "config": plain, "planned": len(planned)})
            _Driver(setup, recorder, progress, stop).drive(todo)
        results = [result for result in recorder.done.values() if result.episode_id in planned]
    return summarise(suite.name, suite.tasks, results, Counter(episode.task for episode in setup.episodes))


def _pass_gates(setup: Setup, task: int, progress: Progress) -> list[str]:
    """Probe the first scene, with the cameras that the run draws, in a process that then ends."""
    config, suite = setup.config, setup.suite
    progress.say(f"Probing the conventions of {suite.name} task {task} (skip with --no-gates)")
    limit = config.deadlines.build + config.deadlines.reset + config.deadlines.step
    findings = in_fresh_process(before_run, suite.name, task, setup.cameras, seconds=limit)
    require(findings)
    return [str(finding) for finding in findings]


def _spec(setup: Setup) -> WorkerSpec:
    config = setup.config
    privileged = isinstance(setup.policy, PrivilegedPolicy)
    return WorkerSpec(
        suite=setup.suite,
        cameras=setup.cameras,
        privileged=(config.policy, tuple(config.options().items())) if privileged else None,
        conduct=Conduct(setup.replan_every, setup.film),
        folder=config.folder(),
        traces=config.traces,
        videos=config.video,
    )


class _Driver:
    """The loop between engine, policy and recorder."""

    def __init__(self, setup: Setup, recorder: Recorder, progress: Progress, stop: Stop | None) -> None:
        self._setup, self._recorder, self._progress, self._stop = setup, recorder, progress, stop
        self._batcher = Batcher(setup.policy, setup.config.exact)
        self._told = None if isinstance(setup.policy, PrivilegedPolicy) else setup.policy
        self._running: dict[int, Assignment] = {}
        self._attempts: Counter[str] = Counter()
        self._hopeless = 0

    def drive(self, todo: list[Episode]) -> None:
        """Run all episodes; return when each has a score or has used up its attempts."""
        config = self._setup.config
        self._schedule = Schedule(todo)
        workers = min(config.worker_count(), len(todo))
        engine: Engine = LocalEngine(_spec(self._setup), workers, config.deadlines)
        try:
            for worker in engine.workers:
                self._assign(engine, worker)
            while self._running:
                self._handle(engine, engine.poll(POLL_SECONDS))
                if self._stop is not None and self._stop(list(self._recorder.done.values())):
                    return
        finally:
            engine.close()

    def _handle(self, engine: Engine, events: list[tuple[int, Event]]) -> None:
        asking: list[tuple[int, Ask]] = []
        for worker, event in events:
            if isinstance(event, Ask):
                asking.append((worker, event))
            elif isinstance(event, Built):
                self._recorder.amend_session({"renderer": event.renderer})
            elif worker in self._running:
                self._over(worker, event)
                self._assign(engine, worker)
        answers = self._batcher.answer([ask.observation for _, ask in asking])
        for (worker, _), answer in zip(asking, answers, strict=True):
            engine.answer(worker, answer)

    def _assign(self, engine: Engine, worker: int) -> None:
        while (episode := self._schedule.next(worker)) is not None:
            self._attempts[episode.id] += 1
            assignment = Assignment(episode, self._attempts[episode.id])
            self._running[worker] = assignment
            error = self._tell("begin", episode)
            if not error:
                engine.assign(worker, assignment)
                return
            self._over(worker, Report(Status.POLICY_ERROR, error))

    def _over(self, worker: int, event: Report | Lost) -> None:
        """Record an attempt, and put the episode back if the simulator failed it and it may be tried again."""
        assignment = self._running.pop(worker)
        error = self._tell("end", assignment.episode)
        if error and isinstance(event, Report) and event.status.scored:
            event = Report(Status.POLICY_ERROR, error)
        result = self._result(worker, assignment, event)
        self._recorder.append(result)
        self._progress.finished(result)
        if result.status.scored:
            self._hopeless = 0
        elif result.status is not Status.POLICY_ERROR and assignment.attempt <= RETRIES:
            self._schedule.put_back(assignment.episode)
        else:
            self._hopeless += 1
            if self._hopeless >= HOPELESS:
                raise RunIncompleteError(
                    f"{HOPELESS} episodes in a row ended without a score; the run was stopped. The last one said:\n"
                    f"{result.error}\nWhat was recorded stays in {self._recorder.path}; the same command continues."
                )

    def _tell(self, what: str, episode: Episode) -> str:
        """Call the policy's `begin` or `end`; return the traceback if it raises, else ""."""
        if self._told is None:
            return ""
        try:
            getattr(self._told, what)(episode)
        except Exception:  # noqa: BLE001 - the border between a policy and the record
            return traceback.format_exc(limit=-8)
        return ""

    def _result(self, worker: int, assignment: Assignment, event: Report | Lost) -> EpisodeResult:
        episode = assignment.episode
        report = event if isinstance(event, Report) else Report(event.status, event.error)
        return EpisodeResult(
            suite=episode.suite,
            task=episode.task,
            initial_state=episode.initial_state,
            seed=episode.seed,
            episode_id=episode.id,
            protocol_hash=episode.protocol_hash,
            official=episode.initial_state < self._setup.suite.protocol.initial_states,
            worker=worker,
            attempt=assignment.attempt,
            **vars(report),
        )
