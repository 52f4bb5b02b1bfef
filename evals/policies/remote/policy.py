"""A policy in a server: a connection for every running episode, requests sent together, answers awaited."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from evals.errors import ServerError, VlaEvalError
from evals.policies.remote.adapter import Adapter
from evals.policies.remote.link import Link, LostError
from evals.policies.remote.pool import Pool
from evals.policies.remote.traffic import Traffic
from evals.types import ActionChunk, Episode, FloatArray, Observation, Suite

_MOST_AT_ONCE = 256  # requests; more wait for their turn


@dataclass(frozen=True)
class Waiting:
    """How long a server is waited for.

    Attributes:
        first_seconds: for its first answer, in which a model may be compiled.
        seconds: for every other answer.
    """

    first_seconds: float
    seconds: float


@dataclass(frozen=True)
class About:
    """What the record says of a remote policy.

    Attributes:
        wire: the wire, with its dialect.
        url: without secrets.
        profile: name and hash of the profile.
        options: what else decides its answers (`unnorm_key`).
    """

    wire: str
    url: str
    profile: str
    options: Mapping[str, str]


class RemotePolicy:
    """Asks a server; keeps `evals.Policy`.

    Attributes:
        retry_errors: an episode that a server's error has cut off is run again.
        identity: what tells this policy from another in a record, in place of its options, without the address.
        remarks: what a user should hear before the first episode.

    Args:
        suite: the suite it acts in.
        adapter: builds requests and reads answers.
        pool: connected to the server.
        about: what the record says of it.
        waiting: how long it is waited for.
    """

    retry_errors = True

    def __init__(self, suite: Suite, adapter: Adapter, pool: Pool, about: About, waiting: Waiting) -> None:
        self._suite, self._adapter, self._pool, self._about, self._waiting = suite, adapter, pool, about, waiting
        self.name = about.wire.partition(" ")[0].replace("-", "_")
        self.action_space = adapter.action_space
        self.state_space = suite.state_space if adapter.reads_state else None
        self.cameras = adapter.cameras
        self.replan_every = 1
        self.remarks: tuple[str, ...] = ()
        self.identity = {"profile": about.profile, **about.options}
        self._links: dict[str, Link] = {}
        self._earlier: dict[str, deque[FloatArray]] = {}
        self._answered: dict[str, tuple[int, ActionChunk]] = {}
        self._traffic = Traffic()
        self._threads: ThreadPoolExecutor | None = None

    def begin(self, episode: Episode) -> None:
        """Take a connection for an episode, waiting for a server that is being restarted."""
        link = self._pool.take()
        self._links[episode.id] = link
        self._earlier[episode.id] = deque(maxlen=self._adapter.ensemble)
        link.begin(episode, self._suite.tasks[episode.task])

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Send all requests at once, each over its episode's connection, and wait for all answers.

        An answer that came although a neighbour's did not is kept: asked again, it is given without asking the server.

        Raises:
            ServerError: a server's own error, an answer that is none, or a connection that broke.
        """
        if len(observations) == 1:
            return [self._one(observations[0])]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="remote policy")
        futures = [self._threads.submit(self._one, observation) for observation in observations]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    def end(self, episode: Episode) -> None:
        """Give the connection of an episode back."""
        self._answered.pop(episode.id, None)
        self._earlier.pop(episode.id, None)
        link = self._links.pop(episode.id, None)
        if link is not None:
            if link.alive():
                link.end()
            self._pool.give_back(link)

    def close(self) -> None:
        """Give all connections up; an episode that begins later makes a new one."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._pool.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    def report(self) -> dict[str, Any]:
        """Return what the record keeps: the address without secrets, the server's own words, bytes and latencies."""
        return {
            "wire": self._about.wire,
            "url": self._about.url,
            "profile": self._about.profile,
            **self._about.options,
            "server": plain(self._pool.greeting),
            "traffic": self._traffic.summary(),
        }

    def _one(self, observation: Observation) -> ActionChunk:
        key = observation.episode.id
        step, chunk = self._answered.get(key, (-1, None))
        if chunk is not None and step == observation.step:
            return chunk
        link = self._links.get(key)
        if link is None:
            raise ServerError("This episode has no connection: its server was lost, and it begins again.")
        chunk = self._ask(link, key, observation)
        self._answered[key] = (observation.step, chunk)
        return chunk

    def _ask(self, link: Link, key: str, observation: Observation) -> ActionChunk:
        started = time.perf_counter()
        seconds = self._waiting.seconds if self._traffic.calls else self._waiting.first_seconds
        try:
            reply = link.infer(self._adapter.request(observation), seconds)
            self._traffic.add(reply, time.perf_counter() - started)
            return ActionChunk(self._adapter.actions(reply.answer, self._earlier[key]))
        except VlaEvalError as error:
            self._traffic.add_error()
            if isinstance(error, LostError):
                self._links.pop(key, None)
                link.close()
            raise


def plain(value: Any, depth: int = 8) -> Any:  # noqa: ANN401 - whatever a server says
    """Return what a server said as JSON data: arrays as lists if they are short, else as dtype and shape."""
    if isinstance(value, Mapping) and depth:
        return {str(key): plain(entry, depth - 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [plain(entry, depth - 1) for entry in value]
    if hasattr(value, "dtype"):
        return value.tolist() if value.size <= 64 else f"{value.dtype} {list(value.shape)}"
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return f"{value!r:.200}"
