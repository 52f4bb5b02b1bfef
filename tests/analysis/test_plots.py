"""Plots draw what a frame holds and leave showing and saving to the caller."""

import matplotlib as mpl
import pytest

from analysis.plots import episode_seconds, success_rates
from analysis.runs import episodes

mpl.use("Agg")


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_rates_are_drawn_in_percent_with_one_series_a_policy(write_run, tmp_path, axes):
    write_run(tmp_path / "a", ["++++", "++--"], policy="one")
    write_run(tmp_path / "b", ["----", "+!!!"], policy="two")
    success_rates(episodes(tmp_path), axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    points = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    assert points == [[100, 50], [0, 100]]


def test_two_suites_in_one_plot_are_refused(write_run, edit_header, tmp_path, axes):
    write_run(tmp_path / "a", ["+"])
    frame = episodes(tmp_path)
    frame["suite"] = "other"
    mixed = [*frame["suite"], "reach"]
    with pytest.raises(ValueError, match="One suite"):
        success_rates(frame.loc[[0, 0]].assign(suite=mixed), axes)


def test_time_is_stacked_by_phase(write_run, tmp_path, axes):
    write_run(tmp_path / "a", ["++"])
    episode_seconds(episodes(tmp_path), axes)
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1.0 + 2.0 + 0.5 + 0.25)
