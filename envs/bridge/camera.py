"""What a policy sees in SimplerEnv: the simulated robot and objects, in front of a photograph of the real table."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import sapien

from envs.bridge.scene import DATASET, BridgeScene
from envs.bridge.tasks import CAMERA, SceneSetup
from evals.errors import MissingAssetsError
from evals.types import Image

AMBIENT_LIGHT = (0.3, 0.3, 0.3)
FOCAL_PIXELS = 623.588  # Logitech C920
PRINCIPAL_POINT = (319.501, 239.545)
FAR = 10.0
ROBOT_SPECULAR, ROBOT_ROUGHNESS = 0.9, 0.3


class PhotoCamera:
    """The camera of one scene: it draws only when asked."""

    def __init__(self, scene: BridgeScene, assets: Path) -> None:
        self._scene = scene.scene
        setup = scene.task.setup
        _light(scene.scene, setup)
        _shine(scene.robot.articulation)
        self._photo = _photo(assets, setup)
        self._camera = _mount(scene, setup)
        seen = [link.entity for link in scene.robot.articulation.links] + [scene.source.entity]
        if not setup.sink:  # The photograph shows the sink and its basket; the target plane is invisible.
            seen.append(scene.target.entity)
        self._kept_ids = np.array([entity.per_scene_id for entity in seen])

    def draw(self) -> Image:
        """Return what the camera sees now, `[480, 640, 3]` uint8 RGB, upright."""
        self._scene.update_render()
        self._camera.take_picture()
        color = self._camera.get_picture("Color")
        kept = np.isin(self._camera.get_picture("Segmentation")[..., 1], self._kept_ids)
        image = self._photo.copy()
        image[kept] = _quantised(color[kept, :3])
        return image


def _quantised(rgb: npt.NDArray[np.float32]) -> Image:
    """Return colours in 0..1 as bytes, truncated, which the original does to rendering and photograph alike."""
    image: Image = np.clip(rgb * 255, 0, 255).astype(np.uint8)
    return image


def _photo(assets: Path, setup: SceneSetup) -> Image:
    """Return the photograph, `[480, 640, 3]` uint8 RGB."""
    file = assets / DATASET / "real_inpainting" / setup.overlay
    bgr = cv2.imread(str(file))
    if bgr is None or bgr.shape[:2] != (CAMERA.height, CAMERA.width):
        got = "unreadable" if bgr is None else f"{bgr.shape[1]}x{bgr.shape[0]}"
        raise MissingAssetsError(f"{file} is {got}; expected a photograph of {CAMERA.width}x{CAMERA.height}.")
    return _quantised((cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) / 255).astype(np.float32))


def _mount(scene: BridgeScene, setup: SceneSetup) -> sapien.render.RenderCameraComponent:
    pose = sapien.Pose(setup.camera_position, setup.camera_quat_wxyz)
    camera = scene.scene.add_mounted_camera(
        CAMERA.name,
        scene.robot.base_link.entity,
        pose,
        CAMERA.width,
        CAMERA.height,
        fovy=1.0,  # replaced below
        near=setup.camera_near,
        far=FAR,
    )
    camera.set_perspective_parameters(setup.camera_near, FAR, FOCAL_PIXELS, FOCAL_PIXELS, *PRINCIPAL_POINT, 0.0)
    return camera


def _light(scene: sapien.Scene, setup: SceneSetup) -> None:
    scene.set_ambient_light(AMBIENT_LIGHT)
    for light in setup.lights:
        scene.add_directional_light(light.direction, light.color, shadow=False)


def _shine(robot: sapien.physx.PhysxArticulation) -> None:
    for link in robot.links:
        body = link.entity.find_component_by_type(sapien.render.RenderBodyComponent)
        for shape in body.render_shapes if body else []:
            for part in shape.parts:
                part.material.specular = ROBOT_SPECULAR
                part.material.roughness = ROBOT_ROUGHNESS
