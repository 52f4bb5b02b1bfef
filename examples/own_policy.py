"""A policy of ten lines: a function from an observation to actions, tried in the toy suite.

python examples/own_policy.py
"""

from __future__ import annotations

import numpy as np

import evals

suite = evals.load_suite("reach")
BALL = {"left": (-0.2, 0.0), "right": (0.2, 0.0), "near": (0.0, -0.2), "far": (0.0, 0.2)}


def fly_to_the_ball(observation: evals.Observation) -> np.ndarray:
    """Return `[7]`: a step towards where the instruction says that the ball is, gripper open."""
    side = observation.instruction.split()[5]
    action = suite.action_space.idle()
    way = np.array([*BALL[side], 0.05]) - observation.state[:3]
    action[:3] = np.clip(way / suite.action_space.metres_per_unit, -1, 1)
    return action


if __name__ == "__main__":  # workers are processes that import this file
    policy = evals.policy(
        fly_to_the_ball, action_space=suite.action_space, state_space=suite.state_space, name="fly_to_the_ball"
    )
    summary = evals.evaluate(policy, suite, trials=5, out="results/runs/own_policy")
    print(summary.mean)
