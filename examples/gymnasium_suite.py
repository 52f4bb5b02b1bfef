"""A gymnasium environment as a suite: `Pendulum-v1` has to be swung up and held.

pip install gymnasium
python examples/gymnasium_suite.py
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium
import numpy as np

import evals
from evals.conformance import check_suite

STEPS = 200
SPACE = evals.ActionSpace(rotation="none", frame="world", metres_per_unit=1.0)  # entry 0 is the torque, 2 N m a unit
STATE = evals.StateSpace(names=("cos", "sin", "speed"), rotation="none", source="gymnasium's observation")
CAMERA = evals.Camera("side", height=32, width=32)


def suite() -> evals.Suite:
    """Return the suite as data."""
    return evals.Suite(
        name="pendulum",
        tasks=(evals.Task(0, "swing_up", "swing the pendulum up", STEPS),),
        protocol=evals.Protocol(
            source="gymnasium's Pendulum-v1",
            simulator=f"gymnasium {gymnasium.__version__}",
            settle_steps=0,
            settle_action=tuple(SPACE.idle().tolist()),
            success="last",  # upright at the last step, not only on the way through
            initial_states=5,
            cameras=(CAMERA,),
            image_transform="none",
            max_steps=(STEPS,),
        ),
        action_space=SPACE,
        state_space=STATE,
        env=f"{__name__}:PendulumEnv",
    )


class PendulumEnv:
    """gymnasium's five returned values, turned into the contract's."""

    def __init__(self, suite: evals.Suite, task: evals.Task, cameras: tuple[str, ...]) -> None:
        self._task, self._cameras = task, cameras
        self._env = gymnasium.make("Pendulum-v1", max_episode_steps=STEPS + 1)

    def reset(self, episode: evals.Episode, render: bool) -> evals.Step:
        """Seed gymnasium from the episode's identity: the same episode is the same scene, whatever ran before."""
        self._episode, self._steps = episode, 0
        self._seen, _ = self._env.reset(seed=episode.rng_seed("pendulum"))
        return self._result(render)

    def step(self, action: np.ndarray, render: bool) -> evals.Step:
        """Run one step; reward and gymnasium's own ending do not matter here."""
        self._steps += 1
        torque = 2.0 * np.clip(action[:1], SPACE.low, SPACE.high)
        self._seen, *_ = self._env.step(torque.astype(np.float32))
        return self._result(render)

    def static_state(self) -> np.ndarray:
        """Return nothing: angle and speed are all there is."""
        return np.empty(0)

    def objects(self) -> Mapping[str, np.ndarray]:
        """Return the tip's position, metres."""
        angle, _ = self._env.unwrapped.state
        return {"tip": np.array([np.sin(angle), 0.0, np.cos(angle)])}

    def renderer(self) -> str:
        """Return what draws."""
        return "NumPy"

    def close(self) -> None:
        """Free the environment."""
        self._env.close()

    def _result(self, render: bool) -> evals.Step:
        angle, speed = self._env.unwrapped.state
        upright = bool(np.cos(angle) > 0.95 and abs(speed) < 1.0)
        return evals.Step(upright, self._observation() if render else None, np.array([angle, speed], dtype=float))

    def _observation(self) -> evals.Observation:
        tip = self.objects()["tip"]
        image = np.zeros((CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
        for part in np.linspace(0.0, 1.0, 16):
            image[int(15.5 - 14 * part * tip[2]), int(15.5 + 14 * part * tip[0])] = 255
        images = dict.fromkeys(self._cameras, image)
        return evals.Observation(
            self._episode, self._steps, self._task.instruction, images, self._seen.astype(np.float64)
        )


def swing_up(observation: evals.Observation) -> np.ndarray:
    """Return `[7]`: pump energy until the top is near, then hold."""
    cos, sin, speed = observation.state
    action = SPACE.idle()
    if cos > 0.9:
        action[0] = np.clip(-8.0 * sin - 2.0 * speed, -1, 1)
    else:
        missing = 10.0 * (1.0 - cos) - speed**2 / 3  # of the energy at the top, J
        action[0] = np.clip(missing * np.sign(speed or 1.0), -1, 1)
    return action


if __name__ == "__main__":
    check_suite(suite())
    print("keeps the contract")
    policy = evals.policy(swing_up, action_space=SPACE, state_space=STATE)
    summary = evals.evaluate(policy, suite(), out="results/runs/pendulum")
    print(f"{summary.total('successes'):.0f} of {summary.total('planned'):.0f} episodes end upright")
