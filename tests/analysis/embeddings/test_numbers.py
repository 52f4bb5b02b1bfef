"""Distances between groups of vectors, and the plane they are drawn in."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from analysis.embeddings.numbers import (
    Ellipse,
    bootstrapped,
    ellipse_of,
    mahalanobis,
    nearest_words,
    overlap,
    pair_numbers,
    separation_and_frechet,
)
from analysis.embeddings.plot import embedding_figure, joint_plane
from analysis.embeddings.vectors import LabelledVectors
from evals.errors import UsageError

RNG = np.random.default_rng(5)


def gaussian(count, dimensions, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimensions)) + shift


def condition(values, groups, name="one"):
    texts = np.array([f"{group}{index}" for index, group in enumerate(groups)])
    return LabelledVectors(name, "input", values, np.array(groups), texts, np.arange(len(values)))


def groups_apart(shift, name="one", dimensions=8):
    """Action vectors, shifted from motion words and ordinary words."""
    parts = [gaussian(60, dimensions, shift, 1), gaussian(20, dimensions, 0, 2), gaussian(40, dimensions, 0, 3)]
    return condition(np.concatenate(parts), ["action"] * 60 + ["motion"] * 20 + ["word"] * 40, name)


def test_a_95_percent_ellipse_holds_95_percent_of_a_gaussian():
    points = gaussian(20_000, 2) @ np.array([[3.0, 0.0], [1.0, 0.5]])
    ellipse = ellipse_of(points, "all")
    assert ellipse.contains(points).mean() == pytest.approx(0.95, abs=0.005)
    scaled = Ellipse(ellipse.centre, ellipse.covariance * 1.001)
    assert scaled.contains(ellipse.outline()).all()


@pytest.mark.parametrize(("points", "message"), [(np.zeros((2, 2)), "needs at least 3 points, got 2"),
                                                 (np.outer(np.arange(5.0), [1, 2]), "lie on a line")])  # fmt: skip
def test_too_few_points_or_points_on_a_line_have_no_ellipse(points, message):
    with pytest.raises(UsageError, match=f"run, motion words.*{message}"):
        ellipse_of(points, "run, motion words")


def test_overlap_is_shared_area_over_joint_area():
    unit = Ellipse(np.zeros(2), np.eye(2))
    assert overlap(unit, unit) == 1
    assert overlap(unit, Ellipse(np.zeros(2), 4 * np.eye(2))) == pytest.approx(0.25, abs=0.01)
    assert overlap(unit, Ellipse(np.array([50.0, 0.0]), np.eye(2))) == 0


def test_mahalanobis_is_the_distance_in_units_of_the_pooled_spread():
    points = gaussian(500, 2, seed=3) @ np.diag([4.0, 0.1])
    assert mahalanobis(points, points + np.array([4 * points[:, 0].std(ddof=1), 0])) == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("dimensions", [3, 40])
def test_frechet_from_inner_products_is_that_of_the_definition(dimensions):
    a, b = gaussian(30, dimensions, 0.3, 1), 2 * gaussian(12, dimensions, 0, 2)
    values = np.concatenate([a, b])
    separation, frechet = separation_and_frechet(values @ values.T, np.arange(30), np.arange(30, 42))
    covariances = np.cov(a.T), np.cov(b.T)
    roots = np.real(np.trace(sqrtm(covariances[0] @ covariances[1] + 1e-14 * np.eye(dimensions))))
    offset = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    pooled = (29 * np.trace(covariances[0]) + 11 * np.trace(covariances[1])) / 40
    defined = offset + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots
    assert frechet == pytest.approx(defined / pooled, rel=1e-4)
    assert separation == pytest.approx(np.sqrt(offset / pooled))


def test_the_bootstrap_finds_the_standard_error_of_a_mean():
    values = gaussian(200, 1).ravel()

    def mean(chosen):
        return (values[chosen].mean(),)

    [number] = bootstrapped(mean, [np.arange(200)], np.arange(200), 2000, RNG)
    assert number.error == pytest.approx(values.std() / np.sqrt(200), rel=0.1)
    [clustered] = bootstrapped(mean, [np.arange(200)], np.arange(200) // 50, 500, RNG)
    assert np.isfinite(clustered.error)


def test_vectors_of_one_observation_are_drawn_together():
    values = np.repeat(gaussian(20, 1).ravel(), 10)
    statistic = [lambda chosen: (values[chosen].mean(),), [np.arange(200)]]
    [together] = bootstrapped(*statistic, np.arange(200) // 10, 500, np.random.default_rng(0))
    [apart] = bootstrapped(*statistic, np.arange(200), 500, np.random.default_rng(0))
    assert together.error > 2 * apart.error


def test_groups_that_lie_apart_differ_from_the_null_and_equal_ones_do_not():
    for shift, differs in ((3.0, True), (0.0, False)):
        vectors = groups_apart(shift)
        [plane] = joint_plane([vectors]).points
        pair = pair_numbers(vectors, plane, 60, 0)[0]
        assert pair.pair == ("action", "motion")
        for number in (pair.separation, pair.frechet, pair.overlap, pair.mahalanobis):
            assert (abs(number.value - number.null) > 4 * number.error) == differs


def test_a_condition_without_motion_words_is_compared_without_them():
    vectors = condition(gaussian(20, 4), ["action"] * 10 + ["word"] * 10)
    [pair] = pair_numbers(vectors, vectors.values[:, :2], 10, 0)
    assert pair.pair == ("action", "word")


def test_nearest_words_are_found_by_cosine():
    values = np.array([[2.0, 0.1], [3.0, -0.1], [9.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = nearest_words(condition(values, ["action", "action", "motion", "word", "word"]), 10, 0)
    assert found.to_mean[0] == ("motion2", pytest.approx(1.0))
    assert (found.motion_share.value, found.chance) == (1.0, pytest.approx(1 / 3))


def test_the_plane_is_fitted_to_all_conditions_together():
    flat = groups_apart(0.0, "flat")
    far = groups_apart(0.0, "far")
    far.values[:] += 100 * np.eye(8)[0]
    plane = joint_plane([flat, far])
    assert plane.explained[0] > 0.9
    assert abs(plane.points[0][:, 0].mean() - plane.points[1][:, 0].mean()) == pytest.approx(100, rel=0.01)
    assert max(plane.explained_within) < 0.6


def test_widths_that_differ_are_refused():
    with pytest.raises(UsageError, match="one 8, two 5"):
        joint_plane([groups_apart(0), groups_apart(0, "two", dimensions=5)])


def test_labels_do_not_overlap_and_panels_share_their_axes():
    vectors = [groups_apart(3.0), groups_apart(0.0, "two")]
    figure = embedding_figure(vectors, joint_plane(vectors))
    panels = figure.axes[:2]
    assert [axes.get_title() for axes in panels] == ["one", "two"]
    assert panels[0].get_xlim() == panels[1].get_xlim()
    for axes in panels:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert len(boxes) > 25
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
