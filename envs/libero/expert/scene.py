"""What the LIBERO expert knows about a scene: poses, shapes and goals, read from robosuite's objects."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from evals.types import FloatArray

_BOX, _MESH, _SPHERE, _CAPSULE, _CYLINDER = 6, 7, 2, 3, 5  # mujoco.mjtGeom; not imported for five numbers
_GRID = 0.02  # metres between the points that stand for a box
_COLLISION_GROUP = 0

TIP = 0.012
"""Distance from the grip point to the finger tips, metres."""


class Goal(NamedTuple):
    """One predicate of a task's goal, e.g. ("on", ("akita_black_bowl_1", "plate_1"))."""

    predicate: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.predicate}({', '.join(self.arguments)})"


class Joint(NamedTuple):
    """A hinge or slide and its current position, in the world frame."""

    body: int
    position: float
    axis: FloatArray
    anchor: FloatArray


class Scene:
    """Reads one LIBERO simulator and never changes it."""

    def __init__(self, simulator: Any) -> None:  # noqa: ANN401 - a libero ControlEnv, which has no types
        """Prepare to read a simulator (libero's `ControlEnv`) that has been reset."""
        self._env = simulator.env
        self._model = simulator.sim.model._model
        self._data = simulator.sim.data._data
        model = self._model
        self._grip = model.site("gripper0_grip_site").id
        self._fingers = [int(model.joint(f"gripper0_finger_joint{i}").qposadr[0]) for i in (1, 2)]
        self._shapes: dict[int, list[tuple[int, FloatArray]]] = {}

    @property
    def grip_position(self) -> FloatArray:
        """Position of the point between the finger tips, `[3]` metres."""
        return np.array(self._data.site_xpos[self._grip])

    @property
    def grip_rotation(self) -> FloatArray:
        """`R_world_grip`, `[3, 3]`."""
        return np.array(self._data.site_xmat[self._grip]).reshape(3, 3)

    @property
    def opening(self) -> float:
        """Distance between the fingers, metres."""
        left, right = self._fingers
        return float(self._data.qpos[left] - self._data.qpos[right])

    @property
    def base(self) -> FloatArray:
        """Position of the robot's first link, `[3]` metres."""
        return np.array(self._data.xpos[self._model.body("robot0_link0").id])

    @property
    def goals(self) -> list[Goal]:
        """The predicates that must hold, in the order of the task's file."""
        return [Goal(str(words[0]).lower(), tuple(words[1:])) for words in self._env.parsed_problem["goal_state"]]

    def holds(self, goal: Goal) -> bool:
        """Whether a predicate is true now."""
        return bool(self._env._eval_predicate([goal.predicate, *goal.arguments]))

    def grasps(self, name: str) -> bool:
        """Whether both fingers touch an object that can be moved."""
        return bool(self._env._check_grasp(self._env.robots[0].gripper, self._env.objects_dict[name]))

    def grasped(self) -> str | None:
        """Return the name of the object between the fingers, or None."""
        return next((name for name in self._env.objects_dict if self.grasps(name)), None)

    def is_object(self, name: str) -> bool:
        """Whether an object that can be moved has this name."""
        return name in self._env.objects_dict

    def is_region(self, name: str) -> bool:
        """Whether a region (a site of an object or of the table) has this name."""
        return name in self._env.object_sites_dict

    def is_drawer(self, name: str) -> bool:
        """Whether a region in a drawer has this name."""
        region = self._env.object_sites_dict.get(name)
        return region is not None and bool(region.joints)

    def region_parent(self, name: str) -> str | None:
        """Return the name of the object that a region belongs to, or None if it belongs to the table or the floor."""
        parent = str(self._env.object_sites_dict[name].parent_name)
        return parent if self._env.get_object(parent) is not None else None

    def region_position(self, name: str) -> FloatArray:
        """Return the position of the middle of a region, `[3]` metres."""
        return np.array(self._data.site_xpos[self._model.site(name).id])

    def region_size(self, name: str) -> FloatArray:
        """Return half of a region's extent along each world axis, `[3]` metres."""
        rotation = np.array(self._data.site_xmat[self._model.site(name).id]).reshape(3, 3)
        return np.array(np.abs(rotation @ np.asarray(self._env.object_sites_dict[name].size)))

    def region_joint(self, name: str) -> Joint:
        """Return the joint that moves a region (a drawer's slide)."""
        return self._joint(self._env.object_sites_dict[name].joints[0])

    def object_joint(self, name: str) -> Joint:
        """Return the joint of an articulated object (a door's hinge, a knob)."""
        return self._joint(self._env.get_object(name).joints[0])

    def position(self, name: str) -> FloatArray:
        """Return the position of an object, `[3]` metres."""
        return np.array(self._data.xpos[self._body(name)])

    def rotation(self, name: str) -> FloatArray:
        """Return the orientation of an object in the world, `[3, 3]`."""
        return np.array(self._data.xmat[self._body(name)]).reshape(3, 3)

    def points(self, name: str) -> FloatArray:
        """Return points of an object's collision shape, `[N, 3]` metres in the world frame."""
        return self.body_points(self._body(name))

    def body_points(self, body: int) -> FloatArray:
        """Return points of the collision shape of a body and its descendants, `[N, 3]`."""
        clouds = [self._place(geom, points) for geom, points in self._shape(body)]
        return np.concatenate(clouds) if clouds else np.zeros((0, 3))

    def parts(self, body: int) -> list[FloatArray]:
        """Return the points of each collision geom of a body and its descendants, `[N, 3]` each."""
        return [self._place(geom, points) for geom, points in self._shape(body)]

    def obstacles(self, ignoring: Collection[str] = ()) -> FloatArray:
        """Return points of everything on the table except the named objects, `[N, 3]`."""
        names = [*self._env.objects_dict, *self._env.fixtures_dict]
        clouds = [self.points(n) for n in names if n not in ignoring and "table" not in n and n != "floor"]
        return np.concatenate([np.zeros((0, 3)), *clouds])

    def _body(self, name: str) -> int:
        return int(self._model.body(self._env.get_object(name).root_body).id)

    def _joint(self, name: str) -> Joint:
        joint = self._model.joint(name)
        return Joint(
            body=int(self._model.jnt_bodyid[joint.id]),
            position=float(self._data.qpos[joint.qposadr[0]]),
            axis=np.array(self._data.xaxis[joint.id]),
            anchor=np.array(self._data.xanchor[joint.id]),
        )

    def _place(self, geom: int, points: FloatArray) -> FloatArray:
        """Return a geom's points in the world frame."""
        placed: FloatArray = points @ self._data.geom_xmat[geom].reshape(3, 3).T + self._data.geom_xpos[geom]
        return placed

    def _shape(self, body: int) -> list[tuple[int, FloatArray]]:
        """Return (geom, points in the frame of the geom) of the collision geoms of a body and its descendants."""
        if body not in self._shapes:
            model = self._model
            geoms = [
                geom
                for geom in range(model.ngeom)
                if model.geom_group[geom] == _COLLISION_GROUP and self._hangs_on(int(model.geom_bodyid[geom]), body)
            ]
            shapes = [(geom, self._geom_points(geom)) for geom in geoms]
            self._shapes[body] = [(geom, points) for geom, points in shapes if len(points)]
        return self._shapes[body]

    def _hangs_on(self, body: int, root: int) -> bool:
        while body not in (root, 0):
            body = int(self._model.body_parentid[body])
        return body == root

    def _geom_points(self, geom: int) -> FloatArray:
        """Return points of a geom in the geom's frame: the vertices of a mesh, or a grid of points in a primitive."""
        model = self._model
        kind, size = int(model.geom_type[geom]), model.geom_size[geom]
        if kind == _MESH:
            mesh = model.geom_dataid[geom]
            start = model.mesh_vertadr[mesh]
            return np.array(model.mesh_vert[start : start + model.mesh_vertnum[mesh]], dtype=np.float64)
        half = {
            _BOX: size,
            _SPHERE: [size[0]] * 3,
            _CYLINDER: [size[0], size[0], size[1]],
            _CAPSULE: [size[0], size[0], size[0] + size[1]],
        }.get(kind)
        if half is None:  # planes bound nothing that a gripper could hit sideways
            return np.zeros((0, 3))
        axes = [np.linspace(-h, h, int(np.clip(2 * h / _GRID, 1, 14)) + 1) for h in half]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        if kind in (_CYLINDER, _SPHERE):
            points = points[np.linalg.norm(points[:, :2], axis=1) <= half[0] * 1.01]
        return points
