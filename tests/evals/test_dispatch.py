"""Which worker runs what, who is asked what, and how plugins are found."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from envs.reach import suite
from evals.batching import Batcher
from evals.caller import Caller
from evals.checks import checked_chunk
from evals.contract import one_at_a_time
from evals.errors import UnknownNameError, UsageError
from evals.policies.simple import noop, random
from evals.registry import load_command, load_policy, load_suite
from evals.schedule import Schedule
from evals.types import ActionChunk, Episode, Observation
from tests.conftest import REPOSITORY

REACH = suite()
RUNS = REPOSITORY / "results" / "reference" / "runs" / "libero_spatial"


def episodes(tasks, states):
    return [Episode("reach", task, state, 0, "p") for task in range(tasks) for state in range(states)]


def observation(state=0, step=0):
    return Observation(Episode("reach", 0, state, 0, "p"), step, "reach", {}, np.zeros(8))


def test_a_worker_stays_with_its_task_while_it_lasts():
    schedule = Schedule(episodes(tasks=4, states=3))
    turns = [(worker, schedule.next(worker).task) for _ in range(3) for worker in (0, 1)]
    assert turns == [(0, 0), (1, 1)] * 3


def test_a_worker_without_a_task_of_its_own_helps_with_the_longest_queue():
    schedule = Schedule(episodes(tasks=1, states=4))
    assert [schedule.next(worker).initial_state for worker in (0, 1, 2, 0)] == [0, 1, 2, 3]
    assert schedule.next(1) is None
    assert len(schedule) == 0


def test_an_episode_that_was_put_back_runs_next():
    schedule = Schedule(episodes(tasks=1, states=3))
    first = schedule.next(0)
    schedule.put_back(first)
    assert schedule.next(0) == first


def batcher(policy, exact=False):
    check = partial(checked_chunk, replan_every=1, suite=REACH)
    return Batcher(policy, exact, check, Caller("scripted", 5.0))


class Scripted:
    """A policy that records the batches it got and raises on initial state 1."""

    def __init__(self):
        self.batches = []

    def act(self, observations):
        self.batches.append(len(observations))
        return one_at_a_time(self._answer)(observations)

    def _answer(self, seen):
        if seen.episode.initial_state == 1:
            raise ValueError("cannot do state 1")
        return ActionChunk(np.full((1, 7), float(seen.episode.initial_state)))


def test_what_is_waiting_becomes_one_call():
    policy = Scripted()
    answers = batcher(policy).answer([observation(0), observation(2)])
    assert policy.batches == [2]
    assert [answer.chunk.actions[0, 0] for answer in answers] == [0.0, 2.0]


def test_exact_asks_one_at_a_time():
    policy = Scripted()
    batcher(policy, exact=True).answer([observation(0), observation(2)])
    assert policy.batches == [1, 1]


def test_a_batch_that_fails_is_asked_again_one_by_one_so_that_only_the_culprit_fails():
    policy = Scripted()
    answers = batcher(policy).answer([observation(0), observation(1), observation(2)])
    assert policy.batches == [3, 1, 1, 1]
    assert [answer.chunk is None for answer in answers] == [False, True, False]
    assert "ValueError: cannot do state 1" in answers[1].error


def test_a_batch_that_fails_is_asked_again_about_what_was_seen_and_not_about_what_it_left():
    class Working(Scripted):
        def act(self, observations):
            for seen in observations:
                seen.state[:] += 1.0
                seen.images["top"][:] = 9
                object.__setattr__(seen.episode, "seed", 9)
            if len(observations) > 1:
                raise MemoryError("out of memory")
            [seen] = observations
            return [ActionChunk(np.full((1, 7), seen.state[0] + seen.images["top"][0]))]

    def seen(state):
        return replace(observation(state), images={"top": np.zeros(3)}, state=np.full(8, float(state)))

    answers = batcher(Working()).answer([seen(0), seen(1)])
    assert [answer.chunk.actions[0, 0] for answer in answers] == [10.0, 11.0]


def test_a_wrong_number_of_chunks_is_an_error():
    policy = Scripted()
    policy.act = lambda observations: []
    [answer] = batcher(policy).answer([observation()])
    assert "returned 0 chunks for 1 observations" in answer.error


def test_random_depends_on_episode_and_step_alone():
    one, two = random(REACH), random(REACH)
    batch = [observation(0, 0), observation(1, 0), observation(0, 1)]
    together = [chunk.actions for chunk in one.act(batch)]
    alone = [two.act([seen])[0].actions for seen in reversed(batch)][::-1]
    assert np.array_equal(together, alone)
    assert len({actions.tobytes() for actions in together}) == 3


def test_noop_keeps_the_gripper_open():
    assert noop(REACH).act([observation()])[0].actions[0, 6] == REACH.action_space.gripper_open


def test_options_are_parsed_after_their_annotations():
    assert load_policy("expert", load_suite("reach"), {"speed": "0.5", "noise": "0.01"}).name == "expert"
    with pytest.raises(UsageError, match="Option 'speed' of policy 'expert' is 'fast', which is not a float"):
        load_policy("expert", load_suite("reach"), {"speed": "fast"})
    with pytest.raises(UnknownNameError, match=r"No option of policy 'expert' named 'sped'\. Did you mean 'speed'"):
        load_policy("expert", load_suite("reach"), {"sped": "1"})


def test_a_plugin_of_ours_without_its_packages_names_the_extra(monkeypatch):
    for module in {"scipy", *(name for name in sys.modules if name.startswith("scipy."))}:
        monkeypatch.setitem(sys.modules, module, None)
    for module in [name for name in sys.modules if name.startswith("analysis")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UsageError, match=r"needs the package 'scipy': pip install 'motion-vla\[analysis\]'"):
        load_command("compare")([str(RUNS / "expert"), str(RUNS / "noop")])
