"""One scene of SimplerEnv's Bridge tasks on SAPIEN 3: table, objects, robot, camera; placement, success.

What ManiSkill2_real2sim does on SAPIEN 2.2.2 is done here call by call; docs/decisions/0006 says what is left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import sapien

from envs.bridge.hulls import convex_pieces
from envs.bridge.placements import Placement, Start
from envs.bridge.robot import WidowX
from envs.bridge.tasks import CONTROL_HZ, SIMULATION_HZ, BridgeTask
from evals.types import FloatArray

SUBSTEPS = SIMULATION_HZ // CONTROL_HZ
VISUALS = ("obj", "dae", "glb")
DATASET = Path("tasks/bridge_v2_real2sim_dataset")
URDF = Path("robots/widowx/wx250s.urdf")
STAGE_POSITION = (2.0634, 2.8313, 0.0)
STAGE_QUAT_WXYZ = (0.707, 0.707, 0.0, 0.0)  # Habitat's y axis points up; not normalised, as in the original
SINK_POSITION = (-0.16, 0.13, 0.88)
TABLE_HEIGHT = 0.87
DROP_HEIGHT = 0.5
OBJECT_FRICTION = 0.5
OBJECT_DAMPING = 0.1
TILT_LOCKED = (False, False, False, True, True, False)
FREE = (False,) * 6
LOCKED = (True,) * 6
XY_TOLERANCE = 0.003
CONTACT_IMPULSE = 1e-6


class BridgeScene:
    """A freshly built scene. It is placed once and then stepped.

    Attributes:
        scene: SAPIEN's scene.
        robot: the robot.
        objects: source and target object (and the sink), by model name.
    """

    def __init__(self, task: BridgeTask, assets: Path, renders: bool) -> None:
        self.task = task
        self._assets = assets
        self._renders = renders
        self._catalogue = json.loads((assets / DATASET / "custom" / task.catalogue).read_text())
        self.scene = _empty_scene(renders)
        self.robot = WidowX(self.scene, assets / URDF, task.setup, renders)
        self._add_stage()
        self.source = self._add_object(task.source)
        self.target = self._add_object(task.target)
        self.objects = {task.source: self.source, task.target: self.target}
        for body in self.objects.values():
            body.set_linear_damping(OBJECT_DAMPING)
            body.set_angular_damping(OBJECT_DAMPING)
        if task.setup.sink:
            self._add_sink()
        self._extent_source = self._extent_target = np.zeros(3)

    def place(self, start: Start) -> None:
        """Let the objects come to rest and put the robot in its place."""
        self.robot.park()
        if start.rest is None:
            self._drop(start.placement)
        else:
            self._lay(start.rest)
        self._extent_source = self._turned_extent(self.source)
        self._extent_target = self._turned_extent(self.target)
        self.robot.begin()

    def step(self, action: FloatArray) -> None:
        """Run one control step, `[7]`."""
        self.robot.command(action)
        for _ in range(SUBSTEPS):
            self.robot.balance()
            self.scene.step()

    def success(self) -> bool:
        """Return whether the task's rule holds now (`PutOnInSceneEnv.evaluate`)."""
        offset = center_of_mass(self.source) - center_of_mass(self.target)
        half_source, half_target = self._extent_source / 2, self._extent_target / 2
        above = np.linalg.norm(offset[:2]) <= np.linalg.norm(half_target[:2]) + XY_TOLERANCE
        on = offset[2] > 0 and offset[2] - half_target[2] - half_source[2] <= self.task.height_limit
        return bool(above and on and not (self.task.clear_contact and self._touches_something_else()))

    def extents(self) -> FloatArray:
        """Return `[6]`: the boxes of source and target that `success` uses, metres along the world's axes."""
        return np.concatenate([self._extent_source, self._extent_target])

    def sim_state(self) -> FloatArray:
        """Return the full state: joints and targets; of every object pose, velocities and whether it sleeps."""
        parts: list[Any] = [self.robot.sim_state()]
        for body in self.objects.values():
            pose = body.entity.pose
            parts += [pose.p, pose.q, body.linear_velocity, body.angular_velocity, [body.is_sleeping]]
        return np.concatenate(parts).astype(np.float64)

    def _drop(self, placement: Placement) -> None:
        """Let the objects fall, at first without tilting (`MoveNearInSceneEnv._initialize_actors`)."""
        quat_wxyz_source = (np.cos(placement.source_yaw / 2), 0.0, 0.0, np.sin(placement.source_yaw / 2))
        height = TABLE_HEIGHT + DROP_HEIGHT
        self.source.entity.set_pose(sapien.Pose([*placement.source_xy, height], quat_wxyz_source))
        self.target.entity.set_pose(sapien.Pose([*placement.target_xy, height]))
        dropped = (self.source, self.target)
        for body in dropped:
            body.set_locked_motion_axes(TILT_LOCKED)
        self._pass(seconds=0.5)
        for body in dropped:
            body.set_locked_motion_axes(FREE)
            _stop(body)
        self._pass(seconds=0.5)
        speed = sum(np.linalg.norm(body.linear_velocity) for body in dropped)
        turning = sum(np.linalg.norm(body.angular_velocity) for body in dropped)
        if speed > 1e-3 or turning > 1e-2:
            self._pass(seconds=1.5)

    def _lay(self, rest: FloatArray) -> None:
        """Put the objects where they rest, `[2, 7]`, and let contacts form."""
        for body, pose in zip((self.source, self.target), rest, strict=True):
            body.entity.set_pose(sapien.Pose(pose[:3], pose[3:]))
            _stop(body)
        self._pass(seconds=0.5)

    def _touches_something_else(self) -> bool:
        allowed = {self.task.target} | {link.name for link in self.robot.articulation.links}
        source = self.source.entity
        for contact in self.scene.get_contacts():
            first, second = (body.entity for body in contact.bodies)
            if source not in (first, second):
                continue
            other = second if first == source else first
            impulse = np.sum([point.impulse for point in contact.points], axis=0)
            if other.name not in allowed and np.linalg.norm(impulse) > CONTACT_IMPULSE:
                return True
        return False

    def _turned_extent(self, body: sapien.physx.PhysxRigidDynamicComponent) -> FloatArray:
        """Return the box's diagonal turned with the object. Entries can come out negative: so does the original's."""
        box = self._catalogue[body.entity.name]["bbox"]
        diagonal = np.array(box["max"]) - np.array(box["min"])
        R_world_object = body.entity.pose.to_transformation_matrix()[:3, :3].astype(np.float64)
        extent: FloatArray = R_world_object @ diagonal
        return extent

    def _pass(self, seconds: float) -> None:
        for _ in range(int(SIMULATION_HZ * seconds)):
            self.scene.step()

    def _add_stage(self) -> None:
        file = str(self._assets / DATASET / "stages" / self.task.setup.stage)
        pose = sapien.Pose(q=STAGE_QUAT_WXYZ)
        builder = self.scene.create_actor_builder()
        builder.add_nonconvex_collision_from_file(file, pose)
        if self._renders:
            builder.add_visual_from_file(file, pose)
        builder.initial_pose = sapien.Pose(STAGE_POSITION)
        builder.build_static(name="arena")

    def _add_object(self, model: str) -> sapien.physx.PhysxRigidDynamicComponent:
        folder = self._assets / DATASET / "custom" / "models" / model
        body = sapien.physx.PhysxRigidDynamicComponent()
        material = sapien.physx.PhysxMaterial(OBJECT_FRICTION, OBJECT_FRICTION, 0.0)
        for vertices in convex_pieces(folder / "collision.obj"):
            shape = sapien.physx.PhysxCollisionShapeConvexMesh(vertices=vertices, scale=(1, 1, 1), material=material)
            shape.set_density(self._catalogue[model]["density"])
            body.attach(shape)
        entity = sapien.Entity()
        entity.name = model
        if self._renders:
            visual = sapien.render.RenderBodyComponent()
            file = next(file for kind in VISUALS if (file := folder / f"textured.{kind}").exists())
            visual.attach(sapien.render.RenderShapeTriangleMesh(str(file)))
            entity.add_component(visual)
        entity.add_component(body)
        self.scene.add_entity(entity)
        return body

    def _add_sink(self) -> None:
        """Add the sink as the original does: not a kinematic body but a heavy one with every axis locked."""
        sink = self._add_object("sink")
        sink.entity.set_pose(sapien.Pose(SINK_POSITION))
        sink.set_locked_motion_axes(LOCKED)
        self.objects["sink"] = sink


def _empty_scene(renders: bool) -> sapien.Scene:
    sapien.set_log_level("error")  # it warns of the robot's STL hulls, which come out as SAPIEN 2 made them
    physx = sapien.physx
    physx.set_scene_config(enable_pcm=False, enable_tgs=True)
    physx.set_body_config(solver_position_iterations=25, solver_velocity_iterations=1)
    physx.set_shape_config(contact_offset=0.005)
    physx.set_default_material(static_friction=1.0, dynamic_friction=1.0, restitution=0.0)
    systems = [physx.PhysxCpuSystem()]
    if renders:
        systems.append(sapien.render.RenderSystem())
    scene = sapien.Scene(systems)
    scene.set_timestep(1 / SIMULATION_HZ)
    return scene


def _stop(body: sapien.physx.PhysxRigidDynamicComponent) -> None:
    body.entity.set_pose(body.entity.pose)
    body.set_linear_velocity(np.zeros(3))
    body.set_angular_velocity(np.zeros(3))
    body.wake_up()


def center_of_mass(body: sapien.physx.PhysxRigidDynamicComponent) -> FloatArray:
    """Return a body's centre of mass in the world, `[3]` metres."""
    position: FloatArray = (body.entity.pose * body.cmass_local_pose).p.astype(np.float64)
    return position
