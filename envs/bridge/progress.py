"""What SimplerEnv counts beside success in the Bridge tasks: whether the object was grasped, moved, put on its target.

`PutOnInSceneEnv.evaluate` and `WidowX.check_grasp` of ManiSkill2_real2sim at 16a9ba9c. The published tables print
`is_src_obj_grasped` as partial success.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sapien

from envs.bridge.robot import FINGERS
from envs.bridge.scene import BridgeScene, center_of_mass
from evals.types import FloatArray

MOVED_METRES = 0.03
GRASP_STEPS = 5
GRASP_IMPULSE = 1e-6
GRASP_DEGREES = 60.0
OPENING = (1.0, -1.0)
"""Along the y axis of each finger: the way in which it opens."""


class Progress:
    """Counts through one episode, which begins with this object, after the objects have come to rest."""

    def __init__(self, scene: BridgeScene) -> None:
        self._scene = scene
        self._source_rest, self._target_rest = _xy(scene.source), _xy(scene.target)
        self._fingers = [scene.robot.articulation.find_link_by_name(name) for name in FINGERS]
        self._steps_grasped = 0
        self._ever = {"is_src_obj_grasped": False, "consecutive_grasp": False}

    def count(self, on_target: bool) -> Mapping[str, bool]:
        """Look at the scene after a control step.

        Args:
            on_target: whether the task's success rule holds now.

        Returns:
            Name -> outcome: grasps if they ever happened, the rest as it is now, as in the original.
        """
        grasped = self._grasped()
        self._steps_grasped = self._steps_grasped + 1 if grasped else 0
        self._ever["is_src_obj_grasped"] |= grasped
        self._ever["consecutive_grasp"] |= self._steps_grasped >= GRASP_STEPS
        # The original measures the source's way from its origin at rest to its centre of mass now.
        source_way = float(np.linalg.norm(center_of_mass(self._scene.source)[:2] - self._source_rest))
        target_way = float(np.linalg.norm(_xy(self._scene.target) - self._target_rest))
        return {
            **self._ever,
            "moved_correct_obj": source_way > MOVED_METRES and target_way < source_way,
            "moved_wrong_obj": target_way > MOVED_METRES and target_way > source_way,
            "src_on_target": on_target,
        }

    def _grasped(self) -> bool:
        """Return whether the object pushes both fingers open."""
        contacts = self._scene.scene.get_contacts()
        return all(
            self._pushed_open(contacts, finger, opening) for finger, opening in zip(self._fingers, OPENING, strict=True)
        )

    def _pushed_open(
        self, contacts: list[sapien.physx.PhysxContact], finger: sapien.physx.PhysxArticulationLinkComponent, way: float
    ) -> bool:
        impulse = np.zeros(3)
        for contact in contacts:
            first, second = (body.entity for body in contact.bodies)
            for one, other, sign in ((first, second, 1.0), (second, first, -1.0)):
                if (one, other) == (finger.entity, self._scene.source.entity):
                    impulse += sign * np.sum([point.impulse for point in contact.points], axis=0)
        strength = float(np.linalg.norm(impulse))
        if strength < GRASP_IMPULSE:
            return False
        opens = way * finger.entity.pose.to_transformation_matrix()[:3, 1]
        cosine = float(impulse @ opens) / strength
        return bool(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))) <= GRASP_DEGREES)


def _xy(body: sapien.physx.PhysxRigidDynamicComponent) -> FloatArray:
    position: FloatArray = body.entity.pose.p[:2].astype(np.float64)
    return position
