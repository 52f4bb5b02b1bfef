"""Intervals cover what they say they cover; the figures of a full run stand in the log."""

import numpy as np
import pytest

from analysis.stats.intervals import clopper_pearson
from evals.summary import wilson
from studies.coverage import (
    blocks_to_decide,
    bootstrap_coverage,
    ever_wrong,
    mean_coverage,
    paired_coverage,
    rate_coverage,
    simulate,
    unpaired_coverage,
    wald,
)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("n", [24, 50])
def test_clopper_pearson_never_covers_less_than_it_says_and_wilson_hardly(n):
    rates = [0.05, 0.5, 0.86]
    assert rate_coverage(clopper_pearson, n, rates).min() >= 0.95
    assert rate_coverage(wilson, n, rates).min() >= 0.91


def test_the_textbook_interval_fails_near_the_edges():
    assert rate_coverage(wald, 24, [0.05]) < 0.75


@pytest.mark.parametrize("rates", [np.full(10, 0.85), np.linspace(0.3, 1.0, 10)], ids=["equal", "spread"])
def test_the_interval_of_a_suites_mean_covers(rng, rates):
    assert mean_coverage(rates, np.full(10, 50), rng, 1000) >= 0.93


def test_the_intervals_of_differences_cover(rng):
    assert paired_coverage(100, 0.05, 0.2, rng, 1000) == pytest.approx(0.95, abs=0.025)
    assert unpaired_coverage(100, 0.9, 0.8, rng, 1000) == pytest.approx(0.95, abs=0.025)


def test_a_bootstrap_over_ten_tasks_covers_a_little_less_than_it_says(rng):
    assert 0.85 < bootstrap_coverage(10, rng, 300) < 0.97


def test_the_sequential_test_is_seldom_wrong_and_often_early(rng):
    assert ever_wrong(np.zeros(4), 0.3, 24, rng, 200) <= 0.05
    found, share = blocks_to_decide(np.full(10, 0.2), 0.4, 50, rng, 40)
    assert found > 0.9
    assert share < 0.5


def test_all_figures_can_be_made_again():
    assert simulate(4, 1) == simulate(4, 1)
