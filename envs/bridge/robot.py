"""The WidowX of SimplerEnv and the controller that turns an action into joint targets.

The controller is ManiSkill2_real2sim's `arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos`
(`agents/controllers/pd_ee_pose.py`, `agents/configs/widowx/defaults.py`): the target of the gripper is moved and
turned, and inverse kinematics from the present joint positions gives the joints' targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sapien
from sapien.pysapien_pinocchio import PinocchioModel
from sapien.wrapper.urdf_exporter import export_kinematic_chain_urdf

from envs.bridge.tasks import SceneSetup
from evals.errors import SimulatorError
from evals.rotations import axis_angle_to_quat_xyzw, quat_wxyz_to_xyzw, quat_xyzw_to_axis_angle, quat_xyzw_to_wxyz
from evals.types import FloatArray

ARM_STIFFNESS = (
    1169.7891719504198,
    730.0,
    808.4601346394447,
    1229.1299089624076,
    1272.2760456418862,
    1056.3326605132252,
)
ARM_DAMPING = (330.0, 180.0, 152.12036565582588, 309.6215302722146, 201.04998711007383, 269.51458932695414)
ARM_FORCE_LIMIT = (200.0, 200.0, 100.0, 100.0, 100.0, 100.0)
GRIPPER_STIFFNESS, GRIPPER_DAMPING, GRIPPER_FORCE_LIMIT = 1000.0, 200.0, 60.0
# The joint limits, 15 and 37 mm, are exceeded by 1 mm so that closed fingers press.
FINGER_CLOSED, FINGER_OPEN = 0.014, 0.038
FINGERS = ("left_finger_link", "right_finger_link")
FINGER_FRICTION = 2.0
FINGER_PATCH_RADIUS = 0.01
ARM_JOINTS = len(ARM_STIFFNESS)
IK_ITERATIONS = 100
FAR_AWAY = sapien.Pose([-10, 0, 0])


class WidowX:
    """The robot in one scene, with the target that its controller keeps from step to step.

    Attributes:
        articulation: SAPIEN's robot.
        target_in_base: pose to which the controller is moving `ee_gripper_link`, in the frame of `base_link`.
    """

    def __init__(self, scene: sapien.Scene, urdf: Path, setup: SceneSetup, renders: bool) -> None:
        self._setup = setup
        self.articulation = _load(scene, urdf, renders)
        self.gripper_link = self.articulation.find_link_by_name("ee_gripper_link")
        self.base_link = self.articulation.find_link_by_name("base_link")
        self._joints = self.articulation.active_joints
        self._ik = PinocchioModel(export_kinematic_chain_urdf(self.articulation, force_fix_root=True), [0, 0, -9.81])
        self._ik.set_joint_order([f"joint_{joint.child_link.index}" for joint in self._joints])
        self._ik.set_link_order([f"link_{link.index}" for link in self.articulation.links])
        self._arm_mask = np.arange(len(self._joints)) < ARM_JOINTS
        self._drive()
        self.target_in_base = sapien.Pose()

    def park(self) -> None:
        """Move the robot out of reach while objects settle."""
        self.articulation.set_pose(FAR_AWAY)

    def begin(self) -> None:
        """Put the robot where an episode starts, at rest, its target being where it is."""
        self.articulation.set_qpos(self._setup.joint_positions)
        self.articulation.set_qvel(np.zeros(len(self._joints)))
        self.articulation.set_qf(np.zeros(len(self._joints)))
        self.target_in_base = self.gripper_in_base()
        self.articulation.set_pose(sapien.Pose(self._setup.base_position, [0, 0, 0, 1]))

    def gripper_in_base(self) -> sapien.Pose:
        """Return the pose of `ee_gripper_link` in the frame of `base_link`."""
        return self.articulation.pose.inv() * self.gripper_link.entity.pose

    def command(self, action: FloatArray) -> None:
        """Set the joints' targets from an action.

        Args:
            action: `[7]`: metres and axis-angle radians in the frame of `base_link`, applied about the gripper's
                present position; gripper from -1 (closed) to +1 (open), clipped.
        """
        here = self.gripper_in_base().p
        change = sapien.Pose(action[:3], quat_xyzw_to_wxyz(axis_angle_to_quat_xyzw(action[3:6])))
        self.target_in_base = sapien.Pose(here) * change * sapien.Pose(here).inv() * self.target_in_base
        joints, reached, _ = self._ik.compute_inverse_kinematics(
            self.gripper_link.index,
            self.target_in_base,
            initial_qpos=self.articulation.qpos,
            active_qmask=self._arm_mask,
            max_iterations=IK_ITERATIONS,
        )
        # Out of reach, the original keeps the arm where it is, and so do we.
        arm = joints[:ARM_JOINTS] if reached else self.articulation.qpos[:ARM_JOINTS]
        finger = FINGER_CLOSED + (FINGER_OPEN - FINGER_CLOSED) * (float(np.clip(action[6], -1, 1)) + 1) / 2
        for joint, target in zip(self._joints, [*arm, finger, finger], strict=True):
            joint.set_drive_target(target)

    def balance(self) -> None:
        """Cancel gravity and Coriolis forces for the next physics step."""
        self.articulation.set_qf(self.articulation.compute_passive_force(gravity=True, coriolis_and_centrifugal=True))

    def state(self) -> FloatArray:
        """Return `[8]`: position, axis-angle, finger positions (see `envs.bridge.tasks.STATE_SPACE`)."""
        pose = self.gripper_in_base()
        left, right = self.articulation.qpos[ARM_JOINTS:]
        return np.array([*pose.p, *quat_xyzw_to_axis_angle(quat_wxyz_to_xyzw(pose.q)), left, -right], dtype=np.float64)

    def sim_state(self) -> FloatArray:
        """Return joint positions and velocities, drive targets, and the controller's target pose."""
        drive_targets = [float(joint.get_drive_target()[0]) for joint in self._joints]
        target = self.target_in_base
        return np.array(
            [*self.articulation.qpos, *self.articulation.qvel, *drive_targets, *target.p, *target.q], dtype=np.float64
        )

    def _drive(self) -> None:
        stiffness = [*ARM_STIFFNESS, GRIPPER_STIFFNESS, GRIPPER_STIFFNESS]
        damping = [*ARM_DAMPING, GRIPPER_DAMPING, GRIPPER_DAMPING]
        limits = [*ARM_FORCE_LIMIT, GRIPPER_FORCE_LIMIT, GRIPPER_FORCE_LIMIT]
        for joint, k, d, limit in zip(self._joints, stiffness, damping, limits, strict=True):
            joint.set_drive_properties(k, d, force_limit=limit, mode="force")
            joint.set_friction(0.0)


def _load(scene: sapien.Scene, urdf: Path, renders: bool) -> sapien.physx.PhysxArticulation:
    loader = scene.create_urdf_loader()
    loader.fix_root_link = True
    loader.load_multiple_collisions_from_file = True
    for finger in FINGERS:
        loader.set_link_material(finger, FINGER_FRICTION, FINGER_FRICTION, 0.0)
        loader.set_link_patch_radius(finger, FINGER_PATCH_RADIUS)
        loader.set_link_min_patch_radius(finger, FINGER_PATCH_RADIUS)
    articulations, actors, _ = loader.parse(str(urdf))
    if len(articulations) != 1 or actors:
        raise SimulatorError(
            f"{urdf} describes {len(articulations)} robots and {len(actors)} actors, expected one robot."
        )
    if not renders:
        for link in articulations[0].link_builders:
            link.visual_records = []
    return articulations[0].build(fix_root_link=True)
