"""Action layouts of Open X-Embodiment sets, each brought to `[T, 7]` deltas with the gripper 1 = open.

Facts come from public sources: which numbers mean what from the standardisation transforms that Octo and OpenVLA share
(openvla/openvla, prismatic/vla/datasets/rlds/oxe/transforms.py and configs.py, commit 3ea4096), which features a set
holds from its page in the TFDS catalog (https://www.tensorflow.org/datasets/catalog/<name>), control rates from
huggingface/lerobot (push_dataset_to_hub/openx/configs.yaml, commit 267b9ef). The functions are our own; what they do
otherwise, they say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import StoredGripper
from vla.data.errors import UnknownLayoutError, Where
from vla.data.layout import Floats, Layout, Steps

_MOVES = 0.1
_SETTLED = 0.05


def layout_named(name: str, asked_by: Path) -> Layout:
    """Return a layout by the dataset's name.

    Raises:
        UnknownLayoutError: no such layout: what the action numbers of this dataset mean is unknown.
    """
    known = {layout.name: layout for layout in LAYOUTS}
    if name in known:
        return known[name]
    raise UnknownLayoutError(
        Where(asked_by, field="action"),
        f"no action layout is known for a dataset named {name!r}. Say which one holds with --layout NAME "
        f"(or pass your own Layout). Known: {', '.join(sorted(known))}.",
    )


def gripper_from_relative(closing: Floats) -> Floats:
    """Turn relative gripper commands `[T]`, +1 closes, -1 opens, 0 holds, into the level `[T]`, 1 = open.

    Before the first command the gripper is taken to be in the other state (a first command is never redundant); with no
    command at all it is open. Commands below 0.1 count as 0.
    """
    commands = np.where(closing > _MOVES, -1.0, np.where(closing < -_MOVES, 1.0, 0.0))
    given = np.flatnonzero(commands)
    before = -commands[given[0]] if len(given) else 1.0
    latest = np.maximum.accumulate(np.where(commands != 0, np.arange(len(commands)), -1))
    return ((np.where(latest < 0, before, commands[latest]) + 1) / 2).astype(np.float32)


def gripper_settled(level: Floats) -> Floats:
    """Replace levels `[T]` between closed (< 0.05) and open (> 0.95) by the state that is reached after them.

    Levels on which the episode ends keep the last value, as in the public transform.
    """
    settled = (level > 1 - _SETTLED) | (level < _SETTLED)
    steps = len(level)
    following = np.minimum.accumulate(np.where(settled, np.arange(steps), steps)[::-1])[::-1]
    target = np.append((level > 0.5).astype(np.float32), level[-1:])
    return target[following].astype(np.float32)


def euler_xyz_from_quat_xyzw(quat_xyzw: Floats) -> Floats:
    """Turn unit quaternions `[T, 4]` into roll, pitch, yaw `[T, 3]` in radians, R = Rz(yaw) Ry(pitch) Rx(roll)."""
    x, y, z, w = np.moveaxis(quat_xyzw.astype(np.float64), -1, 0)
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1, 1))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return np.stack([roll, pitch, yaw], axis=-1).astype(np.float32)


def bridge_orig(steps: Steps) -> Floats:
    """Bridge V2 as its authors publish it: reached motion from states, gripper command settled; see `_reached`."""
    return _reached(steps["observation/state"], gripper_settled(steps["action"][1:, 6]))


def bridge_oxe(steps: Steps) -> Floats:
    """Bridge V2 as the Open X-Embodiment release has it: the same, with `open_gripper` a flag."""
    return _reached(steps["observation/state"], steps["action/open_gripper"][1:].astype(np.float32))


def furniture_bench(steps: Steps) -> Floats:
    """FurnitureBench: 3 translation, 4 quaternion (xyzw) of the rotation delta, 1 gripper, -1 opens, +1 closes."""
    action = steps["action"]
    return _joined(action[:, :3], euler_xyz_from_quat_xyzw(action[:, 3:7]), 1 - np.clip(action[:, 7], 0, 1))


def jaco_play(steps: Steps) -> Floats:
    """Jaco Play: translation only, relative gripper."""
    translation = steps["action/world_vector"]
    return _joined(translation, np.zeros_like(translation), _relative(steps))


def relative_gripper(steps: Steps) -> Floats:
    """RT-1, Kuka (QT-Opt), Berkeley UR5: `world_vector`, `rotation_delta`, relative `gripper_closedness_action`."""
    return _joined(steps["action/world_vector"], steps["action/rotation_delta"], _relative(steps))


def closedness_gripper(steps: Steps) -> Floats:
    """VIOLA, RoboTurk: `world_vector`, `rotation_delta`, gripper command -1 open to +1 closed."""
    closed = np.clip(_column(steps["action/gripper_closedness_action"]), 0, 1)
    return _joined(steps["action/world_vector"], steps["action/rotation_delta"], 1 - closed)


def taco_play(steps: Steps) -> Floats:
    """TACO Play: `rel_actions_world`, 6 deltas and a gripper of -1 closed, +1 open."""
    action = steps["action/rel_actions_world"]
    return _joined(action[:, :3], action[:, 3:6], np.clip(action[:, 6], 0, 1))


def berkeley_cable_routing(steps: Steps) -> Floats:
    """Berkeley Cable Routing: the gripper holds the cable throughout."""
    translation = steps["action/world_vector"]
    return _joined(translation, steps["action/rotation_delta"], np.zeros(len(translation), np.float32))


def bc_z(steps: Steps) -> Floats:
    """BC-Z: the first of ten future residuals, rotation as axis-angle; `target_close` is 1 = closed."""
    closed = steps["action/future/target_close"][:, 0].astype(np.float32)
    residual, rotation = steps["action/future/xyz_residual"], steps["action/future/axis_angle_residual"]
    return _joined(residual[:, :3], rotation[:, :3], 1 - closed)


def closing_last(steps: Steps) -> Floats:
    """UT Austin's sets and LIBERO: 6 deltas and a gripper of -1 open, +1 closed."""
    action = steps["action"]
    return _joined(action[:, :3], action[:, 3:6], 1 - np.clip(action[:, 6], 0, 1))


def standard(steps: Steps) -> Floats:
    """Our own convention, written as it is."""
    return steps["action"].astype(np.float32)


def _reached(state: Floats, gripper: Floats) -> Floats:
    """`[T - 2, 7]`: differences of the poses that were reached; `gripper` is that of steps 1 and on.

    The first step of a Bridge episode carries an all-zero action and the last has no following state: both are left
    out. Angles are differenced modulo a turn; the public transforms do not do that, and their statistics of Bridge
    reach +-6.28 rad in yaw.
    """
    moved = np.diff(state[1:, :6].astype(np.float64), axis=0)
    moved[:, 3:] = (moved[:, 3:] + np.pi) % (2 * np.pi) - np.pi
    return _joined(moved[:, :3], moved[:, 3:], gripper[:-1])


def _relative(steps: Steps) -> Floats:
    return gripper_from_relative(_column(steps["action/gripper_closedness_action"]))


def _column(feature: Floats) -> Floats:
    """`[T]` from `[T]` or `[T, 1]`."""
    return feature.reshape(len(feature), -1)[:, 0]


def _joined(translation: NDArray[np.floating], rotation: NDArray[np.floating], gripper: NDArray[np.floating]) -> Floats:
    return np.concatenate([translation, rotation, gripper[:, None]], axis=1, dtype=np.float32, casting="same_kind")


_VECTORS = ("action/world_vector", "action/rotation_delta", "action/gripper_closedness_action")
_TASK = "observation/natural_language_instruction"
_ONE = {"primary": "observation/image"}
_TWO = {**_ONE, "wrist": "observation/wrist_image"}

_METRES: Any = {"rotation": "euler_xyz", "metres_per_unit": 1.0, "radians_per_unit": 1.0}

_BRIDGE = Layout(
    "bridge_orig", bridge_orig, ("action", "observation/state"), "bridge_orig",
    {"primary": "observation/image_0", "secondary": "observation/image_1"}, control_hz=5, cut=(1, 1), **_METRES,
)  # fmt: skip
_AUSTIN = Layout(
    "utaustin_mutex", closing_last, ("action",), "utaustin_mutex", _TWO, control_hz=20
)  # fmt: skip
_LIBERO = Layout(
    "libero", closing_last, ("action",), "libero", _TWO, control_hz=20,
    rotation="axis_angle", metres_per_unit=0.05, radians_per_unit=0.5,
)  # fmt: skip
"""LIBERO's controller (robosuite OSC_POSE) takes -1 to 1 for 5 cm and half a radian."""

_KNOWN: tuple[Layout, ...] = (
    Layout("standard", standard, ("action",), "", _TWO),
    _BRIDGE,
    replace(_BRIDGE, name="bridge_dataset"),
    Layout(
        "bridge", bridge_oxe, ("action/open_gripper", "observation/state"), "bridge_oxe",
        {"primary": "observation/image"}, instruction=_TASK, control_hz=5, cut=(1, 1), **_METRES,
    ),
    Layout(
        "furniture_bench_dataset_converted_externally_to_rlds", furniture_bench, ("action",),
        "furniture_bench", _TWO, control_hz=10,
    ),
    Layout(
        "jaco_play", jaco_play, ("action/world_vector", "action/gripper_closedness_action"), "jaco_play",
        {"primary": "observation/image", "wrist": "observation/image_wrist"},
        ("observation/end_effector_cartesian_pos",), _TASK, 10,
    ),
    Layout(
        "fractal20220817_data", relative_gripper, _VECTORS, "rt1", _ONE,
        ("observation/base_pose_tool_reached", "observation/gripper_closed"), _TASK, 3,
    ),
    Layout(
        "kuka", relative_gripper, _VECTORS, "kuka", _ONE,
        ("observation/clip_function_input/base_pose_tool_reached", "observation/gripper_closed"), _TASK, 10,
    ),
    Layout(
        "taco_play", taco_play, ("action/rel_actions_world",), "taco_play",
        {"primary": "observation/rgb_static", "wrist": "observation/rgb_gripper"},
        ("observation/robot_obs",), _TASK, 15,
    ),
    Layout(
        "berkeley_autolab_ur5", relative_gripper, _VECTORS, "berkeley_autolab_ur5",
        {"primary": "observation/image", "wrist": "observation/hand_image"}, ("observation/robot_state",), _TASK, 5,
    ),
    Layout(
        "viola", closedness_gripper, _VECTORS, "viola",
        {"primary": "observation/agentview_rgb", "wrist": "observation/eye_in_hand_rgb"},
        ("observation/joint_states", "observation/gripper_states"), _TASK, 20,
    ),
    Layout(
        "roboturk", closedness_gripper, _VECTORS, "roboturk",
        {"primary": "observation/front_rgb"}, (), _TASK, 10,
    ),
    Layout(
        "berkeley_cable_routing", berkeley_cable_routing, _VECTORS[:2], "berkeley_cable_routing",
        {"primary": "observation/image", "secondary": "observation/top_image", "wrist": "observation/wrist45_image"},
        ("observation/robot_state",), _TASK, 10,
    ),
    Layout(
        "bc_z", bc_z, ("action/future/xyz_residual", "action/future/axis_angle_residual", "action/future/target_close"),
        "bc_z", _ONE,
        ("observation/present/xyz", "observation/present/axis_angle", "observation/present/sensed_close"), _TASK, 10,
    ),
    _AUSTIN,
    *(
        replace(_AUSTIN, name=f"{name}_dataset_converted_externally_to_rlds", transform=name)
        for name in ("austin_buds", "austin_sailor", "austin_sirius")
    ),
    _LIBERO,
    *(replace(_LIBERO, name=f"libero_{suite}_no_noops") for suite in ("spatial", "object", "goal", "10")),
)  # fmt: skip

_GRIPPERS: Mapping[Callable[[Steps], Floats], StoredGripper] = {
    standard: StoredGripper("action", 6, "opening"),
    bridge_orig: StoredGripper("action", 6, "opening"),
    bridge_oxe: StoredGripper("action/open_gripper", 0, "opening"),
    furniture_bench: StoredGripper("action", 7, "signed_closing"),
    jaco_play: StoredGripper(_VECTORS[2], 0, "relative"),
    relative_gripper: StoredGripper(_VECTORS[2], 0, "relative"),
    closedness_gripper: StoredGripper(_VECTORS[2], 0, "signed_closing"),
    taco_play: StoredGripper("action/rel_actions_world", 6, "signed_opening"),
    bc_z: StoredGripper("action/future/target_close", 0, "closing"),
    closing_last: StoredGripper("action", 6, "signed_closing"),
}
LAYOUTS = tuple(replace(layout, gripper=_GRIPPERS.get(layout.actions)) for layout in _KNOWN)
"""Every layout that is known; tests hold a record of each."""

BUILDERS = {
    "libero_spatial": "libero_spatial_no_noops",
    "libero_object": "libero_object_no_noops",
    "libero_goal": "libero_goal_no_noops",
    "liber_o10": "libero_10_no_noops",
}
"""TFDS builders whose files have another name than the data set: OpenVLA's modified LIBERO release."""
