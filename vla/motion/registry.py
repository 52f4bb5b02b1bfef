"""Names to labellers, through entry points; ours are found as those of other packages are."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from vla.errors import LabellerError, listed
from vla.motion.labellers import Labeller

GROUP = "vla_eval.labellers"
NO_MOTION, INTENT, RAW = "none", "intent", "raw"
"""Words of `--motion`: no motion turn, the recorded intents (no labeller), and the labeller with a threshold."""


def labeller_names() -> list[str]:
    """Return the names of the labellers that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def labeller(name: str) -> Labeller:
    """Make the labeller of that name.

    Raises:
        LabellerError: no installed package offers it, its plugin fails, or what that makes is no `Labeller`.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        close = difflib.get_close_matches(name, points, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise LabellerError(f"No labeller named {name!r}.{hint} Known: {listed(points) or 'none'}.")
    plugin = f"Labeller {name!r} ({points[name].value})"
    try:
        made = points[name].load()()
    except (Exception, SystemExit) as error:  # the border to a plugin
        raise LabellerError(f"{plugin} does not load: {type(error).__name__}: {error}") from error
    if not isinstance(made, Labeller):
        raise LabellerError(f"{plugin} makes {type(made).__name__}, which is no vla.motion.Labeller.")
    return made
