"""Statistics agree with published values, with SciPy and statsmodels, and cover what they say."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis.stats.intervals import (
    clopper_pearson,
    holm,
    mcnemar_exact,
    newcombe,
    paired_difference,
    pooled,
    smallest_paired_difference,
    stratified_p,
    task_bootstrap,
)
from evals.summary import wilson


def test_clopper_pearson_agrees_with_newcombe_1998_table_1():
    # Newcombe, Statistics in Medicine 17:857 (1998), table I, method 5.
    published = {
        (81, 263): (0.2527, 0.3676),
        (15, 148): (0.0578, 0.1617),
        (0, 20): (0, 0.1684),
        (1, 29): (0.0009, 0.1776),
    }
    for (successes, n), expected in published.items():
        assert clopper_pearson(successes, n) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 24), (7, 24), (24, 24), (431, 500), (5, 6000)])
def test_intervals_of_a_rate_agree_with_statsmodels(successes, n):
    assert wilson(successes, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)
    assert clopper_pearson(successes, n) == pytest.approx(proportion_confint(successes, n, method="beta"), abs=1e-12)


def test_tangos_interval_agrees_with_tango_1998_and_fagerland_2014():
    assert paired_difference(9, 3, 32) == pytest.approx((-0.027, 0.390), abs=5e-4)
    assert paired_difference(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("a", "b", "n"), [(0, 0, 50), (50, 0, 50), (0, 3, 50), (12, 30, 500), (0, 0, 0)])
def test_tangos_interval_holds_the_estimate_and_mirrors(a, b, n):
    low, high = paired_difference(a, b, n)
    assert -1 <= low <= (a - b) / max(n, 1) <= high <= 1
    assert paired_difference(b, a, n) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("n", [2, 4, 50])
def test_tangos_interval_is_wide_when_every_pair_flips_the_same_way(n):
    # Solving the score equation by hand: n e = z sqrt(n (2 e - e^2)) with e the distance from the estimate.
    width = 2 * 1.959964**2 / (n + 1.959964**2)
    assert paired_difference(n, 0, n) == pytest.approx((1 - width, 1), abs=1e-6)
    assert paired_difference(0, n, n) == pytest.approx((-1, -1 + width), abs=1e-6)


def test_tangos_interval_and_mcnemars_chi_square_agree_at_zero():
    # The score statistic at a difference of 0 is (b - c) / sqrt(b + c): at 1.96 the interval touches 0.
    only_b = 20.0
    only_a = only_b + (1.959964**2 + math.sqrt(1.959964**4 + 8 * only_b * 1.959964**2)) / 2
    assert paired_difference(only_a, only_b, 300).low == pytest.approx(0, abs=1e-6)


def test_mcnemar_agrees_with_the_textbook():
    # Fagerland, Lydersen and Laake 2013, BMC Med Res Methodol 13:91, both examples.
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_exact(6, 16) == pytest.approx(0.0525, abs=5e-5)
    assert mcnemar_exact(0, 0) == 1


def test_newcombes_interval_agrees_with_newcombe_1998_and_statsmodels():
    # Newcombe, Statistics in Medicine 17:873 (1998), table II, method 10, contrast (a).
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(5, 24, 11, 24) == pytest.approx(
        confint_proportions_2indep(5, 24, 11, 24, method="newcomb"), abs=1e-9
    )


def test_the_stratified_test_of_one_task_is_fishers():
    table = np.array([[[3, 17], [9, 11]]])
    assert stratified_p(table) == pytest.approx(scipy_stats.fisher_exact(table[0]).pvalue, rel=1e-9)


def test_the_stratified_test_agrees_with_cochran_mantel_haenszel_where_counts_are_large():
    table = np.array([[[300, 200], [260, 240]], [[100, 400], [90, 410]]])
    asymptotic = StratifiedTable(list(table.astype(float))).test_null_odds(correction=True).pvalue
    assert stratified_p(table) == pytest.approx(asymptotic, rel=0.05)


def test_the_stratified_test_is_not_fooled_by_simpsons_paradox():
    # A ran mostly the easy task, B mostly the hard one; in each they are equal.
    table = np.array([[[90, 10], [9, 1]], [[1, 9], [10, 90]]])
    assert stratified_p(table) == pytest.approx(1, abs=0.3)
    assert scipy_stats.fisher_exact(table.sum(axis=0)).pvalue < 1e-6


def test_holm_agrees_with_statsmodels():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert holm([]) == []


def test_the_pooled_error_is_what_openvlas_line_of_work_prints():
    # Row "3B w/ motion" of the paper's table 5: 78.1 +- 0.5 over 4 suites of 1500.
    rate, error = pooled([0.848, 0.900, 0.822, 0.554], [1500] * 4)
    assert (round(100 * rate, 1), round(100 * error, 1)) == (78.1, 0.5)
    with pytest.raises(ValueError, match="no episodes"):
        pooled([], [])


def test_pairing_shows_smaller_differences_when_few_episodes_flip():
    unpaired = 0.066  # what two independent runs of 500 episodes at 80 % show with the same power
    paired = smallest_paired_difference(500, 0.1)
    assert paired is not None
    assert paired < unpaired
    assert smallest_paired_difference(20, 0.05) is None


def test_a_bootstrap_over_tasks_is_wider_than_the_error_on_these_tasks():
    scores = [np.repeat([1.0, 0.0], [k, 50 - k]) for k in (50, 45, 5, 30, 0, 50, 20, 10, 48, 25)]
    low, high = task_bootstrap(scores, np.random.default_rng(1))
    rates = np.array([task.mean() for task in scores])
    assert high - low == pytest.approx(2 * 1.96 * rates.std() / math.sqrt(10), rel=0.1)
    assert (low, high) == task_bootstrap(scores, np.random.default_rng(1))
    with pytest.raises(ValueError, match="two tasks"):
        task_bootstrap(scores[:1], np.random.default_rng(1))


@pytest.mark.parametrize("call", [lambda: clopper_pearson(3, 2), lambda: paired_difference(3, 3, 5)])
def test_impossible_counts_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
