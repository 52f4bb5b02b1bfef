"""Connections to one server: one for each episode that runs, kept for the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from evals.errors import ServerError
from evals.policies.remote.link import Link

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 5.0


class Pool:
    """Hands out connections, and makes new ones for those that broke.

    Attributes:
        greeting: what the server said about itself at the latest connection.

    Args:
        make: makes a connection that is not connected yet.
        seconds: how long a server that was there before is waited for, with growing pauses.
    """

    def __init__(self, make: Callable[[], Link], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._free: list[Link] = []
        self._patient = True
        self.greeting: Mapping[str, Any] = {}

    def connect(self) -> None:
        """Make the first connection; nothing is waited for, since a wrong address is the likelier reason.

        Raises:
            ServerError: there is no such server.
        """
        self._free.append(self._connected())

    def take(self) -> Link:
        """Return a connection that stands.

        Raises:
            ServerError: the server did not come back in time. The next call then tries only once.
        """
        while self._free:
            link = self._free.pop()
            if link.alive():
                return link
            link.close()
        end, wait = time.monotonic() + self._seconds, _FIRST_WAIT
        while True:
            try:
                link = self._connected()
            except ServerError as error:
                if not self._patient:
                    raise
                if time.monotonic() + wait > end:
                    self._patient = False
                    raise ServerError(f"{error} It was tried again for {self._seconds:g} s.") from error
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                self._patient = True
                return link

    def give_back(self, link: Link) -> None:
        """Keep a connection for the next episode if it still stands."""
        if link.alive():
            self._free.append(link)
        else:
            link.close()

    def close(self) -> None:
        """Give up the connections that nobody uses."""
        while self._free:
            self._free.pop().close()

    def _connected(self) -> Link:
        link = self._make()
        try:
            self.greeting = link.connect()
        except BaseException:
            link.close()
            raise
        return link
