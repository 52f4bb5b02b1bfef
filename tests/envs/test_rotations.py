"""Rotations: round trips, agreement with SciPy, and robosuite's own formula where it differs from the others."""

import importlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from envs import libero_package, rotations

RNG = np.random.default_rng(0)
QUATS_XYZW = [q / np.linalg.norm(q) for q in RNG.normal(size=(20, 4))]
AXIS_ANGLE_60_DEGREES = np.array([0.3, -0.5, 0.81]) / np.linalg.norm([0.3, -0.5, 0.81]) * np.pi / 3


@pytest.mark.parametrize("quat_xyzw", QUATS_XYZW)
def test_every_conversion_agrees_with_scipy(quat_xyzw):
    expected = Rotation.from_quat(quat_xyzw)
    matrix = rotations.quat_xyzw_to_matrix(quat_xyzw)
    np.testing.assert_allclose(matrix, expected.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotations.quat_xyzw_to_axis_angle(quat_xyzw), expected.as_rotvec(), atol=1e-12)
    np.testing.assert_allclose(rotations.matrix_to_axis_angle(matrix), expected.as_rotvec(), atol=1e-9)
    np.testing.assert_allclose(rotations.matrix_to_euler_xyz(matrix), expected.as_euler("xyz"), atol=1e-9)
    np.testing.assert_allclose(rotations.euler_xyz_to_matrix(expected.as_euler("xyz")), matrix, atol=1e-12)
    np.testing.assert_allclose(rotations.axis_angle_to_matrix(expected.as_rotvec()), matrix, atol=1e-12)


@pytest.mark.parametrize("quat_xyzw", QUATS_XYZW)
def test_a_matrix_gives_the_quaternion_with_positive_w(quat_xyzw):
    found = rotations.matrix_to_quat_xyzw(rotations.quat_xyzw_to_matrix(quat_xyzw))
    np.testing.assert_allclose(found, quat_xyzw * np.sign(quat_xyzw[3]), atol=1e-12)


def test_quaternion_orders_are_inverse_and_differ():
    quat_wxyz = np.array([0.5, 0.1, 0.2, 0.3])
    quat_xyzw = rotations.quat_wxyz_to_xyzw(quat_wxyz)
    assert quat_xyzw.tolist() == [0.1, 0.2, 0.3, 0.5]
    assert rotations.quat_xyzw_to_wxyz(quat_xyzw).tolist() == quat_wxyz.tolist()


def test_60_degrees_survive_the_way_through_a_quaternion():
    quat_xyzw = rotations.axis_angle_to_quat_xyzw(AXIS_ANGLE_60_DEGREES)
    np.testing.assert_allclose(rotations.quat_xyzw_to_axis_angle(quat_xyzw), AXIS_ANGLE_60_DEGREES, atol=1e-15)


def test_euler_angles_are_not_axis_angle_at_60_degrees():
    euler_xyz = rotations.matrix_to_euler_xyz(rotations.axis_angle_to_matrix(AXIS_ANGLE_60_DEGREES))
    assert np.abs(euler_xyz - AXIS_ANGLE_60_DEGREES).max() > np.deg2rad(5)


@pytest.mark.parametrize("convert", [rotations.quat_xyzw_to_axis_angle, rotations.quat_xyzw_to_axis_angle_as_robosuite])
def test_no_rotation_is_zero(convert):
    assert convert(np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [0, 0, 0]


def test_tiny_rotations_keep_their_size():
    tiny = np.array([1e-9, 0, 0])
    np.testing.assert_allclose(rotations.quat_xyzw_to_axis_angle(rotations.axis_angle_to_quat_xyzw(tiny)), tiny)


def test_gimbal_lock_still_gives_the_same_matrix():
    matrix = rotations.euler_xyz_to_matrix(np.array([0.4, np.pi / 2, -0.3]))
    again = rotations.euler_xyz_to_matrix(rotations.matrix_to_euler_xyz(matrix))
    np.testing.assert_allclose(again, matrix, atol=1e-9)


def test_robosuites_formula_goes_the_long_way_round_where_w_is_negative():
    quat_xyzw = rotations.axis_angle_to_quat_xyzw(AXIS_ANGLE_60_DEGREES)
    axis = AXIS_ANGLE_60_DEGREES / (np.pi / 3)
    long_way = rotations.quat_xyzw_to_axis_angle_as_robosuite(-quat_xyzw)
    np.testing.assert_allclose(long_way, -axis * (2 * np.pi - np.pi / 3), atol=1e-12)
    np.testing.assert_allclose(rotations.quat_xyzw_to_axis_angle(-quat_xyzw), AXIS_ANGLE_60_DEGREES, atol=1e-12)


def test_robosuites_formula_is_robosuites_bit_for_bit():
    libero_package.load(renders=False)
    robosuite_transforms = importlib.import_module("robosuite.utils.transform_utils")
    for quat_xyzw in [*QUATS_XYZW, np.array([0.0, 0, 0, 1 + 1e-12]), np.array([0.0, 0, 0, -1])]:
        ours = rotations.quat_xyzw_to_axis_angle_as_robosuite(quat_xyzw)
        assert ours.tolist() == robosuite_transforms.quat2axisangle(quat_xyzw.copy()).tolist()
