"""The contact sheet of recorded demonstrations."""

import numpy as np
import pytest
from matplotlib.image import imread

from analysis.figures.command import figures
from analysis.figures.demonstrations import contact_sheet, first_of_each_task
from evals.demos.command import RecordConfig, RenderConfig, record, render
from evals.errors import UsageError
from vla.data.demos import read_demos


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos") / "reach"
    record(RecordConfig("reach", folder, trials=2, every=0, workers=1, gates=False))
    return folder


def test_every_task_is_shown_with_its_first_and_last_picture(demonstrations, tmp_path):
    with pytest.raises(UsageError, match=r"has no pictures of camera '' .*vla-eval render"):
        contact_sheet(first_of_each_task(read_demos(demonstrations)), 5)
    render(RenderConfig(demonstrations, every=3, workers=1))
    episodes = first_of_each_task(read_demos(demonstrations))
    shown = [axes for axes in contact_sheet(episodes, 3).axes if axes.images]
    assert len(shown) == len({episode.instruction for episode in episodes}) == len(episodes)
    for axes, episode in zip(shown, episodes, strict=True):
        frames = episode.cameras["agentview"]
        last = (len(episode) - 1) // 3 * 3
        np.testing.assert_array_equal(axes.images[0].get_array(), np.concatenate([frames[0], frames[last]], axis=1))
    assert figures(["demonstrations", str(demonstrations), "--out", str(tmp_path)]) == 0
    assert imread(tmp_path / "demonstrations.png").ndim == 3


def test_a_camera_that_was_not_drawn_is_named(demonstrations, tmp_path):
    with pytest.raises(UsageError, match="no pictures of camera 'wrist'"):
        figures(["demonstrations", str(demonstrations), "--camera", "wrist", "--out", str(tmp_path)])
