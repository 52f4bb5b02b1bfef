"""Whether a suite is what a checkpoint was trained for: units, rates, rotations and views, before a run starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from vla.data.convention import Convention, view_of
from vla.data.oxe import LAYOUTS
from vla.model.checkpoint import Checkpoint
from vla.statistics import DIMENSIONS, GRIPPER, ActionStatistics, bounds

_SLACK = 1.5
"""How far action statistics may reach beyond what a controller executes, as a factor; demonstrations clip a little."""
_SLOWEST, _FASTEST = 0.06, 3.0
"""Metres a second between which arms are commanded; Bridge reaches 0.2 and LIBERO 0.9 in 1 % of their steps."""


@dataclass(frozen=True)
class Fit:
    """What is otherwise in a suite than in training.

    Attributes:
        refused: what would drive the arm wrongly, a line each.
        remarks: remarks for the user, one line each.
    """

    refused: tuple[str, ...]
    remarks: tuple[str, ...]


def convention_of(checkpoint: Checkpoint, key: str) -> Convention:
    """Return what the numbers of a data set of a checkpoint mean, as far as its config.json says.

    Checkpoints from before it did hold the cameras alone; there the key says the rest, which names a layout, or a suite
    whose demonstrations are named after it.
    """
    stored = checkpoint.training.get("conventions", {}).get(key)
    if stored is not None:
        return Convention.from_json(stored)
    cameras = tuple(checkpoint.training.get("sources", {}).get(key, ()))
    layouts = [layout.convention for layout in LAYOUTS if layout.name == key]
    return replace(layouts[0] if layouts else Convention(suite=key), cameras=cameras)


def fit(
    trained: Convention,
    suite: Convention,
    statistics: ActionStatistics,
    executed: tuple[float, float],
    seen: Sequence[str],
) -> Fit:
    """Compare what a checkpoint was trained on with a suite.

    Args:
        trained: what the numbers of the training data mean.
        suite: what the suite's do.
        statistics: of the training data's actions.
        executed: smallest and largest entry of an action that the suite's controller does not clip.
        seen: the suite's cameras that the model would be shown, in the order of its views.
    """
    refused = [*_units(trained, suite, statistics), *_views(trained, seen)]
    low, high = bounds(statistics)
    reach, limit = np.maximum(np.abs(low), np.abs(high))[:GRIPPER], max(map(abs, executed))
    if (reach > limit * _SLACK).any():
        worst = int(reach.argmax())
        refused.append(
            f"units: actions of {statistics.dataset!r} reach {reach[worst]:.3g} in {DIMENSIONS[worst]}, the suite's "
            f"controller takes up to {limit:g}"
        )
    remarks = []
    if _differ(trained.control_hz, suite.control_hz):
        remarks.append(f"control rate: trained at {trained.control_hz:g} Hz, the suite runs at {suite.control_hz:g} Hz")
    return Fit(tuple(refused), tuple(remarks))


def _units(trained: Convention, suite: Convention, statistics: ActionStatistics) -> list[str]:
    """Compare declared units; where training declares none, ask whether its steps are an arm's in the suite."""
    lines = [
        f"units: {field.name} is {getattr(trained, field.name):g} in training ({_source(trained)}), "
        f"{getattr(suite, field.name):g} in the suite"
        for field in fields(Convention)
        if field.name.endswith("_per_unit") and _differ(getattr(trained, field.name), getattr(suite, field.name))
    ]
    if lines or trained.metres_per_unit is not None or suite.metres_per_unit is None or suite.control_hz is None:
        return lines
    low, high = bounds(statistics)
    reach = float(np.maximum(np.abs(low), np.abs(high))[:3].max())
    speed = reach * suite.metres_per_unit * suite.control_hz
    if reach and not _SLOWEST < speed < _FASTEST:
        lines.append(
            f"units: translations of {statistics.dataset!r} reach {reach:.3g}, which here is "
            f"{reach * suite.metres_per_unit * 1000:.3g} mm a step ({suite.metres_per_unit:g} m a unit) or "
            f"{speed:.2g} m/s; arms move at {_SLOWEST:g} to {_FASTEST:g} m/s"
        )
    return lines


def _views(trained: Convention, seen: Sequence[str]) -> list[str]:
    return [
        f"views: trained on camera {theirs!r} ({view_of(theirs)}), would be shown {ours!r} ({view_of(ours)})"
        for theirs, ours in zip(trained.cameras, seen, strict=False)
        if view_of(theirs) != view_of(ours)
    ]


def _source(trained: Convention) -> str:
    return f"suite {trained.suite!r}" if trained.suite else f"layout {trained.layout!r}"


def _differ(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and not np.isclose(a, b, rtol=1e-3)
