"""What the tests of simpler_bridge share: the suite, episodes of it, and a loop."""

from envs.bridge.env import make
from envs.bridge.tasks import simpler_bridge
from evals.types import Episode

SUITE = simpler_bridge()
SPOON, CARROT, STACK, EGGPLANT = range(4)
IDLE = SUITE.action_space.idle()


def episode(task, initial_state=0, seed=0):
    return Episode(SUITE.name, task, initial_state, seed, SUITE.protocol.hash)


def build(task, cameras=()):
    return make(SUITE, SUITE.tasks[task], cameras)


def run(env, actions, render=False):
    return [env.step(action, render) for action in actions]
