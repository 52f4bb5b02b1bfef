"""What the numbers of an action mean."""

import numpy as np
import pytest

from evals.errors import ContractError
from evals.spaces import ActionSpace, gripper_command, gripper_level

SPACES = [ActionSpace(gripper_open=a, gripper_closed=b) for a, b in ((1, -1), (-1, 1), (0, 0.8), (0.04, 0), (255, 0))]


@pytest.mark.parametrize("space", SPACES)
def test_open_is_one_and_closed_is_zero_in_every_convention(space):
    ends = np.array([space.gripper_open, space.gripper_closed])
    assert gripper_level(space, ends).tolist() == [1, 0]
    assert gripper_level(space, ends[:, None].mean(axis=0)).tolist() == [0.5]
    assert gripper_level(space, 2 * ends - ends[::-1]).tolist() == [1, 0]  # beyond is as far as it goes


@pytest.mark.parametrize("space", SPACES)
def test_a_command_is_the_inverse_of_a_level(space):
    commands = np.array([space.gripper_closed, space.gripper_open, space.gripper_open])
    np.testing.assert_array_equal(gripper_command(space, gripper_level(space, commands)), commands)


def test_one_number_for_open_and_closed_is_no_convention():
    with pytest.raises(ContractError, match=r"gripper_open and gripper_closed are both 1"):
        gripper_level(ActionSpace(gripper_open=1.0, gripper_closed=1.0), np.zeros(3))
