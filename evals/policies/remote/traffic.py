"""How much went over a wire, and how long answers took."""

from __future__ import annotations

import threading
from array import array
from typing import Any

import numpy as np

from evals.policies.remote.link import Reply

_PERCENTILES = (50, 95, 99)


class Traffic:
    """Counts calls, bytes and milliseconds; several connections may add at once."""

    def __init__(self) -> None:
        self._client_ms, self._server_ms = array("d"), array("d")
        self._sent = self._received = self._errors = 0
        self._lock = threading.Lock()

    def add(self, reply: Reply, seconds: float) -> None:
        """Add a call that took so many seconds on this side."""
        with self._lock:
            self._client_ms.append(1000 * seconds)
            self._sent += reply.sent
            self._received += reply.received
            if reply.server_ms is not None:
                self._server_ms.append(reply.server_ms)

    def add_error(self) -> None:
        """Add a call without an answer."""
        with self._lock:
            self._errors += 1

    @property
    def calls(self) -> int:
        """Number of answered calls."""
        return len(self._client_ms)

    def summary(self) -> dict[str, Any]:
        """Return calls, errors, bytes and percentiles of milliseconds as JSON data."""
        with self._lock:
            return {
                "calls": len(self._client_ms),
                "errors": self._errors,
                "request_bytes": self._sent,
                "response_bytes": self._received,
                "client_ms": _percentiles(self._client_ms),
                "server_ms": _percentiles(self._server_ms),
            }


def _percentiles(milliseconds: array[float]) -> dict[str, float]:
    if not milliseconds:
        return {}
    found = np.percentile(np.frombuffer(milliseconds), _PERCENTILES)
    return {f"p{q}": round(float(value), 3) for q, value in zip(_PERCENTILES, found, strict=True)}
