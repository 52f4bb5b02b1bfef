"""The suite `simpler_bridge` as data: four WidowX tasks of SimplerEnv (visual matching), without the simulator.

Every number is the official evaluation's: ManiSkill2_real2sim at 16a9ba9c (`envs/custom_scenes/put_on_in_scene.py`,
`move_near_in_scene.py`, `base_env.py`, `agents/configs/widowx/defaults.py`) and the Bridge scripts of SimplerEnv.
World frame: z up, the robot looks along -x; metres, radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from envs.bridge.placements import (
    SINK_PLACEMENTS,
    SINK_REGION,
    Placement,
    Region,
    Start,
    corner_pairs,
    original_rest,
    square_region,
)
from evals.errors import UnknownNameError, UsageError
from evals.spaces import ActionSpace, StateSpace
from evals.types import Camera, Episode, Protocol, Suite, Task

CONTROL_HZ = 5
SIMULATION_HZ = 500
OFFICIAL_EPISODES = 24
CAMERA = Camera("agentview", height=480, width=640)

ACTION_SPACE = ActionSpace(
    translation="delta",
    rotation="axis_angle",
    frame="base",
    metres_per_unit=1.0,
    radians_per_unit=1.0,
    gripper_open=1.0,
    gripper_closed=-1.0,
    control_hz=CONTROL_HZ,
)
STATE_SPACE = StateSpace(
    names=("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right"),
    rotation="axis_angle",
    frame="base",
    source=(
        "pose of link ee_gripper_link in the frame of base_link, the frame in which the controller keeps its target "
        "(ManiSkill2_real2sim, PDEEPoseController.ee_pose_at_base); finger joints along the gripper's y axis, "
        "the right one negative"
    ),
)


@dataclass(frozen=True)
class Light:
    """A directional light: direction in which it shines (world frame) and its RGB radiance."""

    direction: tuple[float, float, float]
    color: tuple[float, float, float]


@dataclass(frozen=True)
class SceneSetup:
    """A real set-up that is reproduced: robot, camera, photograph and lights.

    Attributes:
        stage: mesh of the table, in the folder `stages`.
        overlay: photograph in the folder `real_inpainting`, `[480, 640]` pixels.
        base_position: position of the robot's base, world frame; it is turned by 180 degrees about z.
        joint_positions: waist, shoulder, elbow, forearm roll, wrist angle, wrist rotate, left finger, right finger.
        camera_position: position of the camera in the frame of `base_link`.
        camera_quat_wxyz: its orientation in that frame (x forward, y left, z up).
        camera_near: near clip plane.
        lights: besides the ambient light.
        sink: whether the sink with its basket stands on the table.
    """

    stage: str
    overlay: str
    base_position: tuple[float, float, float]
    joint_positions: tuple[float, ...]
    camera_position: tuple[float, float, float]
    camera_quat_wxyz: tuple[float, float, float, float]
    camera_near: float
    lights: tuple[Light, ...]
    sink: bool = False


@dataclass(frozen=True)
class BridgeTask:
    """One task: its objects, where they start and when it counts as solved.

    Attributes:
        name: name in the official scripts.
        instruction: what the policy is told.
        max_steps: control steps.
        setup: the set-up it runs in.
        catalogue: file in the folder `custom` with bounding boxes and densities.
        source: model of the object to move.
        target: model of where to put it.
        placements: the official placements, by episode id.
        region: where further placements come from.
        clear_contact: whether the source may touch nothing but target and robot.
        height_limit: largest gap between the two bounding boxes along z.
        falls_chaotically: whether official episodes start from the original's resting poses, since a fall of the same
            object from the same place ends elsewhere on another version of PhysX.
    """

    name: str
    instruction: str
    max_steps: int
    setup: SceneSetup
    catalogue: str
    source: str
    target: str
    placements: tuple[Placement, ...]
    region: Region
    clear_contact: bool
    height_limit: float
    falls_chaotically: bool = False


TABLE = SceneSetup(
    stage="bridge_table_1_v1.glb",
    overlay="bridge_real_eval_1.png",
    base_position=(0.147, 0.028, 0.870),
    joint_positions=(-0.01840777, 0.0398835, 0.22242722, -0.00460194, 1.36524296, 0.00153398, 0.037, 0.037),
    camera_position=(0.0, -0.16, 0.36),
    camera_quat_wxyz=(0.8992917, -0.09263245, 0.35892478, 0.23209205),
    camera_near=0.1,
    lights=(
        Light((0, 0, -1), (2.2, 2.2, 2.2)),
        Light((-1, -0.5, -1), (0.7, 0.7, 0.7)),
        Light((1, 1, -1), (0.7, 0.7, 0.7)),
    ),
)
SINK = SceneSetup(
    stage="bridge_table_1_v2.glb",
    overlay="bridge_sink.png",
    base_position=(0.127, 0.060, 0.85),
    joint_positions=(-0.2600599, -0.12875618, 0.04461369, -0.00652761, 1.7033415, -0.26983038, 0.037, 0.037),
    camera_position=(-0.00300001, -0.21, 0.39),
    camera_quat_wxyz=(-0.907313, 0.0782, -0.36434, -0.194741),
    camera_near=0.01,
    lights=(Light((0, 0, -1), (0.3, 0.3, 0.3)),),
    sink=True,
)


BRIDGE_TASKS = (
    BridgeTask(
        name="widowx_spoon_on_towel",
        instruction="put the spoon on the towel",
        max_steps=60,
        setup=TABLE,
        catalogue="info_bridge_custom_v0.json",
        source="bridge_spoon_generated_modified",
        target="table_cloth_generated_shorter",
        placements=corner_pairs(0.075, yaws=(0.0, math.pi / 2)),
        region=square_region(0.075, yaw=(0.0, math.pi / 2), separation=0.15),
        clear_contact=False,
        height_limit=0.02,
    ),
    BridgeTask(
        name="widowx_carrot_on_plate",
        instruction="put carrot on plate",
        max_steps=60,
        setup=TABLE,
        catalogue="info_bridge_custom_v0.json",
        source="bridge_carrot_generated_modified",
        target="bridge_plate_objaverse_larger",
        placements=corner_pairs(0.075, yaws=(math.pi, -math.pi / 2)),
        region=square_region(0.075, yaw=(-math.pi / 2, math.pi), separation=0.15),
        clear_contact=True,
        height_limit=0.02,
    ),
    BridgeTask(
        name="widowx_stack_cube",
        instruction="stack the green block on the yellow block",
        max_steps=60,
        setup=TABLE,
        catalogue="info_bridge_custom_baked_tex_v0.json",
        source="baked_green_cube_3cm",
        target="baked_yellow_cube_3cm",
        placements=corner_pairs(0.05, yaws=(0.0,)) + corner_pairs(0.1, yaws=(0.0,)),
        region=square_region(0.1, yaw=(0.0, 0.0), separation=0.1),
        clear_contact=True,
        height_limit=0.02,
    ),
    BridgeTask(
        name="widowx_put_eggplant_in_basket",
        instruction="put eggplant into yellow basket",
        max_steps=120,
        setup=SINK,
        catalogue="info_bridge_custom_v0.json",
        source="eggplant",
        target="dummy_sink_target_plane",
        placements=SINK_PLACEMENTS,
        region=SINK_REGION,
        clear_contact=False,
        height_limit=0.06,
        falls_chaotically=True,
    ),
)


def simpler_bridge() -> Suite:
    """Return the suite `simpler_bridge`."""
    tasks = tuple(Task(i, task.name, task.instruction, task.max_steps) for i, task in enumerate(BRIDGE_TASKS))
    protocol = Protocol(
        source="SimplerEnv WidowX visual matching (simpler-env/SimplerEnv main, ManiSkill2_real2sim 16a9ba9c)",
        simulator="sapien 3.0.3",
        settle_steps=0,
        settle_action=tuple(ACTION_SPACE.idle()),
        success="last",
        initial_states=OFFICIAL_EPISODES,
        cameras=(CAMERA,),
        image_transform="real photograph wherever neither robot nor task object is seen; no turn, no resize",
        max_steps=tuple(task.max_steps for task in tasks),
        extra={
            "controller": "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos",
            "physics": "500 Hz, TGS, 25 position iterations, contact offset 5 mm, no PCM, friction 1.0/0.5/2.0",
            "reset": "new scene; objects fall 0.5 m with tilt locked, 0.5 s; then free, 0.5 s or 2 s; "
            "the official eggplant episodes start where SAPIEN 2.2.2 lets the objects come to rest",
            "success": "boxes by centre of mass, as in PutOnInSceneEnv.evaluate; release is not required",
            "shader": "SAPIEN default rasteriser (ibl in SAPIEN 2)",
        },
    )
    return Suite(
        name="simpler_bridge",
        tasks=tasks,
        protocol=protocol,
        action_space=ACTION_SPACE,
        state_space=STATE_SPACE,
        env="envs.bridge.env:make",
        expert="envs.bridge.expert:BridgeExpert",
        reference="data/reference.json",
        extra_states=True,
    )


def bridge_task(name: str) -> BridgeTask:
    """Return the task of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for task in BRIDGE_TASKS:
        if task.name == name:
            return task
    raise UnknownNameError("Bridge task", name, (task.name for task in BRIDGE_TASKS))


def start_of(task: BridgeTask, episode: Episode) -> Start:
    """Return where the objects start: the official placement of that id, or a seeded one for ids beyond them.

    Raises:
        UsageError: the id is negative.
    """
    number = episode.initial_state
    if number < 0:
        raise UsageError(f"Task {task.name!r} has no initial state {number}; the first one is 0.")
    if number >= len(task.placements):
        return Start(task.region.draw(episode.rng("placement")))
    return Start(task.placements[number], original_rest(task.name)[number] if task.falls_chaotically else None)
