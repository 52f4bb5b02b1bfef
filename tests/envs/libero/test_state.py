"""The orientation in LIBERO's state: robosuite's own formula, where it differs from the usual one too."""

import importlib

import numpy as np
import pytest

from envs.libero import package as libero_package
from envs.libero.env import quat_xyzw_to_axis_angle_as_robosuite
from evals.rotations import axis_angle_to_quat_xyzw, quat_xyzw_to_axis_angle

RNG = np.random.default_rng(0)
QUATS_XYZW = [q / np.linalg.norm(q) for q in RNG.normal(size=(20, 4))]
AXIS = np.array([0.3, -0.5, 0.81]) / np.linalg.norm([0.3, -0.5, 0.81])


def test_no_rotation_is_zero():
    assert quat_xyzw_to_axis_angle_as_robosuite(np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [0, 0, 0]


def test_it_goes_the_long_way_round_where_w_is_negative():
    quat_xyzw = axis_angle_to_quat_xyzw(AXIS * np.pi / 3)
    long_way = quat_xyzw_to_axis_angle_as_robosuite(-quat_xyzw)
    np.testing.assert_allclose(long_way, -AXIS * (2 * np.pi - np.pi / 3), atol=1e-12)
    np.testing.assert_allclose(quat_xyzw_to_axis_angle(-quat_xyzw), AXIS * np.pi / 3, atol=1e-12)


@pytest.mark.sim
def test_it_is_robosuites_formula_bit_for_bit():
    libero_package.load(renders=False)
    robosuite_transforms = importlib.import_module("robosuite.utils.transform_utils")
    for quat_xyzw in [*QUATS_XYZW, np.array([0.0, 0, 0, 1 + 1e-12]), np.array([0.0, 0, 0, -1])]:
        ours = quat_xyzw_to_axis_angle_as_robosuite(quat_xyzw)
        assert ours.tolist() == robosuite_transforms.quat2axisangle(quat_xyzw.copy()).tolist()
