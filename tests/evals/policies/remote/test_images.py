"""Pictures are sent as published clients send them."""

import importlib.util

import numpy as np
import pytest

from evals.policies.remote.images import prepared, resize_with_pad
from evals.policies.remote.profile import ImageItem

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("height", "width"), [(256, 256), (224, 224), (480, 640), (640, 480), (180, 320), (1, 9), (225, 223), (64, 64)]
)
@pytest.mark.parametrize("size", [(224, 224), (180, 320), (95, 33)])
def test_padding_equals_openpis_own_byte_for_byte(counterparts, height, width, size):
    spec = importlib.util.spec_from_file_location("image_tools", counterparts / "openpi_client" / "image_tools.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    picture = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if min(int(side / max(width / size[1], height / size[0])) for side in (height, width)) == 0:
        pytest.skip("openpi's own refuses a picture that becomes less than a pixel high")
    np.testing.assert_array_equal(resize_with_pad(picture, size), theirs.resize_with_pad(picture, *size))


def test_axes_stand_as_declared():
    picture = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    sent = prepared(picture, ImageItem(("image",), "agentview", layout="chw", axes=2))
    assert sent.shape == (1, 1, 3, 6, 8)
    np.testing.assert_array_equal(sent[0, 0, 1], picture[..., 1])


def test_openvlas_steps_are_those_of_the_suite():
    from envs.libero.images import centre_crop, jpeg_round_trip, resize_lanczos3

    picture = RNG.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    item = ImageItem(("image",), "agentview", (224, 224), ("jpeg", "lanczos3", "crop"))
    expected = centre_crop(resize_lanczos3(jpeg_round_trip(picture), 224))
    np.testing.assert_array_equal(prepared(picture, item), expected)
