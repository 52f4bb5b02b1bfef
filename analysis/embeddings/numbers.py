"""How far groups of vectors lie from each other, in numbers with bootstrap errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from analysis.embeddings.vectors import Floats, Group, Indices, LabelledVectors
from evals.errors import UsageError

CONFIDENCE = 0.95
PAIRS: tuple[tuple[Group, Group], ...] = (("action", "motion"), ("action", "word"), ("motion", "word"))

_GRID = 96
_FEWEST = 3
_SINGULAR = 1e-12


class Number(NamedTuple):
    """A measured value.

    Attributes:
        value: as measured.
        error: bootstrap standard error.
        null: mean of the permutation null, in which group labels are shuffled over the vectors: the value of "no
            difference" with so few vectors. NaN if there is only one group.
    """

    value: float
    error: float
    null: float


class PairNumbers(NamedTuple):
    """How far two groups of one condition lie from each other.

    Attributes:
        condition: name of the checkpoint.
        pair: the two groups.
        counts: their vectors.
        mahalanobis: distance between the means in the plane of the figure, by the pooled covariance there.
        separation: distance between the means over the root of the pooled total variance, in all dimensions.
        frechet: squared Frechet distance of the two Gaussians in all dimensions, over the pooled total variance; it
            grows with the dimension and falls with the number of vectors, so compare equal ones only.
        overlap: area in both ellipses over area in either.
    """

    condition: str
    pair: tuple[Group, Group]
    counts: tuple[int, int]
    mahalanobis: Number
    separation: Number
    frechet: Number
    overlap: Number


class Nearest(NamedTuple):
    """Which words action vectors are nearest to, by cosine.

    Attributes:
        condition: name of the checkpoint.
        to_mean: the nearest words to the mean of the action vectors, with their cosines.
        motion_share: action vectors whose nearest word is a motion word, as a part of all.
        chance: motion words as a part of all words.
    """

    condition: str
    to_mean: tuple[tuple[str, float], ...]
    motion_share: Number
    chance: float


class Ellipse(NamedTuple):
    """A confidence ellipse in a plane.

    Attributes:
        centre: `[2]`.
        covariance: `[2, 2]` of the points.
        confidence: part of a Gaussian's mass that lies inside.
    """

    centre: Floats
    covariance: Floats
    confidence: float = CONFIDENCE

    def contains(self, points: Floats) -> np.typing.NDArray[np.bool_]:
        """Say of `[..., 2]` points whether they lie inside: squared Mahalanobis distance below the quantile."""
        offsets = points - self.centre
        squared = np.einsum("...i,ij,...j->...", offsets, np.linalg.inv(self.covariance), offsets)
        inside: np.typing.NDArray[np.bool_] = squared <= chi2.ppf(self.confidence, df=2)
        return inside

    def outline(self, count: int = 181) -> Floats:
        """Return `[count, 2]` points of its border, the last equal to the first."""
        angles = np.linspace(0, 2 * np.pi, count)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        root = np.linalg.cholesky(self.covariance)
        border: Floats = self.centre + np.sqrt(chi2.ppf(self.confidence, df=2)) * circle @ root.T
        return border


def ellipse_of(points: Floats, whose: str) -> Ellipse:
    """Return the 95 % confidence ellipse of `[N, 2]` points.

    Raises:
        UsageError: fewer than three points, or all on a line.
    """
    if len(points) < _FEWEST:
        raise UsageError(
            f"{whose}: an ellipse needs at least {_FEWEST} points, got {len(points)}. The vocabulary or the sample "
            "(--words, --observations) is too small."
        )
    covariance = np.cov(points.T)
    spread = np.linalg.eigvalsh(covariance)
    if spread[0] <= _SINGULAR * max(spread[1], _SINGULAR):
        raise UsageError(f"{whose}: the {len(points)} points lie on a line, so they have no ellipse.")
    return Ellipse(points.mean(axis=0), covariance)


def overlap(a: Ellipse, b: Ellipse) -> float:
    """Return the area in both ellipses over the area in either, counted on a grid (to about 1 %)."""
    borders = np.concatenate([a.outline(), b.outline()])
    axes = [np.linspace(low, high, _GRID) for low, high in zip(borders.min(axis=0), borders.max(axis=0), strict=True)]
    points = np.stack(np.meshgrid(*axes), axis=-1)
    in_a, in_b = a.contains(points), b.contains(points)
    return float((in_a & in_b).sum() / max((in_a | in_b).sum(), 1))


def mahalanobis(a: Floats, b: Floats) -> float:
    """Return the distance between the means of `[N, 2]` and `[M, 2]` points by their pooled covariance."""
    pooled = ((len(a) - 1) * np.cov(a.T) + (len(b) - 1) * np.cov(b.T)) / (len(a) + len(b) - 2)
    offset = a.mean(axis=0) - b.mean(axis=0)
    return float(np.sqrt(offset @ np.linalg.solve(pooled, offset)))


def separation_and_frechet(products: Floats, a: Indices, b: Indices) -> tuple[float, float]:
    """Compare two groups in all dimensions, from inner products alone.

    With centred vectors A and B, the cross term tr (S_a S_b)^(1/2) of the Frechet distance (Dowson and Landau 1982) is
    the nuclear norm of A B^T, so no `[D, D]` root is taken and covariances may be singular.

    Args:
        products: `[N, N]` inner products of all vectors of a condition.
        a: positions of the first group's vectors; some may recur.
        b: positions of the second's.

    Returns:
        `PairNumbers.separation` and `PairNumbers.frechet`.
    """
    own_a, own_b, cross = products[np.ix_(a, a)], products[np.ix_(b, b)], products[np.ix_(a, b)]
    between = own_a.mean() + own_b.mean() - 2 * cross.mean()
    squares = [np.trace(own) - len(own) * own.mean() for own in (own_a, own_b)]
    variances = [square / (len(own) - 1) for square, own in zip(squares, (own_a, own_b), strict=True)]
    centred = cross - cross.mean(axis=0) - cross.mean(axis=1)[:, None] + cross.mean()
    small = centred.T @ centred if len(a) > len(b) else centred @ centred.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(small), 0)).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    pooled = sum(squares) / (len(a) + len(b) - 2)
    frechet = between + variances[0] + variances[1] - 2 * shared
    return float(np.sqrt(max(between, 0) / pooled)), float(max(frechet, 0) / pooled)


def pair_numbers(vectors: LabelledVectors, plane: Floats, draws: int, seed: int) -> list[PairNumbers]:
    """Compare the groups of one condition that it has.

    Args:
        vectors: of the condition.
        plane: `[N, 2]` the vectors in the plane of the figure.
        draws: bootstrap resamples; whole clusters are drawn, the plane stays.
        seed: of the bootstrap.
    """
    products = vectors.values @ vectors.values.T
    whose = f"{vectors.condition}, {vectors.space}"

    def compared(a: Indices, b: Indices) -> Sequence[float]:
        ellipses = ellipse_of(plane[a], whose), ellipse_of(plane[b], whose)
        return (mahalanobis(plane[a], plane[b]), *separation_and_frechet(products, a, b), overlap(*ellipses))

    found = []
    for pair in PAIRS:
        members = [vectors.members(group) for group in pair]
        if all(len(part) for part in members):
            numbers = bootstrapped(compared, members, vectors.clusters, draws, np.random.default_rng(seed))
            found.append(PairNumbers(vectors.condition, pair, (len(members[0]), len(members[1])), *numbers))
    return found


def nearest_words(vectors: LabelledVectors, draws: int, seed: int, shown: int = 5) -> Nearest | None:
    """Find the words nearest to the action vectors; None for a condition without action vectors or words."""
    actions = vectors.members("action")
    others = np.flatnonzero(vectors.groups != "action")
    if not len(actions) or not len(others):
        return None
    units = vectors.values / np.maximum(np.linalg.norm(vectors.values, axis=1, keepdims=True), _SINGULAR)
    is_motion = vectors.groups[others] == "motion"
    hits = np.zeros(len(units))
    hits[actions] = is_motion[(units[actions] @ units[others].T).argmax(axis=1)]
    rng = np.random.default_rng(seed)
    (share,) = bootstrapped(lambda chosen: (hits[chosen].mean(),), [actions], vectors.clusters, draws, rng)
    mean = vectors.values[actions].mean(axis=0)
    cosines = units[others] @ (mean / max(np.linalg.norm(mean), _SINGULAR))
    ranked: dict[str, float] = {}
    for place in np.argsort(-cosines):
        ranked.setdefault(str(vectors.texts[others][place]), float(cosines[place]))
    return Nearest(vectors.condition, tuple(ranked.items())[:shown], share, float(is_motion.mean()))


def bootstrapped(
    statistic: Callable[..., Sequence[float]],
    members: Sequence[Indices],
    clusters: np.typing.NDArray[np.int64],
    draws: int,
    rng: np.random.Generator,
) -> list[Number]:
    """Evaluate statistics of groups, with errors from resampling each group's clusters, and without their labels.

    Args:
        statistic: takes one array of positions a group and returns numbers.
        members: positions of each group.
        clusters: `[N]` cluster of every position.
        draws: resamples; a fifth as many deals.
        rng: source of the draws.
    """
    parts = [[part[clusters[part] == name] for name in np.unique(clusters[part])] for part in members]

    def resampled(part: Sequence[Indices]) -> Indices:
        # Two different clusters at least: a resample of one point alone has no spread.
        while True:
            picks = rng.integers(0, len(part), len(part))
            if len(part) < _FEWEST or len(np.unique(picks)) >= _FEWEST:
                return np.concatenate([part[pick] for pick in picks])

    values = statistic(*members)
    spread = np.std([statistic(*(resampled(part) for part in parts)) for _ in range(draws)], axis=0, ddof=1)
    nulls = [np.nan] * len(values)
    if len(members) > 1:
        ends = np.cumsum([len(part) for part in members])[:-1]
        deals = (np.split(rng.permutation(np.concatenate(members)), ends) for _ in range(max(draws // 5, 1)))
        nulls = np.mean([statistic(*deal) for deal in deals], axis=0)
    return [Number(float(v), float(e), float(n)) for v, e, n in zip(values, spread, nulls, strict=True)]
