"""Rotations: round trips, and agreement with SciPy."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evals import rotations

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
    matrix = rotations.euler_xyz_to_matrix(AXIS_ANGLE_60_DEGREES)
    assert np.abs(rotations.matrix_to_axis_angle(matrix) - AXIS_ANGLE_60_DEGREES).max() > np.deg2rad(5)


def test_no_rotation_is_zero():
    assert rotations.quat_xyzw_to_axis_angle(np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [0, 0, 0]


def test_tiny_rotations_keep_their_size():
    tiny = np.array([1e-9, 0, 0])
    np.testing.assert_allclose(rotations.quat_xyzw_to_axis_angle(rotations.axis_angle_to_quat_xyzw(tiny)), tiny)


def test_the_nearest_rotation_is_proper_and_a_rotation_is_its_own():
    matrix = rotations.axis_angle_to_matrix(AXIS_ANGLE_60_DEGREES)
    np.testing.assert_allclose(rotations.nearest_rotation(1.3 * matrix), matrix, atol=1e-12)
    assert np.linalg.det(rotations.nearest_rotation(np.diag([1.0, 1.0, -0.1]))) > 0
