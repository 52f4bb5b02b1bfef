"""robosuite's control step for LIBERO, bit for bit, without the work that changes nothing.

`MujocoEnv.step` runs `mj_forward` twice before every `mj_step`, which runs it a third time. Positions and velocities do
not change in between, so kinematics, collisions and the constraint matrices are computed once here (`mj_step1`). The
constraint solver must run three times all the same: each run starts from the result of the one before, and its last
bits show it.

Observables are not computed at all, except where the reference samples what it looks at: in substep 24 of 25.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from envs.libero.package import Upstream
from evals.errors import SimulatorError
from evals.types import FloatArray


class ControlLoop:
    """Runs control steps of one LIBERO scene.

    Args:
        env: LIBERO's problem environment (`ControlEnv.env`), built.
        sample: called at the instant in which the reference samples its observables.
    """

    def __init__(self, env: Upstream, sample: Callable[[], None]) -> None:
        import mujoco
        from robosuite.utils.observables import Observable, sensor

        self._mujoco = mujoco
        self._env = env
        self._model = env.sim.model._model
        if self._model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
            raise SimulatorError("The scene uses the RK4 integrator, for which mj_step1 and mj_step2 are not mj_step.")
        self._substeps = int(env.control_timestep / env.model_timestep)
        self._wanted = False

        def probe(_: object) -> FloatArray:
            if self._wanted:
                sample()
            return np.zeros(1)

        # One of robosuite's own observables as the clock: its phase depends on rounding errors of its sums.
        self._clock = Observable(name="probe", sensor=sensor(modality="probe")(probe), sampling_rate=env.control_freq)

    def begin(self) -> None:
        """Start an episode: to be called when the scene has been reset and its initial state set."""
        self._data = data = self._env.sim.data._data
        self._robot = self._env.robots[0]
        self._controller = self._robot.controller
        self._site = site = self._env.sim.model.site_name2id(self._controller.eef_name)
        # Views into MuJoCo's arrays and buffers to write into: looking them up costs as much as the mathematics.
        self._site_position, self._site_matrix = data.site_xpos[site], data.site_xmat[site].reshape([3, 3])
        self._qpos, self._qvel, self._packed_mass, self._ctrl = data.qpos, data.qvel, data.qM, data.ctrl
        freedom = self._model.nv
        self._jacobian_position, self._jacobian_rotation = np.zeros((3, freedom)), np.zeros((3, freedom))
        self._mass = np.zeros((freedom, freedom))
        self._torque_low, self._torque_high = self._robot.torque_limits
        self._arm = self._robot._ref_joint_actuator_indexes
        self._fingers = self._robot._ref_joint_gripper_actuator_indexes
        finger_range = self._model.actuator_ctrlrange[self._fingers]
        self._finger_bias = 0.5 * (finger_range[:, 1] + finger_range[:, 0])
        self._finger_weight = 0.5 * (finger_range[:, 1] - finger_range[:, 0])
        # The reference forces an update in `reset` and another one in `set_init_state`.
        self._wanted = False
        self._clock.reset()
        for _ in range(2):
            self._clock.update(timestep=self._env.model_timestep, obs_cache={}, force=True)

    def step(self, action: FloatArray, render: bool) -> None:
        """Run one control step.

        Args:
            action: `[7]` float64; entries outside [-1, 1] are clipped by the controller.
            render: whether `sample` is to be called.
        """
        self._wanted = render
        for substep in range(self._substeps):
            self._mujoco.mj_step1(self._model, self._data)
            self._solve()
            if self._controller.new_update:
                self._solve()
                self._refresh()
            if substep == 0:
                self._controller.set_goal(action[:6])
            torques = self._controller.run_controller()
            self._ctrl[self._arm] = np.clip(torques, self._torque_low, self._torque_high)
            fingers = self._robot.gripper.format_action(action[6:])
            self._ctrl[self._fingers] = self._finger_bias + self._finger_weight * fingers
            self._mujoco.mj_step2(self._model, self._data)
            self._clock.update(timestep=self._env.model_timestep, obs_cache={})

    def state(self) -> FloatArray:
        """Return all that the next control steps depend on, beside the model's fixture poses: `[N]` float64.

        MuJoCo's time, positions, velocities, activations and solver warm start; the gripper's command and the
        controller's goal, which outlive a control step outside of MuJoCo.
        """
        spec = self._mujoco.mjtState.mjSTATE_FULLPHYSICS | self._mujoco.mjtState.mjSTATE_WARMSTART
        sim_state = np.empty(self._mujoco.mj_stateSize(self._model, spec))
        self._mujoco.mj_getState(self._model, self._data, sim_state, spec)
        goal = self._controller
        return np.concatenate([sim_state, self._robot.gripper.current_action, goal.goal_pos, goal.goal_ori.ravel()])

    def _solve(self) -> None:
        """Do what `mj_forward` does when positions and velocities are those of the last call."""
        self._mujoco.mj_forwardSkip(self._model, self._data, self._mujoco.mjtStage.mjSTAGE_VEL, 1)

    def _refresh(self) -> None:
        """Do what `Controller.update` does, without its `mj_forward` and with each Jacobian computed once."""
        controller, position, rotation = self._controller, self._jacobian_position, self._jacobian_rotation
        controller.ee_pos = np.array(self._site_position)
        controller.ee_ori_mat = np.array(self._site_matrix)
        self._mujoco.mj_jacSite(self._model, self._data, position, rotation, self._site)
        controller.ee_pos_vel = np.dot(position, self._qvel)
        controller.ee_ori_vel = np.dot(rotation, self._qvel)
        controller.joint_pos = self._qpos[controller.qpos_index]
        controller.joint_vel = self._qvel[controller.qvel_index]
        # The layouts in memory are upstream's too: the last bits of a matrix product depend on them.
        controller.J_pos = np.array(position[:, controller.qvel_index])
        controller.J_ori = np.array(rotation[:, controller.qvel_index])
        controller.J_full = np.array(np.vstack([controller.J_pos, controller.J_ori]))
        self._mujoco.mj_fullM(self._model, self._mass, self._packed_mass)
        controller.mass_matrix = self._mass[controller.qvel_index, :][:, controller.qvel_index]
        controller.new_update = False
