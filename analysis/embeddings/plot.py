"""The figure of embeddings: one plane fitted jointly, one panel a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.embeddings.numbers import ellipse_of
from analysis.embeddings.vectors import GROUPS, Floats, Group, LabelledVectors
from evals.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_COLOURS: Mapping[Group, str] = {"action": "tab:orange", "motion": "tab:blue", "word": "0.55"}
_TEXT_COLOURS: Mapping[Group, str] = {**_COLOURS, "word": "0.3"}
_NAMES: Mapping[Group, str] = {"action": "action tokens", "motion": "motion words", "word": "ordinary words"}
_LABELS: Mapping[Group, int] = {"action": 9, "motion": 19, "word": 6}
"""How many vectors of a group are labelled at most."""


class Plane(NamedTuple):
    """Vectors of all conditions in the plane of their first two principal components.

    Attributes:
        points: one `[N, 2]` a condition.
        explained: `[2]` part of the variance of all conditions together that each axis explains.
        explained_within: part of each condition's own variance that lies in the plane.
    """

    points: tuple[Floats, ...]
    explained: Floats
    explained_within: tuple[float, ...]


def joint_plane(vectors: Sequence[LabelledVectors]) -> Plane:
    """Fit a principal component analysis to the vectors of all conditions of one space together.

    Raises:
        UsageError: conditions differ in width.
    """
    from sklearn.decomposition import PCA

    widths = {entry.condition: entry.values.shape[1] for entry in vectors}
    if len(set(widths.values())) > 1:
        sizes = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise UsageError(f"Vectors of different widths have no common axes: {sizes}. Draw them in separate figures.")
    pca = PCA(n_components=2, svd_solver="full").fit(np.concatenate([entry.values for entry in vectors]))
    points = tuple(pca.transform(entry.values) for entry in vectors)
    within = tuple(
        float(flat.var(axis=0).sum() / entry.values.var(axis=0).sum())
        for flat, entry in zip(points, vectors, strict=True)
    )
    return Plane(points, pca.explained_variance_ratio_, within)


def embedding_figure(vectors: Sequence[LabelledVectors], plane: Plane) -> Figure:
    """Draw points, 95 % confidence ellipses and labels, one panel a condition on the same axes."""
    from matplotlib.figure import Figure

    columns = 1 if len(vectors) == 1 else 2
    rows = -(-len(vectors) // columns)
    figure = Figure(figsize=(5.2 * columns, 4.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for entry, points, axes in zip(vectors, plane.points, panels, strict=False):
        draw_condition(entry, points, axes)
    for axes in panels[len(vectors) :]:
        axes.set_axis_off()
    for axis, part in enumerate(plane.explained, start=1):
        text = f"PC{axis} ({100 * part:.1f} % of the variance of all panels)"
        (figure.supxlabel if axis == 1 else figure.supylabel)(text, fontsize=9)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for entry, points, axes in zip(vectors, plane.points, panels, strict=False):
        label(entry, points, axes)
    return figure


def draw_condition(entry: LabelledVectors, points: Floats, axes: Axes) -> Axes:
    """Draw one condition's points `[N, 2]` and ellipses.

    Raises:
        UsageError: a group has too few points for an ellipse.
    """
    for group in reversed(GROUPS):
        members = points[entry.members(group)]
        if not len(members):
            continue
        colour = _COLOURS[group]
        axes.scatter(
            members[:, 0], members[:, 1], s=7, color=colour, alpha=0.6, lw=0, label=f"{_NAMES[group]} ({len(members)})"
        )
        border = ellipse_of(members, f"{entry.condition}, {entry.space}, {_NAMES[group]}").outline()
        axes.plot(*border.T, color=colour, lw=1.2)
    axes.legend(fontsize=6)
    axes.set_title(entry.condition, fontsize=9)
    axes.tick_params(labelsize=7)
    return axes


def label(entry: LabelledVectors, points: Floats, axes: Axes) -> Axes:
    """Write texts beside points, moved apart by adjustText; texts that recur stand at their mean.

    Where there is no room for all, motion words stay first, then action tokens. The layout must be final: labels are
    moved in pixels.
    """
    from adjustText import adjust_text

    texts, anchors = [], []
    for group in ("motion", "action", "word"):
        members = entry.members(group)
        names = list(dict.fromkeys(entry.texts[members].tolist()))
        for index in np.unique(np.linspace(0, len(names) - 1, min(_LABELS[group], len(names))).astype(int)):
            anchor = points[members][entry.texts[members] == names[index]].mean(axis=0)
            texts.append(axes.text(anchor[0], anchor[1], names[index], fontsize=6, color=_TEXT_COLOURS[group]))
            anchors.append(anchor)
    x, y = np.array(anchors).T
    # An iteration limit in place of adjustText's time limit: the same vectors give the same figure.
    adjust_text(texts, target_x=x, target_y=y, ax=axes, iter_lim=500, force_text=(0.4, 0.6))
    kept: list[Bbox] = []
    for text, anchor in zip(texts, anchors, strict=True):
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in kept):
            text.remove()
            continue
        kept.append(box)
        x, y = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        line = {"arrowstyle": "-", "color": "0.7", "lw": 0.4, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=anchor, xytext=(x, y), arrowprops=line, zorder=1)
    return axes
