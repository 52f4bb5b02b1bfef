"""Fields of a configuration as older versions wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORMER = {"towers": "vision_encoders", "state_size": "proprio_dim", "chunk": "action_horizon"}
"""Names that fields had in older files."""


def renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON data with the names that fields have now."""
    today = {_FORMER.get(name, name): value for name, value in data.items()}
    if isinstance(skipped := today.get("skipped_layers"), int):
        today["feature_layer"] = -1 - skipped
        del today["skipped_layers"]
    return today
