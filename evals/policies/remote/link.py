"""What the policy needs of a connection to a server, whatever the wire."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from evals.errors import ServerError, UsageError
from evals.types import Episode, Task

LARGEST_REPLY = 64 * 2**20
"""Bytes of a message that are taken; the chunk of a large policy has ten thousand."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Reply(NamedTuple):
    """An answer of a server.

    Attributes:
        answer: decoded, not yet checked.
        sent: bytes of the request.
        received: bytes of the answer.
        server_ms: milliseconds that the server says it took; None if it does not say.
    """

    answer: Any
    sent: int
    received: int
    server_ms: float | None = None


class LostError(ServerError):
    """The connection is gone; a new one may work."""


class Link(Protocol):
    """One connection to a server; one episode at a time uses it."""

    def connect(self) -> Mapping[str, Any]:
        """Connect, greet, and return what the server says about itself.

        Raises:
            ServerError: there is no such server.
        """
        ...

    def alive(self) -> bool:
        """Whether the connection stands, as far as can be told without asking."""
        ...

    def begin(self, episode: Episode, task: Task) -> None:
        """Tell the server that an episode begins, on wires that say it."""
        ...

    def infer(self, request: dict[str, Any], seconds: float) -> Reply:
        """Send a request and wait for its answer.

        Raises:
            ServerError: the server reports an error, or its answer is none.
            LostError: the same, and the connection cannot be used again.
        """
        ...

    def end(self) -> None:
        """Tell the server that the episode has ended, on wires that say it; never raises for a lost connection."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


@dataclass(frozen=True)
class Address:
    """Where a server is, and what opens its door.

    Attributes:
        url: without user names, passwords, queries: nothing in it is secret, and it is recorded.
        token: value of the header `Authorization`, or ""; never recorded.
        seconds: how long connecting may take.
    """

    url: str
    token: str = field(default="", repr=False)
    seconds: float = 10.0

    @classmethod
    def of(cls, url: str, schemes: tuple[str, ...], port: int, token_env: str) -> Address:
        """Return a checked address.

        Args:
            url: what the user gave.
            schemes: what may stand before "://".
            port: the wire's port, where the URL has none.
            token_env: environment variable that holds the token, or "". A text with a space in it is the whole value of
                the header ("Api-Key abc"); others become "Bearer TEXT".

        Raises:
            UsageError: it is no such URL, or holds what would be recorded and should not be.
        """
        try:
            parts = urlsplit(url)
            host, given = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"url is no URL: {error}.") from error
        shown = f"{schemes[0]}://HOST:{port}"
        if parts.scheme not in schemes or not host:
            got = "" if "@" in url or "?" in url else f" {url!r}"
            raise UsageError(
                f"url{got} is not {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}; e.g. {shown}."
            )
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise UsageError(
                f"url has a user name, a password or a query, which every record would hold. Put the token into an "
                f"environment variable and give its name: --policy-args url={parts.scheme}://{host}:{given or port} "
                "token_env=NAME."
            )
        named = f"[{host}]" if ":" in host else host
        return cls(f"{parts.scheme}://{named}:{given or port}{parts.path}", _token(token_env))

    @property
    def exposed(self) -> bool:
        """Whether a token would travel readable over a network."""
        parts = urlsplit(self.url)
        return bool(self.token) and parts.scheme not in ("wss", "https") and parts.hostname not in _LOCAL


def _token(variable: str) -> str:
    if not variable:
        return ""
    text = os.environ.get(variable, "").strip()
    if not text:
        raise UsageError(
            f"token_env: the environment variable {variable!r} is not set. export {variable}=... and try again."
        )
    return text if " " in text else f"Bearer {text}"
