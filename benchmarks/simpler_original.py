"""The original physics of the Bridge tasks, ManiSkill2_real2sim on SAPIEN 2.2.2, to measure ours against.

It is written after upstream's code call by call (`custom_scenes/base_env.py`, `move_near_in_scene.py`,
`put_on_in_scene.py`, `controllers/pd_ee_pose.py` at 16a9ba9c) and needs its own environment: SAPIEN 2 needs NumPy 1.

    python3.11 -m venv /tmp/sapien2
    /tmp/sapien2/bin/pip install 'numpy<2' sapien==2.2.2 scipy transforms3d
    /tmp/sapien2/bin/python benchmarks/simpler_original.py settle FILE      # where objects rest, all 96 episodes
    /tmp/sapien2/bin/python benchmarks/simpler_original.py replay FILE OUT  # what recorded actions do

`settle` writes `envs/bridge/data/settled.json`. `replay` reads {"task/id": actions [N, 7]} and writes, for each, the
gripper's position after every step, the success rule, and where the source object ended.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import sapien.core as sapien
from scipy.spatial.transform import Rotation
from transforms3d.euler import euler2quat
from transforms3d.quaternions import quat2mat

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from envs.bridge.assets import find_pack
from envs.bridge.placements import Placement
from envs.bridge.tasks import BRIDGE_TASKS, BridgeTask

STIFFNESS = [1169.7891719504198, 730.0, 808.4601346394447, 1229.1299089624076, 1272.2760456418862, 1056.3326605132252]
DAMPING = [330.0, 180.0, 152.12036565582588, 309.6215302722146, 201.04998711007383, 269.51458932695414]
FORCE_LIMIT = [200, 200, 100, 100, 100, 100]
ARM = 6
ENGINE = sapien.Engine()
ENGINE.set_log_level("error")


class OriginalScene:
    """`PutOnBridgeInSceneEnv` without rendering."""

    def __init__(self, task: BridgeTask, assets: Path) -> None:
        self.task = task
        self._dataset = assets / "tasks/bridge_v2_real2sim_dataset"
        self._catalogue = json.loads((self._dataset / "custom" / task.catalogue).read_text())
        self.scene = ENGINE.create_scene(_scene_config())
        self.scene.set_timestep(1 / 500)
        self._load_robot(assets / "robots/widowx/wx250s.urdf")
        stage = str(self._dataset / "stages" / task.setup.stage)
        builder = self.scene.create_actor_builder()
        builder.add_nonconvex_collision_from_file(stage, sapien.Pose(q=[0.707, 0.707, 0, 0]))
        builder.build_static(name="arena").set_pose(sapien.Pose([2.0634, 2.8313, 0]))
        self.source, self.target = (self._load_object(model) for model in (task.source, task.target))
        self.sink = self._load_object("sink") if task.setup.sink else None
        for thing in (self.source, self.target):
            thing.set_damping(0.1, 0.1)

    def official_reset(self, placement: Placement) -> None:
        """Reset as the official evaluation does: its env was already reset once when it was built, seeded with 2022."""
        placements = self.task.placements
        self.reset(placements[np.random.RandomState(2022).randint(len(placements))])
        self.reset(placement)

    def reset(self, placement: Placement) -> None:
        """Drop the objects and put the robot in its place."""
        self._clear_velocities()
        if self.sink:
            self.sink.set_pose(sapien.Pose([-0.16, 0.13, 0.88], [1, 0, 0, 0]))
            self.sink.lock_motion()
        things = (self.source, self.target)
        positions = (placement.source_xy, placement.target_xy)
        quats = (euler2quat(0, 0, placement.source_yaw), [1, 0, 0, 0])
        for thing, xy, quat in zip(things, positions, quats, strict=True):
            thing.set_pose(sapien.Pose(np.hstack([xy, 0.87 + 0.5]), quat))
            thing.lock_motion(0, 0, 0, 1, 1, 0)
        self.robot.set_pose(sapien.Pose([-10, 0, 0]))
        self._settle(0.5)
        for thing in things:
            thing.lock_motion(0, 0, 0, 0, 0, 0)
            thing.set_pose(thing.pose)
            thing.set_velocity(np.zeros(3))
            thing.set_angular_velocity(np.zeros(3))
        self._settle(0.5)
        speed = sum(np.linalg.norm(thing.velocity) for thing in things)
        turning = sum(np.linalg.norm(thing.angular_velocity) for thing in things)
        if speed > 1e-3 or turning > 1e-2:
            self._settle(1.5)
        self._extents = [quat2mat(thing.pose.q) @ self._box(thing.name) for thing in things]
        self.robot.set_qpos(np.array(self.task.setup.joint_positions))
        self.robot.set_qvel(np.zeros(8))
        self.robot.set_qacc(np.zeros(8))
        self.robot.set_qf(np.zeros(8))
        self._hold = self.robot.pose.inv() * self.gripper.pose
        self.robot.set_pose(sapien.Pose(self.task.setup.base_position, [0, 0, 0, 1]))

    def step(self, action: np.ndarray) -> None:
        """Run one control step, `[7]`."""
        joints = self.robot.get_qpos()
        self._ik.compute_forward_kinematics(joints)
        here = self._ik.get_link_pose(self._gripper_index).p
        change = sapien.Pose(action[:3], Rotation.from_rotvec(action[3:6]).as_quat()[[3, 0, 1, 2]])
        self._hold = sapien.Pose(p=here) * change * sapien.Pose(p=here).inv() * self._hold
        arm_only = np.arange(8) < ARM
        solution, reached, _ = self._ik.compute_inverse_kinematics(
            self._gripper_index, self._hold, initial_qpos=joints, active_qmask=arm_only, max_iterations=100
        )
        arm = (solution if reached else joints)[:ARM]
        finger = 0.014 + (0.038 - 0.014) * (np.clip(action[6], -1, 1) + 1) / 2
        for joint, target in zip(self._joints, [*arm, finger, finger], strict=True):
            joint.set_drive_target(target)
        for _ in range(100):
            self.robot.set_qf(self.robot.compute_passive_force(external=False))
            self.scene.step()

    def success(self) -> bool:
        """Return `PutOnInSceneEnv.evaluate()["success"]`."""
        source, target = (thing.pose.transform(thing.cmass_local_pose).p for thing in (self.source, self.target))
        offset = source - target
        half_source, half_target = self._extents[0] / 2, self._extents[1] / 2
        near = np.linalg.norm(offset[:2]) <= np.linalg.norm(half_target[:2]) + 0.003
        on = offset[2] > 0 and offset[2] - half_target[2] - half_source[2] <= self.task.height_limit
        return bool(near and on and not (self.task.clear_contact and self._touches_something_else()))

    def _touches_something_else(self) -> bool:
        ignored = [self.target.name] + [link.name for link in self.robot.get_links()]
        for contact in self.scene.get_contacts():
            names = [contact.actor0.name, contact.actor1.name]
            if self.source.name not in names:
                continue
            names.remove(self.source.name)
            impulse = np.sum([point.impulse for point in contact.points], axis=0)
            if names[0] not in ignored and np.linalg.norm(impulse) > 1e-6:
                return True
        return False

    def _box(self, model: str) -> np.ndarray:
        box = self._catalogue[model]["bbox"]
        return np.array(box["max"]) - np.array(box["min"])

    def _settle(self, seconds: float) -> None:
        for _ in range(int(500 * seconds)):
            self.scene.step()

    def _clear_velocities(self) -> None:
        for actor in self.scene.get_all_actors():
            if actor.type != "static":
                actor.set_velocity([0, 0, 0])
                actor.set_angular_velocity([0, 0, 0])
        self.robot.set_qvel(np.zeros(8))
        self.robot.set_root_velocity([0, 0, 0])
        self.robot.set_root_angular_velocity([0, 0, 0])

    def _load_object(self, model: str) -> sapien.Actor:
        builder = self.scene.create_actor_builder()
        builder.add_multiple_collisions_from_file(
            filename=str(self._dataset / "custom/models" / model / "collision.obj"),
            material=self.scene.create_physical_material(0.5, 0.5, 0.0),
            density=self._catalogue[model]["density"],
        )
        return builder.build(name=model)

    def _load_robot(self, urdf: Path) -> None:
        loader = self.scene.create_urdf_loader()
        loader.fix_root_link = True
        loader.load_multiple_collisions_from_file = True
        rubber = self.scene.create_physical_material(2.0, 2.0, 0.0)
        finger = {"material": rubber, "patch_radius": 0.01, "min_patch_radius": 0.01}
        self.robot = loader.load(str(urdf), {"link": {"left_finger_link": finger, "right_finger_link": finger}})
        links = {link.name: link for link in self.robot.get_links()}
        for name, ignored in (("gripper_bar_link", 0b11), ("left_finger_link", 0b01), ("right_finger_link", 0b10)):
            for shape in links[name].get_collision_shapes():
                shape.set_collision_groups(1, 1, ignored, 0)
        self.gripper = links["ee_gripper_link"]
        self._gripper_index = self.robot.get_links().index(self.gripper)
        self._joints = self.robot.get_active_joints()
        self._ik = self.robot.create_pinocchio_model()
        stiffness, damping = [*STIFFNESS, 1000, 1000], [*DAMPING, 200, 200]
        for joint, k, d, limit in zip(self._joints, stiffness, damping, [*FORCE_LIMIT, 60, 60], strict=True):
            joint.set_drive_property(k, d, force_limit=limit, mode="force")
            joint.set_friction(0.0)


def settle(out: Path) -> None:
    """Write where source and target rest in every official episode: position, quaternion wxyz, `[24, 2, 7]` a task."""
    assets = find_pack().root
    resting = {}
    for task in BRIDGE_TASKS:
        resting[task.name] = []
        for placement in task.placements:
            scene = OriginalScene(task, assets)
            scene.official_reset(placement)
            poses = [thing.pose for thing in (scene.source, scene.target)]
            resting[task.name].append([[float(number) for number in (*pose.p, *pose.q)] for pose in poses])
    about = "Where source and target object rest when an official episode begins; see benchmarks/simpler_original.py."
    out.write_text(json.dumps({"about": about, "poses": resting}, indent=0))


def replay(recorded: Path, out: Path) -> None:
    """Run recorded actions and write what they do."""
    assets = find_pack().root
    tasks = {task.name: task for task in BRIDGE_TASKS}
    done, steps, start = {}, 0, time.process_time()
    for key, actions in json.loads(recorded.read_text()).items():
        name, number = key.split("/")
        scene = OriginalScene(tasks[name], assets)
        scene.official_reset(tasks[name].placements[int(number)])
        gripper, success = [], []
        for action in np.array(actions):
            scene.step(action)
            gripper.append([float(number) for number in scene.gripper.pose.p])
            success.append(scene.success())
        done[key] = {"gripper": gripper, "success": success, "source": [float(x) for x in scene.source.pose.p]}
        steps += len(actions)
    out.write_text(json.dumps(done))
    print(f"{len(done)} episodes, {(time.process_time() - start) / steps * 1e3:.1f} CPU ms a step, resets included")


def _scene_config() -> sapien.SceneConfig:
    config = sapien.SceneConfig()
    config.default_dynamic_friction = config.default_static_friction = 1.0
    config.default_restitution = 0.0
    config.contact_offset = 0.005
    config.enable_pcm = False
    config.enable_tgs = True
    config.solver_iterations = 25
    config.solver_velocity_iterations = 1
    return config


if __name__ == "__main__":
    verb, *files = sys.argv[1:]
    {"settle": settle, "replay": replay}[verb](*map(Path, files))
