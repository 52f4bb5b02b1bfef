"""The scripted, privileged expert for the LIBERO suites; it has a skill for each predicate of a task's goal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np

from envs.libero.expert.articulation import pull, push_shut, turn
from envs.libero.expert.caddy import put_in_compartment
from envs.libero.expert.drawers import put_in_drawer
from envs.libero.expert.geometry import rotation_vector
from envs.libero.expert.grasps import CONSISTENT, MOST_CLEARANCE
from envs.libero.expert.hand import Commands, Hand, HandCommand
from envs.libero.expert.microwave import put_in_microwave, swing_shut
from envs.libero.expert.pick_place import inside, on_region, on_thing, pick_and_place
from envs.libero.expert.pushing import push
from envs.libero.expert.scene import Goal, Scene
from evals.contract import Env
from evals.errors import UsageError
from evals.spaces import ActionSpace, StateSpace
from evals.types import ActionChunk, Episode, FloatArray, Observation, Suite
from vla.motion.language import describe, motion_towards

_ATTEMPTS = 2  # times that the expert works through all goals
_TURN_CAP = 0.6  # largest share of the controller's rotation range
_TURN_TOLERANCE = 0.1  # radians; a smaller rotation is not part of the motion sentence
_KNOB_ON = 0.8  # radians; LIBERO calls a stove on from 0.5
_KNOB_OFF = -0.003  # radians; off is below 0
_OPEN_TOPPED = ("basket", "tray")
_NOISE_MEMORY = 0.7  # correlation of path noise between control steps


class _HasSimulator(Protocol):
    @property
    def simulator(self) -> object:
        """LIBERO's `ControlEnv`."""
        ...


class LiberoExpert:
    """Solves LIBERO tasks from the simulator's state; every action has a motion sentence that says its intent.

    Args:
        suite: a LIBERO suite.
        noise: standard deviation, in metres, of the noise on every commanded displacement; 0 is deterministic.
        speed: factor on the speed of the hand, 0.5 to 1.5; the controller's limits still hold.
        consistent_grasp: grasp an object in the same way in nearly all scenes of a task, instead of choosing the grasp
            with the most clearance.
    """

    name = "expert"
    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 1

    def __init__(self, suite: Suite, *, noise: float = 0.0, speed: float = 1.0, consistent_grasp: bool = False) -> None:
        if not noise >= 0:
            raise UsageError(f"The expert's noise is {noise}; metres, 0 or more, are expected.")
        if not 0.5 <= speed <= 1.5:
            raise UsageError(f"The expert's speed is {speed}; a factor from 0.5 to 1.5 is expected.")
        self.action_space = suite.action_space
        self._suite = suite
        self._noise = noise
        self._speed = speed
        self._preference = CONSISTENT if consistent_grasp else MOST_CLEARANCE
        self._env: Env | None = None
        self._run: _SkillRun | None = None

    def attach(self, env: Env) -> None:
        """Keep the env whose simulator the expert reads."""
        self._env = env
        self._run = None

    def begin(self, episode: Episode) -> None:
        """Forget the last episode; the scene is read at the first step, after the env's reset."""
        self._run = None

    def end(self, episode: Episode) -> None:
        """Forget the episode."""
        self._run = None

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Return one action, with its motion sentence, for one observation.

        Raises:
            UsageError: more than one observation, no env attached, or a goal that no skill covers.
        """
        if len(observations) != 1:
            raise UsageError(f"The LIBERO expert reads one simulator; it was asked about {len(observations)} at once.")
        if self._run is None:
            self._run = self._start(observations[0].episode)
        return [self._run.next()]

    def _start(self, episode: Episode) -> _SkillRun:
        if self._env is None:
            raise UsageError("The LIBERO expert reads the simulator: attach(env) comes before act().")
        scene = Scene(cast(_HasSimulator, self._env).simulator)
        where = f"suite {self._suite.name!r}, task {episode.task} ({self._suite.tasks[episode.task].name})"
        hand = Hand(scene, self._preference)
        goals = scene.goals
        for goal in goals:
            if _skill(hand, goal, goals) is None:
                raise UsageError(f"The LIBERO expert has no skill for the goal {goal} of {where}.")
        return _SkillRun(
            self.action_space, hand, _plan(hand, goals), _Path(episode.rng("expert"), self._noise, self._speed)
        )


class _Path:
    """The speed of the hand, and the noise on its path."""

    def __init__(self, rng: np.random.Generator, noise: float, speed: float) -> None:
        self.speed = speed
        self._rng = rng
        self._noise = noise
        self._drift = np.zeros(3)

    def drift(self) -> FloatArray:
        """Return the next displacement `[3]` of the noise, metres: noise that is correlated in time, around zero."""
        if self._noise:
            fresh = self._rng.normal(0.0, self._noise, 3)
            self._drift = _NOISE_MEMORY * self._drift + np.sqrt(1 - _NOISE_MEMORY**2) * fresh
        return self._drift


class _SkillRun:
    """One episode: turns the plan's commands into actions and sentences."""

    def __init__(self, space: ActionSpace, hand: Hand, plan: Commands, path: _Path) -> None:
        self._space = space
        self._hand = hand
        self._plan = plan
        self._path = path

    def next(self) -> ActionChunk:
        """Return the next action `[1, 7]` with its motion sentence; after the end of the plan, stand still."""
        scene = self._hand.scene
        command = next(self._plan, None)
        if command is None:
            return ActionChunk(self._action(np.zeros(3), np.zeros(3), self._hand.closed), motion="stop")
        offset = command.position - scene.grip_position
        turn = rotation_vector(command.rotation @ scene.grip_rotation.T)
        cap, turn_cap = (min(1.0, share * self._path.speed) for share in (command.cap, _TURN_CAP))
        move = np.clip(offset / self._space.metres_per_unit, -cap, cap)
        rotate = np.clip(turn / self._space.radians_per_unit, -turn_cap, turn_cap)
        move += self._path.drift() / self._space.metres_per_unit
        return ActionChunk(self._action(move, rotate, command.closed), motion=_intent(command, offset, turn))

    def _action(self, move: FloatArray, rotate: FloatArray, closed: bool) -> FloatArray:
        """Return `[1, 7]` in the suite's units."""
        space = self._space
        gripper = space.gripper_closed if closed else space.gripper_open
        return np.array(np.clip([[*move, *rotate, gripper]], space.low, space.high))


def _intent(command: HandCommand, offset: FloatArray, turn: FloatArray) -> str:
    """Return the sentence for the movement that is left; noise and the controller's limits do not change it."""
    per_axis = command.tolerance / np.sqrt(3)  # so that a hand that has not arrived has somewhere to go
    return describe(motion_towards(offset, per_axis, turn, _TURN_TOLERANCE, command.event))


def _plan(hand: Hand, goals: Sequence[Goal]) -> Commands:
    """Work on each goal that does not hold, and check all goals again afterwards."""
    for _ in range(_ATTEMPTS):
        for goal in sorted(goals, key=lambda goal: _must_wait(goal, goals)):
            skill = _skill(hand, goal, goals)
            if skill is not None and not hand.scene.holds(goal):
                yield from skill


def _must_wait(goal: Goal, goals: Sequence[Goal]) -> bool:
    """Whether the goal is to close something into which objects must be put first."""
    filled = [other.arguments[1] for other in goals if other.predicate == "in"]
    return goal.predicate == "close" and any(region.startswith(goal.arguments[0]) for region in filled)


def _skill(hand: Hand, goal: Goal, goals: Sequence[Goal]) -> Commands | None:
    """Return the skill that achieves a goal, or None if there is none."""
    thing = goal.arguments[0]
    if goal.predicate == "on":
        return _put_on(hand, thing, goal.arguments[1], goals)
    if goal.predicate == "in":
        return _put_in(hand, thing, goal.arguments[1])
    if goal.predicate == "open" and hand.scene.is_drawer(thing):
        return pull(hand, thing)
    if goal.predicate == "close" and hand.scene.is_drawer(thing):
        return push_shut(hand, thing)
    if goal.predicate == "close":
        return swing_shut(hand, thing)
    if goal.predicate == "turnon":
        return turn(hand, thing, _KNOB_ON)
    if goal.predicate == "turnoff":
        return turn(hand, thing, _KNOB_OFF)
    return None


def _put_on(hand: Hand, thing: str, support: str, goals: Sequence[Goal]) -> Commands | None:
    scene = hand.scene
    if scene.is_object(support):
        return pick_and_place(hand, thing, on_thing(support))
    if not scene.is_region(support):
        return None
    if "plate" in thing:
        return push(hand, thing, support)
    sharing = [goal.arguments[0] for goal in goals if goal.predicate == "on" and goal.arguments[1] == support]
    return pick_and_place(hand, thing, on_region(support, sharing.index(thing), len(sharing)))


def _put_in(hand: Hand, thing: str, container: str) -> Commands | None:
    scene = hand.scene
    if scene.is_drawer(container):
        return put_in_drawer(hand, thing, container)
    if "microwave" in container:
        return put_in_microwave(hand, thing, container)
    if "caddy" in container:
        return put_in_compartment(hand, thing, container)
    if any(word in container for word in _OPEN_TOPPED):
        return pick_and_place(hand, thing, inside(scene.region_parent(container) or ""))
    return None
