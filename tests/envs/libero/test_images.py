"""Images: TensorFlow's results, stored, are the reference for what OpenVLA does to them."""

from pathlib import Path

import numpy as np
import pytest

from envs.libero import images


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).parent / "data" / "openvla_images.npz") as arrays:
        return dict(arrays)


def assert_equal_but_for_rounding(got, expected):
    """Sums in another order: at most one grey level, in at most one value of a thousand."""
    difference = np.abs(got.astype(int) - expected.astype(int))
    assert got.shape == expected.shape
    assert got.dtype == np.uint8
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


def test_the_jpeg_round_trip_is_tensorflows(stored):
    assert (images.jpeg_round_trip(stored["image"]) == stored["jpeg"]).all()


def test_the_lanczos_resize_is_tensorflows(stored):
    assert_equal_but_for_rounding(images.resize_lanczos3(stored["jpeg"], 56), stored["resized"])


def test_the_centre_crop_is_tensorflows(stored):
    assert_equal_but_for_rounding(images.centre_crop(stored["resized"], size=56), stored["crop"])


def test_each_part_of_the_preprocessing_matters(stored):
    whole = images.centre_crop(images.resize_lanczos3(images.jpeg_round_trip(stored["image"]), 56), size=56)
    no_jpeg = images.centre_crop(images.resize_lanczos3(stored["image"], 56), size=56)
    side_0_9 = images.centre_crop(images.resize_lanczos3(images.jpeg_round_trip(stored["image"]), 56), 0.9**2, 56)
    assert_equal_but_for_rounding(whole, stored["crop"])
    assert np.abs(no_jpeg.astype(int) - whole).max() > 5
    assert np.abs(side_0_9.astype(int) - whole).max() > 20


def test_a_crop_of_area_0_9_keeps_a_side_of_its_square_root():
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    row = images.centre_crop(ramp, area=0.9, size=224)[0, :, 0].astype(int)
    margin = 255 * (1 - np.sqrt(0.9)) / 2
    assert abs(row[0] - margin) <= 1
    assert abs(row[-1] - (255 - margin)) <= 1


def test_a_crop_of_everything_at_the_same_size_changes_nothing(stored):
    assert (images.centre_crop(stored["image"], area=1.0, size=64) == stored["image"]).all()


def test_turning_by_180_degrees_moves_the_top_left_to_the_bottom_right():
    image = np.zeros((3, 4, 3), np.uint8)
    image[0, 0] = [9, 8, 7]
    turned = images.rotate_180(image)
    assert turned[2, 3].tolist() == [9, 8, 7]
    assert turned.flags.c_contiguous
    assert (images.rotate_180(turned) == image).all()
