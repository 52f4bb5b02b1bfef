"""Our env on the same actions as reference_loop.py, task after task in one process; run from the repository.

python -m tests.envs.libero.our_loop STEPS FOLDER SUITE:TASK ...
"""

import sys
from pathlib import Path

import numpy as np

from envs.libero import tasks as libero_tasks
from envs.libero.env import make
from evals.types import Episode


def main():
    steps, folder, *names = sys.argv[1:]
    for name in names:
        play(*name.split(":"), int(steps), Path(folder, f"{name}.npz"))


def play(name, task_id, steps, out):
    suite = getattr(libero_tasks, name)()
    task = suite.tasks[int(task_id)]
    episode = Episode(name, task.id, 3, 0, suite.protocol.hash)
    seed = episode.rng_seed("scene")
    env = make(suite, task, ("agentview", "wrist"))

    env.reset(Episode(name, task.id, 7, 0, suite.protocol.hash), render=False)
    env.step(np.ones(7), render=True)

    rendered = [True, False, *(i % 2 == 0 for i in range(steps - 1))]
    results = [env.reset(episode, render=rendered[0])]
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7))
    results += [env.step(action, render) for action, render in zip(actions, rendered[1:], strict=True)]

    model = env.simulator.sim.model
    split = 1 + model.nq + model.nv
    sim_state = np.stack([result.sim_state for result in results])
    seen = [result.observation for result in results if result.observation is not None]
    np.savez(
        out,
        seed=seed,
        rendered=np.array(rendered),
        scene=env.static_state(),
        sim_state=sim_state[:, :split],
        warm_start=sim_state[:, split : split + model.nv],
        goal=sim_state[:, -12:],
        success=[result.success for result in results],
        state=[observation.state for observation in seen],
        agentview=[observation.images["agentview"] for observation in seen],
        wrist=[observation.images["wrist"] for observation in seen],
    )
    env.close()


if __name__ == "__main__":
    main()
