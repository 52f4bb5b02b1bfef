"""The reference loop: plain calls of the upstream package, as OpenVLA's run_libero_eval.py does them; run as a script.

    python reference_loop.py SUITE TASK STATE SEED STEPS OUT.npz

Actions are uniform in [-1, 1], seeded by SEED as well. Imports nothing of this project.
"""

import contextlib
import io
import os
import sys

os.environ.setdefault("MUJOCO_GL", "osmesa")

import numpy as np
from libero.libero import benchmark, get_libero_path
from libero.libero.envs import OffScreenRenderEnv
from robosuite.utils.transform_utils import quat2axisangle

IDLE = [0, 0, 0, 0, 0, 0, -1]


def record(env, obs, done):
    return {
        "sim_state": env.get_sim_state(),
        "warm_start": env.sim.data.qacc_warmstart.copy(),
        "goal": np.concatenate([env.robots[0].controller.goal_pos, env.robots[0].controller.goal_ori.ravel()]),
        "agentview": obs["agentview_image"][::-1, ::-1],
        "wrist": obs["robot0_eye_in_hand_image"][::-1, ::-1],
        "state": np.concatenate(
            [obs["robot0_eef_pos"], quat2axisangle(obs["robot0_eef_quat"].copy()), obs["robot0_gripper_qpos"]]
        ),
        "success": done,
    }


def main():
    suite_name, task_id, state, seed, steps, out = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):
        suite = benchmark.get_benchmark_dict()[suite_name]()
    task = suite.get_task(int(task_id))
    bddl = os.path.join(get_libero_path("bddl_files"), task.problem_folder, task.bddl_file)
    env = OffScreenRenderEnv(bddl_file_name=bddl, camera_heights=256, camera_widths=256)
    env.seed(int(seed))
    env.reset()
    env.set_init_state(suite.get_task_init_states(int(task_id))[int(state)])
    rows = []
    for _ in range(10):
        obs, _, done, _ = env.step(IDLE)
    rows.append(record(env, obs, done))
    for action in np.random.default_rng(int(seed)).uniform(-1, 1, (int(steps), 7)):
        obs, _, done, _ = env.step(action)
        rows.append(record(env, obs, done))
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    model = env.sim.model
    np.savez(out, scene=np.concatenate([model.body_pos.ravel(), model.body_quat.ravel()]), **columns)


if __name__ == "__main__":
    main()
