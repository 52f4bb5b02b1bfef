"""One episode: what is looked at, when it ends, and what may not come out of a policy."""

from dataclasses import replace

import numpy as np
import pytest

from envs.reach import ReachEnv, suite
from evals.errors import PolicyOutputError
from evals.rollout import RolloutConfig, rollout
from evals.types import ActionChunk, Episode, Protocol

REACH = suite()
EPISODE = Episode("reach", task=1, initial_state=0, seed=0, protocol_hash=REACH.protocol.hash)


class CountingEnv(ReachEnv):
    looks = 0

    def _observation(self):
        self.looks += 1
        return super()._observation()


def straight_to_the_ball(env, k):
    def ask(observation):
        way = (env.world.ball - env.world.position) / REACH.action_space.metres_per_unit
        return ActionChunk(np.tile([*np.clip(way / k, -1, 1), 0, 0, 0, -1.0], (k, 1)), motion="move right")

    return ask


def idle(observation):
    return ActionChunk(np.tile(REACH.action_space.idle(), (8, 1)))


def play(ask=idle, suite=REACH, **rollout_config):
    env = CountingEnv(suite, suite.tasks[1], ("agentview",))
    return env, rollout(env, suite, EPISODE, ask, RolloutConfig(**rollout_config), beat=lambda phase: None)


def with_rule(rule):
    protocol = Protocol(**{**vars(REACH.protocol), "success": rule})
    return replace(REACH, protocol=protocol)


def test_an_open_loop_chunk_costs_one_look():
    env, done = play(replan_every=8)
    assert done.outcome.steps == 40
    assert env.looks == 5


def test_filming_looks_at_every_step_and_changes_nothing():
    filmed, with_film = play(replan_every=8, video_camera="agentview")
    _, without = play(replan_every=8)
    assert filmed.looks == 41 == len(with_film.trace.frames)
    assert with_film.outcome.trajectory_hash == without.outcome.trajectory_hash


@pytest.mark.parametrize(("rule", "steps_run"), [("first", "until success"), ("last", "all"), ("ever", "all")])
def test_an_episode_ends_at_success_only_where_the_protocol_says_so(rule, steps_run):
    chosen = with_rule(rule)
    env = ReachEnv(chosen, chosen.tasks[1], ())
    done = rollout(env, chosen, EPISODE, straight_to_the_ball(env, 1), RolloutConfig(), beat=lambda phase: None)
    assert done.outcome.success_ever
    assert done.outcome.success_first is not None
    assert done.outcome.steps == (done.outcome.success_first if steps_run == "until success" else 40)


def test_what_was_said_is_kept_for_every_step():
    env = ReachEnv(REACH, REACH.tasks[1], ())
    done = rollout(env, REACH, EPISODE, straight_to_the_ball(env, 4), RolloutConfig(4), beat=lambda phase: None)
    assert done.trace.motion == ["move right"] * done.outcome.steps
    assert len(done.trace.sim_state) == done.outcome.steps + 1


def test_the_trajectory_hash_tells_actions_apart():
    _, still = play(replan_every=1)
    _, moved = play(lambda observation: ActionChunk(np.full((1, 7), 1e-9)))
    assert still.outcome.trajectory_hash != moved.outcome.trajectory_hash
    assert still.outcome.scene_hash == moved.outcome.scene_hash


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        (np.full((1, 7), np.nan), r"actions\[0, 0\] is nan"),
        (np.zeros((1, 6)), r"shape \(1, 6\), expected \[K >= 1, 7\]"),
        (np.zeros((0, 7)), "shape"),
        (np.zeros(7), "shape"),
        (np.zeros((1, 7), np.float32), "dtype float32, expected a float64"),
        ([[0.0] * 7], "dtype list"),
    ],
)
def test_a_bad_chunk_is_named(actions, complaint):
    with pytest.raises(PolicyOutputError, match=complaint):
        play(lambda observation: ActionChunk(actions))


def test_a_chunk_shorter_than_the_replanning_interval_is_refused():
    with pytest.raises(PolicyOutputError, match="chunk of 8 actions, but replan_every is 9"):
        play(replan_every=9)


def test_something_that_is_no_chunk_is_refused():
    with pytest.raises(PolicyOutputError, match="returned ndarray, expected"):
        play(lambda observation: np.zeros((1, 7)))


class StageEnv(ReachEnv):
    """Counts, as some benchmarks do, how far an episode came."""

    moved = False

    def step(self, action, render):
        self.moved = self.moved or bool(np.any(action[:3]))
        return replace(super().step(action, render), partial={"moved": np.bool_(self.moved), "grasped": False})


def test_partial_outcomes_are_those_of_the_last_step_and_change_nothing_else():
    env = StageEnv(REACH, REACH.tasks[1], ())
    done = rollout(env, REACH, EPISODE, straight_to_the_ball(env, 1), RolloutConfig(), beat=lambda phase: None)
    plain = ReachEnv(REACH, REACH.tasks[1], ())
    without = rollout(plain, REACH, EPISODE, straight_to_the_ball(plain, 1), RolloutConfig(), beat=lambda phase: None)
    assert done.outcome.partial == {"moved": True, "grasped": False}
    assert done.outcome.partial["moved"] is True
    assert without.outcome.partial == {}
    assert done.outcome.trajectory_hash == without.outcome.trajectory_hash
